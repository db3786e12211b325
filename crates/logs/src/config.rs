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
    /// In Docker's json-file format, see [`crate::entry`]. The `local` driver's, too: nobody else reads its files.
    JsonFile(JsonFile),
}

/// Files in the json-file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFile {
    /// An existing directory of its own, absolute; the current file in it is `json.log`.
    pub directory: PathBuf,
    /// A file that has reached this many bytes is rotated before the next entry; `None`: never.
    #[serde(default)]
    pub max_size_bytes: Option<u64>,
    /// How many files there are at most, the current one included; at least 1. With 1, the current
    /// file is emptied instead.
    #[serde(default = "one")]
    pub max_files: u32,
    /// Whether rotated files are packed by gzip.
    #[serde(default)]
    pub compress: bool,
    /// A JSON object of strings that stands in every entry as `attrs`; empty: none.
    #[serde(default)]
    pub attributes: String,
    /// What happens while the disk cannot follow.
    #[serde(default)]
    pub overflow: Overflow,
}

/// What happens to output while the disk cannot follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The process waits: nothing is lost.
    #[default]
    Wait,
    /// So many bytes wait for the disk; lines that come while there are more are dropped.
    Drop {
        /// At least one chunk of output always fits.
        ring_bytes: u64,
    },
}

impl JsonFile {
    /// One file without an end.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            max_size_bytes: None,
            max_files: 1,
            compress: false,
            attributes: String::new(),
            overflow: Overflow::Wait,
        }
    }
}

fn one() -> u32 {
    1
}
