//! Snapshots: writable layers on top of read-only ones.

pub mod conformance;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::{Error, Layer, Lease};
use gantry_model::mount::RootMount;
use gantry_model::{LayerId, SnapshotId, Timestamp};

/// How a path differs from the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// There before, different now. Docker's 0, `C`.
    Modified,
    /// Not there before. Docker's 1, `A`.
    Added,
    /// No longer there. Docker's 2, `D`.
    Deleted,
}

/// One path that differs from the layers below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute within the root file system.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// What a snapshot holds beyond its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The sum of its regular files' sizes, hard links once.
    pub size_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// What becomes of the snapshot when its changes become a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum After {
    /// It is gone: its directory became the layer (no copy). For build steps.
    #[default]
    Consumed,
    /// It stays as it is; the layer is a copy. For `docker commit`.
    Kept,
}

/// How a snapshot becomes a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitOptions {
    /// Modification times after it become it; `None` keeps all times. Whole seconds.
    pub epoch: Option<Timestamp>,
    /// Mount points that the runtime had to make (`/etc/hosts`, `/proc`, …), absolute in the
    /// root: each that is an empty file or directory of this snapshot alone is removed, and so are directories
    /// above it that hold nothing else and differ from the layers below in nothing but their time.
    pub stubs: Vec<PathBuf>,
    /// What becomes of the snapshot.
    pub after: After,
}

/// Access to snapshots.
#[derive(Clone)]
pub struct Snapshots {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Snapshots {
    /// Makes an empty writable snapshot over these layers, lowest first; none is allowed (`scratch`).
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::NoSuchLayer`].
    pub fn prepare(&self, id: &SnapshotId, layers: &[LayerId]) -> Result<(), Error> {
        unimplemented!()
    }
    /// Describes its writable mount.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn mount(&self, id: &SnapshotId) -> Result<RootMount, Error> {
        unimplemented!()
    }
    /// The merged tree as a descriptor of its root directory, mounted nowhere: read and write through it with the
    /// `*at` calls (`openat2` with `RESOLVE_IN_ROOT`). Not while a container runs on the snapshot: overlay
    /// allows one user of an upper directory at a time.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn open(&self, id: &SnapshotId) -> Result<OwnedFd, Error> {
        unimplemented!()
    }
    /// The layers below it, lowest first.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn layers(&self, id: &SnapshotId) -> Result<Vec<LayerId>, Error> {
        unimplemented!()
    }
    /// What differs from the layers below, sorted by path.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn changes(&self, id: &SnapshotId) -> Result<Vec<Change>, Error> {
        unimplemented!()
    }
    /// What it holds beyond its layers.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn usage(&self, id: &SnapshotId) -> Result<Usage, Error> {
        unimplemented!()
    }
    /// Makes a layer, held by the lease, of what differs from the layers below. Nothing may write to it meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`]; [`Error::ReservedName`], after which the snapshot is there still.
    pub fn commit(&self, id: &SnapshotId, options: &CommitOptions, lease: &Lease) -> Result<Layer, Error> {
        unimplemented!()
    }
    /// Removes it; its files are unlinked in the background. One that is not there is no error.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn remove(&self, id: &SnapshotId) -> Result<(), Error> {
        unimplemented!()
    }
    /// All of them.
    ///
    /// # Errors
    /// What the database said.
    pub fn list(&self) -> Result<Vec<SnapshotId>, Error> {
        unimplemented!()
    }
}
