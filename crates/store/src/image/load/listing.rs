//! Which images an archive has, and of which files: `manifest.json`, or an OCI layout's index.

use std::collections::BTreeMap;

use gantry_model::image::{Descriptor, ImageConfig, Manifest, media_type};
use gantry_model::{Digest, Platform, Reference};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::intake::Intake;
use super::{LoadError, LoadOptions};
use crate::content::digest_of;
use crate::image::ImageError;

/// Indexes within indexes.
const NESTING: usize = 4;
/// What Docker and containerd call an image in an index.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What OCI does; a tag, or a whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks a manifest that is a statement about another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// An image by its files.
pub(super) struct Listed {
    pub(super) config: String,
    pub(super) layers: Vec<String>,
    pub(super) names: Vec<Reference>,
    pub(super) parent: Option<Digest>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
    parent: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
}

/// All images that are to be loaded, in the archive's order.
pub(super) fn read(intake: &Intake<'_>, options: &LoadOptions) -> Result<Vec<Listed>, ImageError> {
    if intake.has("manifest.json") {
        let items: Option<Vec<Item>> = json("manifest.json", intake.file("manifest.json")?)?;
        return items.ok_or(LoadError::NullManifest)?.into_iter().map(listed).collect();
    }
    if intake.has("index.json") {
        return of_layout(intake, options);
    }
    Err(LoadError::NoImages.into())
}

fn listed(item: Item) -> Result<Listed, ImageError> {
    let mut names = Vec::new();
    for text in item.repo_tags.into_iter().flatten() {
        let name = Reference::parse_normalized(&text)?;
        if name.tag().is_none() || name.digest().is_some() {
            return Err(LoadError::NoTag(text).into());
        }
        names.push(name);
    }
    let parent = item.parent.and_then(|parent| parent.parse().ok());
    Ok(Listed { config: item.config, layers: item.layers.unwrap_or_default(), names, parent })
}

fn of_layout(intake: &Intake<'_>, options: &LoadOptions) -> Result<Vec<Listed>, ImageError> {
    let index: Index = json("index.json", intake.file("index.json")?)?;
    // Several names of one image are several entries.
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    let mut order: Vec<Descriptor> = Vec::new();
    for descriptor in index.manifests.into_iter().flatten() {
        let known = names.entry(descriptor.digest).or_default();
        if let Some(name) = name_of(&descriptor.annotations)? {
            known.push(name);
        }
        if !order.iter().any(|other| other.digest == descriptor.digest) {
            order.push(descriptor);
        }
    }
    let mut all = Vec::new();
    for descriptor in order {
        let Some(manifest) = choose(intake, &descriptor, options, 0)? else { continue };
        let names = names.remove(&descriptor.digest).unwrap_or_default();
        all.push(Listed {
            config: place(&manifest.config.digest),
            layers: manifest.layers.iter().map(|layer| place(&layer.digest)).collect(),
            names,
            parent: None,
        });
        verify(intake, &manifest.config.digest)?;
    }
    Ok(all)
}

/// The manifest behind a descriptor; of an index the one for the platform. `None` where nothing fits.
fn choose(
    intake: &Intake<'_>,
    descriptor: &Descriptor,
    options: &LoadOptions,
    depth: usize,
) -> Result<Option<Manifest>, ImageError> {
    if descriptor.annotations.contains_key(REFERENCE_TYPE) {
        return Ok(None);
    }
    let path = place(&descriptor.digest);
    match descriptor.media_type.as_str() {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
            json(&path, verify(intake, &descriptor.digest)?).map(Some)
        }
        media_type::OCI_INDEX | media_type::DOCKER_INDEX if depth < NESTING => {
            let index: Index = json(&path, verify(intake, &descriptor.digest)?)?;
            let children = index.manifests.unwrap_or_default();
            for wanted in wanted(options, &children) {
                // One that is listed and was not saved is as if it were not listed.
                if intake.has(&place(&wanted.digest))
                    && let Some(manifest) = choose(intake, wanted, options, depth + 1)?
                {
                    return Ok(Some(manifest));
                }
            }
            Ok(None)
        }
        other => Err(LoadError::MediaType { path, media_type: other.into() }.into()),
    }
}

/// The entries of an index in the order in which they are tried.
fn wanted<'d>(options: &LoadOptions, children: &'d [Descriptor]) -> Vec<&'d Descriptor> {
    let host = Platform::host();
    let wanted = options.platform.as_ref().unwrap_or(&host);
    let fits = |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| matches(platform, wanted));
    let (mut order, others): (Vec<_>, Vec<_>) = children.iter().partition(fits);
    if options.platform.is_none() {
        order.extend(others);
    }
    order
}

/// A blob whose bytes are those of its name.
fn verify<'i>(intake: &'i Intake<'_>, expected: &Digest) -> Result<&'i [u8], ImageError> {
    let path = place(expected);
    let bytes = intake.file(&path)?;
    let actual = digest_of(bytes);
    if actual != *expected {
        return Err(LoadError::Digest { path, expected: *expected, actual }.into());
    }
    Ok(bytes)
}

fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An image's name in an index: a whole one, or none. A tag by itself names nothing.
fn name_of(annotations: &BTreeMap<String, String>) -> Result<Option<Reference>, ImageError> {
    let text = annotations.get(IMAGE_NAME).or_else(|| {
        annotations.get(REF_NAME).filter(|text| text.contains([':', '/']) && !text.starts_with("sha256:"))
    });
    let name = text.map(|text| Reference::parse_normalized(text)).transpose()?;
    Ok(name.filter(|name| name.digest().is_none()).map(Reference::or_latest))
}

fn matches(platform: &Platform, wanted: &Platform) -> bool {
    platform.os == wanted.os
        && platform.architecture == wanted.architecture
        && (wanted.variant.is_empty() || platform.variant == wanted.variant)
}

/// Whether an image is for a platform.
pub(in crate::image) fn is_for(config: &ImageConfig, wanted: &Platform) -> bool {
    let (os, architecture) = (config.os.clone(), config.architecture.clone());
    matches(&Platform { os, architecture, variant: config.variant.clone() }, wanted)
}

fn json<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = if bytes.trim_ascii().is_empty() {
            LoadError::Empty
        } else if error.is_eof() {
            LoadError::Truncated
        } else {
            LoadError::Malformed { path: path.into(), reason: error.to_string() }
        };
        error.into()
    })
}
