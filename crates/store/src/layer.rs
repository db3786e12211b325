//! Layers: unpacked once, never changed, mounted many times.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use crate::{Error, Lease, archive::Limits};
use gantry_model::mount::RootMount;
use gantry_model::{Digest, LayerId, Timestamp};

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Our name for it.
    pub id: LayerId,
    /// The SHA-256 of its plain tar; what image configurations list.
    pub diff_id: Digest,
    /// The sum of its regular files' sizes (hard links once), as Docker counts.
    pub size_bytes: u64,
    /// How many files, directories, links and whiteouts it has.
    pub entries: u64,
    /// The newest modification time of any entry; the epoch if it has none.
    pub newest: Timestamp,
}

/// How a layer that came from outside can be given again byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exact {
    /// The stream is kept as a blob; `diff_id` is the digest of the plain tar in it, and is checked if given.
    Received {
        /// The DiffID that was announced.
        expected: Option<Digest>,
    },
    /// Only the tree is kept; `diff_id` is that of its `layer-format v1` (for imports, whose bytes nobody else knows).
    Normalised,
}

/// How to unpack a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions {
    /// What `diff_id` stands for.
    pub exact: Exact,
    /// What is too much.
    pub limits: Limits,
}

/// Access to layers.
#[derive(Clone)]
pub struct Layers {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Layers {
    /// Unpacks a tar (plain, gzip or zstd) to a new layer held by the lease.
    ///
    /// # Errors
    /// [`Error::Archive`] where the archive is refused, [`Error::DigestMismatch`], [`Error::Input`];
    /// nothing of it stays.
    pub fn apply(
        &self,
        reader: impl Read + Send,
        options: &ApplyOptions,
        lease: &Lease,
    ) -> Result<Layer, Error> {
        unimplemented!()
    }
    /// Looks a layer up.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn get(&self, id: LayerId) -> Result<Layer, Error> {
        unimplemented!()
    }
    /// A layer with that DiffID, the oldest of several, held by the lease from now on; `None` if there is none.
    ///
    /// # Errors
    /// What the database said.
    pub fn find_by_diff_id(&self, diff_id: &Digest, lease: &Lease) -> Result<Option<Layer>, Error> {
        unimplemented!()
    }
    /// Writes the layer's plain tar: exactly the bytes whose digest is its DiffID.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], [`Error::Output`].
    pub fn write_tar(&self, id: LayerId, output: impl Write) -> Result<(), Error> {
        unimplemented!()
    }
    /// Describes a read-only mount of these layers, lowest first.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn mount(&self, layers: &[LayerId]) -> Result<RootMount, Error> {
        unimplemented!()
    }
    /// The merged read-only tree of these layers, lowest first, as a descriptor of its root
    /// directory, mounted nowhere: use the `*at` calls on it (`openat2` with `RESOLVE_IN_ROOT`).
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn open(&self, layers: &[LayerId]) -> Result<OwnedFd, Error> {
        unimplemented!()
    }
    /// Waits until these layers are on the disk.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn sync(&self, layers: &[LayerId]) -> Result<(), Error> {
        unimplemented!()
    }
}
