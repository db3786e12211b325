//! What is asked of a whole file system.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `EXT4_IOC_SHUTDOWN`, which XFS and f2fs have with the same number: `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;

/// Neither the journal nor anything else is written any more.
const WITHOUT_FLUSHING: u32 = 2;

/// Shuts a file system down as a loss of power would: what is not on its disk is forgotten, everything that comes
/// later fails with `EIO`. It can be unmounted and mounted again. For tests.
///
/// `any` is anything open on it.
///
/// # Errors
/// `ENOTTY` of a kind of file system that cannot, `EPERM` without `CAP_SYS_ADMIN`.
pub fn lose_power(any: impl AsFd) -> io::Result<()> {
    let how = WITHOUT_FLUSHING;
    // SAFETY: the request reads one u32 through the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(any.as_fd().as_raw_fd(), SHUTDOWN, &raw const how) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_lose_power_says_so() {
        let proc = std::fs::File::open("/proc").expect("every host has it");
        assert!(lose_power(&proc).is_err());
    }
}
