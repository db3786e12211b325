//! What happened: a journal in memory, read by cursors.
//!
//! The last 1024 events are kept. A subscriber is a position in the journal, so a slow one costs
//! nothing and loses only what has left the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_model::event::Event;
use gantry_model::filter::Filters;
use gantry_model::{ErrorKind, Timestamp};

/// The journal. Cheap to clone.
#[derive(Clone)]
pub struct Events {}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// From then on; `None` is from now on.
    pub since: Option<Timestamp>,
    /// Until then; `None` is forever.
    pub until: Option<Timestamp>,
    /// Docker's: `container`, `image`, `volume`, `network`, `daemon`, `type`, `event`, `label`, `scope`, ….
    pub filters: Filters,
}

/// A cursor.
pub struct Subscription {}

impl Subscription {
    /// The next event that matches; `None` when `until` has passed or the engine closes.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        unimplemented!("filled next")
    }
}

impl Events {
    /// Subscribes: nothing that happens from now on is missed.
    ///
    /// # Errors
    /// [`Error`] for an unknown filter.
    pub fn subscribe(&self, _query: EventQuery) -> Result<Subscription, Error> {
        unimplemented!("filled next")
    }

    /// Adds an event that happens now.
    pub fn publish(&self, _kind: &str, _action: &str, _actor: &str, _attributes: BTreeMap<String, String>) {
        unimplemented!("filled next")
    }
}

/// Says that a filter is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter '{0}'")]
pub struct Error(pub String);

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}
