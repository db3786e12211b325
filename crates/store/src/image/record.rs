//! How images are recorded: in one transaction, after everything that they are made of is on the disk.

use std::io::Write as _;

use gantry_model::failpoint::{Point, reached};
use gantry_model::image::ImageConfig;
use gantry_model::{Digest, LayerId, Reference, Timestamp};
use gantry_state::rusqlite::Transaction;

use super::names::{full_name, set_reference};
use super::{ImageError, Images, NewImage, created};
use crate::content::{self, Content};
use crate::{Error, durability, layer};

/// Layers with more bytes than this are brought to the disk before others are made to wait.
const SYNC_AHEAD_BYTES: u64 = 16 << 20;

/// An image as it is recorded.
pub(super) struct Recorded<'a> {
    pub(super) id: Digest,
    pub(super) image: NewImage<'a>,
    pub(super) config: &'a ImageConfig,
    pub(super) references: &'a [Reference],
}

const INSERT_IMAGE: &str =
    "INSERT OR IGNORE INTO image (id, parent, created, recorded) VALUES (?1, ?2, ?3, ?4)";

fn record_one(
    transaction: &Transaction<'_>,
    one: &Recorded<'_>,
    config_size_bytes: u64,
) -> Result<(), ImageError> {
    let Recorded { id, image, config, references } = one;
    for (layer, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        let have = layer::get(transaction, *layer)?;
        if have.diff_id != *diff_id {
            let (layer, have) = (have.id, have.diff_id);
            let text = format!("it lists {diff_id}, but the layer {layer} is {have}");
            return Err(ImageError::InvalidConfig(text));
        }
    }
    content::record(transaction, id, config_size_bytes)?;
    let created = created(config).unwrap_or_default();
    let recorded = Timestamp::from_system(std::time::SystemTime::now());
    transaction.prepare_cached(INSERT_IMAGE)?.execute((
        id.as_bytes(),
        image.parent.as_ref().map(Digest::as_bytes),
        created.nanos(),
        recorded.nanos(),
    ))?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO image_layer VALUES (?1, ?2, ?3)")?;
    let mut durable = transaction.prepare_cached("UPDATE layer SET boot = NULL WHERE id = ?1")?;
    for (position, layer) in (0_i64..).zip(image.layers) {
        insert.execute((id.as_bytes(), position, layer.0.cast_signed()))?;
        durable.execute([layer.0.cast_signed()])?;
    }
    references.iter().try_for_each(|reference| set_reference(transaction, reference, id))
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
            references.iter().try_for_each(|reference| set_reference(transaction, reference, id))?;
            Ok(true)
        };
        // Where only the time of naming changes, nobody needs to wait for the disk.
        if named { self.store.database.write_relaxed(tag) } else { self.store.database.write(tag) }
    }

    /// Records images and their names in one transaction, after everything that they are made of is on the disk.
    pub(super) fn record(&self, images: &[Recorded<'_>]) -> Result<(), ImageError> {
        let store = &self.store;
        let layers: Vec<LayerId> = images.iter().flat_map(|one| one.image.layers).copied().collect();
        let made = store.unsynced(&layers)?;
        if made.iter().map(|layer| layer.size_bytes).sum::<u64>() > SYNC_AHEAD_BYTES {
            store.promote()?;
        }
        let mut writers = Vec::with_capacity(images.len());
        for one in images {
            let mut writer = Content { store: store.clone() }.writer()?;
            writer.write_all(one.image.config_bytes).map_err(Error::Output)?;
            writers.push(writer);
        }
        let _blobs = store.blobs.lock();
        let record = || -> Result<(), ImageError> {
            let placed = writers.into_iter().zip(images).map(|(writer, one)| writer.place(Some(one.id)));
            let placed = placed.collect::<Result<Vec<_>, _>>()?;
            // Once for the layers' trees, the configurations' bytes and their names.
            let blobs: Vec<&Digest> = images.iter().map(|one| &one.id).collect();
            store.sync_made(&made, &blobs)?;
            reached(Point::ImageSynced);
            store.database.write(|transaction| {
                durability::record_synced(transaction, &made)?;
                for (one, placed) in images.iter().zip(&placed) {
                    record_one(transaction, one, placed.size_bytes)?;
                }
                Ok(())
            })
        };
        record().inspect_err(|_| images.iter().for_each(|one| store.forget_unrecorded(&one.id)))
    }
}
