//! What an archive has of a manifest or an index: the bytes, checked, down to the last manifest that is in it.
//!
//! A manifest that is listed and is not in the archive stays listed, since an index is kept as it came. Digests are
//! checked on the way down, so there are no rings; everything else has a limit.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use gantry_model::Digest;
use gantry_model::image::{Descriptor, Manifest, media_type};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::intake::Intake;
use super::listing::{REFERENCE_TYPE, json, place, verify};
use super::{DEPTH, LoadError};
use crate::image::ImageError;
use crate::image::target::{MANIFEST_LIMIT_BYTES, is_index, is_manifest};

/// Indexes within an index of `index.json`, one in the other.
const NESTING: usize = 4;
/// Manifests and indexes that are kept of one archive.
pub(super) const MANIFESTS: usize = 1000;

/// What is below a descriptor.
pub(super) struct Tree {
    pub(super) root: Descriptor,
    nodes: BTreeMap<Digest, Node>,
    /// Those that are listed before those that list them.
    order: Vec<Digest>,
}

/// A manifest or an index.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Kind,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// Of manifests: those that are in the archive.
    Index(Vec<Descriptor>),
    /// Of something that runs.
    Image(Manifest),
    /// Of something else, such as a statement about another one.
    Other(Manifest),
}

/// What says of itself what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Option<Vec<Descriptor>>,
}

impl Tree {
    /// Reads what is below a descriptor; `room` is how many manifests may still come.
    pub(super) fn read(intake: &Intake<'_>, root: Descriptor, room: &mut usize) -> Result<Self, ImageError> {
        let mut tree = Self { root: root.clone(), nodes: BTreeMap::new(), order: Vec::new() };
        tree.add(intake, &root, 0, room)?;
        Ok(tree)
    }

    /// One manifest of it by itself.
    pub(super) fn only(&self, manifest: &Digest) -> Option<Self> {
        let node = self.nodes.get(manifest)?.clone();
        let root = Descriptor {
            media_type: node.media_type.clone(),
            digest: *manifest,
            size: node.bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        Some(Self { root, nodes: BTreeMap::from([(*manifest, node)]), order: vec![*manifest] })
    }

    fn add(
        &mut self,
        intake: &Intake<'_>,
        listed: &Descriptor,
        depth: usize,
        room: &mut usize,
    ) -> Result<(), ImageError> {
        if self.nodes.contains_key(&listed.digest) {
            return Ok(());
        }
        let path = place(&listed.digest);
        let kind = listed.media_type.as_str();
        if !is_index(kind) && !is_manifest(kind) {
            return Err(LoadError::MediaType { path, media_type: kind.into() }.into());
        }
        if is_index(kind) && depth > NESTING {
            return Err(LoadError::Nested(NESTING).into());
        }
        *room = room.checked_sub(1).ok_or(LoadError::TooManyManifests(MANIFESTS))?;
        let bytes = checked(intake, listed, &path)?;
        let kind = if is_index(kind) {
            let index: Index = json(&path, &bytes)?;
            let mut children = index.manifests.unwrap_or_default();
            let mut seen = HashSet::new();
            children.retain(|child| {
                intake.has(&place(&child.digest)) && seen.insert((child.digest, child.platform.clone()))
            });
            for child in &children {
                self.add(intake, child, depth + 1, room)?;
            }
            Kind::Index(children)
        } else {
            let manifest: Manifest = json(&path, &bytes)?;
            if manifest.layers.len() > DEPTH {
                return Err(LoadError::Depth.into());
            }
            let other = listed.annotations.contains_key(REFERENCE_TYPE);
            if !other && runs(&manifest) { Kind::Image(manifest) } else { Kind::Other(manifest) }
        };
        self.nodes.insert(listed.digest, Node { media_type: listed.media_type.clone(), bytes, kind });
        self.order.push(listed.digest);
        Ok(())
    }

    /// All of it, those that are listed before those that list them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Digest, &Node)> {
        self.order.iter().filter_map(|digest| self.nodes.get(digest).map(|node| (digest, node)))
    }

    /// The manifests of images in it.
    pub(super) fn images(&self) -> impl Iterator<Item = (&Digest, &Manifest)> {
        self.nodes().filter_map(|(digest, node)| match &node.kind {
            Kind::Image(manifest) => Some((digest, manifest)),
            _ => None,
        })
    }

    /// The first image when what an index lists is tried in this order. Nothing is tried twice.
    pub(super) fn pick<'t>(
        &'t self,
        order: &dyn Fn(&'t [Descriptor]) -> Vec<&'t Descriptor>,
    ) -> Option<(Digest, &'t Manifest)> {
        let mut tried = BTreeSet::new();
        // The next one is the last.
        let mut next = vec![self.root.digest];
        while let Some(digest) = next.pop() {
            if !tried.insert(digest) {
                continue;
            }
            match self.nodes.get(&digest).map(|node| &node.kind) {
                Some(Kind::Image(manifest)) => return Some((digest, manifest)),
                Some(Kind::Index(children)) => {
                    next.extend(order(children).into_iter().rev().map(|child| child.digest));
                }
                Some(Kind::Other(_)) | None => {}
            }
        }
        None
    }
}

/// Whether a manifest is an image's, and not of something that is merely kept in the same form.
fn runs(manifest: &Manifest) -> bool {
    let config =
        matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
    let is_layer = |layer: &Descriptor| {
        layer.media_type.starts_with("application/vnd.oci.image.layer.")
            || layer.media_type.starts_with("application/vnd.docker.image.rootfs.")
    };
    config && manifest.layers.iter().all(is_layer)
}

/// The bytes of a manifest or index, when they are what is announced.
fn checked(intake: &Intake<'_>, listed: &Descriptor, path: &str) -> Result<Vec<u8>, ImageError> {
    let bytes = verify(intake, &listed.digest)?;
    let path = path.to_owned();
    let size_bytes = bytes.len() as u64;
    if size_bytes != listed.size {
        let (expected_bytes, actual_bytes) = (listed.size, size_bytes);
        return Err(LoadError::Size { path, expected_bytes, actual_bytes }.into());
    }
    if size_bytes > MANIFEST_LIMIT_BYTES {
        return Err(LoadError::TooLarge { path, size_bytes, limit_bytes: MANIFEST_LIMIT_BYTES }.into());
    }
    let outline: Outline = json(&path, bytes)?;
    let both = outline.manifests.is_some() && outline.layers.is_some();
    let says = outline.media_type.filter(|says| !says.is_empty() && *says != listed.media_type);
    let reason = match says {
        Some(says) => format!("it is listed as {}, and says that it is {says}", listed.media_type),
        None if both => "it lists manifests and layers".into(),
        None => return Ok(bytes.to_vec()),
    };
    Err(LoadError::Malformed { path, reason }.into())
}
