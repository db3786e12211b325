//! Content: bytes by digest.
//!
//! Bytes are written to `tmp/`, hashed on the way, synced, renamed to their digest, and the directory
//! is synced; then comes the row. Equal bytes are one blob, whoever writes them first.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use gantry_model::Digest;
use gantry_model::failpoint::{Point, reached};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use crate::store::{Inner, is_missing};
use crate::{Error, Lease};

/// Computes a SHA-256 of what is written to it, and counts it.
pub(crate) struct Hasher {
    context: Context,
    size_bytes: u64,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self { context: Context::new(&SHA256), size_bytes: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_sha256(self.context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// The bytes so far.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of bytes at hand.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// Access to blobs.
#[derive(Clone)]
pub struct Content {
    pub(crate) store: Arc<Inner>,
}

impl Content {
    /// Begins a blob whose digest is not known yet.
    ///
    /// # Errors
    /// What the file system said.
    pub fn writer(&self) -> Result<Writer, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.store.path(format!("tmp/blob-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = File::create_new(&path).map_err(Error::io("make", &path))?;
        Ok(Writer { store: self.store.clone(), path, file, hasher: Hasher::new() })
    }

    /// Stores bytes that are at hand.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn put(&self, bytes: &[u8], lease: &Lease) -> Result<Digest, Error> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(Error::io("write", writer.path.clone()))?;
        writer.commit(None, lease)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`].
    pub fn open(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.store.blob_path(digest);
        File::open(&path).map_err(|source| {
            if is_missing(&source) {
                Error::NoSuchBlob(*digest)
            } else {
                Error::Io { action: "open", path, source }
            }
        })
    }

    /// Reads a whole blob.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`]; [`Error::BlobTooLarge`] above `limit_bytes`.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let mut file = self.open(digest)?;
        let failed = |source| Error::Io { action: "read", path: self.store.blob_path(digest), source };
        let size_bytes = file.metadata().map_err(failed)?.len();
        if size_bytes > limit_bytes {
            return Err(Error::BlobTooLarge { digest: *digest, size_bytes, limit_bytes });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// The blob's size in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// What the database said.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.store.database.read(|transaction| {
            let mut row = transaction.prepare_cached("SELECT size FROM blob WHERE digest = ?1")?;
            let size = row.query_row([digest.as_bytes()], |row| row.get::<_, i64>(0)).optional()?;
            Ok(size.map(i64::cast_unsigned))
        })
    }
}

impl Inner {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("content/blobs/sha256").join(digest.hex())
    }
}

/// Records a blob whose bytes are on the disk.
pub(crate) fn record(transaction: &Transaction<'_>, digest: &Digest, size_bytes: u64) -> Result<(), Error> {
    let sql = "INSERT OR IGNORE INTO blob VALUES (?1, ?2)";
    transaction.prepare_cached(sql)?.execute((digest.as_bytes(), size_bytes.cast_signed()))?;
    Ok(())
}

/// A blob being written. Dropped without [`Writer::commit`], it leaves nothing.
pub struct Writer {
    store: Arc<Inner>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

/// A blob that has its name but neither a row nor, for sure, its bytes on the disk.
pub(crate) struct Placed {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

impl Writer {
    /// Syncs the bytes and records them under their digest, held by the lease.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if it is not the one expected.
    pub fn commit(self, expected: Option<Digest>, lease: &Lease) -> Result<Digest, Error> {
        let store = self.store.clone();
        self.file.sync_data().map_err(Error::io("sync", self.path.clone()))?;
        let _blobs = store.blobs.lock();
        let placed = self.place(expected)?;
        let directory = store.path("content/blobs/sha256");
        let synced = File::open(&directory).and_then(|d| d.sync_all()).map_err(Error::io("sync", &directory));
        synced.inspect_err(|_| store.forget_unrecorded(&placed.digest))?;
        let recorded = store.database.write::<_, Error>(|transaction| {
            record(transaction, &placed.digest, placed.size_bytes)?;
            lease.hold_blob_in(transaction, &placed.digest)?;
            Ok(placed.digest)
        });
        recorded.inspect_err(|_| store.forget_unrecorded(&placed.digest))
    }

    /// Gives the bytes their name. The caller syncs and records.
    pub(crate) fn place(mut self, expected: Option<Digest>) -> Result<Placed, Error> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new());
        let size_bytes = hasher.size_bytes();
        let digest = hasher.finish();
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(Error::DigestMismatch { expected, actual: digest });
        }
        let path = self.store.blob_path(&digest);
        // The same bytes may be there, on the disk and relied upon: these are not, yet.
        let there = path.symlink_metadata().is_ok_and(|found| found.len() == size_bytes);
        if !there {
            fs::rename(&self.path, &path).map_err(Error::io("rename to", &path))?;
        }
        reached(Point::BlobPlaced);
        Ok(Placed { digest, size_bytes })
    }
}

impl Inner {
    /// After a failure, with [`Inner::blobs`] held since before: removes the bytes again that got their name and no
    /// row. Those that have one, of an earlier time, stay.
    pub(crate) fn forget_unrecorded(&self, digest: &Digest) {
        let recorded = self.database.read::<_, Error>(|transaction| {
            let sql = "SELECT 1 FROM blob WHERE digest = ?1";
            Ok(transaction.prepare_cached(sql)?.exists([digest.as_bytes()])?)
        });
        if matches!(recorded, Ok(false))
            && let Err(error) = fs::remove_file(self.blob_path(digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(blob = %digest, %error, "a blob without a record goes when the store is opened next");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a rename it is not there any more; and what cannot be removed goes at the next open.
        let _ = fs::remove_file(&self.path);
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
