//! Content: bytes by digest.

use std::fs::File;
use std::io;

use crate::{Error, Lease};
use gantry_model::Digest;

/// Access to blobs.
#[derive(Clone)]
pub struct Content {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Content {
    /// Begins a blob whose digest is not known yet.
    ///
    /// # Errors
    /// What the file system said.
    pub fn writer(&self) -> Result<Writer, Error> {
        unimplemented!()
    }
    /// Stores bytes that are at hand.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn put(&self, bytes: &[u8], lease: &Lease) -> Result<Digest, Error> {
        unimplemented!()
    }
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`].
    pub fn open(&self, digest: &Digest) -> Result<File, Error> {
        unimplemented!()
    }
    /// Reads a whole blob.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`]; [`Error::BlobTooLarge`] above `limit_bytes`.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        unimplemented!()
    }
    /// The blob's size in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// What the database said.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        unimplemented!()
    }
}

/// A blob being written. Dropped without [`Writer::commit`], it leaves nothing.
pub struct Writer {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Writer {
    /// Syncs the bytes and records them under their digest, held by the lease.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if it is not the one expected.
    pub fn commit(self, expected: Option<Digest>, lease: &Lease) -> Result<Digest, Error> {
        unimplemented!()
    }
}

#[expect(unused_variables)]
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }
    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
