//! Starting, stopping and waiting.

use std::sync::Arc;

use gantry_api::Method::{Delete, Get, Post};
use gantry_api::container::{WaitError, WaitResponse};
use gantry_api::gojson;
use gantry_engine::containers::{StopOptions, WaitCondition};
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request};

use super::{Answer, App, Table};
use crate::refusal::Refusal;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/containers/{id}/start", start)?;
    table.add(Post, "/containers/{id}/stop", stop)?;
    table.add(Post, "/containers/{id}/restart", restart)?;
    table.add(Post, "/containers/{id}/kill", kill)?;
    table.add(Post, "/containers/{id}/pause", pause)?;
    table.add(Post, "/containers/{id}/unpause", unpause)?;
    table.add(Get, "/containers/{id}/checkpoints", checkpoints)?;
    table.add(Post, "/containers/{id}/checkpoints", checkpoints)?;
    table.add(Delete, "/containers/{id}/checkpoints/{checkpoint}", checkpoints)?;
    table.add(Post, "/containers/{id}/wait", wait)
}

/// Docker's text without its experimental mode, which this daemon does not have.
const EXPERIMENTAL: &str = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";

async fn checkpoints(_: Arc<App>, _: Request) -> Answer {
    Err(Refusal::not_implemented(EXPERIMENTAL))
}

async fn start(app: Arc<App>, mut request: Request) -> Answer {
    // A HostConfig at start is of an age before 1.24; a client that sends one must not think it was heard.
    if request
        .tree()
        .await
        .is_ok_and(|body| body.is_some_and(|tree| tree.as_object().is_none_or(|map| !map.is_empty())))
    {
        return Err(Refusal::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !request.query.get("checkpoint").is_empty() {
        return Err(Refusal::invalid("checkpoint is only supported in experimental mode"));
    }
    app.engine.containers.start(request.name()).await?;
    Ok(Reply::no_content())
}

fn stop_options(request: &Request) -> Result<StopOptions, Refusal> {
    Ok(StopOptions { signal: request.query.get("signal").to_owned(), timeout_s: request.query.number("t")? })
}

async fn stop(app: Arc<App>, request: Request) -> Answer {
    app.engine.containers.stop(request.name(), stop_options(&request)?).await?;
    Ok(Reply::no_content())
}

async fn restart(app: Arc<App>, request: Request) -> Answer {
    app.engine.containers.restart(request.name(), stop_options(&request)?).await?;
    Ok(Reply::no_content())
}

async fn kill(app: Arc<App>, request: Request) -> Answer {
    app.engine.containers.kill(request.name(), request.query.get("signal")).await?;
    Ok(Reply::no_content())
}

async fn pause(app: Arc<App>, request: Request) -> Answer {
    app.engine.containers.pause(request.name()).await?;
    Ok(Reply::no_content())
}

async fn unpause(app: Arc<App>, request: Request) -> Answer {
    app.engine.containers.unpause(request.name()).await?;
    Ok(Reply::no_content())
}

/// The headers go out once the wait is registered: `docker run` starts the container only then. The body
/// follows with the exit.
async fn wait(app: Arc<App>, request: Request) -> Answer {
    let condition = match request.query.get("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Refusal::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiter = app.engine.containers.wait(request.name(), condition).await?;
    let (sender, body) = Body::channel(1);
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = waiter.exit() => exit,
            () = sender.gone() => return,
        };
        let error = (!exit.error.is_empty()).then_some(WaitError { message: exit.error });
        let reply = WaitResponse { status_code: exit.code.into(), error };
        // A client that went meanwhile needs no telling.
        let _ = sender.send(gojson::to_vec(&reply)).await;
    });
    Ok(Reply::body("application/json", body))
}
