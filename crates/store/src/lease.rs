//! Leases: what keeps layers and blobs alive that no image refers to (yet).

use std::sync::Arc;

use gantry_model::{Digest, LayerId};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use crate::store::Inner;
use crate::{Error, gc};

/// Access to leases.
#[derive(Clone)]
pub struct Leases {
    pub(crate) store: Arc<Inner>,
}

impl Leases {
    /// Makes a lease that ends when the guard is dropped, or at the next [`crate::Store::open`].
    ///
    /// # Errors
    /// What the database said.
    pub fn temporary(&self, purpose: &str) -> Result<Lease, Error> {
        let id = self.store.database.write_relaxed::<_, Error>(|transaction| {
            transaction.prepare_cached("INSERT INTO lease (purpose) VALUES (?1)")?.execute([purpose])?;
            Ok(transaction.last_insert_rowid())
        })?;
        Ok(Lease { store: self.store.clone(), id, temporary: true })
    }

    /// Opens the lease of that name, or makes it. It stays, across daemons and boots, until
    /// [`Lease::end`]: for the build cache.
    ///
    /// # Errors
    /// What the database said.
    pub fn named(&self, name: &str) -> Result<Lease, Error> {
        let id = self.store.database.write_relaxed::<_, Error>(|transaction| {
            let sql = "SELECT id FROM lease WHERE name = ?1";
            if let Some(id) = transaction.query_row(sql, [name], |row| row.get(0)).optional()? {
                return Ok(id);
            }
            transaction.execute("INSERT INTO lease (name, purpose) VALUES (?1, ?1)", [name])?;
            Ok(transaction.last_insert_rowid())
        })?;
        Ok(Lease { store: self.store.clone(), id, temporary: false })
    }
}

/// A layer that a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub layer: LayerId,
    /// The sizes of its files, in bytes.
    pub size_bytes: u64,
    /// Whether an image or a snapshot needs it as well.
    pub shared: bool,
}

/// A lease. Dropping a temporary one ends it.
pub struct Lease {
    store: Arc<Inner>,
    id: i64,
    temporary: bool,
}

impl Lease {
    /// Holds a layer. Holding it twice is once.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`] where it is gone already.
    pub fn hold_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.store.database.write_relaxed(|transaction| self.hold_layer_in(transaction, layer))
    }

    pub(crate) fn hold_layer_in(&self, transaction: &Transaction<'_>, layer: LayerId) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO lease_layer SELECT ?1, id FROM layer WHERE id = ?2 AND state = 1";
        let added = transaction.prepare_cached(sql)?.execute([self.id, layer.0.cast_signed()])?;
        if added == 0 {
            let sql = "SELECT 1 FROM lease_layer WHERE lease = ?1 AND layer = ?2";
            if !transaction.prepare_cached(sql)?.exists([self.id, layer.0.cast_signed()])? {
                return Err(Error::NoSuchLayer(layer));
            }
        }
        Ok(())
    }

    /// Holds a blob.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] where it is gone already.
    pub fn hold_blob(&self, blob: &Digest) -> Result<(), Error> {
        self.store.database.write_relaxed(|transaction| self.hold_blob_in(transaction, blob))
    }

    pub(crate) fn hold_blob_in(&self, transaction: &Transaction<'_>, blob: &Digest) -> Result<(), Error> {
        if !transaction.prepare_cached("SELECT 1 FROM blob WHERE digest = ?1")?.exists([blob.as_bytes()])? {
            return Err(Error::NoSuchBlob(*blob));
        }
        let sql = "INSERT OR IGNORE INTO lease_blob VALUES (?1, ?2)";
        transaction.prepare_cached(sql)?.execute((self.id, blob.as_bytes()))?;
        Ok(())
    }

    /// Holds an image's configuration and layers, also if its last name goes.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] where the image is gone already.
    pub fn hold_image(&self, image: &Digest) -> Result<(), Error> {
        self.store.database.write_relaxed(|transaction| {
            if !transaction.prepare_cached("SELECT 1 FROM image WHERE id = ?1")?.exists([image.as_bytes()])? {
                return Err(Error::NoSuchBlob(*image));
            }
            self.hold_blob_in(transaction, image)?;
            let sql = "INSERT OR IGNORE INTO lease_layer SELECT ?1, layer FROM image_layer WHERE image = ?2";
            transaction.prepare_cached(sql)?.execute((self.id, image.as_bytes()))?;
            Ok(())
        })
    }

    /// No longer holds a layer. One that it did not hold is no error.
    ///
    /// # Errors
    /// What the database said.
    pub fn release_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.store.database.write_relaxed(|transaction| {
            let sql = "DELETE FROM lease_layer WHERE lease = ?1 AND layer = ?2";
            transaction.prepare_cached(sql)?.execute([self.id, layer.0.cast_signed()])?;
            Ok(())
        })
    }

    /// The layers that it holds.
    ///
    /// # Errors
    /// What the database said.
    pub fn layers(&self) -> Result<Vec<LayerId>, Error> {
        self.store.database.read(|transaction| {
            let mut rows = transaction.prepare_cached("SELECT layer FROM lease_layer WHERE lease = ?1")?;
            let rows = rows.query_map([self.id], |row| Ok(LayerId(row.get::<_, i64>(0)?.cast_unsigned())))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The layers that it holds, with their sizes and whether something else needs them too.
    ///
    /// # Errors
    /// What the database said.
    pub fn usage(&self) -> Result<Vec<Held>, Error> {
        self.store.database.read(|transaction| {
            let mut rows = transaction.prepare_cached(
                "SELECT l.layer, y.size, EXISTS (SELECT 1 FROM image_layer WHERE layer = l.layer)
                    OR EXISTS (SELECT 1 FROM snapshot_layer WHERE layer = l.layer)
                 FROM lease_layer AS l JOIN layer AS y ON y.id = l.layer WHERE l.lease = ?1",
            )?;
            let rows = rows.query_map([self.id], |row| {
                Ok(Held {
                    layer: LayerId(row.get::<_, i64>(0)?.cast_unsigned()),
                    size_bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                    shared: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Ends the lease, also a named one. What only it held is garbage from now on, and collected in the background.
    ///
    /// # Errors
    /// What the database said.
    pub fn end(mut self) -> Result<(), Error> {
        self.temporary = false;
        self.delete()
    }

    fn delete(&self) -> Result<(), Error> {
        let leaves_garbage = self.store.database.write_relaxed::<_, Error>(|transaction| {
            let leaves_garbage = gc::is_alone(transaction, self.id)?;
            transaction.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([self.id])?;
            Ok(leaves_garbage)
        })?;
        if leaves_garbage {
            self.store.background.collect();
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        // A full disk may have no room to record it.
        let ended = self
            .delete()
            .or_else(|error| if self.store.spend_reserve() { self.delete() } else { Err(error) });
        if let Err(error) = ended {
            tracing::warn!(%error, "a lease could not be ended; it ends when the store is opened next");
        }
    }
}
