//! What a container has become: `commit`, `diff` and `export`.

use std::io;
use std::sync::Arc;

use gantry_api::Method::{Get, Post};
use gantry_api::container::ContainerConfig;
use gantry_api::image::{Change, CommitResponse};
use gantry_engine::containers::CommitRequest;
use gantry_engine::containers::commit::Freeze;
use gantry_server::router::RouterError;
use gantry_server::{Reply, Request};
use gantry_store::snapshot::ChangeKind;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::{Answer, App, Table, archives, images};
use crate::changes;
use crate::wire::create;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/commit", commit)?;
    table.add(Get, "/containers/{id}/changes", diff)?;
    table.add(Get, "/containers/{id}/export", export)
}

async fn commit(app: Arc<App>, mut request: Request) -> Answer {
    // A body that is missing or null leaves the container's configuration.
    let given = match request.tree().await? {
        Some(tree) if !tree.is_null() => Some(gantry_api::gojson::from_value::<ContainerConfig>(tree)?),
        _ => None,
    };
    let query = &request.query;
    let container = query.get("container").to_owned();
    let base = match given {
        Some(config) => create::run_config(config),
        None => app.engine.containers.run_config(&container)?,
    };
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    let wanted = CommitRequest {
        config: changes::apply_to(base, &changes)?,
        author: query.get("author").to_owned(),
        comment: query.get("comment").to_owned(),
        reference: images::reference(query.get("repo"), query.get("tag"))?,
        freeze: if query.find("pause").is_none() || query.bool("pause") { Freeze::Yes } else { Freeze::No },
    };
    let image = app.engine.containers.commit(&app.engine.images, &container, wanted).await?;
    Ok(Reply::json(&CommitResponse { id: image.to_string() }).with_status(StatusCode::CREATED))
}

async fn diff(app: Arc<App>, request: Request) -> Answer {
    let changes = app.engine.containers.changes(request.name()).await?;
    let change = |change: &gantry_store::snapshot::Change| Change {
        path: change.path.display().to_string(),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    };
    let changes: Vec<Change> = changes.iter().map(change).collect();
    Ok(Reply::json(&(!changes.is_empty()).then_some(changes)))
}

async fn export(app: Arc<App>, request: Request) -> Answer {
    let export = app.engine.containers.export(request.name())?;
    let reply = archives::streamed(move |output| export.write(output).map_err(io::Error::other));
    Ok(reply.with_header(CONTENT_TYPE, "application/octet-stream"))
}
