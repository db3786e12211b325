//! Starting a shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gantry_sys::spawn as process;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::service;

use super::connection::{Connection, ConnectionError, listen};

/// What ends a shim besides `Shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime<'a> {
    /// Nothing: a container's, from its launch on; before, the end of its last connection. It keeps its journal
    /// and its socket `shim.sock` in this existing directory (`<exec-root>/c/<id>`), which the caller made, mode 0700, and removes after the
    /// shim's end. Files of an earlier shim in it are replaced.
    Container(&'a Path),
    /// The end of the connection that it was started with: a build step's. The container is killed,
    /// its cgroup removed, and the shim ends. No journal and no socket; acknowledgements are not
    /// needed.
    Connection,
}

/// A started shim. Dropping this changes nothing for a container's; it ends a build step's.
#[derive(Debug)]
pub struct Spawned {
    /// The conversation; `Hello` has not been said.
    pub connection: Connection,
    /// The shim's process id; a child of the caller until it is reaped or the caller ends.
    pub pid: i32,
    /// Readable when the shim has ended; then call [`reap`].
    pub pidfd: OwnedFd,
}

/// Why no shim was started. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program could not be run.
    #[error("cannot start {}", binary.display())]
    Program {
        /// Its path.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No socket pair, or no socket in its directory.
    #[error("cannot make the shim's connection")]
    Connection(#[from] ConnectionError),
}

/// Starts the program `binary` (the absolute path of `gantry-shim`) connected to the caller, in a session of its own, with
/// an empty environment, `/dev/null` as standard streams and no other descriptor than the
/// connection (and its listening socket). It stays in the caller's cgroups, but for a container's: that leaves those of
/// the caller's systemd unit (`cgroup/service.rs`). Costs about a quarter of a millisecond; the new
/// process needs no further attention before the first request, which may be sent at once.
///
/// # Errors
/// [`SpawnError`]
pub fn spawn(binary: &Path, lifetime: Lifetime<'_>) -> Result<Spawned, SpawnError> {
    let failed = |source| SpawnError::Program { binary: binary.into(), source };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| SpawnError::Connection(io::Error::from(error).into()))?;
    let program = process::c_string(binary.as_os_str().as_bytes()).map_err(failed)?;
    let directory = match lifetime {
        Lifetime::Container(path) => Some(process::c_string(path.as_os_str().as_bytes()).map_err(failed)?),
        Lifetime::Connection => None,
    };
    #[cfg(feature = "failpoints")]
    let texts = gantry_model::failpoint::environment();
    #[cfg(not(feature = "failpoints"))]
    let texts: [String; 0] = [];
    let environment =
        texts.into_iter().map(process::c_string).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let environment: Vec<_> = environment.iter().map(|text| text.as_c_str()).collect();
    let mode = if directory.is_some() { c"container" } else { c"ephemeral" };
    // The socket is there before the process is: should the caller die at this very moment, its successor can
    // connect to the shim that is about to be, instead of taking it for dead.
    let listener = match lifetime {
        Lifetime::Container(path) => Some(listen(path)?),
        Lifetime::Connection => None,
    };
    let descriptors: Vec<_> =
        [Some(&theirs), listener.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
    let mut arguments = vec![c"gantry-shim", mode];
    if directory.is_some() {
        arguments.extend(service::ways_out().iter().map(AsRef::<std::ffi::CStr>::as_ref));
    }
    // `/` for a build step's, so that it holds no directory of the daemon's.
    let child = process::spawn(&process::Spawn {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        directory: Some(directory.as_deref().unwrap_or(c"/")),
        descriptors: &descriptors,
    })
    .map_err(failed)?;
    drop((theirs, listener));
    Ok(Spawned { connection: Connection::from_socket(ours)?, pid: child.pid, pidfd: child.pidfd })
}

/// Takes the exit code of a shim that has ended, so that no zombie stays. Never blocks. Does nothing
/// where it still runs or is no child of the caller (after a daemon's restart). Returns whether it was
/// reaped.
pub fn reap(pidfd: impl AsFd) -> bool {
    use rustix::process::{WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(Some(_)))
}
