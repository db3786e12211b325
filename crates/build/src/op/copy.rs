//! Copying between trees, entry by entry through descriptors.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::tree;

/// What becomes of what is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The owner; `None` keeps it.
    pub(super) owner: Option<(u32, u32)>,
    /// The mode; `None` keeps it.
    pub(super) mode: Option<u32>,
    /// The time; `None` keeps it, up to the epoch.
    pub(super) keep_time: bool,
    /// The time, in seconds since 1970.
    pub(super) epoch_secs: i64,
}

impl Rules {
    /// The owner of directories made on the way to a destination.
    pub(super) fn new_owner(&self) -> (u32, u32) {
        self.owner.unwrap_or((0, 0))
    }

    fn times(&self, stat: &Stat) -> Timestamps {
        let time = if self.keep_time && stat.st_mtime < self.epoch_secs {
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) }
        } else {
            Timespec { tv_sec: self.epoch_secs, tv_nsec: 0 }
        };
        Timestamps { last_access: time, last_modification: time }
    }
}

const BUFFER_BYTES: usize = 128 * 1024;

/// Copies an entry of one directory to an entry of another. A file replaces a file or link; a directory is
/// merged into a directory, whose own attributes become those of the source, and replaces anything else.
///
/// # Errors
/// Those of the calls; `IsADirectory` where a file would replace a directory.
pub(super) fn entry(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    to_name: &OsStr,
    rules: Rules,
    depth: usize,
) -> io::Result<()> {
    let stat = tree::stat_entry(from, name)?;
    match tree::kind(&stat) {
        FileType::Directory => {
            let source = tree::open_entry(from, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let target = make_directory(to, to_name)?;
            contents(source.as_fd(), target.as_fd(), rules, depth + 1)?;
            finish(&source, &target, &stat, rules)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            file(tree::open_entry(from, name, flags)?, &stat, to, to_name, rules)
        }
        FileType::Symlink => {
            make_room(to, to_name)?;
            rustix::fs::symlinkat(tree::link_target(from, name)?, to, to_name)?;
            finish_entry(to, to_name, &stat, rules)
        }
        kind => {
            make_room(to, to_name)?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, to_name, kind, mode, stat.st_rdev)?;
            rustix::fs::chmodat(to, to_name, mode, AtFlags::empty())?;
            finish_entry(to, to_name, &stat, rules)
        }
    }
}

/// Copies everything in a directory into another.
///
/// # Errors
/// As [`entry`].
pub(super) fn contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    rules: Rules,
    depth: usize,
) -> io::Result<()> {
    if depth > tree::MAX_DEPTH {
        return Err(io::Error::other(format!("directories are nested more than {} deep", tree::MAX_DEPTH)));
    }
    tree::names(from)?.iter().try_for_each(|name| entry(from, name, to, name, rules, depth))
}

/// Copies an open regular file to an entry of a directory.
///
/// # Errors
/// As [`entry`].
pub(super) fn file(
    source: OwnedFd,
    stat: &Stat,
    to: BorrowedFd<'_>,
    to_name: &OsStr,
    rules: Rules,
) -> io::Result<()> {
    make_room(to, to_name)?;
    let target = create(to, to_name)?;
    transfer(&source, &target)?;
    finish(&source, &target, stat, rules)
}

/// Writes bytes to a new file of a directory.
///
/// # Errors
/// As [`entry`].
pub(super) fn write_file(bytes: &[u8], to: BorrowedFd<'_>, to_name: &OsStr, rules: Rules) -> io::Result<()> {
    make_room(to, to_name)?;
    let target = create(to, to_name)?;
    std::fs::File::from(target.try_clone()?).write_all(bytes)?;
    let stat = rustix::fs::fstat(&target)?;
    finish(&target, &target, &stat, rules)
}

fn create(to: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?)
}

/// Opens a directory's subdirectory, and makes it first if it is not there. A link to a directory counts as
/// one only where the caller resolved it; here it is replaced.
fn make_directory(to: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            if tree::kind(&tree::stat_entry(to, name)?) != FileType::Directory {
                rustix::fs::unlinkat(to, name, AtFlags::empty())?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            }
        }
        Err(error) => return Err(error.into()),
    }
    tree::open_entry(to, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Removes what a new file replaces.
fn make_room(to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(to, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            format!("cannot replace the directory {} by a file", name.display()),
        )),
        Err(error) => Err(error.into()),
    }
}

fn transfer(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, 1 << 30) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Whatever the kernel did not copy by itself; nothing, as a rule.
    let (mut from, mut to) =
        (std::fs::File::from(source.try_clone()?), std::fs::File::from(target.try_clone()?));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

/// Gives a file or directory its owner, mode, attributes and time, in the order in which none undoes another.
fn finish(source: impl AsFd, target: impl AsFd, stat: &Stat, rules: Rules) -> io::Result<()> {
    let target = target.as_fd();
    let (uid, gid) = rules.owner.unwrap_or((stat.st_uid, stat.st_gid));
    rustix::fs::fchown(target, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(mode_after(stat, rules)))?;
    for (name, value) in tree::xattrs(source)? {
        rustix::fs::fsetxattr(target, &name, &value, rustix::fs::XattrFlags::empty())?;
    }
    rustix::fs::futimens(target, &rules.times(stat))?;
    Ok(())
}

/// The mode of a copy. As with chown(2), and so in Docker, a file that is given to another owner loses its
/// set-user-id bit, and its set-group-id bit where the group may execute it.
fn mode_after(stat: &Stat, rules: Rules) -> u32 {
    let mode = rules.mode.unwrap_or(stat.st_mode) & 0o7777;
    if rules.mode.is_some() || rules.owner.is_none() || tree::kind(stat) != FileType::RegularFile {
        return mode;
    }
    let dropped = if mode & 0o010 == 0 { 0o4000 } else { 0o6000 };
    mode & !dropped
}

/// As [`finish`], for what cannot be opened.
fn finish_entry(to: BorrowedFd<'_>, name: &OsStr, stat: &Stat, rules: Rules) -> io::Result<()> {
    let (uid, gid) = rules.owner.unwrap_or((stat.st_uid, stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(to, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
    rustix::fs::utimensat(to, name, &rules.times(stat), flags)?;
    Ok(())
}

/// Opens a directory of a tree by its path, and makes it and those above it where they are not there.
/// Links on the way are followed within the tree.
///
/// # Errors
/// Those of the calls; `NotADirectory` where something else is in the way.
pub(super) fn directories(
    root: BorrowedFd<'_>,
    path: &std::path::Path,
    mode: u32,
    rules: Rules,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match tree::open(root, path, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    // Where a link leads to a directory that is not there, that one is made.
    let path = tree::follow(root, path)?;
    let mut at = std::path::PathBuf::from("/");
    let mut directory = tree::open(root, &at, flags)?;
    for name in path.components() {
        let std::path::Component::Normal(name) = name else { continue };
        at.push(name);
        directory = match tree::open(root, &at, flags) {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700))?;
                let made = tree::open_entry(&directory, name, flags)?;
                let (uid, gid) = rules.new_owner();
                rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
                made
            }
            Err(error) => return Err(error),
        };
    }
    Ok(directory)
}
