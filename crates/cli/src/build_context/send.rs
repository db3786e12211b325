//! Walking a directory into a tar stream: owners are root, names sorted, hard links kept as such.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::ignore::Ignore;

/// What is sent, and how.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The directory, if there is one.
    pub(crate) root: Option<PathBuf>,
    /// What of it is left out.
    pub(crate) ignore: Ignore,
    /// Files that are sent although they are left out: the Dockerfile and `.dockerignore`.
    pub(crate) always: Vec<String>,
    /// Files that are sent in the place of the directory's, or that it does not have: names and bytes
    /// (`-f ../Dockerfile`).
    pub(crate) extra: Vec<(String, Vec<u8>)>,
}

/// Writes the context as a tar stream.
///
/// # Errors
/// A file could not be read, or the receiver is gone.
pub(crate) fn write(context: &Context, out: &mut dyn Write) -> io::Result<()> {
    let mut sender = Sender { context, tar: Builder::new(out), links: HashMap::new() };
    if let Some(root) = &context.root {
        sender.directory(root, "")?;
    }
    for (name, bytes) in &context.extra {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        sender.tar.append_data(&mut header, name, bytes.as_slice())?;
    }
    sender.tar.finish()
}

struct Sender<'a> {
    context: &'a Context,
    tar: Builder<&'a mut dyn Write>,
    /// First names of files with several, by device and number.
    links: HashMap<(u64, u64), String>,
}

impl Sender<'_> {
    fn directory(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let mut entries: Vec<_> =
            fs::read_dir(path).map_err(|error| at(path, &error))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            let child = if name.is_empty() { file_name.into_owned() } else { format!("{name}/{file_name}") };
            self.entry(&entry.path(), &child)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
        let ignore = &self.context.ignore;
        let excluded = ignore.excludes(name) && !self.context.always.iter().any(|kept| kept == name);
        if metadata.is_dir() {
            let below = format!("{name}/");
            let walk = !excluded
                || ignore.may_keep_below(name)
                || self.context.always.iter().any(|kept| kept.starts_with(&below));
            if !excluded {
                self.append(path, name, &metadata)?;
            }
            return if walk { self.directory(path, name) } else { Ok(()) };
        }
        let replaced = self.context.extra.iter().any(|(extra, _)| extra == name);
        if excluded || replaced || metadata.file_type().is_socket() {
            return Ok(());
        }
        self.append(path, name, &metadata)
    }

    fn append(&mut self, path: &Path, name: &str, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            return self.tar.append_data(&mut header, format!("{name}/"), io::empty());
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.tar.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            return self.tar.append_data(&mut header, name, io::empty());
        }
        if kind.is_char_device() || kind.is_block_device() {
            header.set_entry_type(if kind.is_char_device() { EntryType::Char } else { EntryType::Block });
            let device = metadata.rdev();
            header.set_device_major(rustix::fs::major(device))?;
            header.set_device_minor(rustix::fs::minor(device))?;
            return self.tar.append_data(&mut header, name, io::empty());
        }
        if metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                header.set_entry_type(EntryType::Link);
                return self.tar.append_link(&mut header, name, first);
            }
            self.links.insert(key, name.to_owned());
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        let file = fs::File::open(path).map_err(|error| at(path, &error))?;
        // A file that grows or shrinks meanwhile must not shift all that follows.
        let exact = io::Read::take(file, metadata.len()).chain_zeros(metadata.len());
        self.tar.append_data(&mut header, name, exact)
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Reads exactly so many bytes: zeros where the source has ended early.
struct Exact<R> {
    inner: R,
    left: u64,
}

trait ChainZeros: io::Read + Sized {
    fn chain_zeros(self, length: u64) -> Exact<Self> {
        Exact { inner: self, left: length }
    }
}

impl<R: io::Read> ChainZeros for R {}

impl<R: io::Read> io::Read for Exact<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let limit = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut read = self.inner.read(&mut into[..limit])?;
        if read == 0 && limit > 0 {
            into[..limit].fill(0);
            read = limit;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_becomes_a_tar() {
        let root = std::env::temp_dir().join(format!("gantry-cli-context-{}", std::process::id()));
        fs::create_dir_all(root.join("sub/out")).unwrap();
        for (name, text) in [("Dockerfile", "FROM x"), ("sub/a", "a"), ("sub/out/b", "b"), ("skip.log", "l")]
        {
            fs::write(root.join(name), text).unwrap();
        }
        fs::hard_link(root.join("sub/a"), root.join("sub/z")).unwrap();
        symlink("a", root.join("sub/s")).unwrap();
        let context = Context {
            root: Some(root.clone()),
            ignore: Ignore::parse("*.log\nsub/out\nDockerfile"),
            always: vec!["Dockerfile".into()],
            extra: vec![(".dockerfile.1".into(), b"x".to_vec())],
        };
        let mut bytes = Vec::new();
        write(&context, &mut bytes).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link =
                    entry.link_name().unwrap().map_or(String::new(), |to| format!("->{}", to.display()));
                format!("{}{link}", entry.path().unwrap().display())
            })
            .collect();
        assert_eq!(names, ["Dockerfile", "sub/", "sub/a", "sub/s->a", "sub/z->sub/a", ".dockerfile.1"]);
    }
}
