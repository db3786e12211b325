//! Trees copied as they are: owners, modes, attributes, times, devices, and which names are one file. Where the file
//! system can share a file's blocks, they are shared.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::{self, Target};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{check_path, deep, kept_xattrs};
use crate::archive::{OPAQUE, mtime_of, times};

/// Copies what an overlay's upper directory holds, whiteouts and opaque directories with it, into an empty directory,
/// which gets its attributes. What vanishes meanwhile is left out.
///
/// # Errors
/// What the kernel said; a part of it is there.
pub(super) fn copy_upper(upper: &Path, copy: &Path) -> io::Result<()> {
    let (upper, copy) = (fs::File::open(upper)?, fs::File::open(copy)?);
    let mut links = Links::below(copy.as_fd());
    deep(|| copy_directory(upper.as_fd(), copy.as_fd(), Path::new(""), &mut links))
}

fn copy_directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &Path,
    links: &mut Links<'_>,
) -> io::Result<()> {
    check_path(path)?;
    let names = Names::read(tree::open_directory(from, c".")?.as_fd())?;
    for (name, _) in names.iter() {
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        match copy_entry(from, to, name, &path, links) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    if let Some(opaque) = xattr::get(Target::Open(from), OPAQUE)? {
        xattr::set(Target::Open(to), OPAQUE, &opaque)?;
    }
    // Last, for making what is in it has changed its time.
    copy_metadata(from, to, &rustix::fs::fstat(from)?)
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
    links: &mut Links<'_>,
) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return copy_leaf(from, to, name, &stat, path, links);
    }
    let below = tree::open_directory(from, name)?;
    rustix::fs::mkdirat(to, name, Mode::RWXU)?;
    copy_directory(below.as_fd(), tree::open_directory(to, name)?.as_fd(), path, links)
}

/// Files with several names, by inode: where the first went.
pub(super) struct Links<'a> {
    root: BorrowedFd<'a>,
    first: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Links<'a> {
    /// None yet, below the root of the copy.
    pub(super) fn below(root: BorrowedFd<'a>) -> Self {
        Self { root, first: HashMap::new() }
    }
}

/// Owner, mode, attributes and time of a directory or open file.
pub(super) fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, _) in kept_xattrs(Target::Open(to))? {
        xattr::remove(Target::Open(to), &name)?;
    }
    for (name, value) in kept_xattrs(Target::Open(from))? {
        xattr::set(Target::Open(to), &name, value.as_deref().unwrap_or_default())?;
    }
    Ok(rustix::fs::futimens(to, &times(mtime_of(stat)))?)
}

/// Copies a thing that is no directory to where nothing is; a socket is nothing without whoever listens, and is left
/// out.
pub(super) fn copy_leaf(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    path: &Path,
    links: &mut Links<'_>,
) -> io::Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Socket {
        return Ok(());
    }
    if stat.st_nlink > 1 {
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = links.first.get(&inode) {
            match rustix::fs::linkat(links.root, first, target, name, AtFlags::empty()) {
                // It vanished before it was copied.
                Err(Errno::NOENT) => {}
                linked => return Ok(linked?),
            }
        }
        links.first.insert(inode, path.into());
    }
    if kind == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = rustix::fs::openat(target, name, flags, Mode::RUSR)?;
        let (mut from, mut to) = (fs::File::from(from), fs::File::from(to));
        if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
            io::copy(&mut from, &mut to)?;
        }
        return copy_metadata(from.as_fd(), to.as_fd(), stat);
    }
    match kind {
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(&link, target, name)?;
        }
        kind => rustix::fs::mknodat(target, name, kind, Mode::RUSR, stat.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(target, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    for (attribute, value) in kept_xattrs(Target::At(source, name))? {
        xattr::set(Target::At(target, name), &attribute, value.as_deref().unwrap_or_default())?;
    }
    Ok(rustix::fs::utimensat(target, name, &times(mtime_of(stat)), AtFlags::SYMLINK_NOFOLLOW)?)
}
