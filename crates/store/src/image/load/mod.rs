//! `docker load`: images out of an archive, in one pass over it.
//!
//! What may come: what `docker save` writes, the old form (a directory for each layer, `manifest.json`) and the
//! one since Docker 25 (an OCI layout with `manifest.json` beside it), and OCI layouts without it; as a whole
//! plain or compressed (gzip, zstd, xz, bzip2), and so is each layer.
//!
//! ```text
//! stream ── intake ──┬─ layers: unpacked as they come, each held by the load's lease
//!                    └─ small files: kept in memory, up to a limit
//! at its end ── listing: which images, of which files, with which manifests and indexes (tree)
//!               ── all of them checked ── recorded together
//! ```
//!
//! The archive says what it has only at its end, so whatever looks like a layer is unpacked; what turns out
//! to be none is collected afterwards. Nothing is recorded before the stream was read to its end and every image
//! in it was found sound: an archive is loaded as a whole, or leaves nothing.
//!
//! Of an index everything is kept that came: all its platforms become images, of which the one that its names mean
//! is listed, and what is no image (a statement about one, a platform of another system) is kept as bytes.

mod intake;
mod listing;
mod tree;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use gantry_model::failpoint::{Point, reached};
use gantry_model::image::{ImageConfig, Manifest};
use gantry_model::{Digest, ErrorKind, LayerId, Platform, Reference};

use self::intake::{Intake, Presence};
pub(in crate::image) use self::listing::is_for;
use self::listing::{Listed, Listing, place, wanted};
use self::tree::{Kind, Tree};
use super::record::{Keep, Recorded};
use super::target::Kept;
use super::{ImageError, Images, NewImage};
use crate::archive::ArchiveError;
use crate::content::digest_of;
use crate::{Error, Leases, gc};

/// How many layers an image can have: Docker's number.
const DEPTH: usize = 125;

/// What is taken out of an archive.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Only images of this platform, and of an index its manifest alone; `None` takes all that `manifest.json` lists,
    /// and an index as a whole: its names mean the host's image or, if it is not there, the first that is.
    pub platform: Option<Platform>,
}

/// What happens while an archive is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadEvent<'a> {
    /// Bytes of a layer that was not here were read.
    Layer {
        /// Its DiffID.
        diff_id: &'a Digest,
        /// Bytes of its file in the archive so far.
        read_bytes: u64,
        /// Bytes of its file in the archive.
        total_bytes: u64,
    },
    /// An image was found sound, and its names are given to it.
    Loaded(&'a Loaded),
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// Names it got, each with the image that had the name before if that is another.
    pub names: Vec<(Reference, Option<Digest>)>,
}

/// Says why an archive was not loaded. `Display` gives Docker's texts. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The stream ended too soon.
    #[error("unexpected EOF")]
    Truncated,
    /// The stream is no archive.
    #[error("archive/tar: invalid tar header")]
    NoArchive,
    /// The archive itself is refused.
    #[error(transparent)]
    Archive(ArchiveError),
    /// It has neither a `manifest.json` nor an index.
    #[error("the archive has no images: neither manifest.json nor index.json is in it")]
    NoImages,
    /// Something that is referred to is not there.
    #[error("open {0}: no such file or directory")]
    Missing(String),
    /// Links lead in a circle, or out of the archive.
    #[error("{0}: the archive's links lead nowhere in it")]
    BadPath(String),
    /// A file that must be read whole is too large for that.
    #[error("{path} has {size_bytes} bytes, more than the {limit_bytes} that are read of it")]
    TooLarge {
        /// Where it is in the archive.
        path: String,
        /// Its size.
        size_bytes: u64,
        /// What is read.
        limit_bytes: u64,
    },
    /// `manifest.json` is `null`.
    #[error("invalid manifest, manifest cannot be null (but can be [])")]
    NullManifest,
    /// A configuration does not say of which layers it is.
    #[error("invalid image JSON, no RootFS key")]
    NoRootFs,
    /// A file that ought to say something is empty.
    #[error("EOF")]
    Empty,
    /// A description cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Malformed {
        /// Where it is in the archive.
        path: String,
        /// Why.
        reason: String,
    },
    /// A description is of another kind than is read here.
    #[error("{path}: {media_type:?} is not a kind that is loaded")]
    MediaType {
        /// Where it is in the archive.
        path: String,
        /// What it says that it is.
        media_type: String,
    },
    /// The bytes are not those that were announced.
    #[error("{path} is {actual}, not {expected} as announced")]
    Digest {
        /// Where it is in the archive.
        path: String,
        /// What was announced.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// There are not as many bytes as were announced.
    #[error("{path} has {actual_bytes} bytes, not {expected_bytes} as announced")]
    Size {
        /// Where it is in the archive.
        path: String,
        /// What was announced.
        expected_bytes: u64,
        /// What it has.
        actual_bytes: u64,
    },
    /// Indexes list indexes that list indexes.
    #[error("its indexes are nested more than {0} deep")]
    Nested(usize),
    /// The archive has too many manifests and indexes.
    #[error("the archive has more than {0} manifests")]
    TooManyManifests(usize),
    /// Manifest and configuration do not agree.
    #[error("invalid manifest, layers length mismatch: expected {listed}, got {configured}")]
    LayerCount {
        /// The manifest's layers.
        listed: usize,
        /// The configuration's.
        configured: usize,
    },
    /// A layer is not what the configuration says.
    #[error("invalid diffID for layer {index}: expected \"{expected}\", got \"{actual}\"")]
    DiffId {
        /// Counted from 0, the lowest.
        index: usize,
        /// The configuration's.
        expected: Digest,
        /// The layer's.
        actual: Digest,
    },
    /// An image has too many layers.
    #[error("max depth exceeded")]
    Depth,
    /// The archive has too many layers.
    #[error("the archive has more than {0} layers")]
    TooManyLayers(usize),
    /// A name without a tag.
    #[error("invalid tag {0:?}")]
    NoTag(String),
    /// An image for another operating system.
    #[error("cannot load {0} image on linux")]
    OperatingSystem(String),
}

impl LoadError {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(error) => error.kind(),
            _ => ErrorKind::InvalidArgument,
        }
    }

    /// What is wrong with the outer archive, in Docker's words where it has some.
    pub(super) fn of_stream(error: ArchiveError) -> Self {
        // A disk that fails is no fault of the archive.
        match error {
            ArchiveError::Damaged { reason, .. } if reason.starts_with("it ends within") => Self::Truncated,
            ArchiveError::Damaged { reason, .. } if reason.starts_with("it is not a tar") => Self::NoArchive,
            ArchiveError::Compressed(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Truncated
            }
            error => Self::Archive(error),
        }
    }
}

/// An image that was checked.
struct Sound {
    id: Digest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
    layers: Vec<LayerId>,
    /// Each with the manifest or index that it points to.
    names: Vec<(Reference, Option<Digest>)>,
    parent: Option<Digest>,
    /// What it came with.
    target: Option<Digest>,
    /// Whether it is more than a platform of an index.
    listed: bool,
}

pub(super) fn load(
    images: &Images,
    archive: impl Read + Send,
    options: &LoadOptions,
    events: &mut (dyn FnMut(LoadEvent<'_>) + Send),
) -> Result<Vec<Loaded>, ImageError> {
    let lease = Leases { store: images.store.clone() }.temporary("load")?;
    let loaded = load_held(images, archive, options, &lease, events);
    drop(lease);
    // What was unpacked and is no image's, now or after an error.
    gc::collect_some(&images.store)?;
    // Whoever waits for the error may look at the disk next.
    loaded.inspect_err(|_| drop(images.store.empty_trash()))
}

fn load_held(
    images: &Images,
    archive: impl Read + Send,
    options: &LoadOptions,
    lease: &crate::Lease,
    events: &mut (dyn FnMut(LoadEvent<'_>) + Send),
) -> Result<Vec<Loaded>, ImageError> {
    let mut intake = Intake::new(&images.store, lease, events);
    crate::archive::read_entries(archive, crate::archive::Limits::default(), |entries| intake.read(entries))
        .map_err(|error| match error {
            ImageError::Load(LoadError::Archive(error)) => LoadError::of_stream(error).into(),
            error => error,
        })?;
    reached(Point::LoadRead);
    let (mut sound, keep) = check_all(&mut intake, options)?;
    let parents = parents(images, &sound);
    for (image, parent) in sound.iter_mut().zip(parents) {
        image.parent = parent;
    }
    record(images, &sound, &keep, events)
}

/// All images that the archive lists, then those that are there as platforms of their indexes, and what else is kept.
fn check_all(intake: &mut Intake<'_>, options: &LoadOptions) -> Result<(Vec<Sound>, Keep), ImageError> {
    let Listing { images, trees } = listing::read(intake, options)?;
    let mut sound: Vec<(Sound, Listed)> = Vec::with_capacity(images.len());
    for listed in images {
        if let Some(image) = check(intake, &listed.config, &listed.layers, options.platform.as_ref())? {
            sound.push((Sound { parent: listed.parent, ..image }, listed));
        }
    }
    let own: BTreeSet<Digest> = sound.iter().map(|(image, _)| image.id).collect();
    let (mut keep, mut platforms) = (Keep::default(), Vec::new());
    let mut whole: BTreeMap<usize, BTreeSet<Digest>> = BTreeMap::new();
    for (image, listed) in &mut sound {
        let trees_of = listed.names.iter().map(|(_, tree)| *tree).chain([listed.tree]);
        for at in trees_of.flatten().collect::<BTreeSet<_>>() {
            if let Entry::Vacant(vacant) = whole.entry(at) {
                let kept = keep_tree(intake, &trees[at], image.id, &own)?;
                let images = kept.manifests.iter().filter_map(|one| one.image).collect();
                if kept.images.contains(&image.id) {
                    keep.manifests.extend(kept.manifests);
                    keep.blobs.extend(kept.blobs);
                    platforms.extend(kept.platforms);
                    vacant.insert(images);
                } else {
                    // Files of its own manifest are not in the archive: it comes without.
                    vacant.insert(BTreeSet::new());
                }
            }
        }
        let target = |at: &usize| whole[at].contains(&image.id).then_some(trees[*at].root.digest);
        image.target = listed.tree.as_ref().and_then(target);
        let names = std::mem::take(&mut listed.names).into_iter();
        image.names = names.map(|(name, at)| (name, at.as_ref().and_then(target))).collect();
    }
    let listed = sound.into_iter().map(|(image, _)| image);
    Ok((listed.chain(platforms).collect(), keep))
}

/// What is kept of a tree.
#[derive(Default)]
struct KeptTree {
    manifests: Vec<Kept>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// The images that its manifests are of.
    images: Vec<Digest>,
    /// Those of them that the archive does not list by themselves.
    platforms: Vec<Sound>,
}

/// Checks everything of a tree whose names mean this image; `own` are the images that are listed by themselves.
fn keep_tree(
    intake: &mut Intake<'_>,
    tree: &Tree,
    meant: Digest,
    own: &BTreeSet<Digest>,
) -> Result<KeptTree, ImageError> {
    let mut all = KeptTree::default();
    // The image of each manifest and index so far.
    let mut images: BTreeMap<Digest, Digest> = BTreeMap::new();
    for (digest, node) in tree.nodes() {
        let mut kept = Kept {
            digest: *digest,
            media_type: node.media_type.clone(),
            bytes: node.bytes.clone(),
            content: Vec::new(),
            children: Vec::new(),
            image: None,
        };
        match &node.kind {
            Kind::Index(children) => {
                let distinct: BTreeSet<Digest> = children.iter().map(|child| child.digest).collect();
                kept.children = distinct.into_iter().collect();
                // What they list is known already.
                let order = wanted(&LoadOptions::default(), children);
                let of_children: Vec<Digest> =
                    order.iter().filter_map(|child| images.get(&child.digest)).copied().collect();
                let is_meant = of_children.contains(&meant);
                kept.image = is_meant.then_some(meant).or(of_children.first().copied());
            }
            Kind::Image(manifest) => {
                if content(intake, manifest, &mut kept, &mut all.blobs)? {
                    kept.image = platform(intake, manifest, own, &mut all.platforms)?;
                    all.images.extend(kept.image);
                }
            }
            Kind::Other(manifest) => {
                content(intake, manifest, &mut kept, &mut all.blobs)?;
            }
        }
        if let Some(image) = kept.image {
            images.insert(*digest, image);
        }
        all.manifests.push(kept);
    }
    Ok(all)
}

/// Adds what a manifest lists and is in the archive or here; whether that is all of it.
fn content(
    intake: &mut Intake<'_>,
    manifest: &Manifest,
    kept: &mut Kept,
    blobs: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<bool, ImageError> {
    let mut whole = true;
    for listed in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if kept.content.contains(&listed.digest) {
            continue;
        }
        match intake.content(listed)? {
            Presence::Absent => {
                whole = false;
                continue;
            }
            Presence::Held => {}
            Presence::Small(bytes) => drop(blobs.insert(listed.digest, bytes)),
        }
        kept.content.push(listed.digest);
    }
    Ok(whole)
}

/// The image of a manifest whose files are all here; `None` where it is for another operating system.
fn platform(
    intake: &mut Intake<'_>,
    manifest: &Manifest,
    own: &BTreeSet<Digest>,
    platforms: &mut Vec<Sound>,
) -> Result<Option<Digest>, ImageError> {
    let id = manifest.config.digest;
    if !intake.has(&place(&id)) {
        return Ok(own.contains(&id).then_some(id));
    }
    let layers: Vec<String> = manifest.layers.iter().map(|layer| place(&layer.digest)).collect();
    match check(intake, &place(&id), &layers, None) {
        // It is checked all the same: the list beside the index may name other files.
        Ok(_) if own.contains(&id) || platforms.iter().any(|image| image.id == id) => {}
        Ok(image) => platforms.extend(image.map(|image| Sound { listed: false, ..image })),
        Err(ImageError::Load(LoadError::OperatingSystem(_))) => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(id))
}

/// Whether an image is what its archive says; `None` for one of another platform than is asked for.
fn check(
    intake: &mut Intake<'_>,
    config_path: &str,
    layer_paths: &[String],
    platform: Option<&Platform>,
) -> Result<Option<Sound>, ImageError> {
    let config_bytes = intake.file(config_path)?.to_vec();
    let malformed = |reason: String| LoadError::Malformed { path: config_path.into(), reason };
    let tree: serde_json::Value =
        serde_json::from_slice(&config_bytes).map_err(|error| malformed(error.to_string()))?;
    if tree.get("rootfs").is_none_or(serde_json::Value::is_null) {
        return Err(LoadError::NoRootFs.into());
    }
    let config: ImageConfig = serde_json::from_value(tree).map_err(|error| malformed(error.to_string()))?;
    if !config.os.is_empty() && config.os != "linux" {
        return Err(LoadError::OperatingSystem(config.os).into());
    }
    if platform.is_some_and(|wanted| !is_for(&config, wanted)) {
        return Ok(None);
    }
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != layer_paths.len() {
        let (listed, configured) = (layer_paths.len(), diff_ids.len());
        return Err(LoadError::LayerCount { listed, configured }.into());
    }
    if diff_ids.len() > DEPTH {
        return Err(LoadError::Depth.into());
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (index, (path, expected)) in layer_paths.iter().zip(diff_ids).enumerate() {
        let (layer, actual) = match intake.known(expected)? {
            // What is in the archive under its name must be the same.
            Some(layer) => (layer, intake.diff_id(path).unwrap_or(*expected)),
            None => {
                let unpacked = intake.layer(path)?;
                (unpacked.layer, unpacked.diff_id)
            }
        };
        if actual != *expected {
            return Err(LoadError::DiffId { index, expected: *expected, actual }.into());
        }
        layers.push(layer);
    }
    let id = digest_of(&config_bytes);
    let (names, parent, target) = (Vec::new(), None, None);
    Ok(Some(Sound { id, config_bytes, config, layers, names, parent, target, listed: true }))
}

/// The parents that are here and whose layers are indeed below; others are forgotten, as Docker does.
fn parents(images: &Images, sound: &[Sound]) -> Vec<Option<Digest>> {
    let loaded: BTreeMap<Digest, &[Digest]> =
        sound.iter().map(|image| (image.id, &image.config.rootfs.diff_ids[..])).collect();
    let parent = |image: &Sound| {
        let parent = image.parent.filter(|parent| *parent != image.id)?;
        let below = match loaded.get(&parent) {
            Some(diff_ids) => diff_ids.to_vec(),
            None => images.get(&parent).ok()?.config.rootfs.diff_ids.clone(),
        };
        image.config.rootfs.diff_ids.starts_with(&below).then_some(parent)
    };
    sound.iter().map(parent).collect()
}

/// Records all of them in one transaction, and tells.
fn record(
    images: &Images,
    sound: &[Sound],
    keep: &Keep,
    events: &mut (dyn FnMut(LoadEvent<'_>) + Send),
) -> Result<Vec<Loaded>, ImageError> {
    let mut loaded: Vec<Loaded> = Vec::with_capacity(sound.len());
    let mut given: BTreeMap<String, Digest> = BTreeMap::new();
    for image in sound.iter().filter(|image| image.listed) {
        let mut names = Vec::with_capacity(image.names.len());
        for (name, _) in &image.names {
            let text = name.to_string();
            let had = match given.get(&text) {
                Some(had) => Some(*had),
                None => images.named(name)?,
            };
            names.push((name.clone(), had.filter(|had| *had != image.id)));
            given.insert(text, image.id);
        }
        loaded.push(Loaded { id: image.id, names });
    }
    let mut seen = BTreeSet::new();
    let recorded: Vec<Recorded<'_>> = sound
        .iter()
        .map(|image| Recorded {
            id: image.id,
            image: NewImage {
                config_bytes: &image.config_bytes,
                layers: &image.layers,
                // A second mention of the same image changes nothing.
                parent: image.parent.filter(|_| seen.insert(image.id)),
            },
            config: &image.config,
            names: image.names.iter().map(|(name, target)| (name, *target)).collect(),
            target: image.target,
            listed: image.listed,
        })
        .collect();
    if !recorded.is_empty() {
        images.record(&recorded, keep)?;
        reached(Point::LoadRecorded);
        images.store.images.clear();
    }
    loaded.iter().for_each(|image| events(LoadEvent::Loaded(image)));
    Ok(loaded)
}

impl From<LoadError> for ImageError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// For [`crate::archive::read_entries`], whose errors are the outer archive's.
impl From<ArchiveError> for ImageError {
    fn from(error: ArchiveError) -> Self {
        match &error {
            ArchiveError::Write { .. } => Self::Store(Error::Archive(error)),
            _ => Self::Load(LoadError::Archive(error)),
        }
    }
}
