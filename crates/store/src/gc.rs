//! Garbage: what it is, how it goes, and a list of everything that is not.

use std::path::PathBuf;

use gantry_model::{Digest, LayerId};

/// What a collection removed (tombstoned: the trees are unlinked in the background).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Layers.
    pub layers: Vec<LayerId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Bytes of both: file sizes, not disk blocks.
    pub size_bytes: u64,
}

/// The sort of a thing in an [`Inventory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnedKind {
    /// The database and its log.
    Database,
    /// A blob.
    Blob,
    /// A layer's directory.
    Layer,
    /// A snapshot's directory.
    Snapshot,
    /// A tree on its way out.
    Trash,
    /// Bytes without a digest yet.
    Temporary,
}

/// One thing below the data root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What it is.
    pub kind: OwnedKind,
    /// Where, absolute.
    pub path: PathBuf,
    /// Why it is there, in words: `image sha256:…`, `snapshot …`, `lease …`.
    pub holders: Vec<String>,
}

/// Everything that the store owns.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// What is there and recorded.
    pub owned: Vec<Owned>,
    /// What contradicts the records, each in a sentence that says what to do.
    pub findings: Vec<String>,
}
