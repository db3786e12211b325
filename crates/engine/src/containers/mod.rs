//! Containers: each is owned by one task, seen through immutable views.
//!
//! [`Containers`] finds the task for a name or id and hands it a message; the answer comes back when
//! the step that the caller waits for is done. Nothing here holds a lock across two containers.
//! Wherever a container is named, a full id, a name with or without slash, or an unambiguous prefix
//! of an id is taken, in this order, as Docker does.

pub mod attach;
pub mod config;
pub mod exec;
pub mod list;
pub mod logs;
pub mod record;
pub mod stats;
pub mod top;
pub mod wait;

use std::sync::Arc;

use gantry_model::container::RestartPolicy;
use gantry_model::{ContainerId, ErrorKind};

pub use attach::{AttachOptions, Attachment};
pub use config::{Config, CreateRequest, HostConfig};
pub use exec::{ExecRequest, ExecSession, ExecStartOptions, ExecView};
pub use list::{ListOptions, Pruned};
pub use logs::{LogEntry, LogOptions, LogStream};
pub use record::{Record, State, View};
pub use stats::Stats;
pub use top::Processes;
pub use wait::{Exit, WaitCondition, Waiter};

/// All containers of the host. Cheap to clone.
#[derive(Clone)]
pub struct Containers {}

/// What create answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The new container.
    pub id: ContainerId,
    /// Settings that were adjusted or ignored, in Docker's words.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopOptions {
    /// The signal by name or number; empty is the container's.
    pub signal: String,
    /// Seconds until `SIGKILL`; `None` is the container's, negative is forever.
    pub timeout_s: Option<i64>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Kills it first if it runs.
    pub force: bool,
    /// Removes its anonymous volumes too.
    pub volumes: bool,
}

/// What update changes; `None` leaves as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// The restart policy.
    pub restart: Option<RestartPolicy>,
    /// Limits: fields that are not 0 or empty are taken.
    pub resources: Option<config::Resources>,
    /// The client's JSON, merged into the `HostConfig` that inspect echoes.
    pub host_config_json: serde_json::Value,
}

impl Containers {
    /// Makes a container: reserves its name, takes a writable layer and volumes.
    ///
    /// # Errors
    /// [`Error`]; nothing remains.
    pub async fn create(&self, _request: CreateRequest) -> Result<Created, Error> {
        unimplemented!("filled next")
    }

    /// Starts it and returns when its process runs. The start goes on if the caller vanishes.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] if it runs; [`Error::Launch`] with Docker's text if the process could
    /// not be made: it is `exited` (`created` before the first start) with exit code 126, 127 or 128 then.
    pub async fn start(&self, _container: &str) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Sends the stop signal, then `SIGKILL` after the timeout; returns when it is stopped.
    ///
    /// # Errors
    /// [`Error::AlreadyStopped`] if it does not run.
    pub async fn stop(&self, _container: &str, _options: StopOptions) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Containers::stop`] and [`Containers::start`].
    pub async fn restart(&self, _container: &str, _options: StopOptions) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Sends a signal (name or number; empty is `KILL`); for `KILL`, waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn kill(&self, _container: &str, _signal: &str) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Freezes its processes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run or is paused.
    pub async fn pause(&self, _container: &str) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Thaws its processes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not paused.
    pub async fn unpause(&self, _container: &str) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Removes it. Its name is free when this returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it runs and `force` is not set; after a failure it is `dead` and remove may be tried again.
    pub async fn remove(&self, _container: &str, _options: RemoveOptions) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken.
    pub async fn rename(&self, _container: &str, _name: &str) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Changes restart policy and limits; returns warnings.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy that clashes with `--rm`.
    pub async fn update(&self, _container: &str, _update: Update) -> Result<Vec<String>, Error> {
        unimplemented!("filled next")
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn resize(&self, _container: &str, _rows: u16, _columns: u16) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// The present view.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Ambiguous`].
    pub fn inspect(&self, _container: &str) -> Result<Arc<View>, Error> {
        unimplemented!("filled next")
    }

    /// Bytes that a container wrote to its own layer, and the bytes of its whole root file system
    /// (`inspect --size`, `ps -s`). Walks the layer: slow.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn sizes(&self, _container: &str) -> Result<(u64, u64), Error> {
        unimplemented!("filled next")
    }
}

/// Says why an operation on a container failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// Nothing has this exec id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// The image is not here.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Another thing that was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// Without slash.
        name: String,
        /// By whom.
        id: ContainerId,
    },
    /// It runs already.
    #[error("container is already running")]
    AlreadyStarted,
    /// It does not run.
    #[error("container is already stopped")]
    AlreadyStopped,
    /// Clashes with the present state.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The process could not be made.
    #[error("{text}")]
    Launch {
        /// Docker's text.
        text: String,
        /// 125, 126, 127 or 128: what inspect shows.
        exit_code: i32,
    },
    /// The engine is closing.
    #[error("the daemon is shutting down")]
    Closing,
    /// The host or our own state failed.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind. [`Error::Launch`] with 126 and 127 is `InvalidArgument`, as Docker answers 400.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_) | Self::NoSuchExec(_) | Self::NoSuchImage(_) | Self::NotFound(_) => {
                ErrorKind::NotFound
            }
            Self::NameTaken { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::AlreadyStarted | Self::AlreadyStopped => ErrorKind::NotModified,
            Self::Ambiguous(_) | Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Launch { exit_code: 126 | 127, .. } => ErrorKind::InvalidArgument,
            Self::Closing => ErrorKind::Unavailable,
            Self::Launch { .. } | Self::Internal(_) => ErrorKind::Internal,
        }
    }
}
