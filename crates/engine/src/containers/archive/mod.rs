//! Files of a container as archives: what `docker cp` reads, and what it writes.
//!
//! Everything happens in a view of the container's root file system ([`view`]) that nobody else is in. Paths
//! are resolved in it with `openat2` inside its root, so a link that a process of the container puts in the way
//! meanwhile leads to somewhere in the container at most. The archive goes through the store's extractor.

mod path;
mod view;

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gantry_model::Timestamp;
use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::{MountKind, MountPoint};
use gantry_runtime::user;
use gantry_store::archive::{
    self, ArchiveError, ExtractOptions, Limits, Onto, Overwrite, Owner, Packed, Whiteouts,
};
use gantry_sys::rooted;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use self::view::Rootfs;
pub(super) use self::view::root_alone;
use super::record::{Record, View};
use super::{Containers, Error, publish};

/// What is said of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last component as it was asked for: `.` and `/` are themselves.
    pub name: String,
    /// As `lstat(2)` has it.
    pub size_bytes: i64,
    /// Type and permission bits, as `lstat(2)` has them.
    pub mode: u32,
    /// The modification time.
    pub mtime: Timestamp,
    /// Where a symbolic link leads in the end, absolute in the container, as far as it can be told; empty for
    /// everything else.
    pub link_target: String,
}

/// How an archive is unpacked into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// A directory is not replaced by something else, nor the other way round.
    pub keep_kinds: bool,
    /// All becomes the container's user's. A container without one: as the archive says.
    pub to_user: bool,
}

/// A thing in a container that can be packed, with what is said of it.
pub struct Taken {
    stat: PathStat,
    rootfs: Rootfs,
    thing: Thing,
    /// What it is called in the archive.
    name: Vec<u8>,
    published: Box<dyn FnOnce() + Send>,
}

enum Thing {
    Directory(OwnedFd),
    Entry(OwnedFd, CString),
}

impl Taken {
    /// What is said of it.
    #[must_use]
    pub fn stat(&self) -> &PathStat {
        &self.stat
    }

    /// Writes it as an archive. Blocks.
    ///
    /// # Errors
    /// The output's, or the file system's.
    pub fn write(self, output: impl Write) -> io::Result<()> {
        (self.published)();
        let packed = match &self.thing {
            Thing::Directory(directory) => Packed::Directory(directory.as_fd()),
            Thing::Entry(parent, name) => Packed::Entry(parent.as_fd(), name),
        };
        let written = archive::pack(packed, &self.name, output);
        drop(self.rootfs);
        written
    }
}

impl Containers {
    /// Says what a path in a container is. Links before the last component are followed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Internal`], in Docker's words.
    pub async fn stat_path(&self, container: &str, path: &str) -> Result<PathStat, Error> {
        let (view, rootfs) = self.rootfs(container).await?;
        let asked = Asked { container: container.to_owned(), path: path.to_owned() };
        crate::blocking(move || {
            let _view = view;
            let path = path::rooted(&asked.path);
            let stat =
                path::lstat(rootfs.root(), &path).map_err(|error| asked.failed("lstat", &path, error))?;
            described(&rootfs, &path, &stat)
        })
        .await
    }

    /// Takes a file or directory out of a container. Whoever has it should write it soon: a container that does
    /// not run is not started meanwhile.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Internal`], in Docker's words.
    pub async fn take_path(&self, container: &str, path: &str) -> Result<Taken, Error> {
        let (view, rootfs) = self.rootfs(container).await?;
        let asked = Asked { container: container.to_owned(), path: path.to_owned() };
        let core = Arc::clone(&self.core);
        crate::blocking(move || {
            let path = path::preserved(&path::clean(&path::rooted(&asked.path)), &asked.path);
            let failed = |error| asked.failed("lstat", &path, error);
            let stat = path::lstat(rootfs.root(), &path).map_err(failed)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let thing = if is_directory {
                let c_path = CString::new(path.as_str()).map_err(|_| failed(Errno::INVAL))?;
                // What is followed is what a slash at the end says; the last component is a directory.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let flags = if path.ends_with('/') { flags - OFlags::NOFOLLOW } else { flags };
                Thing::Directory(rooted::open(rootfs.root(), &c_path, flags).map_err(failed)?)
            } else {
                let (parent, name) = path::split(&path);
                let parent = CString::new(parent).map_err(|_| failed(Errno::INVAL))?;
                let name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
                let parent = rooted::open(rootfs.root(), &parent, OFlags::RDONLY | OFlags::DIRECTORY);
                Thing::Entry(parent.map_err(failed)?, name)
            };
            let stat = described(&rootfs, &path, &stat)?;
            let name = path::base(&path).as_bytes().to_vec();
            let published = Box::new(move || publish(&core, &view.record, "archive-path", Vec::new()));
            Ok(Taken { stat, rootfs, thing, name, published })
        })
        .await
    }

    /// Unpacks an archive (plain or compressed) into a directory of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] where the place is no directory or read-only, or the archive is
    /// refused; [`Error::Internal`]. What was unpacked until then stays.
    pub async fn put_archive(
        &self,
        container: &str,
        path: &str,
        options: PutOptions,
        input: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let (view, rootfs) = self.rootfs(container).await?;
        let asked = Asked { container: container.to_owned(), path: path.to_owned() };
        let core = Arc::clone(&self.core);
        crate::blocking(move || {
            let resolved = path::follow(rootfs.root(), &path::rooted(&asked.path), path::Missing::Error)
                .map_err(|error| asked.failed("lstat", &asked.path, error))?;
            let shown = path::preserved(&resolved, &asked.path);
            let failed = |error| asked.failed("lstat", &shown, error);
            let c_path = CString::new(resolved.as_bytes()).map_err(|_| failed(Errno::INVAL))?;
            let place = rooted::open_no_links(rootfs.root(), &c_path, OFlags::PATH).map_err(failed)?;
            let stat = rustix::fs::fstat(&place).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::Invalid("extraction point is not a directory".into()));
            }
            check_writable(&view.record, &resolved, rootfs.is_live())?;
            let owner = match options.to_user && !view.record.config.user.is_empty() {
                true => user_of(&rootfs, &view.record.config.user)?,
                false => Owner::Archive,
            };
            let overwrite = if options.keep_kinds { Overwrite::SameKind } else { Overwrite::Anything };
            let extract = ExtractOptions {
                limits: Limits::default(),
                whiteouts: Whiteouts::Ordinary,
                owner,
                epoch: None,
                implied_time: crate::events::now(),
                onto: Onto::Living(overwrite),
            };
            let place = rustix::fs::openat(
                &place,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .map_err(failed)?;
            reached(Point::CopyOpened);
            archive::extract(input, place.as_fd(), &extract)
                .map_err(|error| asked.refused(&shown, &error))?;
            reached(Point::CopyWritten);
            publish(&core, &view.record, "extract-to-dir", Vec::new());
            Ok(())
        })
        .await
    }

    /// The root file system, for one operation.
    async fn rootfs(&self, container: &str) -> Result<(Arc<View>, Rootfs), Error> {
        let entry = self.core.index.find(container)?;
        let core = Arc::clone(&self.core);
        crate::blocking(move || view::open(&core, &entry)).await
    }
}

/// What the client named, for messages.
struct Asked {
    container: String,
    path: String,
}

impl Asked {
    fn missing(&self) -> Error {
        Error::NotFound(format!("Could not find the file {} in container {}", self.path, self.container))
    }

    fn failed(&self, action: &str, path: &str, error: Errno) -> Error {
        match error {
            Errno::NOENT => self.missing(),
            error => Error::Internal(format!("{action} {path}: {}", path::text(error))),
        }
    }

    /// Docker's words for what its own extractor refuses too; ours for the rest.
    fn refused(&self, place: &str, error: &ArchiveError) -> Error {
        match error {
            ArchiveError::Write { source, .. } if source.kind() == io::ErrorKind::NotFound => self.missing(),
            ArchiveError::Write { path, source } if source.raw_os_error().is_some() => {
                let number = Errno::from_raw_os_error(source.raw_os_error().unwrap_or_default());
                Error::Internal(format!("cannot unpack {path:?}: {}", path::text(number)))
            }
            ArchiveError::Clash { path, there: "a directory", .. } => {
                Error::Internal(format!("cannot overwrite directory {path:?} with non-directory {place:?}"))
            }
            ArchiveError::Clash { path, .. } => {
                Error::Internal(format!("cannot overwrite non-directory {path:?} with directory {place:?}"))
            }
            ArchiveError::Outside { .. } | ArchiveError::OutsideLink { .. } => {
                Error::Internal(error.to_string())
            }
            ArchiveError::Damaged { reason, .. } if reason.starts_with("it ends") => {
                Error::Internal("unexpected EOF".into())
            }
            ArchiveError::UnknownType { kind, .. } => {
                Error::Internal(format!("unhandled tar header type {}", u32::from(*kind)))
            }
            error if error.kind() == gantry_model::ErrorKind::InvalidArgument => {
                Error::Invalid(crate::chain(error))
            }
            error => Error::Internal(crate::chain(error)),
        }
    }
}

fn described(rootfs: &Rootfs, path: &str, stat: &Stat) -> Result<PathStat, Error> {
    let mut link_target = String::new();
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        link_target =
            path::follow(rootfs.root(), path, path::Missing::Kept).map_err(|error| match error {
                Errno::LOOP => Error::Internal(format!("evalSymlinksInScope: too many links in {path}")),
                error => Error::Internal(format!("lstat {path}: {}", path::text(error))),
            })?;
    }
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(PathStat {
        name: path::base(path).to_owned(),
        size_bytes: stat.st_size,
        mode: stat.st_mode,
        mtime: Timestamp::from_nanos(stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)),
        link_target,
    })
}

/// Whether a place may be written to: the mount that it is in, or else the root, must not be read-only.
fn check_writable(record: &Record, place: &str, is_live: bool) -> Result<(), Error> {
    judge(&record.mounts, record.host.read_only, place, is_live)
}

fn judge(mounts: &[MountPoint], read_only: bool, place: &str, is_live: bool) -> Result<(), Error> {
    let covers = |point: &&MountPoint| {
        let is_there = is_live || point.kind != MountKind::Tmpfs;
        is_there && std::path::Path::new(place).starts_with(&point.destination)
    };
    match mounts.iter().filter(covers).max_by_key(|point| point.destination.as_os_str().len()) {
        Some(point) if !point.writable => Err(Error::Invalid("mounted volume is marked read-only".into())),
        None if read_only => Err(Error::Invalid("container rootfs is marked read-only".into())),
        _ => Ok(()),
    }
}

/// The container's user, by its own files.
fn user_of(rootfs: &Rootfs, user: &str) -> Result<Owner, Error> {
    let read = |path| {
        let mut text = Vec::new();
        if let Ok(file) = rooted::open(rootfs.root(), path, OFlags::RDONLY | OFlags::NONBLOCK) {
            let limit = u64::try_from(user::FILE_LIMIT).unwrap_or(u64::MAX);
            // A file that cannot be read has no users.
            let _ = std::fs::File::from(file).take(limit).read_to_end(&mut text);
        }
        text
    };
    let (passwd, group) = (read(c"etc/passwd"), read(c"etc/group"));
    let files = user::Files { passwd: &passwd, group: &group };
    let found = user::resolve(files, user, &mut Vec::new());
    let found = found.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Owner::Fixed { uid: found.uid, gid: found.gid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::mountpoints;

    #[test]
    fn the_innermost_mount_decides_whether_a_place_may_be_written_to() {
        let point = |destination: &str, kind, writable| MountPoint {
            source: "/s".into(),
            writable,
            ..mountpoints::point(kind, destination)
        };
        let mounts = [
            point("/ro", MountKind::Bind, false),
            point("/ro/in/rw", MountKind::Volume, true),
            point("/mem", MountKind::Tmpfs, true),
        ];
        let check = |place: &str, read_only: bool, is_live: bool| {
            let allowed = judge(&mounts, read_only, place, is_live);
            allowed.err().map_or(String::new(), |error| error.to_string())
        };
        let (volume, rootfs) = ("mounted volume is marked read-only", "container rootfs is marked read-only");
        for (place, read_only, is_live, want) in [
            ("/", false, true, ""),
            ("/", true, true, rootfs),
            ("/ro", false, false, volume),
            ("/ro/in", true, false, volume),
            ("/ro/in/rw/x", true, false, ""),
            ("/rope", false, false, ""),
            ("/mem/x", true, true, ""),
            ("/mem/x", true, false, rootfs),
        ] {
            assert_eq!(check(place, read_only, is_live), want, "{place} {read_only} {is_live}");
        }
    }
}
