//! From what a user typed to an image, as Docker does it: a whole digest, else a name, else the
//! beginning of an id. A beginning that several images have is, as in Docker, no such image.

use std::collections::HashMap;
use std::sync::Arc;

use gantry_model::image::ImageConfig;
use gantry_model::{Digest, LayerId, Platform, Reference, Timestamp};
use gantry_state::rusqlite::{OptionalExtension, Transaction};
use parking_lot::Mutex;

use super::load::is_for;
use super::names::{full_name, no_such, target_of};
use super::{CONFIG_LIMIT_BYTES, Image, ImageError, target};
use crate::Error;
use crate::content::{Content, digest_of};
use crate::store::Inner;

/// What was looked up since images last changed. Configurations never change.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    /// Counts changes: what was read before one must not be kept after it.
    generation: u64,
    by_text: HashMap<String, Arc<Image>>,
    configs: HashMap<Digest, Arc<(ImageConfig, Vec<u8>)>>,
}

/// Entries beyond which the cache starts afresh.
const CACHE_ENTRIES: usize = 2048;

impl Cache {
    /// After every change of images or names.
    pub(crate) fn clear(&self) {
        let mut cached = self.0.lock();
        cached.generation += 1;
        cached.by_text.clear();
    }

    fn config(&self, store: &Arc<Inner>, id: &Digest) -> Result<Arc<(ImageConfig, Vec<u8>)>, ImageError> {
        if let Some(config) = self.0.lock().configs.get(id) {
            return Ok(config.clone());
        }
        let damaged = |reason: String| ImageError::Damaged { image: *id, reason };
        let bytes = match (Content { store: store.clone() }).read(id, CONFIG_LIMIT_BYTES) {
            Ok(bytes) if digest_of(&bytes) == *id => bytes,
            Ok(_) => return Err(damaged("the bytes of its configuration were changed".into())),
            Err(Error::NoSuchBlob(_)) => return Err(damaged("its configuration is gone".into())),
            Err(error) => return Err(error.into()),
        };
        let config = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let config = Arc::new((config, bytes));
        let mut cached = self.0.lock();
        if cached.configs.len() >= CACHE_ENTRIES {
            cached.configs.clear();
        }
        cached.configs.insert(*id, config.clone());
        Ok(config)
    }
}

/// What a text can mean.
pub(super) enum Meaning {
    /// An image's id, or the digest of something that a name points to.
    Digest(Digest),
    /// A name, or the beginning of an id.
    Name(Reference),
}

impl Meaning {
    pub(super) fn of(text: &str) -> Result<Self, ImageError> {
        if let Ok(digest) = Digest::from_hex(text).or_else(|_| text.parse()) {
            return Ok(Self::Digest(digest));
        }
        Ok(Self::Name(Reference::parse_normalized(text)?))
    }

    pub(super) fn not_found(&self) -> ImageError {
        match self {
            Self::Digest(digest) => ImageError::NoSuchImage(digest.to_string()),
            Self::Name(reference) => no_such(reference),
        }
    }
}

pub(super) fn resolve(store: &Arc<Inner>, text: &str) -> Result<Arc<Image>, ImageError> {
    let generation = {
        let cached = store.images.0.lock();
        if let Some(image) = cached.by_text.get(text) {
            return Ok(image.clone());
        }
        cached.generation
    };
    let meaning = Meaning::of(text)?;
    let image = store.database.read(|transaction| {
        let id = find(transaction, &meaning, text)?;
        let id = match (id, &meaning) {
            (None, Meaning::Name(name)) => by_target(transaction, name)?,
            (id, _) => id,
        };
        let id = id.ok_or_else(|| meaning.not_found())?;
        load(store, transaction, &id).map(Arc::new)
    })?;
    let mut cached = store.images.0.lock();
    if cached.generation == generation {
        if cached.by_text.len() >= CACHE_ENTRIES {
            cached.by_text.clear();
        }
        cached.by_text.insert(text.into(), image.clone());
    }
    Ok(image)
}

/// The id of the image that is meant.
pub(super) fn find(
    transaction: &Transaction<'_>,
    meaning: &Meaning,
    text: &str,
) -> Result<Option<Digest>, ImageError> {
    let one =
        |sql: &str, parameter: &dyn gantry_state::rusqlite::ToSql| -> Result<Option<Digest>, ImageError> {
            let mut query = transaction.prepare_cached(sql)?;
            Ok(query.query_row([parameter], |row| row.get(0)).optional()?.map(Digest::from_sha256))
        };
    match meaning {
        Meaning::Digest(digest) => {
            if let Some(id) = one("SELECT id FROM image WHERE id = ?1", digest.as_bytes())? {
                return Ok(Some(id));
            }
            if let Some(id) = one("SELECT image FROM reference WHERE target = ?1 LIMIT 1", digest.as_bytes())?
            {
                return Ok(Some(id));
            }
            let sql = "SELECT image FROM manifest WHERE digest = ?1 AND image IS NOT NULL";
            one(sql, digest.as_bytes())
        }
        Meaning::Name(reference) => {
            let name = full_name(reference);
            match one("SELECT image FROM reference WHERE name = ?1", &name)? {
                Some(id) => Ok(Some(id)),
                None => by_prefix(transaction, text.strip_prefix("sha256:").unwrap_or(text)),
            }
        }
    }
}

/// The image of a name with the digest of what the name points to.
fn by_target(transaction: &Transaction<'_>, name: &Reference) -> Result<Option<Digest>, ImageError> {
    let Some(digest) = name.digest() else { return Ok(None) };
    let sql = "SELECT image FROM reference WHERE target = ?1 AND target <> image
        AND name > ?2 || ':' AND name < ?2 || ';' LIMIT 1";
    let mut query = transaction.prepare_cached(sql)?;
    let repository = format!("{}/{}", name.domain(), name.path());
    let image = query.query_row((digest.as_bytes(), repository), |row| row.get(0)).optional()?;
    Ok(image.map(Digest::from_sha256))
}

/// What a text points to that means this image; `None` where that is a configuration.
pub(super) fn target(
    transaction: &Transaction<'_>,
    text: &str,
    image: &Digest,
) -> Result<Option<Digest>, ImageError> {
    let told = match Meaning::of(text)? {
        Meaning::Digest(digest) => Some(digest),
        Meaning::Name(name) => target_of(transaction, &name)?.or_else(|| name.digest().copied()),
    };
    match told {
        Some(told) if target::kind(transaction, &told)?.is_some() => Ok(Some(told)),
        _ => target::of_image(transaction, image),
    }
}

/// The image for a platform among those that a text means.
pub(super) fn resolve_for(
    store: &Arc<Inner>,
    text: &str,
    wanted: &Platform,
) -> Result<Arc<Image>, ImageError> {
    let own = resolve(store, text)?;
    if is_for(&own.config, wanted) && own.config.platform().distance_from_usual() == 0 {
        return Ok(own);
    }
    let others = resolve_all(store, text)?;
    let others =
        others.iter().skip(1).map(|id| resolve(store, &id.to_string())).collect::<Result<Vec<_>, _>>()?;
    let serving = std::iter::once(&own).chain(&others).filter(|image| is_for(&image.config, wanted));
    // Of several variants, where none is asked for, the usual one.
    if let Some(found) = serving.min_by_key(|image| image.config.platform().distance_from_usual()) {
        return Ok(found.clone());
    }
    // Indexes and configurations do not always agree on the variant.
    let same = |image: &&Arc<Image>| {
        (&image.config.os, &image.config.architecture) == (&wanted.os, &wanted.architecture)
    };
    Ok(std::iter::once(&own).chain(&others).find(same).unwrap_or(&own).clone())
}

/// The image that a text means, then those of all other platforms of what it means that are here.
pub(super) fn resolve_all(store: &Arc<Inner>, text: &str) -> Result<Vec<Digest>, ImageError> {
    let own = resolve(store, text)?;
    store.database.read(|transaction| {
        let mut images = vec![own.id];
        let Some(target) = target(transaction, text, &own.id)? else { return Ok(images) };
        let found = target::all(transaction, &target)?;
        let others = found.iter().filter(|one| !one.is_index()).filter_map(|one| one.image);
        images.extend(others.filter(|id| *id != own.id));
        Ok(images)
    })
}

pub(super) fn layer_sizes(store: &Arc<Inner>) -> Result<HashMap<LayerId, u64>, ImageError> {
    store.database.read(|transaction| {
        let sql = "SELECT DISTINCT layer, size FROM image_layer JOIN layer ON layer.id = layer";
        let mut query = transaction.prepare_cached(sql)?;
        let rows = query.query_map([], |row| {
            let (id, size): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((LayerId(id.cast_unsigned()), size.cast_unsigned()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

/// The bytes of what is kept of images beside their layers' files: layers as they came, packed or not, and what else
/// manifests list.
pub(super) fn content_bytes(store: &Arc<Inner>) -> Result<u64, ImageError> {
    store.database.read(|transaction| {
        let sql = "SELECT COALESCE(SUM(size), 0) FROM blob WHERE digest IN (
            SELECT blob FROM manifest_content WHERE blob IS NOT NULL
            UNION SELECT blob FROM layer JOIN image_layer ON layer = id WHERE blob IS NOT NULL)";
        let bytes: i64 = transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(bytes.cast_unsigned())
    })
}

/// The only image whose id begins so.
fn by_prefix(transaction: &Transaction<'_>, prefix: &str) -> Result<Option<Digest>, ImageError> {
    let fill = |digit: &str| Digest::from_hex(&format!("{prefix}{}", digit.repeat(64 - prefix.len())));
    if prefix.is_empty() || prefix.len() > 64 {
        return Ok(None);
    }
    let (Ok(first), Ok(last)) = (fill("0"), fill("f")) else { return Ok(None) };
    let sql = "SELECT id FROM image WHERE id BETWEEN ?1 AND ?2 LIMIT 2";
    let mut query = transaction.prepare_cached(sql)?;
    let rows = query.query_map([first.as_bytes(), last.as_bytes()], |row| row.get(0))?;
    let found: Vec<[u8; 32]> = rows.collect::<Result<_, _>>()?;
    Ok(match found[..] {
        [only] => Some(Digest::from_sha256(only)),
        _ => None,
    })
}

/// Everything about one image.
pub(super) fn load(
    store: &Arc<Inner>,
    transaction: &Transaction<'_>,
    id: &Digest,
) -> Result<Image, ImageError> {
    let config = store.images.config(store, id);
    // One that is not there says so before one that is damaged.
    let image = rows(transaction, id)?;
    let config = config?;
    Ok(Image { config: config.0.clone(), config_bytes: config.1.clone(), ..image })
}

/// As [`load`], for those who list and remove: a damaged image has an empty configuration, so that it is seen and can
/// go.
pub(super) fn load_anyhow(
    store: &Arc<Inner>,
    transaction: &Transaction<'_>,
    id: &Digest,
) -> Result<Image, ImageError> {
    match load(store, transaction, id) {
        Err(error @ ImageError::Damaged { .. }) => {
            tracing::warn!("{error}");
            rows(transaction, id)
        }
        result => result,
    }
}

/// What the database knows of an image: everything but its configuration.
fn rows(transaction: &Transaction<'_>, id: &Digest) -> Result<Image, ImageError> {
    let sql = "SELECT parent FROM image WHERE id = ?1";
    let parent: Option<[u8; 32]> = transaction
        .prepare_cached(sql)?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| ImageError::NoSuchImage(id.to_string()))?;
    let (mut layers, mut size_bytes) = (Vec::new(), 0);
    let sql = "SELECT layer, size FROM image_layer JOIN layer ON layer.id = layer WHERE image = ?1 ORDER BY position";
    let mut query = transaction.prepare_cached(sql)?;
    for row in query.query_map([id.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))? {
        let (layer, size) = row?;
        layers.push(LayerId(layer.cast_unsigned()));
        size_bytes += size.cast_unsigned();
    }
    let (mut references, mut last_tagged) = (Vec::new(), None);
    let sql = "SELECT name, tagged FROM reference WHERE image = ?1 ORDER BY name";
    let mut query = transaction.prepare_cached(sql)?;
    for row in
        query.query_map([id.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
    {
        let (name, tagged) = row?;
        references.push(Reference::parse_normalized(&name)?);
        last_tagged = last_tagged.max(Some(Timestamp::from_nanos(tagged)));
    }
    Ok(Image {
        id: *id,
        config: ImageConfig::default(),
        config_bytes: Vec::new(),
        layers,
        size_bytes,
        parent: parent.map(Digest::from_sha256),
        last_tagged,
        references,
    })
}

pub(super) fn list(store: &Arc<Inner>) -> Result<Vec<Arc<Image>>, ImageError> {
    store.database.read(|transaction| {
        let ids: Vec<[u8; 32]> = transaction
            .prepare_cached("SELECT id FROM image WHERE listed ORDER BY created DESC, recorded DESC, id")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        ids.into_iter()
            .map(|id| load_anyhow(store, transaction, &Digest::from_sha256(id)).map(Arc::new))
            .collect()
    })
}
