//! What can go wrong in the store, below images.

use std::io;
use std::path::PathBuf;

use gantry_model::{Digest, ErrorKind, LayerId, SnapshotId};

use crate::archive::ArchiveError;

/// Says why an operation on blobs, layers, snapshots or leases failed. Unless a variant says
/// otherwise, what was there before is there unchanged and what was begun is gone, or goes at the
/// next [`crate::Store::open`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data root open.
    #[error("the data root {path} is in use by another process: stop it, or choose another --data-root", path = path.display())]
    InUse {
        /// The data root.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried: a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Bytes could not be read from where they were to come.
    #[error("cannot read the incoming stream")]
    Input(#[source] io::Error),
    /// Bytes could not be written to where they were to go.
    #[error("cannot write the outgoing stream")]
    Output(#[source] io::Error),
    /// The database failed.
    #[error("the content database failed")]
    Database(#[from] gantry_state::Error),
    /// An archive was refused.
    #[error("the archive was refused")]
    Archive(#[from] ArchiveError),
    /// Bytes are not those that were announced. They were not kept.
    #[error("the content is {actual}, not {expected} as announced")]
    DigestMismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There is no such blob.
    #[error("no such content: {0}")]
    NoSuchBlob(Digest),
    /// A blob is larger than the caller will read.
    #[error("the content {digest} has {size_bytes} bytes, more than the {limit_bytes} allowed here")]
    BlobTooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// There is no such layer (any more).
    #[error("no such layer: {0}")]
    NoSuchLayer(LayerId),
    /// There is no such snapshot.
    #[error("no such snapshot: {0}")]
    NoSuchSnapshot(SnapshotId),
    /// A snapshot of that name is there already.
    #[error("the snapshot {0} exists already")]
    SnapshotExists(SnapshotId),
    /// A file's name has a meaning of its own in a layer and cannot be part of one.
    #[error("{path} cannot be part of a layer: names that start with .wh. stand for removed files", path = path.display())]
    ReservedName {
        /// The file, relative to the root.
        path: PathBuf,
    },
    /// The file system below the data root cannot do what the driver needs.
    #[error("the storage driver {driver} does not work on {path}: {reason}", path = path.display())]
    Driver {
        /// The driver's name.
        driver: &'static str,
        /// The data root.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
}

impl Error {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchBlob(_) | Self::NoSuchLayer(_) | Self::NoSuchSnapshot(_) => ErrorKind::NotFound,
            Self::SnapshotExists(_) => ErrorKind::Conflict,
            Self::DigestMismatch { .. }
            | Self::BlobTooLarge { .. }
            | Self::ReservedName { .. }
            | Self::Input(_) => ErrorKind::InvalidArgument,
            Self::Archive(error) => error.kind(),
            Self::Database(error) => error.kind(),
            Self::Output(_) => ErrorKind::Cancelled,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::Unavailable,
            Self::InUse { .. } | Self::Io { .. } | Self::Driver { .. } => ErrorKind::Internal,
        }
    }

    /// Makes a function that wraps an I/O error, for `map_err`.
    pub(crate) fn io<'a, E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf> + 'a,
    ) -> impl FnOnce(E) -> Self + 'a {
        move |source| Self::Io { action, path: path.into(), source: source.into() }
    }
}

/// SQLite's errors inside a transaction's closure.
impl From<gantry_state::rusqlite::Error> for Error {
    fn from(error: gantry_state::rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}
