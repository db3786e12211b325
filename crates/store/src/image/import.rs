//! `docker import`: a root file system from elsewhere becomes an image of one layer.
//!
//! The layer is kept as a tree alone, and its DiffID is that of `layer-format v1`: the same files give
//! the same layer, whatever the order, form and compression of the archive.

use std::io::Read;
use std::sync::Arc;

use gantry_model::Platform;
use gantry_model::image::{History, ImageConfig, RootFs};

use super::{Image, ImageError, Images, ImportOptions, LoadError, NewImage};
use crate::archive::Limits;
use crate::layer::{ApplyOptions, Exact, Layers};
use crate::{Error, Leases};

pub(super) fn import(
    images: &Images,
    archive: impl Read + Send,
    options: &ImportOptions,
) -> Result<Arc<Image>, ImageError> {
    let lease = Leases { store: images.store.clone() }.temporary("import")?;
    let apply = ApplyOptions { exact: Exact::Normalised, limits: Limits::default() };
    let layer = Layers { store: images.store.clone() }.apply(archive, &apply, &lease);
    let layer = layer.map_err(|error| {
        // Whoever waits for the error may look at the disk next.
        drop(images.store.empty_trash());
        match error {
            Error::Archive(error) => LoadError::of_stream(error).into(),
            error => ImageError::from(error),
        }
    })?;
    let created = options.created.unwrap_or(layer.newest).rfc3339_nano();
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let comment =
        if options.message.is_empty() { "Imported from -".to_owned() } else { options.message.clone() };
    let config = ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        comment: comment.clone(),
        created: Some(created.clone()),
        config: options.run.clone(),
        rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
        history: vec![History { created: Some(created), comment, ..History::default() }],
        ..ImageConfig::default()
    };
    let config_bytes =
        serde_json::to_vec(&config).map_err(|error| ImageError::InvalidConfig(error.to_string()))?;
    let image = NewImage { config_bytes: &config_bytes, layers: &[layer.id], parent: None };
    let made = images.create_tagged(&image, options.reference.as_slice())?;
    drop(lease);
    // The same archive was there already: its layer is not needed a second time.
    if made.layers != [layer.id] {
        crate::gc::collect(&images.store)?;
    }
    Ok(made)
}
