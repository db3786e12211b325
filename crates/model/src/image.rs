//! Image values: Docker's image configuration, and the OCI manifest and index around it.
//!
//! Bytes that came from outside are kept verbatim by the store; these types read them, and write
//! only what we make ourselves. Unknown fields are ignored when read.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Digest, Platform};

/// Media types that we read and write.
pub mod media_type {
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's list of manifests.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's gzip-compressed layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's plain layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// OCI's manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI's plain layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI's gzip-compressed layer.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI's zstd-compressed layer.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// `null` reads as the default, as Go has it.
fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A map of which only the keys matter, as Go writes a set: `{"80/tcp":{}}`.
pub type KeySet = BTreeMap<String, Empty>;

/// The value of a [`KeySet`]: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// Points at content: what it is, which bytes, how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// What it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<crate::Platform>,
    /// Free attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub annotations: BTreeMap<String, String>,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is; OCI allows it to be missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// An image configuration: what `docker inspect` of an image is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The CPU architecture.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// The CPU variant.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub variant: String,
    /// The operating system.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub author: String,
    /// A note to the commit.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub comment: String,
    /// RFC 3339; the epoch for what we build (see `layer-format v1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What a container of it runs.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// One entry for each step that made it.
    #[serde(default, deserialize_with = "null_default")]
    pub history: Vec<History>,
}

impl ImageConfig {
    /// What it was built for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let (architecture, os) = (self.architecture.clone(), self.os.clone());
        Platform { architecture, os, variant: self.variant.clone() }
    }
}

/// The layers of an image by the digests of their plain tars, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The DiffIDs.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction, as `history` shows it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub created_by: String,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub author: String,
    /// A note.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub comment: String,
    /// Whether the step added no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_default")]
    pub empty_layer: bool,
}

/// What a container runs: the part of an image configuration that `docker run` starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]` by name or number; empty is root.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub user: String,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "KeySet::is_empty", deserialize_with = "null_default")]
    pub exposed_ports: KeySet,
    /// `KEY=value`, in order.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// Arguments after the entry point; `None` is `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or the entry point's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// How health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows only; kept when read.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_default")]
    pub args_escaped: bool,
    /// Paths that become anonymous volumes.
    #[serde(skip_serializing_if = "KeySet::is_empty", deserialize_with = "null_default")]
    pub volumes: KeySet,
    /// The working directory; empty is `/`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub working_dir: String,
    /// Instructions for builds on top of this image.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that `stop` sends first; empty is `SIGTERM`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub stop_signal: String,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub shell: Vec<String>,
}

/// How health is checked. Durations are nanoseconds; 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub test: Vec<String>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_zero", rename = "Interval")]
    pub interval_ns: i64,
    /// After which a check has failed.
    #[serde(skip_serializing_if = "is_zero", rename = "Timeout")]
    pub timeout_ns: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero", rename = "StartPeriod")]
    pub start_period_ns: i64,
    /// Between checks in the start period.
    #[serde(skip_serializing_if = "is_zero", rename = "StartInterval")]
    pub start_interval_ns: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_read_as_go_reads_them() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Labels":null,
            "Entrypoint":null,"Cmd":["sh"],"OnBuild":null,"Volumes":null,"Unknown":1},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"container":"x"}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("Go's JSON");
        assert_eq!(config.config.cmd, Some(vec!["sh".into()]));
        assert!(config.config.env.is_empty() && config.rootfs.diff_ids.is_empty());
        let none: ImageConfig = serde_json::from_str(r#"{"config":null}"#).expect("a null config");
        assert_eq!(none.config, RunConfig::default());
    }
}
