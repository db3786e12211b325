//! The seam to whatever runs the processes of `RUN` steps, and the one implementation of it through
//! the shim. `Executor::create(rootfs) -> Handle`, `Handle::exec(process)`, as BuildKit has it.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gantry_model::ContainerId;
use gantry_model::mount::RootMount;

use crate::cancel::Cancel;
use crate::event::LogStream;
use crate::request::{NetworkMode, RunOptions};

pub use shim::{ShimExecutor, ShimExecutorOptions};

mod shim;
mod spec;

/// Makes places to run processes in.
pub trait Executor: Send + Sync {
    /// Makes the surroundings of a step: namespaces and network. Nothing runs yet.
    ///
    /// # Errors
    /// [`ExecError`]; nothing is left then.
    fn create(&self, container: Container<'_>) -> Result<Box<dyn Handle>, ExecError>;
}

/// A place to run processes in. Dropping it kills what runs in it and takes everything down.
pub trait Handle: Send {
    /// Runs a process to its end and passes on its output.
    ///
    /// # Errors
    /// [`ExecError::Start`] where the program could not be executed; [`ExecError::Cancelled`] after
    /// killing it. The container is gone in either case.
    fn exec(
        &mut self,
        process: &Process,
        output: &mut dyn FnMut(LogStream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, ExecError>;
}

/// The surroundings of a step.
pub struct Container<'a> {
    /// The step's container id, chosen by the solver.
    pub id: ContainerId,
    /// The root file system, writable, mounted inside the container's mount namespace only.
    pub root: RootMount,
    /// Limits and network.
    pub options: &'a RunOptions,
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; the program is looked up in the environment's `PATH`.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// The absolute working directory.
    pub cwd: String,
    /// `user[:group]`, resolved by the root file system's own files; empty is root.
    pub user: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit code, or 128 and the signal that ended it.
    pub code: i32,
    /// Whether the kernel killed something in the container for want of memory.
    pub oom: bool,
}

/// Why a step could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program could not be executed; text and code (126, 127) are the runtime's.
    #[error("{text}")]
    Start {
        /// The runtime's words.
        text: String,
        /// The exit code that `docker run` would give.
        code: i32,
    },
    /// The step's network could not be made.
    #[error("setting up the network of the step failed")]
    Network(#[source] NetworkError),
    /// The caller withdrew.
    #[error("context canceled")]
    Cancelled,
    /// The shim or the host failed.
    #[error("{what}")]
    Internal {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes the network namespaces of steps; the daemon implements it over `net`. It is asked for
/// [`NetworkMode::Default`] and [`NetworkMode::Named`] only: `host` and `none` need no hook.
pub trait Network: Send + Sync {
    /// Makes a namespace that is connected as asked. Called once for each `RUN` step, possibly before the
    /// step before it has ended and from another thread.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing is left then.
    fn connect(&self, request: &NetworkRequest<'_>) -> Result<NetworkSetup, NetworkError>;
}

/// What a step's network is to be.
#[derive(Debug, Clone)]
pub struct NetworkRequest<'a> {
    /// The step's container id.
    pub id: &'a ContainerId,
    /// `Default` or `Named`.
    pub mode: &'a NetworkMode,
}

/// A step's network.
pub struct NetworkSetup {
    /// The network namespace; `None` is the host's.
    pub net: Option<OwnedFd>,
    /// The contents of the step's `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// The step's addresses, for its `/etc/hosts`.
    pub addresses: Vec<std::net::IpAddr>,
    /// Whatever must live as long as the step; dropped after it, when addresses and rules are released.
    pub guard: Box<dyn Any + Send>,
}

/// Why a step's network could not be made: the text that the user reads.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Where an executor finds the shim and keeps what it makes.
#[derive(Debug, Clone)]
pub struct Places {
    /// `gantry-shim`'s path.
    pub shim_binary: PathBuf,
    /// A directory for the sockets of steps, such as `/run/gantry/b`; made if it is not there.
    pub run_directory: PathBuf,
    /// The cgroup above the steps' own, such as `/gantry`.
    pub cgroup_parent: String,
}
