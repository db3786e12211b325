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
//! What Docker adds to it for versions before 1.10, a description of each layer that only they read, is left out.
//! Times are those of the images, so equal images are equal archives.
//!
//! Everything but the layers' bytes is known before the first byte is written: their digests are their DiffIDs,
//! their sizes are recorded. So nothing is copied aside, and a name that does not exist is an error before the
//! archive begins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use gantry_model::image::{Descriptor, Manifest, media_type};
use gantry_model::{Digest, ErrorKind, LayerId, Platform, Reference};
use serde::Serialize;

use super::load::is_for;
use super::{Image, ImageError, Images, created};
use crate::archive::member_header;
use crate::content::{Hasher, digest_of};
use crate::layer::Layers;
use crate::{Error, Lease, Leases};

/// What is saved.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// The platform that the images must be for; `None` is any.
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
}

impl SaveError {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchReference => ErrorKind::NotFound,
            Self::Platform(_) => ErrorKind::Internal,
        }
    }
}

/// Images that are about to be written; they stay here as long as this does.
pub struct Saved {
    layers: Layers,
    images: Vec<Arc<Image>>,
    members: BTreeMap<String, Member>,
    _lease: Lease,
}

/// One file of the archive.
struct Member {
    mtime_secs: i64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
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
    media_type: &'static str,
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

/// An image and the names that it is saved under.
struct Chosen {
    image: Arc<Image>,
    names: Vec<Reference>,
}

pub(super) fn plan(images: &Images, names: &[String], options: &SaveOptions) -> Result<Saved, ImageError> {
    let store = &images.store;
    let lease = Leases { store: store.clone() }.temporary("save")?;
    let chosen = choose(images, names, &lease)?;
    if let Some(wanted) = &options.platform
        && chosen.iter().any(|one| !is_for(&one.image.config, wanted))
    {
        return Err(SaveError::Platform(wanted.clone()).into());
    }
    let mut plan = Plan { layers: Layers { store: store.clone() }, members: BTreeMap::new() };
    let (mut items, mut descriptors) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let ids: BTreeSet<Digest> = chosen.iter().map(|one| one.image.id).collect();
    for Chosen { image, names } in &chosen {
        let (manifest, sources) = plan.image(image)?;
        for name in names {
            let named = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), name.to_string()),
                ("org.opencontainers.image.ref.name".to_owned(), name.tag().unwrap_or_default().to_owned()),
            ]);
            descriptors.push(Descriptor { annotations: named, ..manifest.clone() });
            if let Some(top) = image.config.rootfs.diff_ids.last() {
                let tags = repositories.entry(name.familiar_name()).or_default();
                tags.insert(name.tag().unwrap_or_default().to_owned(), top.hex());
            }
        }
        if names.is_empty() {
            descriptors.push(manifest);
        }
        items.push(Item {
            config: place(&image.id),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
            layers: image.config.rootfs.diff_ids.iter().map(place).collect(),
            parent: image.parent.filter(|parent| ids.contains(parent)),
            layer_sources: sources,
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
    let Plan { layers, members } = plan;
    Ok(Saved { layers, images: chosen.into_iter().map(|one| one.image).collect(), members, _lease: lease })
}

/// The images that are meant, each once, in the order of the names; each held by the lease.
fn choose(images: &Images, names: &[String], lease: &Lease) -> Result<Vec<Chosen>, ImageError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut add = |image: Arc<Image>, name: Option<Reference>| {
        let at = chosen.iter().position(|one| one.image.id == image.id).unwrap_or_else(|| {
            chosen.push(Chosen { image, names: Vec::new() });
            chosen.len() - 1
        });
        let known = &mut chosen[at].names;
        known.extend(name.filter(|name| name.digest().is_none() && !known.contains(name)));
    };
    for text in names {
        let reference = Reference::parse_normalized(text).ok();
        let is_name = reference.as_ref().filter(|name| name.familiar_name() != "sha256");
        match is_name {
            Some(name) if name.tag().is_some() || name.digest().is_some() => {
                if images.named(name)?.is_none() {
                    return Err(SaveError::NoSuchReference.into());
                }
                add(images.resolve_held(text, lease)?, Some(name.clone()));
            }
            Some(name) => {
                let tags = images.tags_of(name)?;
                for tag in &tags {
                    add(images.resolve_held(&tag.to_string(), lease)?, Some(tag.clone()));
                }
                if tags.is_empty() {
                    // It may be the beginning of an id; if not, Docker names what was typed.
                    let found = images.resolve_held(text, lease).map_err(|error| match error {
                        ImageError::NoSuchImage(_) => ImageError::NoSuchImage(text.clone()),
                        error => error,
                    })?;
                    add(found, None);
                }
            }
            None => add(images.resolve_held(text, lease)?, None),
        }
    }
    Ok(chosen)
}

struct Plan {
    layers: Layers,
    members: BTreeMap<String, Member>,
}

impl Plan {
    fn bytes(&mut self, path: &str, bytes: Vec<u8>, mtime_secs: i64) {
        self.members.insert(path.into(), Member { mtime_secs, content: Content::Bytes(bytes) });
    }

    /// Adds an image's files; its manifest's descriptor, and its layers' by DiffID.
    fn image(&mut self, image: &Image) -> Result<(Descriptor, BTreeMap<Digest, LayerSource>), ImageError> {
        let mtime_secs = created(&image.config).unwrap_or_default().secs();
        let mut layers = Vec::with_capacity(image.layers.len());
        for (id, diff_id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let size_bytes = self.layers.tar_size_bytes(*id)?;
            let content = Content::Layer { id: *id, diff_id: *diff_id, size_bytes };
            self.members.entry(place(diff_id)).or_insert(Member { mtime_secs, content });
            layers.push(descriptor(media_type::OCI_LAYER, *diff_id, size_bytes));
        }
        let source = |layer: &Descriptor| LayerSource {
            media_type: media_type::OCI_LAYER,
            size: layer.size,
            digest: layer.digest,
        };
        let sources = layers.iter().map(|layer| (layer.digest, source(layer))).collect();
        let config = descriptor(media_type::OCI_CONFIG, image.id, image.config_bytes.len() as u64);
        self.bytes(&place(&image.id), image.config_bytes.clone(), mtime_secs);
        let manifest =
            Manifest { schema_version: 2, media_type: media_type::OCI_MANIFEST.into(), config, layers };
        let bytes = json(&manifest);
        let described = descriptor(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
        self.bytes(&place(&described.digest), bytes, 0);
        Ok((described, sources))
    }
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
    /// [`Error::Output`]; [`Error::DigestMismatch`] where a layer is no longer what it was, after which what was
    /// written must not be taken for whole.
    pub fn write(&self, output: impl Write) -> Result<(), Error> {
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
                Content::Layer { size_bytes, .. } => *size_bytes,
            };
            output.write_all(&member_header(path, size_bytes, member.mtime_secs)).map_err(Error::Output)?;
            match &member.content {
                Content::Bytes(bytes) => output.write_all(bytes).map_err(Error::Output)?,
                Content::Layer { id, diff_id, .. } => {
                    let mut hashed = Hashed { hasher: Hasher::new(), output: &mut output };
                    self.layers.write_tar(*id, &mut hashed)?;
                    let (written, actual) = (hashed.hasher.size_bytes(), hashed.hasher.finish());
                    if actual != *diff_id || written != size_bytes {
                        return Err(Error::DigestMismatch { expected: *diff_id, actual });
                    }
                }
            }
            let padding = usize::try_from(size_bytes.wrapping_neg() % 512).expect("less than a block");
            output.write_all(&[0; 512][..padding]).map_err(Error::Output)?;
        }
        output.write_all(&[0; 1024]).map_err(Error::Output)?;
        output.flush().map_err(Error::Output)
    }
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
