//! `archive`: files of a container as tar streams, in both directions.

use std::io::{self, Write};
use std::sync::Arc;

use gantry_api::Method::{Get, Head, Put};
use gantry_api::archive::{PATH_STAT_HEADER, PathStat, go_mode};
use gantry_engine::containers::{self, PutOptions};
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request, Sender};
use http::StatusCode;
use http::header::HeaderName;

use super::{Answer, App, Table};
use crate::body;
use crate::refusal::Refusal;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Head, "/containers/{id}/archive", stat)?;
    table.add(Get, "/containers/{id}/archive", get)?;
    table.add(Put, "/containers/{id}/archive", put)
}

fn path(request: &Request) -> Result<String, Refusal> {
    match request.query.get("path") {
        // Docker's words, with its missing space.
        "" => Err(Refusal::invalid("bad parameter: pathcannot be empty")),
        path => Ok(path.to_owned()),
    }
}

fn with_stat(reply: Reply, stat: &containers::PathStat) -> Reply {
    let stat = PathStat {
        name: stat.name.clone(),
        size: stat.size_bytes,
        mode: go_mode(stat.mode),
        mtime: stat.mtime.rfc3339_nano(),
        link_target: stat.link_target.clone(),
    };
    reply.with_header(HeaderName::from_static(PATH_STAT_HEADER), &stat.to_header())
}

async fn stat(app: Arc<App>, request: Request) -> Answer {
    let path = path(&request)?;
    let stat = app.engine.containers.stat_path(request.name(), &path).await?;
    Ok(with_stat(Reply::status(StatusCode::OK), &stat))
}

async fn get(app: Arc<App>, request: Request) -> Answer {
    let path = path(&request)?;
    let taken = app.engine.containers.take_path(request.name(), &path).await?;
    let (sender, body) = Body::channel(8);
    let reply = with_stat(Reply::body("application/x-tar", body), taken.stat());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let written = taken.write(Pieces(&sender));
        match written {
            Err(error) if !sender.is_gone() => {
                tracing::warn!("{path} of a container was not copied whole: {error}");
                runtime.block_on(sender.fail(error));
            }
            _ => {}
        }
    });
    Ok(reply)
}

/// Writes pieces of a body.
struct Pieces<'s>(&'s Sender);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_blocking(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn put(app: Arc<App>, mut request: Request) -> Answer {
    let path = path(&request)?;
    let options = PutOptions {
        keep_kinds: request.query.bool("noOverwriteDirNonDir"),
        to_user: request.query.bool("copyUIDGID"),
    };
    let container = request.name().to_owned();
    let (pump, reader) = body::pipe();
    let unpacking = app.engine.containers.put_archive(&container, &path, options, reader);
    let (unpacked, ()) = tokio::join!(unpacking, pump.run(&mut request));
    unpacked?;
    Ok(Reply::status(StatusCode::OK))
}
