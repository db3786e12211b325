//! Modes, times and extended attributes of what is unpacked.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use gantry_sys::xattr;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};

use super::entry::{Entry, Kind};
use super::format::is_kept_xattr;

/// Sets the mode of a thing that was just made. What somebody put in its place meanwhile may get it, but no
/// link is followed: the kernel's own call would.
pub(super) fn change_mode(directory: BorrowedFd<'_>, name: &CStr, mode: Mode) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let thing = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", thing.as_raw_fd()), mode)?)
}

/// The modification time of a file.
pub(crate) fn mtime_of(stat: &rustix::fs::Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// Both times the same: the time of last access means nothing in an image.
pub(crate) fn times(mtime: Timespec) -> Timestamps {
    Timestamps { last_access: mtime, last_modification: mtime }
}

pub(super) fn set_xattrs(target: xattr::Target<'_>, entry: &Entry) -> io::Result<()> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept_xattr(name)) {
        let name = CString::new(name.as_slice())?;
        match xattr::set(target, &name, value) {
            // The file system has none of these, or the kernel allows them on files and directories alone.
            Err(error)
                if error.kind() == io::ErrorKind::Unsupported
                    || name.to_bytes().starts_with(b"user.") && matches!(entry.kind, Kind::Symlink(_)) => {}
            result => result?,
        }
    }
    Ok(())
}
