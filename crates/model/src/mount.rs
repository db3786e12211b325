//! Mounts: how a root file system is put together, and what is mounted into a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A root file system described, not mounted: the shim mounts it inside the container's own mount
/// namespace, so that the host's never sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RootMount {
    /// An overlay. Options `redirect_dir=off,metacopy=off,index=off` are always set.
    Overlay {
        /// Read-only layers, topmost first; at least one, none twice.
        lower: Vec<PathBuf>,
        /// The writable directory; `None` mounts read-only.
        upper: Option<PathBuf>,
        /// Overlay's scratch directory on the file system of `upper`; present exactly if `upper` is.
        work: Option<PathBuf>,
    },
    /// A plain directory, as the `vfs` driver has it.
    Bind {
        /// The directory.
        source: PathBuf,
    },
}

/// How a mount point of a container came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// What the options of a local volume have mounted in the place of its directory, as `mount(8)` would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDevice {
    /// The file system's type: `tmpfs`, `nfs`; `none` for binds.
    #[serde(rename = "type")]
    pub kind: String,
    /// The device: a path for binds, an address and a path for `nfs`.
    pub device: String,
    /// Comma-separated options, as given.
    #[serde(default)]
    pub options: String,
}

impl VolumeDevice {
    /// Whether it is a path of the host.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.options.split(',').any(|option| matches!(option, "bind" | "rbind"))
    }
}

/// One mount point of a container, as create decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// How it came to be.
    pub kind: MountKind,
    /// The volume's name; empty for other kinds.
    #[serde(default)]
    pub name: String,
    /// The host's path; empty for tmpfs.
    #[serde(default)]
    pub source: PathBuf,
    /// The absolute path in the container, cleaned.
    pub destination: PathBuf,
    /// Whether the container may write.
    pub writable: bool,
    /// The mode as the user gave it (`ro`, `z`, `rslave`, …), for inspect.
    #[serde(default)]
    pub mode: String,
    /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`; empty means `rprivate`.
    #[serde(default)]
    pub propagation: String,
    /// Comma-separated options of a tmpfs: `size=64m,mode=1777`, as given.
    #[serde(default)]
    pub tmpfs_options: String,
    /// A bind without what is mounted below its source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// A read-only bind below which writable mounts stay writable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_non_recursive: bool,
    /// What of a volume is mounted: a path below its directory; empty is all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// What a volume's options have mounted instead of its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<VolumeDevice>,
}
