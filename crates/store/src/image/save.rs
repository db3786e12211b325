//! `docker save`: images as an archive, in the form that Docker has written since version 25: an OCI layout,
//! with `manifest.json` and `repositories` beside it for those who know no other.
//!
//! ```text
//! blobs/sha256/<hex>   configurations, manifests, layers as plain tars; by name
//! index.json           OCI's index, an entry for each name
//! manifest.json        Docker's list; what every Docker since 1.10 reads
//! oci-layout
//! repositories         names, for Docker before 1.10
//! ```
//! What an image came with, a manifest or an index, is written as it came, with everything of it that is here; of an
//! index `manifest.json` lists the image that its names mean. For an image that was made here a manifest is made.
//! What Docker adds to it for versions before 1.10, a description of each layer that only they read, is left out.
//! Times are those of the images, so equal images are equal archives.
//!
//! Everything but the layers' bytes is known before the first byte is written: their digests and sizes are recorded.
//! So nothing is copied aside, and a name that does not exist is an error before the archive begins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use gantry_model::image::{Descriptor, Manifest, media_type};
use gantry_model::{Digest, ErrorKind, LayerId, Platform, Reference};
use serde::Serialize;

use super::load::is_for;
use super::target::{self, Found, Place};
use super::{Image, ImageError, Images, created, resolve};
use crate::archive::member_header;
use crate::content::{self, Hasher, digest_of};
use crate::layer::Layers;
use crate::store::Inner;
use crate::{Error, Lease, Leases};

/// What is saved.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// The platform that the images must be for, of an index that one alone; `None` is any, and all of an index.
    pub platform: Option<Platform>,
}

/// Says why images cannot be saved. `Display` gives Docker's texts.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A name with a tag that is not here.
    #[error("reference does not exist")]
    NoSuchReference,
    /// An image is for another platform.
    #[error("no suitable export target found for platform {0}")]
    Platform(Platform),
    /// Files of the data root that an image is made of are gone, or cannot be read.
    #[error("cannot read {what} (gantryd fsck lists all that is damaged)")]
    Unreadable {
        /// A layer by its DiffID, or a blob, and the image that it is of.
        what: String,
        /// Why.
        source: Error,
    },
}

impl SaveError {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchReference => ErrorKind::NotFound,
            Self::Platform(_) | Self::Unreadable { .. } => ErrorKind::Internal,
        }
    }
}

/// Images that are about to be written; they stay here as long as this does.
pub struct Saved {
    store: Arc<Inner>,
    images: Vec<Arc<Image>>,
    members: BTreeMap<String, Member>,
    _lease: Lease,
}

/// One file of the archive.
struct Member {
    /// The image that it came in for; `None` of what describes all of them.
    image: Option<Digest>,
    mtime_secs: i64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Blob { digest: Digest, size_bytes: u64 },
    Layer { id: LayerId, diff_id: Digest, size_bytes: u64 },
}

/// One image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
    layer_sources: BTreeMap<Digest, LayerSource>,
}

/// A descriptor with its fields in the order in which Docker writes them here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerSource {
    media_type: String,
    size: u64,
    digest: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Option<Vec<Descriptor>>,
}

/// An image and the names that it is saved under, each with the manifest or index that it points to.
struct Chosen {
    image: Arc<Image>,
    names: Vec<(Reference, Option<Digest>)>,
    /// Without names: what the image came with.
    target: Option<Digest>,
}

/// What `manifest.json` says of an image's layers.
struct LayerFiles {
    paths: Vec<String>,
    sources: BTreeMap<Digest, LayerSource>,
}

pub(super) fn plan(images: &Images, names: &[String], options: &SaveOptions) -> Result<Saved, ImageError> {
    let store = &images.store;
    let lease = Leases { store: store.clone() }.temporary("save")?;
    let chosen = choose(images, names, options, &lease)?;
    let mut plan = Plan { store: store.clone(), members: BTreeMap::new() };
    let (mut items, mut descriptors) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let ids: BTreeSet<Digest> = chosen.iter().map(|one| one.image.id).collect();
    for Chosen { image, names, target } in &chosen {
        let mut listed = None;
        for (name, target) in names {
            let (described, files) = plan.image(image, target.as_ref(), &lease)?;
            let named = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), name.to_string()),
                ("org.opencontainers.image.ref.name".to_owned(), name.tag().unwrap_or_default().to_owned()),
            ]);
            descriptors.push(Descriptor { annotations: named, ..described });
            if let Some(top) = image.config.rootfs.diff_ids.last() {
                let tags = repositories.entry(name.familiar_name()).or_default();
                tags.insert(name.tag().unwrap_or_default().to_owned(), top.hex());
            }
            listed.get_or_insert(files);
        }
        let files = match listed {
            Some(files) => files,
            None => {
                let (described, files) = plan.image(image, target.as_ref(), &lease)?;
                descriptors.push(described);
                files
            }
        };
        let tags = names.iter().map(|(name, _)| name.familiar()).collect();
        items.push(Item {
            config: place(&image.id),
            repo_tags: (!names.is_empty()).then_some(tags),
            layers: files.paths,
            parent: image.parent.filter(|parent| ids.contains(parent)),
            layer_sources: files.sources,
        });
    }
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests: (!descriptors.is_empty()).then_some(descriptors),
    };
    plan.bytes("index.json", json(&index), 0);
    plan.bytes("manifest.json", line(&items), 0);
    plan.bytes("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec(), 0);
    if !repositories.is_empty() {
        plan.bytes("repositories", line(&repositories), 0);
    }
    let Plan { store, members } = plan;
    members.values().try_for_each(|member| member.check(&store))?;
    Ok(Saved { store, images: chosen.into_iter().map(|one| one.image).collect(), members, _lease: lease })
}

/// The images that are meant, each once, in the order of the names; each held by the lease.
fn choose(
    images: &Images,
    names: &[String],
    options: &SaveOptions,
    lease: &Lease,
) -> Result<Vec<Chosen>, ImageError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut add = |text: &str, name: Option<Reference>| -> Result<(), ImageError> {
        let image = images.resolve_held(text, lease)?;
        let target = images.store.database.read(|t| resolve::target(t, text, &image.id))?;
        let (image, target) = match &options.platform {
            Some(wanted) => for_platform(images, image, target, wanted, lease)?,
            None => (image, target),
        };
        let at = chosen.iter().position(|one| one.image.id == image.id).unwrap_or_else(|| {
            chosen.push(Chosen { image, names: Vec::new(), target });
            chosen.len() - 1
        });
        let known = &mut chosen[at].names;
        let name =
            name.filter(|name| name.digest().is_none() && known.iter().all(|(other, _)| other != name));
        known.extend(name.map(|name| (name, target)));
        Ok(())
    };
    for text in names {
        let reference = Reference::parse_normalized(text).ok();
        let is_name = reference.as_ref().filter(|name| name.familiar_name() != "sha256");
        match is_name {
            Some(name) if name.tag().is_some() || name.digest().is_some() => {
                if images.named(name)?.is_none() {
                    return Err(SaveError::NoSuchReference.into());
                }
                add(text, Some(name.clone()))?;
            }
            Some(name) => {
                let tags = images.tags_of(name)?;
                for tag in &tags {
                    add(&tag.to_string(), Some(tag.clone()))?;
                }
                if tags.is_empty() {
                    // It may be the beginning of an id; if not, Docker names what was typed.
                    add(text, None).map_err(|error| match error {
                        ImageError::NoSuchImage(_) => ImageError::NoSuchImage(text.clone()),
                        error => error,
                    })?;
                }
            }
            None => add(text, None)?,
        }
    }
    Ok(chosen)
}

/// The image for a platform and its manifest, of what was found.
fn for_platform(
    images: &Images,
    image: Arc<Image>,
    target: Option<Digest>,
    wanted: &Platform,
    lease: &Lease,
) -> Result<(Arc<Image>, Option<Digest>), ImageError> {
    let found = match &target {
        Some(target) => images.store.database.read(|transaction| target::all(transaction, target))?,
        None => Vec::new(),
    };
    let mut serving = Vec::new();
    for manifest in found.iter().filter(|one| !one.is_index()) {
        let Some(id) = manifest.image else { continue };
        let own = images.get(&id)?;
        if is_for(&own.config, wanted) {
            serving.push((own.config.platform().distance_from_usual(), id, manifest.digest));
        }
    }
    if let Some((_, id, digest)) = serving.into_iter().min_by_key(|(distance, ..)| *distance) {
        return Ok((images.resolve_held(&id.to_string(), lease)?, Some(digest)));
    }
    if found.is_empty() && is_for(&image.config, wanted) {
        return Ok((image, None));
    }
    Err(SaveError::Platform(wanted.clone()).into())
}

impl Member {
    /// Whether its bytes are there to be read.
    fn check(&self, store: &Arc<Inner>) -> Result<(), ImageError> {
        let store = store.clone();
        let opened = match &self.content {
            Content::Bytes(_) => return Ok(()),
            Content::Blob { digest, .. } => content::Content { store }.open(digest).map(drop),
            Content::Layer { id, .. } => Layers { store }.check(*id),
        };
        opened.map_err(|source| self.unreadable(source).into())
    }

    /// What a failed write is told as: the receiver's fault, or what could not be read.
    fn failed(&self, error: Error) -> ImageError {
        match error {
            Error::Output(_) => error.into(),
            error => self.unreadable(error).into(),
        }
    }

    /// An error with the names of what it is about.
    fn unreadable(&self, source: Error) -> SaveError {
        let what = match &self.content {
            Content::Layer { diff_id, .. } => format!("layer {diff_id}"),
            Content::Blob { digest, .. } => format!("content {digest}"),
            Content::Bytes(_) => "a description".to_owned(),
        };
        let of = self.image.map_or(String::new(), |image| format!(" of image {image}"));
        SaveError::Unreadable { what: what + &of, source }
    }
}

struct Plan {
    store: Arc<Inner>,
    members: BTreeMap<String, Member>,
}

impl Plan {
    fn bytes(&mut self, path: &str, bytes: Vec<u8>, mtime_secs: i64) {
        self.members.insert(path.into(), Member { image: None, mtime_secs, content: Content::Bytes(bytes) });
    }

    /// Adds an image's files, with those of what it came with; the descriptor for the archive's index, and where the
    /// image's layers are.
    fn image(
        &mut self,
        image: &Image,
        target: Option<&Digest>,
        lease: &Lease,
    ) -> Result<(Descriptor, LayerFiles), ImageError> {
        let mtime_secs = created(&image.config).unwrap_or_default().secs();
        let found = match target {
            Some(target) => target::held(&self.store, target, lease)?,
            None => Vec::new(),
        };
        let Some(root) = found.first() else { return self.made(image, mtime_secs) };
        let described = descriptor(&root.media_type, root.digest, root.size_bytes);
        let mut files = None;
        for one in &found {
            // Of an index, the image that the name means stands for those that have none.
            let described_of = one.image.or(Some(image.id));
            let content = Content::Blob { digest: one.digest, size_bytes: one.size_bytes };
            self.members.entry(place(&one.digest)).or_insert(Member {
                image: described_of,
                mtime_secs: 0,
                content,
            });
            for (digest, at, size_bytes) in &one.content {
                let (digest, size_bytes) = (*digest, *size_bytes);
                let content = match at {
                    Place::Blob => Content::Blob { digest, size_bytes },
                    Place::Layer(id) => Content::Layer { id: *id, diff_id: digest, size_bytes },
                };
                self.members.entry(place(&digest)).or_insert(Member {
                    image: described_of,
                    mtime_secs,
                    content,
                });
            }
            if one.image == Some(image.id) && !one.is_index() && files.is_none() {
                files = self.files(image, one)?;
            }
        }
        match files {
            Some(files) => Ok((described, files)),
            // Its own manifest is not whole here: what it came with goes out beside one that is.
            None => Ok((described, self.made(image, mtime_secs)?.1)),
        }
    }

    /// Where the layers of a manifest are that is kept; `None` where not all of them are.
    fn files(&self, image: &Image, manifest: &Found) -> Result<Option<LayerFiles>, ImageError> {
        let content = content::Content { store: self.store.clone() };
        let bytes = content.read(&manifest.digest, target::MANIFEST_LIMIT_BYTES)?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
        let diff_ids = &image.config.rootfs.diff_ids;
        let paths: Vec<String> = manifest.layers.iter().map(|layer| place(&layer.digest)).collect();
        if paths.len() != diff_ids.len() || !paths.iter().all(|path| self.members.contains_key(path)) {
            return Ok(None);
        }
        let sources = diff_ids.iter().zip(&manifest.layers);
        let sources = sources.map(|(diff_id, layer)| (*diff_id, source(layer))).collect();
        Ok(Some(LayerFiles { paths, sources }))
    }

    /// Adds the files of an image that has no manifest, and makes one.
    fn made(&mut self, image: &Image, mtime_secs: i64) -> Result<(Descriptor, LayerFiles), ImageError> {
        let mut layers = Vec::with_capacity(image.layers.len());
        let tars = Layers { store: self.store.clone() };
        for (id, diff_id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let content = |size_bytes| Content::Layer { id: *id, diff_id: *diff_id, size_bytes };
            let member =
                |size_bytes| Member { image: Some(image.id), mtime_secs, content: content(size_bytes) };
            // Where it is not known yet all of the layer is read.
            let size_bytes =
                tars.tar_size_bytes(*id).map_err(|source| ImageError::from(member(0).unreadable(source)))?;
            self.members.entry(place(diff_id)).or_insert(member(size_bytes));
            layers.push(descriptor(media_type::OCI_LAYER, *diff_id, size_bytes));
        }
        let sources = layers.iter().map(|layer| (layer.digest, source(layer))).collect();
        let paths = layers.iter().map(|layer| place(&layer.digest)).collect();
        let config = descriptor(media_type::OCI_CONFIG, image.id, image.config_bytes.len() as u64);
        self.bytes(&place(&image.id), image.config_bytes.clone(), mtime_secs);
        let manifest =
            Manifest { schema_version: 2, media_type: media_type::OCI_MANIFEST.into(), config, layers };
        let bytes = json(&manifest);
        let described = descriptor(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
        self.bytes(&place(&described.digest), bytes, 0);
        Ok((described, LayerFiles { paths, sources }))
    }
}

fn source(layer: &Descriptor) -> LayerSource {
    LayerSource { media_type: layer.media_type.clone(), size: layer.size, digest: layer.digest }
}

impl Saved {
    /// The images in it.
    #[must_use]
    pub fn images(&self) -> &[Arc<Image>] {
        &self.images
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// [`Error::Output`]; [`SaveError::Unreadable`] where a layer is no longer what it was. What was written must not
    /// be taken for whole then.
    pub fn write(&self, output: impl Write) -> Result<(), ImageError> {
        let mut output = io::BufWriter::with_capacity(256 << 10, output);
        let created = self.images.iter().filter_map(|image| created(&image.config)).max();
        let mtime_secs = created.unwrap_or_default().secs();
        if self.members.keys().any(|path| path.starts_with("blobs/")) {
            for directory in ["blobs/", "blobs/sha256/"] {
                output.write_all(&member_header(directory, 0, mtime_secs)).map_err(Error::Output)?;
            }
        }
        for (path, member) in &self.members {
            let size_bytes = match &member.content {
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::Blob { size_bytes, .. } | Content::Layer { size_bytes, .. } => *size_bytes,
            };
            output.write_all(&member_header(path, size_bytes, member.mtime_secs)).map_err(Error::Output)?;
            match &member.content {
                Content::Bytes(bytes) => output.write_all(bytes).map_err(Error::Output)?,
                Content::Blob { digest, .. } => checked(digest, size_bytes, &mut output, |output| {
                    let content = content::Content { store: self.store.clone() };
                    let mut file = io::BufReader::with_capacity(256 << 10, content.open(digest)?);
                    io::copy(&mut file, output).map(drop).map_err(Error::Output)
                })
                .map_err(|error| member.failed(error))?,
                Content::Layer { id, diff_id, .. } => checked(diff_id, size_bytes, &mut output, |output| {
                    Layers { store: self.store.clone() }.write_tar(*id, output)
                })
                .map_err(|error| member.failed(error))?,
            }
            let padding = usize::try_from(size_bytes.wrapping_neg() % 512).expect("less than a block");
            output.write_all(&[0; 512][..padding]).map_err(Error::Output)?;
        }
        output.write_all(&[0; 1024]).map_err(Error::Output)?;
        Ok(output.flush().map_err(Error::Output)?)
    }
}

/// Writes bytes that must be those of a digest, and so many.
fn checked<W: Write>(
    expected: &Digest,
    size_bytes: u64,
    output: W,
    write: impl FnOnce(&mut Hashed<W>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut hashed = Hashed { hasher: Hasher::new(), output };
    write(&mut hashed)?;
    let (written, actual) = (hashed.hasher.size_bytes(), hashed.hasher.finish());
    if actual != *expected || written != size_bytes {
        return Err(Error::DigestMismatch { expected: *expected, actual });
    }
    Ok(())
}

struct Hashed<W> {
    hasher: Hasher,
    output: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps have string keys, and numbers are finite")
}

/// As Docker writes the two lists that are its own.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = json(value);
    bytes.push(b'\n');
    bytes
}
