//! A process identified beyond doubt: pid, start time and pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that we made or adopted. Dropping it closes the pidfd and nothing else.
#[derive(Debug)]
pub struct Process {
    /// The pid in the caller's pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22): with the boot id it
    /// tells this process from a later one with the same pid.
    pub start_time_ticks: u64,
    /// Becomes readable when the process ends.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Docker's exit code: the code, or 128 + the signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl Process {
    /// Finds a process again by pid and start time, as after a restart of the caller.
    ///
    /// # Errors
    /// `NotFound` if no such process lives (a zombie counts as living), else the system's error.
    pub fn adopt(pid: i32, start_time_ticks: u64) -> io::Result<Self> {
        let _ = (pid, start_time_ticks);
        unimplemented!()
    }

    /// Sends a signal (a number, so that real-time signals work).
    ///
    /// # Errors
    /// `ESRCH` if it has ended and been waited for.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let _ = signal;
        unimplemented!()
    }

    /// Waits for its end and reaps it. Only for a child of the caller.
    ///
    /// # Errors
    /// `ECHILD` if it is no child, or was reaped already.
    pub fn wait(&self) -> io::Result<Exit> {
        unimplemented!()
    }

    /// Reaps it if it has ended; `None` while it runs.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        unimplemented!()
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
