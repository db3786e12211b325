//! `system df`: what takes how much of the disk.

use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::Get;
use gantry_api::container::ContainerSummary;
use gantry_api::image::ImageSummary;
use gantry_api::system::{DiskUsage, Usage};
use gantry_api::volume::{UsageData, Volume};
use gantry_engine::containers::ListOptions;
use gantry_engine::images::AllImages;
use gantry_model::filter::Filters;
use gantry_server::router::RouterError;
use gantry_server::{Reply, Request};

use super::containers::ImageNames;
use super::{Answer, App, Table, build_cache, now};
use crate::refusal::Refusal;
use crate::wire::{create, image, summary, volume};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/system/df", usage)
}

async fn usage(app: Arc<App>, request: Request) -> Answer {
    let kinds: Vec<&str> = request.query.all("type").collect();
    if let Some(unknown) =
        kinds.iter().find(|kind| !["container", "image", "volume", "build-cache"].contains(kind))
    {
        return Err(Refusal::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    // `verbose` exists from 1.52 on; it lists things in the new fields and leaves the old ones out.
    let (verbose, new) = (request.query.bool("verbose"), request.version >= ApiVersion::v1(52));
    let mut usage = DiskUsage::default();
    if wanted("image") {
        let taken = app.engine.images.usage(AllImages::No, &Filters::default()).await?;
        let images: Vec<_> =
            taken.images.iter().map(|(one, shared)| image::with_shared(one, *shared)).collect();
        usage.layers_size = i64::try_from(taken.layers_bytes).unwrap_or(i64::MAX);
        let own = |image: &ImageSummary| image.size - image.shared_size;
        let used: i64 = images.iter().filter(|image| image.containers > 0).map(own).sum();
        let unused = usage.layers_size - used;
        let active = images.iter().filter(|image| image.containers > 0).count();
        usage.image_usage = Some(short(&images, active, usage.layers_size, unused, verbose));
        usage.images = Some(images);
    }
    if wanted("container") {
        let containers = containers(&app).await?;
        let stopped =
            |one: &&ContainerSummary| !matches!(one.state.as_str(), "running" | "paused" | "restarting");
        let reclaimable = containers.iter().filter(stopped).map(|one| one.size_rw).sum();
        let active = containers.len() - containers.iter().filter(stopped).count();
        let total = containers.iter().map(|one| one.size_rw).sum();
        usage.container_usage = Some(short(&containers, active, total, reclaimable, verbose));
        usage.containers = Some(containers);
    }
    if wanted("volume") {
        let volumes = volumes(&app).await?;
        let of = |one: &Volume| one.usage_data.clone().unwrap_or_default();
        let unused =
            volumes.iter().map(of).filter(|usage| usage.ref_count == 0).map(|usage| usage.size).sum();
        let active = volumes.iter().filter(|one| of(one).ref_count > 0).count();
        let total = volumes.iter().map(|one| of(one).size).sum();
        usage.volume_usage = Some(short(&volumes, active, total, unused, verbose));
        usage.volumes = Some(volumes);
    }
    if wanted("build-cache") {
        let cached = build_cache::list(&app).await?;
        // What images need as well is theirs.
        let own = || cached.iter().filter(|one| !one.shared);
        let total = own().map(|one| one.size).sum();
        let unused = own().filter(|one| !one.in_use).map(|one| one.size).sum();
        let active = cached.iter().filter(|one| one.in_use).count();
        usage.build_cache_usage = Some(short(&cached, active, total, unused, verbose));
        usage.build_cache = Some(cached);
    }
    if verbose {
        usage = DiskUsage {
            layers_size: 0,
            images: None,
            containers: None,
            volumes: None,
            build_cache: None,
            ..usage
        };
    } else if !new {
        usage = DiskUsage {
            image_usage: None,
            container_usage: None,
            volume_usage: None,
            build_cache_usage: None,
            ..usage
        };
    }
    Ok(Reply::versioned_json(&usage))
}

fn short<T: serde::Serialize>(
    items: &[T],
    active: usize,
    total: i64,
    reclaimable: i64,
    verbose: bool,
) -> Usage {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Usage {
        active_count: count(active),
        total_count: count(items.len()),
        reclaimable,
        total_size: total,
        items: verbose.then(|| items.iter().map(create::tree).collect()),
    }
}

async fn containers(app: &App) -> Result<Vec<ContainerSummary>, Refusal> {
    let views = app.engine.containers.list(&ListOptions { all: true, ..ListOptions::default() })?;
    let (mut names, mut all, now) = (ImageNames::default(), Vec::new(), now());
    for view in views {
        let mut one = summary::summary(&view, names.shown(app, &view).await, now);
        // One that went away meanwhile takes nothing.
        let (written, whole) = app.engine.containers.sizes(&one.id).await.unwrap_or_default();
        one.size_rw = i64::try_from(written).unwrap_or(i64::MAX);
        one.size_root_fs = i64::try_from(whole).unwrap_or(i64::MAX);
        all.push(one);
    }
    Ok(all)
}

async fn volumes(app: &App) -> Result<Vec<Volume>, Refusal> {
    let mut all = Vec::new();
    // Docker leaves out what has options: it may be mounted from anywhere, and takes nothing of this disk.
    for one in app.engine.volumes.list(&Filters::default()).await? {
        if !one.options.is_empty() {
            continue;
        }
        let Ok((bytes, users)) = app.engine.volumes.usage(&one.name).await else { continue };
        let usage = UsageData {
            ref_count: i64::try_from(users).unwrap_or(i64::MAX),
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
        };
        all.push(Volume { usage_data: Some(usage), ..volume::volume(&one) });
    }
    Ok(all)
}
