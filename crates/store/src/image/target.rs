//! Targets: the manifests and indexes that images came with, kept verbatim, with what they list and was there.
//!
//! ```text
//! name ──┐            index ──┬── manifest ── configuration, layers        (and the image made of them)
//!        ├── target:          ├── manifest ── configuration, layers        (a platform; its image is not listed)
//! image ─┘                    ├── manifest ── whatever it lists            (a statement about another; no image)
//!                             └── (listed in its bytes, and not here)
//! ```
//!
//! A name has the target that it was loaded with, or that of the name that it was copied from; an image has the one
//! that it was loaded with last, so that it is saved unchanged also by its id and when its names have moved away.
//! What was made here has none: its target is its configuration, and `save` makes a manifest. What neither a name nor
//! a listed image leads to is garbage, together with the images that were there for it alone.

use std::sync::Arc;

use gantry_model::image::media_type;
use gantry_model::{Digest, LayerId, Reference};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use super::ImageError;
use crate::layer::Layers;
use crate::store::Inner;
use crate::{Error, Lease};

/// The largest manifest or index that is kept, in bytes: what registries take.
pub(super) const MANIFEST_LIMIT_BYTES: u64 = 4 << 20;

/// A manifest or an index to be kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// Verbatim.
    pub(super) bytes: Vec<u8>,
    /// What a manifest lists and is here.
    pub(super) content: Vec<Digest>,
    /// What an index lists and is here.
    pub(super) children: Vec<Digest>,
    /// The image that a look-up finds.
    pub(super) image: Option<Digest>,
}

/// Where bytes are that a manifest lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// They are a blob.
    Blob,
    /// They are a layer's plain tar, which the layer can give again.
    Layer(LayerId),
}

/// One of the manifests that are kept.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size_bytes: u64,
    pub(super) image: Option<Digest>,
    /// What it lists and is here, with its size.
    pub(super) content: Vec<(Digest, Place, u64)>,
}

impl Found {
    pub(super) fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }
}

/// Whether something of this kind lists manifests.
pub(super) fn is_index(kind: &str) -> bool {
    matches!(kind, media_type::OCI_INDEX | media_type::DOCKER_INDEX)
}

/// Whether something of this kind lists layers.
pub(super) fn is_manifest(kind: &str) -> bool {
    matches!(kind, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST)
}

/// Where the bytes of a digest are, and how many if that is known.
fn place(transaction: &Transaction<'_>, digest: &Digest) -> Result<Option<(Place, Option<u64>)>, Error> {
    let mut blob = transaction.prepare_cached("SELECT size FROM blob WHERE digest = ?1")?;
    if let Some(size) = blob.query_row([digest.as_bytes()], |row| row.get::<_, i64>(0)).optional()? {
        return Ok(Some((Place::Blob, Some(size.cast_unsigned()))));
    }
    let sql = "SELECT id, tar_size FROM layer WHERE diff_id = ?1 AND state = 1 ORDER BY id LIMIT 1";
    let mut layer = transaction.prepare_cached(sql)?;
    let found = layer.query_row([digest.as_bytes()], |row| {
        let (id, size): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok((Place::Layer(LayerId(id.cast_unsigned())), size.map(i64::cast_unsigned)))
    });
    Ok(found.optional()?)
}

fn hold(transaction: &Transaction<'_>, lease: &Lease, digest: &Digest, place: Place) -> Result<(), Error> {
    match place {
        Place::Blob => lease.hold_blob_in(transaction, digest),
        Place::Layer(layer) => lease.hold_layer_in(transaction, layer),
    }
}

/// How many bytes the store has under this digest, as a blob or as a layer's plain tar; held by the lease from now on.
/// `None` where it has none.
pub(super) fn held_size(store: &Arc<Inner>, digest: &Digest, lease: &Lease) -> Result<Option<u64>, Error> {
    let found = store.database.write_relaxed::<_, Error>(|transaction| {
        let found = place(transaction, digest)?;
        if let Some((place, _)) = found {
            hold(transaction, lease, digest, place)?;
        }
        Ok(found)
    })?;
    Ok(match found {
        Some((Place::Layer(id), None)) => Some(Layers { store: store.clone() }.tar_size_bytes(id)?),
        Some((_, size)) => size,
        None => None,
    })
}

/// Records manifests, those that are listed before those that list them; their images are recorded. What is there
/// already of one gets what has come in addition.
pub(super) fn record(transaction: &Transaction<'_>, manifests: &[Kept]) -> Result<(), ImageError> {
    let mut manifest = transaction.prepare_cached(
        "INSERT INTO manifest VALUES (?1, ?2, ?3)
        ON CONFLICT (digest) DO UPDATE SET image = coalesce(excluded.image, image)",
    )?;
    let mut content =
        transaction.prepare_cached("INSERT OR IGNORE INTO manifest_content VALUES (?1, ?2, ?3, ?4)")?;
    let mut child = transaction.prepare_cached("INSERT OR IGNORE INTO manifest_child VALUES (?1, ?2)")?;
    for one in manifests {
        let image = one.image.as_ref().map(Digest::as_bytes);
        manifest.execute((one.digest.as_bytes(), &one.media_type, image))?;
        for digest in &one.content {
            let (blob, layer) = match place(transaction, digest)? {
                Some((Place::Blob, _)) => (Some(digest.as_bytes()), None),
                Some((Place::Layer(layer), _)) => (None, Some(layer.0.cast_signed())),
                None => return Err(Error::NoSuchBlob(*digest).into()),
            };
            content.execute((one.digest.as_bytes(), digest.as_bytes(), blob, layer))?;
        }
        for listed in &one.children {
            child.execute((one.digest.as_bytes(), listed.as_bytes()))?;
        }
    }
    Ok(())
}

/// Gives an image the target that it came with. Another image that had it until now, because fewer platforms of an
/// index were here, is no longer listed where no name means it.
pub(super) fn set(transaction: &Transaction<'_>, image: &Digest, target: &Digest) -> Result<(), ImageError> {
    let sql = "UPDATE image SET target = ?2, listed = 1 WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute((image.as_bytes(), target.as_bytes()))?;
    let sql = "UPDATE image SET target = NULL, listed = 0 WHERE target = ?2 AND id <> ?1
        AND NOT EXISTS (SELECT 1 FROM reference WHERE reference.image = image.id)";
    transaction.prepare_cached(sql)?.execute((image.as_bytes(), target.as_bytes()))?;
    Ok(())
}

/// Has an image stand for itself, also where it came as a platform of an index; then its manifest is its target.
pub(super) fn list(transaction: &Transaction<'_>, image: &Digest) -> Result<(), ImageError> {
    let sql = "UPDATE image SET listed = 1, target = coalesce(target, (SELECT digest FROM manifest
            WHERE manifest.image = image.id AND media_type NOT IN (?2, ?3) ORDER BY digest LIMIT 1))
        WHERE id = ?1 AND NOT listed";
    let row = (image.as_bytes(), media_type::OCI_INDEX, media_type::DOCKER_INDEX);
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// What an image came with; `None` where that is its configuration alone.
pub(super) fn of_image(transaction: &Transaction<'_>, image: &Digest) -> Result<Option<Digest>, ImageError> {
    let mut query = transaction.prepare_cached("SELECT target FROM image WHERE id = ?1")?;
    let target = query.query_row([image.as_bytes()], |row| row.get::<_, Option<[u8; 32]>>(0));
    Ok(target.optional()?.flatten().map(Digest::from_sha256))
}

/// The kind of a manifest that is kept; `None` where there is none with this digest.
pub(super) fn kind(transaction: &Transaction<'_>, digest: &Digest) -> Result<Option<String>, ImageError> {
    let mut query = transaction.prepare_cached("SELECT media_type FROM manifest WHERE digest = ?1")?;
    Ok(query.query_row([digest.as_bytes()], |row| row.get(0)).optional()?)
}

/// Everything that is kept of a target, itself first; nothing where there is none with this digest.
pub(super) fn all(transaction: &Transaction<'_>, target: &Digest) -> Result<Vec<Found>, ImageError> {
    let sql = "WITH RECURSIVE reached (digest) AS (
            SELECT digest FROM manifest WHERE digest = ?1
            UNION SELECT child FROM reached JOIN manifest_child ON manifest = reached.digest)
        SELECT m.digest, m.media_type, blob.size, m.image FROM reached
            JOIN manifest AS m ON m.digest = reached.digest JOIN blob ON blob.digest = m.digest
        ORDER BY m.digest <> ?1, m.digest";
    let mut query = transaction.prepare_cached(sql)?;
    let rows = query.query_map([target.as_bytes()], |row| {
        Ok(Found {
            digest: Digest::from_sha256(row.get(0)?),
            media_type: row.get(1)?,
            size_bytes: row.get::<_, i64>(2)?.cast_unsigned(),
            image: row.get::<_, Option<[u8; 32]>>(3)?.map(Digest::from_sha256),
            content: Vec::new(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// As [`all`], with what the manifests list; all of it is held by the lease.
pub(super) fn held(store: &Arc<Inner>, target: &Digest, lease: &Lease) -> Result<Vec<Found>, ImageError> {
    let mut found = store.database.write_relaxed::<_, ImageError>(|transaction| {
        let mut found = all(transaction, target)?;
        let sql = "SELECT c.digest, c.layer, coalesce(blob.size, layer.tar_size) FROM manifest_content AS c
            LEFT JOIN blob ON blob.digest = c.blob LEFT JOIN layer ON layer.id = c.layer WHERE c.manifest = ?1";
        let mut query = transaction.prepare_cached(sql)?;
        for one in &mut found {
            lease.hold_blob_in(transaction, &one.digest)?;
            let rows = query.query_map([one.digest.as_bytes()], |row| {
                let layer: Option<i64> = row.get(1)?;
                let place = layer.map_or(Place::Blob, |id| Place::Layer(LayerId(id.cast_unsigned())));
                let size: Option<i64> = row.get(2)?;
                Ok((Digest::from_sha256(row.get(0)?), place, size.map_or(0, i64::cast_unsigned)))
            })?;
            one.content = rows.collect::<Result<_, _>>()?;
            one.content.iter().try_for_each(|(digest, place, _)| hold(transaction, lease, digest, *place))?;
        }
        Ok(found)
    })?;
    for (_, place, size_bytes) in found.iter_mut().flat_map(|one| &mut one.content) {
        // Layers of old were not counted when they were made.
        if let (Place::Layer(id), 0) = (*place, *size_bytes) {
            *size_bytes = Layers { store: store.clone() }.tar_size_bytes(id)?;
        }
    }
    Ok(found)
}

/// The images that are there as platforms of what an image or one of its names came with, and for nothing else.
pub(super) fn platforms(transaction: &Transaction<'_>, image: &Digest) -> Result<Vec<Digest>, ImageError> {
    let sql = "WITH RECURSIVE reached (digest) AS (
            SELECT target FROM image WHERE id = ?1 AND target IS NOT NULL
            UNION SELECT target FROM reference WHERE image = ?1
            UNION SELECT child FROM reached JOIN manifest_child ON manifest = reached.digest)
        SELECT DISTINCT other.id FROM reached JOIN manifest AS m ON m.digest = reached.digest
            JOIN image AS other ON other.id = m.image WHERE NOT other.listed ORDER BY other.id";
    let mut query = transaction.prepare_cached(sql)?;
    let rows = query.query_map([image.as_bytes()], |row| row.get(0))?;
    Ok(rows.map(|row| row.map(Digest::from_sha256)).collect::<Result<_, _>>()?)
}

/// Whose index an image belongs to that is not listed: a name in its familiar form or, without one, an image.
pub(super) fn user(transaction: &Transaction<'_>, image: &Digest) -> Result<Option<String>, ImageError> {
    let above = "WITH RECURSIVE above (digest) AS (
            SELECT digest FROM manifest WHERE image = ?1
            UNION SELECT manifest FROM above JOIN manifest_child ON child = above.digest)";
    let name = format!(
        "{above} SELECT name FROM reference WHERE target IN (SELECT digest FROM above) ORDER BY name LIMIT 1"
    );
    let mut query = transaction.prepare_cached(&name)?;
    if let Some(name) = query.query_row([image.as_bytes()], |row| row.get::<_, String>(0)).optional()? {
        return Ok(Some(Reference::parse_normalized(&name)?.familiar()));
    }
    let id =
        format!("{above} SELECT id FROM image WHERE listed AND target IN (SELECT digest FROM above) LIMIT 1");
    let mut query = transaction.prepare_cached(&id)?;
    let id = query.query_row([image.as_bytes()], |row| row.get(0)).optional()?;
    Ok(id.map(|id| Digest::from_sha256(id).to_string()))
}
