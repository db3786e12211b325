//! Signals by pidfd, with numbers, so that real-time signals work too.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends a signal to the process that the pidfd refers to; 0 only asks whether it is there.
///
/// # Errors
/// An error number: `ESRCH` if it has ended and was waited for, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), i32> {
    // SAFETY: plain numbers, and no siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == -1 { Err(crate::process::errno()) } else { Ok(()) }
}
