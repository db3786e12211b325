//! One host: containers, sandboxes, images, networks, volumes and events.
//!
//! This crate decides what a container is, what happens to it in which order, and what is recorded
//! about it. It knows the engine database (`engine.db`), the shims and their journals, and the rules
//! of Docker's engine (defaults, conflicts, texts of errors). It must not know HTTP, Docker's JSON
//! (HostConfig as sent is carried as an opaque value), netlink, mounts or the layout of the store:
//! those are `api`'s, `net`'s, `runtime`'s and `store`'s.
//!
//! There is no object that everything is a method of. [`Engine`] is a bundle of nouns, each holding
//! only the collaborators that it uses. Each container is owned by one task ([`containers`]); lists
//! and inspect read immutable views and never wait for a task.
//!
//! The order of things on disk: the record comes before the thing and goes after it. A start is a
//! table of steps with undos; a shim's journal is applied exactly once, in the transaction that also
//! stores its sequence number, and acknowledged after.
//!
//! Reading order: [`settings`], [`containers`], [`sandboxes`], [`images`], [`networks`],
//! [`volumes`], [`events`], [`system`].

mod database;
mod names;
mod recovery;

pub mod containers;
pub mod events;
pub mod images;
pub mod networks;
pub mod sandboxes;
pub mod settings;
pub mod system;
pub mod volumes;

use std::sync::Arc;

use gantry_model::ErrorKind;

pub use settings::Settings;

/// The nouns of one host. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// Containers and their execs.
    pub containers: containers::Containers,
    /// Namespaces, endpoints and ports; also for build steps.
    pub sandboxes: sandboxes::Sandboxes,
    /// Images, with in-use checks and events.
    pub images: images::Images,
    /// Networks.
    pub networks: networks::Networks,
    /// Volumes.
    pub volumes: volumes::Volumes,
    /// What happened.
    pub events: events::Events,
    /// The host and the daemon itself.
    pub system: system::System,
}

/// Says why the engine could not be opened. Nothing that runs was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the data root or exec root could not be made or read.
    #[error("cannot use {path}: {reason}")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The engine database could not be opened, or is of a newer version.
    #[error("engine database: {0}")]
    Database(String),
    /// The default bridge could not be made.
    #[error("default bridge network: {0}")]
    Network(String),
    /// A binary that belongs beside ours is missing.
    #[error("{0} was not found beside gantryd: install the whole set of binaries in one directory")]
    Binary(&'static str),
}

impl OpenError {
    /// The kind: always the host's fault.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

impl Engine {
    /// Opens the database, makes the default bridge, re-adopts every shim, applies their journals,
    /// starts what restart policies want and sweeps what belongs to nobody. Returns when every
    /// container is known with its true state; restarts by policy go on in the background.
    ///
    /// Must be called in a tokio runtime with I/O and time. The caller owns the lock of the data root.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(_settings: Settings, _store: Arc<gantry_store::Store>) -> Result<Self, OpenError> {
        unimplemented!("filled next")
    }

    /// Stops taking requests and waits until what is under way is recorded. Containers run on.
    /// Dropping the engine without this is safe too: it is what a crash does.
    pub async fn close(&self) {
        unimplemented!("filled next")
    }
}
