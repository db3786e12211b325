//! Containers: each is owned by one task, seen through immutable views.
//!
//! [`Containers`] finds the task for a name or id and hands it a message; the answer comes back when
//! the step that the caller waits for is done. Nothing here holds a lock across two containers.
//! Wherever a container is named, a full id, a name with or without slash, or an unambiguous prefix
//! of an id is taken, in this order, as Docker does.

pub mod archive;
pub mod attach;
pub mod commit;
pub mod config;
pub mod exec;
pub mod list;
pub mod logs;
pub mod record;
pub mod stats;
pub mod top;
pub mod wait;

pub(crate) mod core;
pub(crate) mod index;
pub(crate) mod remove;

mod adopt;
mod announce;
mod check;
mod create;
mod endpoints;
mod export;
mod journal;
mod kill;
mod limits;
mod link;
mod log_driver;
mod merge;
mod mountpoints;
mod pause;
mod propagation;
mod spec;
mod start;
mod stop;
mod stopwatch;
mod subpath;
mod supervise;
mod task;
mod update;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use gantry_model::container::RestartPolicy;
use gantry_model::{ContainerId, ErrorKind, SnapshotId};
use gantry_runtime::shim::protocol::Request;
use tokio::sync::oneshot;

use self::core::Core;
use self::index::Entry;
use self::link::Answer;
use self::task::{Answerer, Message};
use crate::database::LedgerError;

pub use archive::{PathStat, PutOptions, Taken};
pub use attach::{AttachOptions, Attachment};
pub use commit::CommitRequest;
pub use config::{Config, CreateRequest, HostConfig};
pub use exec::{ExecRequest, ExecSession, ExecStartOptions, ExecView};
pub use list::{ListOptions, Pruned};
pub use logs::{LogEntry, LogOptions, LogStream};
pub use record::{Record, State, View};
pub use stats::{Interface, Stats, Traffic};
pub use top::Processes;
pub use wait::{Exit, WaitCondition, Waiter};

pub(crate) use self::adopt::{CannotAsk, Found, adopt, living, remove_orphan};
pub(crate) use self::spec::parse_bounding_set;

/// All containers of the host. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    core: Arc<Core>,
}

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
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The present view.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Ambiguous`].
    pub fn inspect(&self, container: &str) -> Result<Arc<View>, Error> {
        Ok(self.core.index.find(container)?.view())
    }

    /// Bytes that a container wrote to its own layer, and the bytes of its whole root file system
    /// (`inspect --size`, `ps -s`). Walks the layer: slow.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn sizes(&self, container: &str) -> Result<(u64, u64), Error> {
        let view = self.core.index.find(container)?.view();
        let core = Arc::clone(&self.core);
        crate::blocking(move || {
            let snapshot = SnapshotId::from(&view.record.id);
            let own = core.store.snapshots().usage(&snapshot);
            let own = own.map_err(|error| Error::Internal(crate::chain(&error)))?.size_bytes;
            let below: u64 = view
                .record
                .layers
                .iter()
                .filter_map(|layer| core.store.layers().get(*layer).ok())
                .map(|layer| layer.size_bytes)
                .sum();
            Ok((own, own + below))
        })
        .await
    }

    /// How the root file system is put together. Nothing is mounted on the host for it; what a running container
    /// sees is at `/proc/PID/root`.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Internal`] where its layers are not as recorded.
    pub async fn root(&self, container: &str) -> Result<gantry_model::mount::RootMount, Error> {
        let view = self.core.index.find(container)?.view();
        let core = Arc::clone(&self.core);
        crate::blocking(move || {
            let mount = core.store.snapshots().mount(&SnapshotId::from(&view.record.id));
            mount.map_err(|error| Error::Internal(crate::chain(&error)))
        })
        .await
    }

    /// Tells all tasks to end; containers go on.
    pub(crate) fn close(&self) {
        for entry in self.core.index.all() {
            // One that has ended needs not be told.
            let _ = entry.tell(Message::Close);
        }
    }

    /// Takes away the group that containers' groups were in, if none is left; one that the operator chose is theirs.
    pub(crate) fn remove_parent_group(&self) {
        let host = &self.core.host;
        if host.settings.defaults.cgroup_parent.is_none() {
            gantry_runtime::cgroup::Cgroup::open(&host.cgroups, Path::new(core::CGROUP_PARENT))
                .remove_if_empty();
        }
    }

    /// Puts a question to a container's task and waits for the answer.
    async fn ask<T>(
        &self,
        container: &str,
        message: impl FnOnce(Answerer<T>) -> Message,
    ) -> Result<T, Error> {
        let entry = self.core.index.find(container)?;
        let (answer, answered) = oneshot::channel();
        entry.tell(message(answer))?;
        // A task drops its callers when it ends (the container was removed, or the engine closes) or fails.
        answered.await.map_err(|_| entry.lost())?
    }

    /// Has a request forwarded to the shim.
    async fn forward(
        &self,
        entry: &Entry,
        request: Request,
        client: Option<OwnedFd>,
    ) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        entry.tell(Message::Ask { request: Box::new(request), client, answer })?;
        answered.await.map_err(|_| entry.lost())?
    }
}

/// The host name of a container: its own, or that of the container whose network it joined.
fn hostname(core: &Core, record: &Record) -> String {
    /// More containers than ever join one another in a row; only a ring is longer.
    const FARTHEST: usize = 16;

    let own = |record: &Record| {
        if !record.config.hostname.is_empty() {
            record.config.hostname.clone()
        } else if record.host.network_mode == "host" || record.host.namespaces.uts == "host" {
            crate::system::hostname()
        } else {
            record.id.short().to_owned()
        }
    };
    let mut owner: Option<Arc<Record>> = None;
    for _ in 0..FARTHEST {
        let last = owner.as_deref().unwrap_or(record);
        if last.host.namespaces.uts == "host" {
            break;
        }
        let Some(other) = last.host.network_mode.strip_prefix("container:") else { break };
        let Ok(found) = core.index.find(other) else { break };
        owner = Some(Arc::clone(&found.view().record));
    }
    own(owner.as_deref().unwrap_or(record))
}

/// Publishes an event about a container.
fn publish(core: &Core, record: &Record, action: &str, extra: Vec<(&'static str, String)>) {
    let mut attributes = record.config.labels.clone();
    attributes.insert("image".into(), record.config.image.clone());
    attributes.insert("name".into(), record.name.clone());
    attributes.extend(extra.into_iter().map(|(key, value)| (key.to_owned(), value)));
    core.events.publish("container", action, record.id.as_str(), attributes);
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        Self::Internal(error.to_string())
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
