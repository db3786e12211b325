//! How images are recorded: in one transaction, after everything that they are made of is on the disk.

use std::collections::BTreeMap;
use std::io::Write as _;

use gantry_model::failpoint::{Point, reached};
use gantry_model::image::ImageConfig;
use gantry_model::{Digest, LayerId, Reference, Timestamp};
use gantry_state::rusqlite::Transaction;

use super::names::{full_name, set_reference};
use super::target::{self, Kept};
use super::{ImageError, Images, NewImage, created};
use crate::content::{self, Content};
use crate::durability::{self, Unsynced};
use crate::{Error, layer};

/// Layers with more bytes than this are brought to the disk before others are made to wait.
const SYNC_AHEAD_BYTES: u64 = 16 << 20;

/// An image as it is recorded.
pub(super) struct Recorded<'a> {
    pub(super) id: Digest,
    pub(super) image: NewImage<'a>,
    pub(super) config: &'a ImageConfig,
    /// The names it gets, each with what it points to; `None` is what the image came with.
    pub(super) names: Vec<(&'a Reference, Option<Digest>)>,
    /// The manifest or index that it came with, one of those that are recorded with it.
    pub(super) target: Option<Digest>,
    /// Whether it is there for itself and not only as a platform of an index.
    pub(super) listed: bool,
}

/// What is kept beside images.
#[derive(Default)]
pub(super) struct Keep {
    /// Those that are listed before those that list them.
    pub(super) manifests: Vec<Kept>,
    /// What manifests list and is no layer: small, whole.
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
}

const INSERT_IMAGE: &str =
    "INSERT OR IGNORE INTO image (id, parent, created, recorded, listed) VALUES (?1, ?2, ?3, ?4, ?5)";

fn record_one(transaction: &Transaction<'_>, one: &Recorded<'_>) -> Result<(), ImageError> {
    let Recorded { id, image, config, listed, .. } = one;
    for (layer, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        let have = layer::get(transaction, *layer)?;
        if have.diff_id != *diff_id {
            let (layer, have) = (have.id, have.diff_id);
            let text = format!("it lists {diff_id}, but the layer {layer} is {have}");
            return Err(ImageError::InvalidConfig(text));
        }
    }
    let created = created(config).unwrap_or_default();
    let recorded = Timestamp::from_system(std::time::SystemTime::now());
    transaction.prepare_cached(INSERT_IMAGE)?.execute((
        id.as_bytes(),
        image.parent.as_ref().map(Digest::as_bytes),
        created.nanos(),
        recorded.nanos(),
        listed,
    ))?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO image_layer VALUES (?1, ?2, ?3)")?;
    let mut durable = transaction.prepare_cached("UPDATE layer SET boot = NULL WHERE id = ?1")?;
    for (position, layer) in (0_i64..).zip(image.layers) {
        insert.execute((id.as_bytes(), position, layer.0.cast_signed()))?;
        durable.execute([layer.0.cast_signed()])?;
    }
    Ok(())
}

/// Has an image's names and itself point to what it came with.
fn point(transaction: &Transaction<'_>, one: &Recorded<'_>) -> Result<(), ImageError> {
    if let Some(target) = &one.target {
        target::set(transaction, &one.id, target)?;
    } else if one.listed {
        target::list(transaction, &one.id)?;
    }
    let mut names = one.names.iter();
    names.try_for_each(|(name, target)| set_reference(transaction, name, &one.id, target.as_ref()))
}

pub(super) fn exists(transaction: &Transaction<'_>, id: &Digest) -> Result<bool, ImageError> {
    Ok(transaction.prepare_cached("SELECT 1 FROM image WHERE id = ?1")?.exists([id.as_bytes()])?)
}

impl Images {
    /// Names an image that is there already; `false` if it is not.
    pub(super) fn name_existing(&self, id: &Digest, references: &[Reference]) -> Result<bool, ImageError> {
        let named = |transaction: &Transaction<'_>| -> Result<bool, ImageError> {
            let sql = "SELECT 1 FROM reference WHERE name = ?1 AND image = ?2";
            let mut query = transaction.prepare_cached(sql)?;
            for reference in references {
                if !query.exists((full_name(reference), id.as_bytes()))? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let (there, named) =
            self.store.database.read(|t| Ok::<_, ImageError>((exists(t, id)?, named(t)?)))?;
        if !there {
            return Ok(false);
        }
        let tag = |transaction: &Transaction<'_>| -> Result<bool, ImageError> {
            if !exists(transaction, id)? {
                return Ok(false);
            }
            target::list(transaction, id)?;
            references.iter().try_for_each(|reference| set_reference(transaction, reference, id, None))?;
            Ok(true)
        };
        // Where only the time of naming changes, nobody needs to wait for the disk.
        if named { self.store.database.write_relaxed(tag) } else { self.store.database.write(tag) }
    }

    /// Records images, their names and what else is kept in one transaction, after everything that they are made of is
    /// on the disk.
    pub(super) fn record(&self, images: &[Recorded<'_>], keep: &Keep) -> Result<(), ImageError> {
        let store = &self.store;
        let layers: Vec<LayerId> = images.iter().flat_map(|one| one.image.layers).copied().collect();
        let content: Vec<Digest> = keep.manifests.iter().flat_map(|one| &one.content).copied().collect();
        let mut made = store.unsynced(&layers)?;
        made.extend(store.unsynced_content(&content)?);
        made.sort_by_key(Unsynced::id);
        made.dedup_by_key(|layer| layer.id());
        if made.iter().map(|layer| layer.size_bytes).sum::<u64>() > SYNC_AHEAD_BYTES {
            store.promote()?;
        }
        let configs = images.iter().map(|one| (one.id, one.image.config_bytes));
        let manifests = keep.manifests.iter().map(|one| (one.digest, &one.bytes[..]));
        let blobs = keep.blobs.iter().map(|(digest, bytes)| (*digest, &bytes[..]));
        let bytes: BTreeMap<Digest, &[u8]> = configs.chain(manifests).chain(blobs).collect();
        let _blobs = store.blobs.lock();
        let record = || -> Result<(), ImageError> {
            for (digest, bytes) in &bytes {
                let mut writer = Content { store: store.clone() }.writer()?;
                writer.write_all(bytes).map_err(Error::Output)?;
                writer.place(Some(*digest))?;
            }
            // Once for the layers' trees, the small blobs and their names.
            store.sync_made(&made, &bytes.keys().collect::<Vec<_>>())?;
            reached(Point::ImageSynced);
            store.database.write(|transaction| {
                durability::record_synced(transaction, &made)?;
                for (digest, bytes) in &bytes {
                    content::record(transaction, digest, bytes.len() as u64)?;
                }
                images.iter().try_for_each(|one| record_one(transaction, one))?;
                target::record(transaction, &keep.manifests)?;
                images.iter().try_for_each(|one| point(transaction, one))
            })
        };
        record().inspect_err(|_| bytes.keys().for_each(|digest| store.forget_unrecorded(digest)))
    }
}
