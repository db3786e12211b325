//! How removed files are marked, in archives and in trees.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use gantry_sys::xattr;
use rustix::fs::{FileType, Mode, OFlags};

use super::Whiteouts;
use super::format::OPAQUE;

/// What removed files are called in archives.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// What AUFS kept for itself; of these only the opaque mark means something.
pub(super) const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Hides what layers below have in the same directory.
pub(crate) const OPAQUE_FILE: &CStr = c".wh..wh..opq";

/// Whether it is overlay's mark of a removed file.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Marks a name as removed.
pub(crate) fn make_whiteout(parent: BorrowedFd<'_>, hidden: &CStr, form: Whiteouts) -> io::Result<()> {
    if form == Whiteouts::Overlay {
        let mode = Mode::empty();
        return Ok(rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, mode, 0)?);
    }
    let mut name = WHITEOUT.to_vec();
    name.extend_from_slice(hidden.to_bytes());
    touch(parent, &CString::new(name)?)
}

/// Makes a directory hide what layers below have in it.
pub(crate) fn mark_opaque(directory: BorrowedFd<'_>, form: Whiteouts) -> io::Result<()> {
    match form {
        Whiteouts::Overlay => xattr::set(xattr::Target::Open(directory), OPAQUE, b"y"),
        _ => touch(directory, OPAQUE_FILE),
    }
}

fn touch(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())?;
    Ok(())
}
