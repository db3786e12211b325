//! The shims that live on this host, as the kernel shows them: for who cannot ask them, because their sockets are gone.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::process::{self, Process};

/// What the kernel adds to the name of a directory that was removed.
const DELETED: &[u8] = b" (deleted)";

/// How long one that was killed may take to be gone.
const END_S: i64 = 5;

/// One of them, when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    /// Its process id.
    pub pid: i32,
    start_time_ticks: u64,
    /// Whose it is.
    pub kind: Kind,
}

/// Whose a shim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A container's, with the directory that it was started in, which may be gone.
    Container(PathBuf),
    /// A build step's.
    Ephemeral,
}

/// All of them, whoever started them. Reads `/proc` once.
#[must_use]
pub fn living() -> Vec<Shim> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| look(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn look(pid: i32) -> Option<Shim> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    if words.next() != Some(b"gantry-shim") {
        return None;
    }
    let start_time_ticks = process::start_time_ticks(pid).ok()?;
    let kind = match words.next()? {
        b"container" => Kind::Container(directory(fs::read_link(format!("/proc/{pid}/cwd")).ok()?)),
        b"ephemeral" => Kind::Ephemeral,
        _ => return None,
    };
    Some(Shim { pid, start_time_ticks, kind })
}

/// Without what the kernel adds.
fn directory(shown: PathBuf) -> PathBuf {
    match shown.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(path) => std::ffi::OsString::from_vec(path.to_vec()).into(),
        None => shown,
    }
}

impl Shim {
    /// The name of its directory below `home`, which is the container's id; `None` for another daemon's and for a build
    /// step's. `home` has no symbolic link in it.
    #[must_use]
    pub fn id_below(&self, home: &Path) -> Option<&str> {
        match &self.kind {
            Kind::Container(directory) => directory.strip_prefix(home).ok()?.to_str(),
            Kind::Ephemeral => None,
        }
    }

    /// Kills it, and its container with it, and waits for its end: then all that it held is closed. One that has ended is
    /// fine.
    ///
    /// # Errors
    /// It may not be killed; `TimedOut`: it is not gone yet.
    pub fn kill(&self) -> io::Result<()> {
        let process = match Process::adopt(self.pid, self.start_time_ticks) {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match process.signal(libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            result => result?,
        }
        let patience = Timespec { tv_sec: END_S, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))?;
        if ended == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_known_also_when_it_is_gone() {
        for (shown, want) in [("/run/c/1", "/run/c/1"), ("/run/c/1 (deleted)", "/run/c/1")] {
            assert_eq!(directory(shown.into()), Path::new(want));
        }
        let shim = |kind| Shim { pid: 1, start_time_ticks: 0, kind };
        let one = shim(Kind::Container("/run/c/1".into()));
        assert_eq!(one.id_below(Path::new("/run/c")), Some("1"));
        assert_eq!(one.id_below(Path::new("/other/c")), None);
        assert_eq!(shim(Kind::Ephemeral).id_below(Path::new("/run/c")), None);
    }
}
