//! The daemon itself: `_ping`, `version`, `info`, `auth`, and what BuildKit asks for.

use std::sync::Arc;

use gantry_api::Method::{Delete, Get, Head, Post};
use gantry_server::router::RouterError;
use gantry_server::{Reply, Request};
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};

use super::{Answer, App, Table};
use crate::refusal::Refusal;
use crate::wire::info;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/_ping", ping)?;
    table.add(Head, "/_ping", ping)?;
    table.add(Get, "/version", version)?;
    table.add(Get, "/info", information)?;
    table.add(Post, "/auth", auth)?;
    table.add(Get, "/plugins", plugins)?;
    for (method, pattern) in [
        (Get, "/plugins/{name…}/json"),
        (Delete, "/plugins/{name…}"),
        (Post, "/plugins/{name…}/enable"),
        (Post, "/plugins/{name…}/disable"),
        (Post, "/plugins/{name…}/push"),
        (Post, "/plugins/{name…}/set"),
    ] {
        table.add(method, pattern, plugin)?;
    }
    table.add(Post, "/session", buildkit)?;
    table.add(Post, "/grpc", buildkit)
}

async fn ping(_: Arc<App>, _: Request) -> Answer {
    // The classic builder is recommended: BuildKit's API is not served.
    Ok(Reply::text("OK")
        .with_header(HeaderName::from_static("builder-version"), "1")
        .with_header(HeaderName::from_static("swarm"), "inactive")
        .with_header(CACHE_CONTROL, "no-cache, no-store, must-revalidate")
        .with_header(PRAGMA, "no-cache"))
}

async fn version(app: Arc<App>, _: Request) -> Answer {
    Ok(Reply::versioned_json(&info::version(&app.engine.system.info().await)))
}

async fn information(app: Arc<App>, _: Request) -> Answer {
    Ok(Reply::versioned_json(&info::info(app.engine.system.info().await, app.debug)))
}

async fn auth(_: Arc<App>, _: Request) -> Answer {
    Err(Refusal::not_implemented(
        "logging in to a registry is not supported yet: this daemon does not pull or push",
    ))
}

/// There are none. `docker inspect` asks for everything that a name could mean, this last.
async fn plugins(_: Arc<App>, _: Request) -> Answer {
    Ok(Reply::json::<[(); 0]>(&[]))
}

async fn plugin(_: Arc<App>, request: Request) -> Answer {
    Err(Refusal::not_found(format!("plugin {:?} not found", request.name())))
}

async fn buildkit(_: Arc<App>, _: Request) -> Answer {
    Err(Refusal::not_implemented(
        "BuildKit's API is not supported yet: set DOCKER_BUILDKIT=0 to use the classic builder",
    ))
}
