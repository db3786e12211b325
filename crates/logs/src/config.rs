//! Where a container's output is kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum LogConfig {
    /// Nowhere.
    #[default]
    None,
    /// In Docker's json-file format, see [`crate::entry`].
    JsonFile(JsonFile),
}

/// The options of the `json-file` driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFile {
    /// An existing directory of its own, absolute; the current file in it is `json.log`.
    pub directory: PathBuf,
    /// A file that has reached this many bytes is rotated; `None`: never.
    #[serde(default)]
    pub max_size_bytes: Option<u64>,
    /// How many files there are at most, the current one included; at least 1. With 1, the current
    /// file is emptied instead.
    #[serde(default = "one")]
    pub max_files: u32,
}

fn one() -> u32 {
    1
}
