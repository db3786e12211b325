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

/// Tells the C library's allocator to use two arenas at most, instead of eight for each processor: what threads have
/// freed in many arenas is in nobody's way, and in nobody's use. To be called first in `main`.
pub fn prefer_few_arenas() {
    // SAFETY: mallopt only sets numbers in the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives free memory of the heap back to the kernel, also from between what is in use. Takes milliseconds where the
/// heap is large.
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
