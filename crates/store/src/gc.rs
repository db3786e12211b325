//! Garbage: what it is, and how it goes.

use gantry_model::failpoint::{Point, reached};
use gantry_model::{Digest, LayerId};
use gantry_state::rusqlite::Transaction;

use crate::Error;
use crate::store::Inner;
use crate::trash::{self, Tombstone};

/// What a collection removed (tombstoned: the trees are unlinked in the background).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Layers.
    pub layers: Vec<LayerId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Bytes of both: file sizes, not disk blocks.
    pub size_bytes: u64,
    /// Bytes of the layers, as images count them.
    pub layer_bytes: u64,
}

/// What a transaction found unreferenced.
#[derive(Default)]
pub(crate) struct Garbage {
    pub(crate) collected: Collected,
    pub(crate) buried: Vec<Tombstone>,
    /// Platforms of indexes that are gone: what is remembered of look-ups may be one.
    images: bool,
}

impl Garbage {
    fn is_empty(&self) -> bool {
        self.collected.blobs.is_empty() && self.buried.is_empty()
    }
}

const UNREFERENCED_LAYERS: &str = "SELECT id, size FROM layer AS l WHERE state = 1
    AND NOT EXISTS (SELECT 1 FROM image_layer WHERE layer = l.id)
    AND NOT EXISTS (SELECT 1 FROM snapshot_layer WHERE layer = l.id)
    AND NOT EXISTS (SELECT 1 FROM manifest_content WHERE layer = l.id)
    AND NOT EXISTS (SELECT 1 FROM lease_layer WHERE layer = l.id)";
const UNREFERENCED_BLOBS: &str = "SELECT digest, size FROM blob
    WHERE NOT EXISTS (SELECT 1 FROM image WHERE id = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM reference WHERE target = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM layer WHERE layer.blob = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM manifest WHERE manifest.digest = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM manifest_content WHERE manifest_content.blob = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM lease_blob WHERE lease_blob.blob = blob.digest)";
/// Manifests that neither a name nor a listed image leads to.
const UNREACHED_MANIFESTS: &str = "FROM manifest WHERE digest NOT IN (
    WITH RECURSIVE reached (digest) AS (
        SELECT target FROM reference
        UNION SELECT target FROM image WHERE listed AND target IS NOT NULL
        UNION SELECT child FROM reached JOIN manifest_child ON manifest = reached.digest)
    SELECT digest FROM reached)";
/// Images that were there as platforms of indexes alone.
const UNREACHED_IMAGES: &str = "FROM image WHERE NOT listed
    AND NOT EXISTS (SELECT 1 FROM manifest WHERE manifest.image = image.id)";

/// Whether this lease alone holds some layer or blob.
pub(crate) fn is_alone(transaction: &Transaction<'_>, lease: i64) -> Result<bool, Error> {
    let layer = "SELECT 1 FROM lease_layer AS l WHERE lease = ?1
        AND NOT EXISTS (SELECT 1 FROM image_layer WHERE layer = l.layer)
        AND NOT EXISTS (SELECT 1 FROM snapshot_layer WHERE layer = l.layer)
        AND NOT EXISTS (SELECT 1 FROM manifest_content WHERE layer = l.layer)
        AND NOT EXISTS (SELECT 1 FROM lease_layer WHERE layer = l.layer AND lease <> ?1)";
    let blob = "SELECT 1 FROM lease_blob AS b WHERE lease = ?1
        AND NOT EXISTS (SELECT 1 FROM image WHERE id = b.blob)
        AND NOT EXISTS (SELECT 1 FROM reference WHERE target = b.blob)
        AND NOT EXISTS (SELECT 1 FROM layer WHERE layer.blob = b.blob)
        AND NOT EXISTS (SELECT 1 FROM manifest WHERE digest = b.blob)
        AND NOT EXISTS (SELECT 1 FROM manifest_content WHERE manifest_content.blob = b.blob)
        AND NOT EXISTS (SELECT 1 FROM lease_blob WHERE lease_blob.blob = b.blob AND lease <> ?1)";
    Ok(transaction.prepare_cached(layer)?.exists([lease])?
        || transaction.prepare_cached(blob)?.exists([lease])?)
}

/// Forgets manifests that nothing leads to, and the images that were there for them alone.
/// Whether there were such images.
pub(crate) fn forget_manifests(transaction: &Transaction<'_>) -> Result<bool, Error> {
    transaction.prepare_cached(&format!("DELETE {UNREACHED_MANIFESTS}"))?.execute([])?;
    Ok(transaction.prepare_cached(&format!("DELETE {UNREACHED_IMAGES}"))?.execute([])? > 0)
}

/// Forgets everything that nothing refers to. Afterwards: [`finish`].
pub(crate) fn forget_garbage(transaction: &Transaction<'_>) -> Result<Garbage, Error> {
    let images = forget_manifests(transaction)?;
    let mut garbage = Garbage { images, ..Garbage::default() };
    let layers: Vec<(i64, i64)> = transaction
        .prepare_cached(UNREFERENCED_LAYERS)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, size) in layers {
        transaction.prepare_cached("DELETE FROM layer WHERE id = ?1")?.execute([id])?;
        let layer = LayerId(id.cast_unsigned());
        garbage.buried.push(trash::bury(transaction, format!("layers/{layer}"))?);
        garbage.collected.layers.push(layer);
        garbage.collected.size_bytes += size.cast_unsigned();
        garbage.collected.layer_bytes += size.cast_unsigned();
    }
    let blobs: Vec<([u8; 32], i64)> = transaction
        .prepare_cached(UNREFERENCED_BLOBS)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (digest, size) in blobs {
        transaction.prepare_cached("DELETE FROM blob WHERE digest = ?1")?.execute([digest])?;
        garbage.collected.blobs.push(Digest::from_sha256(digest));
        garbage.collected.size_bytes += size.cast_unsigned();
    }
    Ok(garbage)
}

/// After that transaction, with [`Inner::blobs`] held since before it: removes the bytes.
pub(crate) fn finish(store: &Inner, garbage: &Garbage) {
    if garbage.images {
        store.images.clear();
    }
    if !garbage.is_empty() {
        reached(Point::GarbageForgotten);
    }
    for blob in &garbage.collected.blobs {
        if let Err(error) = store.unlink("content/blobs/sha256", blob.hex().as_ref()) {
            tracing::warn!(%blob, %error, "a blob could not be removed; it goes when the store is opened next");
        }
    }
    if !garbage.is_empty() {
        reached(Point::GarbageUnlinked);
    }
    store.discard(&garbage.buried);
}

/// As [`collect`], without a flush where there is nothing to collect.
pub(crate) fn collect_some(store: &Inner) -> Result<(), Error> {
    let some = store.database.read::<_, Error>(|transaction| {
        Ok(transaction.prepare_cached(UNREFERENCED_LAYERS)?.exists([])?
            || transaction.prepare_cached(UNREFERENCED_BLOBS)?.exists([])?
            || transaction.prepare_cached(&format!("SELECT 1 {UNREACHED_MANIFESTS} LIMIT 1"))?.exists([])?)
    })?;
    if some { collect(store).map(drop) } else { Ok(()) }
}

pub(crate) fn collect(store: &Inner) -> Result<Collected, Error> {
    let _blobs = store.blobs.lock();
    let garbage = store.database.write(forget_garbage)?;
    finish(store, &garbage);
    Ok(garbage.collected)
}
