//! Further processes in a running container.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gantry_model::{ContainerId, ExecId};

use super::{Containers, Error};

/// What `exec` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    /// The command; at least one word.
    pub command: Vec<String>,
    /// Streams that will be attached.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Empty is the container's.
    pub user: String,
    /// Empty is the container's.
    pub working_dir: String,
    /// All capabilities.
    pub privileged: bool,
    /// Empty is `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// Initial rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// How an exec is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecStartOptions {
    /// Nobody attaches.
    pub detach: bool,
    /// Whether the client expects a terminal's raw stream.
    pub tty: bool,
    /// Rows and columns, where the client gave them.
    pub console_size: Option<(u16, u16)>,
}

/// What inspect of an exec shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Where it runs.
    pub container: ContainerId,
    /// What was asked for.
    pub request: Arc<ExecRequest>,
    /// Whether it runs.
    pub running: bool,
    /// `None` until it ended.
    pub exit_code: Option<i32>,
    /// On the host; 0 before it runs.
    pub pid: u32,
}

/// A checked exec, waiting for its connection.
pub struct ExecSession {}

impl ExecSession {
    /// Whether output is framed in Docker's multiplexed form.
    #[must_use]
    pub fn multiplexed(&self) -> bool {
        unimplemented!("filled next")
    }

    /// Starts it over the hijacked connection. If it cannot be started, Docker's text is written to the
    /// client and returned. The connection closes when the process ends.
    ///
    /// # Errors
    /// [`Error::Launch`], [`Error::Conflict`].
    pub async fn connect(self, _connection: OwnedFd, _early: Vec<u8>) -> Result<(), Error> {
        unimplemented!("filled next")
    }
}

impl Containers {
    /// Notes an exec.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the container does not run or is paused; [`Error::Invalid`] without a command.
    pub async fn exec_create(&self, _container: &str, _request: ExecRequest) -> Result<ExecId, Error> {
        unimplemented!("filled next")
    }

    /// Checks that an exec can be started with an attached client.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`]; [`Error::Conflict`] if it was started before or the container does not run.
    pub async fn exec_attach(&self, _exec: &str, _options: ExecStartOptions) -> Result<ExecSession, Error> {
        unimplemented!("filled next")
    }

    /// Starts an exec that nobody attaches to; returns when its process runs.
    ///
    /// # Errors
    /// As [`Containers::exec_attach`], and [`Error::Launch`].
    pub async fn exec_detached(&self, _exec: &str, _options: ExecStartOptions) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// The present view of an exec. Execs are forgotten some minutes after they ended.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`].
    pub fn exec_inspect(&self, _exec: &str) -> Result<ExecView, Error> {
        unimplemented!("filled next")
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`].
    pub async fn exec_resize(&self, _exec: &str, _rows: u16, _columns: u16) -> Result<(), Error> {
        unimplemented!("filled next")
    }
}
