//! Making a container's first process: [`create`] sets everything up and stops right before
//! `execve`; [`Created::start`] lets it go.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_model::mount::RootMount;
use oci_spec::runtime::Spec;

use crate::cgroup::Cgroup;
use crate::{LaunchError, Process};

/// Existing namespaces to enter. What is `None` here and listed in the specification without a
/// path is made new; what the specification does not list stays the caller's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Joined<'a> {
    /// Network.
    pub net: Option<BorrowedFd<'a>>,
    /// IPC.
    pub ipc: Option<BorrowedFd<'a>>,
    /// UTS.
    pub uts: Option<BorrowedFd<'a>>,
    /// PID: the new process is born into it.
    pub pid: Option<BorrowedFd<'a>>,
    /// User.
    pub user: Option<BorrowedFd<'a>>,
    /// Cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// The process's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors, closed in the caller by `create`. Their owner becomes the container's
    /// user, so that `/dev/stdout` can be opened again.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's own devpts, of this size (0 by 0: the kernel's default).
    Terminal {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
}

/// Whether the process may outlive its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervise<'a> {
    /// The calling thread's end kills it (`PR_SET_PDEATHSIG`), so call from the main thread.
    Child,
    /// It lives on. It waits for its start at this FIFO (see [`start_detached`]), so that another
    /// process can start it.
    Detached {
        /// An existing FIFO.
        fifo: &'a Path,
    },
}

/// Everything that makes a container's first process.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The OCI specification. `root.readonly` counts, `root.path` does not: see `root`.
    pub spec: &'a Spec,
    /// The root file system, mounted inside the container's own mount namespace.
    pub root: &'a RootMount,
    /// Existing namespaces to enter.
    pub namespaces: Joined<'a>,
    /// Standard streams.
    pub stdio: Stdio,
    /// The cgroup to be born in; `None` stays in the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Whether it may outlive the caller.
    pub supervise: Supervise<'a>,
    /// `--init`: the host path of `gantry-init`. It is bind-mounted at `/sbin/docker-init` and put
    /// before the arguments, so the specification need not mention it.
    pub init: Option<&'a Path>,
}

/// A process that is set up and waits right before `execve`.
#[derive(Debug)]
pub struct Created {
    /// The process.
    pub process: Process,
    /// The terminal's master side, if one was asked for.
    pub terminal: Option<OwnedFd>,
    /// What had to be left out or lowered (such as a limit that may not be raised), as sentences.
    pub warnings: Vec<String>,
    pub(crate) control: Option<OwnedFd>,
}

/// Makes the process and sets everything up, up to the point right before `execve`.
///
/// Blocks until that point (milliseconds). Forks from the calling thread.
///
/// # Errors
/// [`LaunchError`] in runc's words; the process is gone and reaped then, the cgroup is left to its
/// owner. An unknown program or user is found here, not at start.
pub fn create(launch: Launch<'_>) -> Result<Created, LaunchError> {
    let _ = launch;
    unimplemented!()
}

impl Created {
    /// Lets the process execute its program and waits until it has.
    ///
    /// # Errors
    /// What `execve` said, as [`crate::Reason::ExecFailed`]; the process is gone and reaped then.
    pub fn start(self) -> Result<Process, LaunchError> {
        unimplemented!()
    }
}

/// Starts a process that was created [`Supervise::Detached`], from any process.
///
/// # Errors
/// As [`Created::start`], and if the process has ended.
pub fn start_detached(fifo: &Path) -> Result<(), LaunchError> {
    let _ = fifo;
    unimplemented!()
}
