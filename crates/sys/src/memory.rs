//! Keeping a long-lived small process small, and its signals quiet.

/// Tells the C library's allocator to use one arena and to give free memory back early. To be called
/// first in `main`.
pub fn prefer_small_heap() {
    // SAFETY: mallopt only sets numbers in the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 4 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 * 1024);
    }
}

/// Gives free memory of the heap back to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes the allocator's own locks and has no other precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ignores signals in this process. Ignored signals stay ignored over `execve`, so whoever starts
/// programs resets them.
pub fn ignore_signals(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: SIG_IGN runs no code; a number that is no signal is refused harmlessly.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}
