//! Images as archives: `load` reads one, `save` writes one, both as a stream.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use gantry_api::Method::{Get, Post};
use gantry_api::progress::{Message, ProgressDetail};
use gantry_engine::images::{Export, Loading};
use gantry_model::Platform;
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request, Sender};

use super::{Answer, App, Table, platform};
use crate::body;
use crate::refusal::Refusal;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/images/load", load)?;
    table.add(Get, "/images/get", save_several)?;
    table.add(Get, "/images/{name…}/get", save_one)
}

/// The `platform` of an archive, if one is given; more than one would be too many.
fn only_platform(request: &Request) -> Result<Option<Platform>, Refusal> {
    match request.query.all("platform").count() {
        0 | 1 => platform::one(request.query.get("platform")),
        _ => Err(Refusal::invalid("multiple platform parameters not supported")),
    }
}

async fn load(app: Arc<App>, mut request: Request) -> Answer {
    let platform = only_platform(&request)?;
    let quiet = request.query.bool("quiet");
    let (pump, reader) = body::pipe();
    let (sender, body) = Body::channel(64);
    let images = app.engine.images.clone();
    tokio::task::spawn_blocking(move || {
        // A client that is gone has ended its request as well, and with it the load.
        let say = |message: &Message| {
            let _ = sender.send_blocking(message.to_line());
        };
        let outcome = images.load(reader, platform, |event| match event {
            Loading::Layer { .. } if quiet => {}
            event => messages(&event).iter().for_each(say),
        });
        if let Err(error) = outcome {
            say(&Message::error(0, error.to_string()));
        }
    });
    // The body is read for as long as it is wanted; the reply may begin before its end.
    tokio::spawn(async move { pump.run(&mut request).await });
    Ok(Reply::body("application/json", body))
}

/// What Docker says.
fn messages(event: &Loading) -> Vec<Message> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match event {
        Loading::Layer { diff_id, read_bytes, total_bytes } => {
            let detail = ProgressDetail { current: signed(*read_bytes), total: signed(*total_bytes) };
            let id: String = diff_id.hex().chars().take(12).collect();
            vec![Message::progress(id, "Loading layer", detail)]
        }
        Loading::Named { name, before } => {
            let moved = before.map(|before| {
                Message::stream(format!(
                    "The image {name} already exists, renaming the old one with ID {before} to empty string\n"
                ))
            });
            moved.into_iter().chain([Message::stream(format!("Loaded image: {name}\n"))]).collect()
        }
        Loading::Unnamed(ids) => {
            let lines: String = ids.iter().map(|id| format!("Loaded image ID: {id}\n")).collect();
            vec![Message::stream(lines)]
        }
    }
}

async fn save_one(app: Arc<App>, request: Request) -> Answer {
    let names = vec![request.name().to_owned()];
    save(app, &request, names).await
}

async fn save_several(app: Arc<App>, request: Request) -> Answer {
    let names = request.query.all("names").map(str::to_owned).collect();
    save(app, &request, names).await
}

async fn save(app: Arc<App>, request: &Request, names: Vec<String>) -> Answer {
    let export: Export = app.engine.images.save(&names, only_platform(request)?).await?;
    Ok(streamed(move |output| export.write(output).map_err(io::Error::other)))
}

/// A tar that is written by a thread of its own. Where it fails the connection breaks off, because what came
/// before cannot be taken back.
pub(super) fn streamed(write: impl FnOnce(Output) -> io::Result<()> + Send + 'static) -> Reply {
    let (sender, body) = Body::channel(8);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(Output(sender.clone())) {
            if !sender.is_gone() {
                tracing::warn!(%error, "an archive could not be written to its end");
            }
            sender.fail_blocking(error);
        }
    });
    Reply::body("application/x-tar", body)
}

/// The reply's body, to write to.
pub(super) struct Output(Sender);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.send_blocking(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
