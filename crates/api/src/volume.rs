//! Volumes.

use serde::{Deserialize, Serialize};

use crate::{Map, is_default};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// RFC 3339, in seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// `null` where there are none.
    pub labels: Option<Map<String>>,
    /// The host's path.
    pub mountpoint: String,
    /// The name.
    pub name: String,
    /// The driver's options; `null` where there are none.
    pub options: Option<Map<String>>,
    /// `local` or `global`.
    pub scope: String,
    /// Only in `GET /system/df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// How much a volume holds and who uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageData {
    /// Containers; -1 where not known.
    pub ref_count: i64,
    /// Bytes; -1 where not known.
    pub size: i64,
}

/// Body of `POST /volumes/create`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// Empty is `local`.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: String,
    /// The driver's options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_opts: Option<Map<String>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Map<String>>,
    /// Empty makes an anonymous one.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
}

/// Reply of `GET /volumes`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListResponse {
    /// `[]` where there are none.
    pub volumes: Vec<Volume>,
    /// What could not be asked; `null` where all could.
    pub warnings: Option<Vec<String>>,
}

/// Reply of `POST /volumes/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// Names of what was deleted; `null` where nothing was.
    pub volumes_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
