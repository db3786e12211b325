//! Which images an archive has, of which files, and what they come with: `manifest.json`, an OCI layout's index, or
//! both.

use std::collections::BTreeMap;

use gantry_model::image::{Descriptor, ImageConfig, Manifest};
use gantry_model::{Digest, Platform, Reference};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::intake::Intake;
use super::tree::{Index, MANIFESTS, Tree};
use super::{LoadError, LoadOptions};
use crate::content::digest_of;
use crate::image::ImageError;
use crate::image::target::{is_index, is_manifest};

/// What Docker and containerd call an image in an index.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What OCI does; a tag, or a whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks a manifest that is a statement about another one.
pub(super) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// What is to be loaded.
#[derive(Default)]
pub(super) struct Listing {
    /// In the archive's order.
    pub(super) images: Vec<Listed>,
    /// What they come with.
    pub(super) trees: Vec<Tree>,
}

/// An image by its files.
pub(super) struct Listed {
    pub(super) config: String,
    pub(super) layers: Vec<String>,
    /// Each with the place of its tree.
    pub(super) names: Vec<(Reference, Option<usize>)>,
    pub(super) parent: Option<Digest>,
    /// The place of its tree.
    pub(super) tree: Option<usize>,
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

/// An entry of a layout's `index.json`.
struct Entry {
    tree: Tree,
    names: Vec<Reference>,
}

/// All images that are to be loaded, in the archive's order.
pub(super) fn read(intake: &Intake<'_>, options: &LoadOptions) -> Result<Listing, ImageError> {
    if intake.has("manifest.json") {
        let items: Option<Vec<Item>> = json("manifest.json", intake.file("manifest.json")?)?;
        let items = items.ok_or(LoadError::NullManifest)?;
        // Who writes both means the same images: what they come with is told by the index alone.
        let entries = if intake.has("index.json") { entries(intake, Beside::List)? } else { Vec::new() };
        return of_list(intake, items, entries, options);
    }
    if intake.has("index.json") {
        return of_layout(entries(intake, Beside::Nothing)?, intake, options);
    }
    Err(LoadError::NoImages.into())
}

/// The images of `manifest.json`, with the entries of `index.json` that have them.
fn of_list(
    intake: &Intake<'_>,
    items: Vec<Item>,
    entries: Vec<Entry>,
    options: &LoadOptions,
) -> Result<Listing, ImageError> {
    let mut listing = Listing::default();
    let mut images = Vec::with_capacity(items.len());
    for item in items {
        let mut image = listed(item)?;
        let Ok(config) = intake.file(&image.config) else {
            images.push((image, Vec::new()));
            continue;
        };
        let id = digest_of(config);
        let has = |entry: &Entry| entry.tree.images().any(|(_, manifest)| manifest.config.digest == id);
        let mut found: Vec<usize> = (0..entries.len()).filter(|at| has(&entries[*at])).collect();
        if let (Some(_), [first, ..]) = (&options.platform, &found[..]) {
            // The archive may have another platform of it.
            let tree = &entries[*first].tree;
            found.clear();
            if let Some((only, files)) = of_platform(tree, options) {
                let at = listing.trees.len();
                listing.trees.push(only);
                (image.config, image.layers) = (files.config, files.layers);
                image.tree = Some(at);
                image.names.iter_mut().for_each(|(_, tree)| *tree = Some(at));
            }
        }
        images.push((image, found));
    }
    if options.platform.is_none() {
        let names: Vec<Vec<Reference>> = entries.iter().map(|entry| entry.names.clone()).collect();
        listing.trees.extend(entries.into_iter().map(|entry| entry.tree));
        for (image, found) in &mut images {
            let by_name = |name: &Reference| found.iter().copied().find(|at| names[*at].contains(name));
            for (name, tree) in &mut image.names {
                *tree = by_name(name).or(found.first().copied());
            }
            let of_name = image.names.first().and_then(|(_, tree)| *tree);
            image.tree = of_name.or(found.first().copied());
        }
    }
    listing.images = images.into_iter().map(|(image, _)| image).collect();
    Ok(listing)
}

fn listed(item: Item) -> Result<Listed, ImageError> {
    let mut names = Vec::new();
    for text in item.repo_tags.into_iter().flatten() {
        let name = Reference::parse_normalized(&text)?;
        if name.tag().is_none() || name.digest().is_some() {
            return Err(LoadError::NoTag(text).into());
        }
        names.push((name, None));
    }
    let parent = item.parent.and_then(|parent| parent.parse().ok());
    let layers = item.layers.unwrap_or_default();
    Ok(Listed { config: item.config, layers, names, parent, tree: None })
}

/// Whether `index.json` alone says what an archive has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// `manifest.json`: entries that Docker does not know are no matter.
    List,
}

/// The entries of `index.json`, those of one target together.
fn entries(intake: &Intake<'_>, beside: Beside) -> Result<Vec<Entry>, ImageError> {
    let index: Index = json("index.json", intake.file("index.json")?)?;
    let mut room = MANIFESTS;
    let mut entries: Vec<Entry> = Vec::new();
    let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
    for descriptor in index.manifests.into_iter().flatten() {
        let name = name_of(&descriptor.annotations);
        let name = if beside == Beside::List { name.unwrap_or_default() } else { name? };
        let at = match known.get(&descriptor.digest) {
            Some(at) => *at,
            None => {
                let kind = descriptor.media_type.as_str();
                let here = intake.has(&place(&descriptor.digest)) && (is_index(kind) || is_manifest(kind));
                if (beside == Beside::List && !here) || descriptor.annotations.contains_key(REFERENCE_TYPE) {
                    continue;
                }
                known.insert(descriptor.digest, entries.len());
                let tree = Tree::read(intake, descriptor, &mut room)?;
                entries.push(Entry { tree, names: Vec::new() });
                entries.len() - 1
            }
        };
        entries[at].names.extend(name);
    }
    Ok(entries)
}

fn of_layout(entries: Vec<Entry>, intake: &Intake<'_>, options: &LoadOptions) -> Result<Listing, ImageError> {
    let mut listing = Listing::default();
    for Entry { tree, names } in entries {
        let at = listing.trees.len();
        let order = |children| wanted(options, children);
        let Some((digest, manifest)) = tree.pick(&order) else { continue };
        verify(intake, &manifest.config.digest)?;
        let mut image = files(manifest);
        let only = options.platform.as_ref().and_then(|_| tree.only(&digest));
        let tree = only.unwrap_or(tree);
        image.names = names.into_iter().map(|name| (name, Some(at))).collect();
        image.tree = Some(at);
        listing.trees.push(tree);
        listing.images.push(image);
    }
    Ok(listing)
}

/// The manifest for the platform that is asked for, by itself.
fn of_platform(tree: &Tree, options: &LoadOptions) -> Option<(Tree, Listed)> {
    let order = |children| wanted(options, children);
    let (digest, manifest) = tree.pick(&order)?;
    Some((tree.only(&digest)?, files(manifest)))
}

/// An image by a manifest's word.
fn files(manifest: &Manifest) -> Listed {
    Listed {
        config: place(&manifest.config.digest),
        layers: manifest.layers.iter().map(|layer| place(&layer.digest)).collect(),
        names: Vec::new(),
        parent: None,
        tree: None,
    }
}

/// The entries of an index in the order in which they are tried: those for the platform, Linux', all others.
pub(super) fn wanted<'d>(options: &LoadOptions, children: &'d [Descriptor]) -> Vec<&'d Descriptor> {
    let host = Platform::host();
    let wanted = options.platform.as_ref().unwrap_or(&host);
    let fits = |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.serves(wanted));
    let (mut order, others): (Vec<_>, Vec<_>) = children.iter().partition(fits);
    if options.platform.is_none() {
        let linux = |child: &&Descriptor| child.platform.as_ref().is_some_and(|one| one.os == "linux");
        let (linux, others): (Vec<_>, Vec<_>) = others.into_iter().partition(linux);
        order.extend(linux);
        order.extend(others);
    }
    order
}

/// A blob whose bytes are those of its name.
pub(super) fn verify<'i>(intake: &'i Intake<'_>, expected: &Digest) -> Result<&'i [u8], ImageError> {
    let path = place(expected);
    let bytes = intake.file(&path)?;
    let actual = digest_of(bytes);
    if actual != *expected {
        return Err(LoadError::Digest { path, expected: *expected, actual }.into());
    }
    Ok(bytes)
}

pub(super) fn place(digest: &Digest) -> String {
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

/// Whether an image is for a platform.
pub(in crate::image) fn is_for(config: &ImageConfig, wanted: &Platform) -> bool {
    config.platform().serves(wanted)
}

pub(super) fn json<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ImageError> {
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
