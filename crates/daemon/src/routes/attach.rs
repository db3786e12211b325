//! `attach`: the connection is handed to the container's shim.

use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::Post;
use gantry_api::frame;
use gantry_engine::containers::AttachOptions;
use gantry_server::router::RouterError;
use gantry_server::{Hijacked, Reply, Request, Upgrade};
use http::header::UPGRADE;

use super::{Answer, App, Table};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/containers/{id}/attach", attach)
}

/// The content type of a stream: the framed one is told by its name from 1.42 on, and only to clients
/// that ask for an upgrade.
pub(super) fn upgrade(request: &Request, multiplexed: bool) -> Upgrade {
    let named = request.version >= ApiVersion::v1(42) && request.headers.contains_key(UPGRADE);
    Upgrade { content_type: if multiplexed && named { frame::MULTIPLEXED } else { frame::RAW } }
}

async fn attach(app: Arc<App>, request: Request) -> Answer {
    let query = &request.query;
    let options = AttachOptions {
        stdin: query.bool("stdin"),
        stdout: query.bool("stdout"),
        stderr: query.bool("stderr"),
        logs: query.bool("logs"),
        stream: query.bool("stream"),
        detach_keys: query.get("detachKeys").to_owned(),
    };
    let attachment = app.engine.containers.attach(request.name(), options).await?;
    let upgrade = upgrade(&request, attachment.multiplexed());
    Ok(Reply::hijack(upgrade, |Hijacked { fd, early }| async move {
        if let Err(error) = attachment.connect(fd, early).await {
            tracing::debug!(%error, "an attach ended");
        }
    }))
}
