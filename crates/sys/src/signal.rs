//! Signals taken one by one instead of by handlers.

use crate::process::errno;

/// Blocks every signal that can be blocked, for the calling thread, so that [`wait`] gets them.
pub fn block_all() {
    let all = u64::MAX;
    // SAFETY: an 8-byte mask, as the kernel's sigset_t is; the kernel leaves SIGKILL and SIGSTOP out.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut::<u64>(),
            8,
        );
    }
}

/// Waits for the next blocked signal and takes it.
///
/// # Errors
/// An error number: `EINTR`.
pub fn wait() -> Result<i32, i32> {
    let all = u64::MAX;
    // SAFETY: an 8-byte mask; neither information nor a time limit is asked for.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            std::ptr::null_mut::<libc::siginfo_t>(),
            std::ptr::null::<libc::timespec>(),
            8,
        )
    };
    if signal == -1 { Err(errno()) } else { Ok(i32::try_from(signal).unwrap_or(0)) }
}

/// Sends a signal to a process by pid: for a child that has not been waited for.
///
/// # Errors
/// An error number.
pub fn send(pid: i32, signal: i32) -> Result<(), i32> {
    // SAFETY: plain numbers.
    if unsafe { libc::kill(pid, signal) } == -1 { Err(errno()) } else { Ok(()) }
}
