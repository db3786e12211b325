//! Mounts: what rustix lacks of the new mount API.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes of a mount (`MOUNT_ATTR_*`) to be set and cleared, and its propagation (`MS_*`, 0: unchanged).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// For idmapped mounts; 0 otherwise.
    pub userns_fd: u64,
}

impl Attributes {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NOSUID: u64 = 0x2;
    /// No devices.
    pub const NODEV: u64 = 0x4;
    /// No programs.
    pub const NOEXEC: u64 = 0x8;
    /// The bits in which the access time's mode is kept.
    pub const ATIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are kept strictly.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How far an operation reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This mount alone.
    Single,
    /// This mount and all below it.
    Recursive,
}

/// Whether overlay takes its lower directories one by one (`lowerdir+`, Linux 6.7) instead of all of them in one option.
///
/// An older kernel is asked by no trial: up to 6.4 overlay knows the new mount API only through a bridge, which says
/// that an option is unknown no earlier than at the end, and into the kernel's log each time. Allocates nothing.
#[must_use]
pub fn overlay_takes_directories_one_by_one() -> bool {
    is_at_least(rustix::system::uname().release().to_bytes(), (6, 7))
}

/// Whether a release such as `6.1.0-56-cloud-amd64` is this version or a later one. One that cannot be read is.
fn is_at_least(release: &[u8], wanted: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|byte| !byte.is_ascii_digit())
        .map_while(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= wanted,
        _ => true,
    }
}

/// Changes the attributes of the mount whose root `fd` and `path` name (an empty path: `fd` itself).
///
/// # Errors
/// An error number.
pub fn set_attributes(
    fd: BorrowedFd<'_>,
    path: &CStr,
    reach: Reach,
    attributes: Attributes,
) -> Result<(), i32> {
    let mut flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    if reach == Reach::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: a C string and a mount_attr of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == -1 { Err(crate::process::errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared() {
        let check = |release: &str, expected| {
            assert_eq!(is_at_least(release.as_bytes(), (6, 7)), expected, "{release}");
        };
        check("6.1.0-56-cloud-amd64", false);
        check("5.15.0", false);
        check("6.6.9", false);
        check("6.7.0-rc1", true);
        check("6.18.44-fc-v669", true);
        check("7.0", true);
        check("odd", true);
    }
}
