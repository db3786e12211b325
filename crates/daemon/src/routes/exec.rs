//! `exec`.

use std::sync::Arc;

use gantry_api::Method::{Get, Post};
use gantry_api::exec::{CreateRequest, ExecInspect, IdResponse, ProcessConfig, StartRequest};
use gantry_engine::containers::{ExecRequest, ExecStartOptions, ExecView};
use gantry_server::router::RouterError;
use gantry_server::{Hijacked, Reply, Request};
use http::StatusCode;

use super::{Answer, App, Table, attach, cells};
use crate::refusal::Refusal;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/containers/{id}/exec", create)?;
    table.add(Post, "/exec/{id}/start", start)?;
    table.add(Post, "/exec/{id}/resize", resize)?;
    table.add(Get, "/exec/{id}/json", inspect)
}

/// Height and width; zeros say nothing.
fn size(given: Option<[u32; 2]>) -> Option<(u16, u16)> {
    let [rows, columns] = given?;
    Some((u16::try_from(rows).ok()?, u16::try_from(columns).ok()?)).filter(|size| *size != (0, 0))
}

async fn create(app: Arc<App>, mut request: Request) -> Answer {
    let wire: CreateRequest = request.json().await?;
    let command = wire.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(Refusal::invalid("No exec command specified"));
    }
    let exec = ExecRequest {
        command,
        stdin: wire.attach_stdin,
        stdout: wire.attach_stdout,
        stderr: wire.attach_stderr,
        tty: wire.tty,
        env: wire.env.unwrap_or_default(),
        user: wire.user,
        working_dir: wire.working_dir,
        privileged: wire.privileged,
        detach_keys: wire.detach_keys,
        console_size: size(wire.console_size),
    };
    let id = app.engine.containers.exec_create(request.name(), exec).await?;
    Ok(Reply::json(&IdResponse { id: id.to_string() }).with_status(StatusCode::CREATED))
}

async fn start(app: Arc<App>, mut request: Request) -> Answer {
    let wire: StartRequest = request.json().await?;
    let options =
        ExecStartOptions { detach: wire.detach, tty: wire.tty, console_size: size(wire.console_size) };
    if wire.detach {
        app.engine.containers.exec_detached(request.name(), options).await?;
        return Ok(Reply::status(StatusCode::OK));
    }
    let session = app.engine.containers.exec_attach(request.name(), options).await?;
    let upgrade = attach::upgrade(&request, session.multiplexed());
    Ok(Reply::hijack(upgrade, |Hijacked { fd, early }| async move {
        if let Err(error) = session.connect(fd, early).await {
            tracing::debug!(%error, "an exec ended");
        }
    }))
}

async fn resize(app: Arc<App>, request: Request) -> Answer {
    let (rows, columns) = (cells(&request, "h", "height")?, cells(&request, "w", "width")?);
    app.engine.containers.exec_resize(request.name(), rows, columns).await?;
    Ok(Reply::status(StatusCode::OK))
}

async fn inspect(app: Arc<App>, request: Request) -> Answer {
    Ok(Reply::json(&wire(&app.engine.containers.exec_inspect(request.name())?)))
}

fn wire(view: &ExecView) -> ExecInspect {
    let request = &view.request;
    ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code.map(Into::into),
        process_config: ProcessConfig {
            tty: request.tty,
            entrypoint: request.command.first().cloned().unwrap_or_default(),
            arguments: request.command.iter().skip(1).cloned().collect(),
            privileged: Some(request.privileged),
            user: request.user.clone(),
        },
        open_stdin: request.stdin,
        open_stderr: request.stderr,
        open_stdout: request.stdout,
        can_remove: false,
        container_id: view.container.to_string(),
        detach_keys: Some(String::new()),
        pid: view.pid.into(),
    }
}
