//! Events: what happened to which thing, as `docker events` tells it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The sort of thing: `container`, `image`, `network`, `volume`, `daemon`, `builder`.
    pub kind: String,
    /// What happened, in Docker's words: `create`, `start`, `die`, `exec_create: true`, …
    pub action: String,
    /// The thing's id, or a volume's name.
    pub actor: String,
    /// The thing's attributes, sorted by key: labels, `image`, `name`, `exitCode`, …
    pub attributes: std::collections::BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}
