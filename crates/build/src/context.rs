//! Context intake: the client's tar stream, unpacked into a directory of the build.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gantry_model::Timestamp;
use gantry_store::archive::{self, ExtractOptions, Limits, Onto, Owner, Whiteouts};
use rustix::fs::{Mode, OFlags};

use crate::dockerignore::DockerIgnore;
use crate::error::BuildError;
use crate::op::tree;

/// What a context may hold; beyond it the build is refused.
#[derive(Debug, Clone)]
pub struct ContextLimits {
    /// Bytes of all files together, unpacked.
    pub max_bytes: u64,
    /// Entries of the archive.
    pub max_entries: u64,
    /// Bytes of the Dockerfile, and of `.dockerignore`.
    pub max_dockerfile_bytes: u64,
}

impl Default for ContextLimits {
    /// 64 GiB, 2 million entries, 16 MiB (Docker has no limit; 16 MiB are 200,000 lines).
    fn default() -> Self {
        Self { max_bytes: 64 << 30, max_entries: 2_000_000, max_dockerfile_bytes: 16 << 20 }
    }
}

/// An unpacked context. Its directory is removed in the background when it is dropped.
#[derive(Debug)]
pub struct Context {
    directory: PathBuf,
    root: OwnedFd,
}

impl Context {
    /// Unpacks a tar stream (plain or compressed) into a new directory.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] where the archive is refused, [`BuildError::Internal`] where the file system
    /// fails; nothing is left.
    pub fn receive(
        mut input: impl Read + Send,
        directory: PathBuf,
        limits: &ContextLimits,
    ) -> Result<Self, BuildError> {
        let context = Self::make(directory)?;
        let options = ExtractOptions {
            limits: Limits {
                entries: limits.max_entries,
                unpacked_bytes: limits.max_bytes,
                ..Limits::default()
            },
            whiteouts: Whiteouts::Ordinary,
            owner: Owner::Fixed { uid: 0, gid: 0 },
            epoch: None,
            implied_time: Timestamp::default(),
            onto: Onto::New,
        };
        archive::extract(&mut input, context.root.as_fd(), &options).map_err(|error| {
            let text = format!("Error processing tar file: {}", chain(&error));
            match error.kind() {
                gantry_model::ErrorKind::InvalidArgument => BuildError::Invalid(text),
                _ => BuildError::internal("unpacking the build context failed", error),
            }
        })?;
        Ok(context)
    }

    /// Takes what an address gave: an archive, or else a Dockerfile, which is all there is then.
    ///
    /// # Errors
    /// Those of [`Self::receive`], and of a Dockerfile that is too large.
    pub fn fetched(
        mut body: Box<dyn Read + Send>,
        directory: PathBuf,
        limits: &ContextLimits,
    ) -> Result<Self, BuildError> {
        let mut first = Vec::new();
        (&mut body).take(512).read_to_end(&mut first).map_err(broken_off)?;
        let is_archive = archive::detect(&first).is_some();
        let whole = std::io::Cursor::new(first).chain(body);
        if is_archive {
            return Self::receive(whole, directory, limits);
        }
        let limits = ContextLimits { max_bytes: limits.max_dockerfile_bytes, ..limits.clone() };
        Self::of_file(Box::new(whole), directory, "Dockerfile", &limits).map(|(context, _)| context)
    }

    /// Puts one file into a new directory, readable by its owner alone; it, and the file's size.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] where the bytes end in an error or are too many, [`BuildError::Internal`] where the
    /// file system fails; nothing is left.
    pub fn of_file(
        body: Box<dyn Read + Send>,
        directory: PathBuf,
        name: &str,
        limits: &ContextLimits,
    ) -> Result<(Self, u64), BuildError> {
        let context = Self::make(directory)?;
        let failed = |error| BuildError::internal(format!("writing {name:?} failed"), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&context.root, name, flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(file.map_err(|error| failed(error.into()))?);
        let (mut body, mut buffer, mut size_bytes) = (body.take(limits.max_bytes), vec![0; 256 << 10], 0);
        loop {
            let length = body.read(&mut buffer).map_err(broken_off)?;
            if length == 0 {
                break;
            }
            file.write_all(&buffer[..length]).map_err(failed)?;
            size_bytes += length as u64;
        }
        if size_bytes == limits.max_bytes {
            return Err(BuildError::Invalid(format!(
                "it has {size_bytes} bytes or more, which is the limit"
            )));
        }
        Ok((context, size_bytes))
    }

    fn make(directory: PathBuf) -> Result<Self, BuildError> {
        let failed = |error: std::io::Error| {
            BuildError::internal(format!("making the directory {} failed", directory.display()), error)
        };
        rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o700)).map_err(|error| failed(error.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&directory, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self { directory, root })
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Reads the Dockerfile, and then takes it and `.dockerignore` out of the context where `.dockerignore`
    /// says so.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] where it is not there, empty, or too large.
    pub fn take_dockerfile(&self, name: &str, limits: &ContextLimits) -> Result<String, BuildError> {
        let limit = limits.max_dockerfile_bytes;
        let read = |path: &str| {
            tree::read_file(&self.root, Path::new(path), limit).map_err(|error| match error.kind() {
                std::io::ErrorKind::IsADirectory => BuildError::Invalid(format!(
                    "unexpected error reading Dockerfile: read {path}: is a directory"
                )),
                std::io::ErrorKind::FileTooLarge => {
                    BuildError::Invalid(format!("the file {path} is larger than {limit} bytes"))
                }
                _ => BuildError::internal(format!("reading {path} failed"), error),
            })
        };
        let ignore = match read(".dockerignore")? {
            Some(bytes) => DockerIgnore::parse(&String::from_utf8_lossy(&bytes))
                .map_err(|error| BuildError::Invalid(error.to_string()))?,
            None => DockerIgnore::default(),
        };
        let candidates = if name.is_empty() { vec!["Dockerfile", "dockerfile"] } else { vec![name] };
        for path in &candidates {
            let Some(bytes) = read(path)? else { continue };
            if bytes.is_empty() {
                return Err(BuildError::Invalid(format!("the Dockerfile ({path}) cannot be empty")));
            }
            for path in [*path, ".dockerignore"] {
                if ignore.excludes(path.trim_start_matches("./")) {
                    self.remove(path);
                }
            }
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        Err(BuildError::Invalid(format!("Cannot locate specified Dockerfile: {}", candidates[0])))
    }

    fn remove(&self, path: &str) {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Ok(parent) = tree::open(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY) else { return };
        // Not there is as good as removed.
        let _ = rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::empty());
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let directory = std::mem::take(&mut self.directory);
        std::thread::spawn(move || {
            if let Err(error) = std::fs::remove_dir_all(&directory) {
                tracing::warn!(directory = %directory.display(), %error, "a build context could not be removed");
            }
        });
    }
}

fn broken_off(error: std::io::Error) -> BuildError {
    BuildError::Invalid(error.to_string())
}

/// An error's text with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
