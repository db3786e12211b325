//! Images.

use gantry_model::image::Healthcheck;
use serde::{Deserialize, Serialize};

use crate::inspect::GraphDriver;
use crate::{Map, Set, is_default};

/// One image of `GET /images/json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Containers that use it; -1 where not counted (below API 1.51).
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    /// `sha256:…`
    pub id: String,
    /// Labels; `null` where there are none.
    pub labels: Option<Map<String>>,
    /// The image that it was built on; empty where not known.
    pub parent_id: String,
    /// `name@sha256:…`
    pub repo_digests: Vec<String>,
    /// `name:tag`
    pub repo_tags: Vec<String>,
    /// Bytes that other images also have; -1 where not asked for.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
    /// The same as `size`; gone in API 1.44.
    pub virtual_size: i64,
}

/// Reply of `GET /images/{name}/json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// `sha256:…`
    pub id: String,
    /// `name:tag`
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`
    pub repo_digests: Vec<String>,
    /// The image that it was built on; empty where not known.
    pub parent: String,
    /// The last layer's.
    pub comment: String,
    /// RFC 3339; left out where the image does not say (from API 1.44 on).
    #[serde(skip_serializing_if = "is_default")]
    pub created: String,
    /// Always empty here; gone in API 1.45.
    pub container: String,
    /// Always empty here; gone in API 1.45.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<crate::container::ContainerConfig>,
    /// Whatever built it.
    pub docker_version: String,
    /// `MAINTAINER`.
    pub author: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`.
    #[serde(skip_serializing_if = "is_default")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// The same as `size`; gone in API 1.44.
    pub virtual_size: i64,
    /// Where the layers are.
    pub graph_driver: GraphDriver,
    /// The layers' digests.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What is not part of the image itself.
    pub metadata: Metadata,
    /// How a container of it runs.
    pub config: ImageConfig,
}

/// How a container of an image runs, in Docker's (alphabetical) order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// Gone in API 1.50, as the others that an image cannot set.
    pub attach_stderr: bool,
    /// See `attach_stderr`.
    pub attach_stdin: bool,
    /// See `attach_stderr`.
    pub attach_stdout: bool,
    /// The command, or arguments of the entry point.
    pub cmd: Option<Vec<String>>,
    /// See `attach_stderr`.
    pub domainname: String,
    /// The program before the command.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<Set>,
    /// How health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// See `attach_stderr`.
    pub hostname: String,
    /// See `attach_stderr`.
    pub image: String,
    /// Labels.
    pub labels: Option<Map<String>>,
    /// Build triggers.
    pub on_build: Option<Vec<String>>,
    /// See `attach_stderr`.
    pub open_stdin: bool,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// See `attach_stderr`.
    pub stdin_once: bool,
    /// The signal of `stop`.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: String,
    /// See `attach_stderr`.
    pub tty: bool,
    /// `user[:group]`.
    pub user: String,
    /// Paths that become anonymous volumes.
    pub volumes: Option<Set>,
    /// Where the command starts.
    pub working_dir: String,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the uncompressed archives, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is known of an image without being part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    /// RFC 3339; left out where it was never tagged here.
    #[serde(skip_serializing_if = "is_default")]
    pub last_tag_time: String,
}

/// One layer of `GET /images/{name}/history`, topmost first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// A note.
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// `sha256:…`, or `<missing>`.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// `name:tag`; `null` where there are none.
    pub tags: Option<Vec<String>>,
}

/// One step of `DELETE /images/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteItem {
    /// A name that was taken away.
    #[serde(skip_serializing_if = "is_default")]
    pub untagged: String,
    /// An image that is gone.
    #[serde(skip_serializing_if = "is_default")]
    pub deleted: String,
}

/// Reply of `POST /images/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// What was done; `null` where nothing was.
    pub images_deleted: Option<Vec<DeleteItem>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// Reply of `POST /commit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommitResponse {
    /// `sha256:…`
    pub id: String,
}

/// One change of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    /// Absolute in the container.
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}
