//! Events.

use serde::{Deserialize, Serialize};

use crate::Map;

/// One event of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// The container's status; as `Action`; gone in API 1.52 and only for containers and images.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub status: String,
    /// As `Actor.ID`; gone in API 1.52 and only for containers and images.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub id: String,
    /// The image; gone in API 1.52 and only for containers.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, `builder`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, `exec_create: true`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// Which thing.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// The thing of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Its id, or a volume's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels, image, name, exit code, …
    #[serde(rename = "Attributes")]
    pub attributes: Map<String>,
}
