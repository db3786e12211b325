//! Volumes.

use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::{Delete, Get, Post, Put};
use gantry_api::volume::{CreateRequest, ListResponse, PruneResponse};
use gantry_engine::volumes::VolumeRequest;
use gantry_model::ErrorKind;
use gantry_server::router::RouterError;
use gantry_server::{Failure, Reply, Request};
use http::StatusCode;

use super::{Answer, App, Table, filters};
use crate::refusal::Refusal;
use crate::wire::volume::volume;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/volumes", list)?;
    table.add(Post, "/volumes/create", create)?;
    table.add(Get, "/volumes/{name…}", inspect)?;
    table.add(Put, "/volumes/{name…}", update)?;
    table.add(Delete, "/volumes/{name…}", remove)?;
    table.add(Post, "/volumes/prune", prune)
}

async fn list(app: Arc<App>, request: Request) -> Answer {
    let filters = filters(&request).map_err(|refusal| {
        Refusal::invalid(format!("error reading volume filters: {}", refusal.0.message))
    })?;
    let all = app.engine.volumes.list(&filters).await?;
    Ok(Reply::json(&ListResponse { volumes: all.iter().map(|one| volume(one)).collect(), warnings: None }))
}

async fn create(app: Arc<App>, mut request: Request) -> Answer {
    let wire: CreateRequest = request.json().await?;
    let made = app.engine.volumes.create(VolumeRequest {
        name: wire.name,
        driver: wire.driver,
        labels: wire.labels.unwrap_or_default(),
        options: wire.driver_opts.unwrap_or_default(),
    });
    Ok(Reply::json(&volume(&*made.await?)).with_status(StatusCode::CREATED))
}

async fn inspect(app: Arc<App>, request: Request) -> Answer {
    Ok(Reply::json(&volume(&*app.engine.volumes.inspect(request.name()).await?)))
}

async fn update(_: Arc<App>, _: Request) -> Answer {
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(Failure::new(ErrorKind::Unavailable, text).into())
}

async fn remove(app: Arc<App>, request: Request) -> Answer {
    app.engine.volumes.remove(request.name(), request.query.bool("force")).await?;
    Ok(Reply::no_content())
}

async fn prune(app: Arc<App>, request: Request) -> Answer {
    let mut filters = filters(&request)?;
    // Below 1.42 named volumes were pruned too.
    if request.version < ApiVersion::v1(42) && !filters.contains("all") {
        filters.add("all", "true");
    }
    let (names, bytes) = app.engine.volumes.prune(&filters).await?;
    Ok(Reply::json(&PruneResponse { volumes_deleted: Some(names), space_reclaimed: bytes }))
}
