//! A process identified beyond doubt: pid, start time and pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

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
    /// Wraps a child just made; its start time is read from `/proc`.
    pub(crate) fn of_child(pid: i32, pidfd: OwnedFd) -> Self {
        // A child cannot vanish before it is waited for, so the number is there; 0 matches nothing.
        Self { pid, start_time_ticks: start_time_ticks(pid).unwrap_or(0), pidfd }
    }

    /// Finds a process again by pid and start time, as after a restart of the caller.
    ///
    /// # Errors
    /// `NotFound` if no such process lives (a zombie counts as living), else the system's error.
    pub fn adopt(pid: i32, start_time_ticks: u64) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let number = Pid::from_raw(pid).ok_or_else(gone)?;
        let pidfd = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Err(gone()),
            Err(error) => return Err(error.into()),
        };
        // Read after the pidfd was opened: the pid cannot have changed hands in between unnoticed.
        if self::start_time_ticks(pid).map_err(|_| gone())? != start_time_ticks {
            return Err(gone());
        }
        Ok(Self { pid, start_time_ticks, pidfd })
    }

    /// Sends a signal (a number, so that real-time signals work).
    ///
    /// # Errors
    /// `ESRCH` if it has ended and been waited for.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        gantry_sys::pidfd::send_signal(self.pidfd.as_fd(), signal).map_err(io::Error::from_raw_os_error)
    }

    /// Waits for its end and reaps it. Only for a child of the caller.
    ///
    /// # Errors
    /// `ECHILD` if it is no child, or was reaped already.
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            match self.wait_with(WaitIdOptions::EXITED) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) => {}
                Ok(Some(exit)) => return Ok(exit),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reaps it if it has ended; `None` while it runs.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Code(255),
        }))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Reads when a process was started, in clock ticks since boot.
///
/// # Errors
/// `NotFound` if there is none.
pub fn start_time_ticks(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether it has not ended. A zombie has; nobody may have waited for it yet.
#[must_use]
pub fn is_running(pid: i32, start_time_ticks: u64) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return false };
    let after_name = stat.iter().rposition(|byte| *byte == b')').map_or(0, |at| at + 2);
    let ended = matches!(stat.get(after_name), Some(b'Z' | b'X'));
    !ended && parse_start_time(&stat) == Some(start_time_ticks)
}

/// Field 22. The second field is the program's name in parentheses, which may contain anything.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["sh", "a b) S 9", "(((", ")"] {
            assert_eq!(parse_start_time(format!("7 ({name}){tail}").as_bytes()), Some(4711), "{name}");
        }
        assert_eq!(parse_start_time(b"7 (sh) S 1"), None);
    }

    #[test]
    fn a_process_is_adopted_by_its_start_time_only() {
        let pid = std::process::id().cast_signed();
        let ticks = start_time_ticks(pid).expect("our own");
        assert!(Process::adopt(pid, ticks).is_ok());
        let error = Process::adopt(pid, ticks + 1).expect_err("another process");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
