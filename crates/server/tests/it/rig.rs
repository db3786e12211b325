//! A server with a few handlers that show what connections do, and a client that writes raw bytes.

use std::path::PathBuf;
use std::time::Duration;

use gantry_api::Method::{Get, Post};
use gantry_api::frame;
use gantry_server::connection::Service;
use gantry_server::listen::PlainTcp;
use gantry_server::{Address, Body, Failure, Hijacked, Limits, Listener, Reply, Request, Router, Upgrade};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

/// A running server.
pub(crate) struct Rig {
    pub(crate) path: PathBuf,
    /// Says which handler's future was dropped before it ended.
    pub(crate) dropped: mpsc::UnboundedReceiver<&'static str>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) server: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

struct Guard(&'static str, mpsc::UnboundedSender<&'static str>);

impl Drop for Guard {
    fn drop(&mut self) {
        // The test may have ended.
        let _ = self.1.send(self.0);
    }
}

pub(crate) fn small_limits() -> Limits {
    Limits {
        max_head_bytes: 8 << 10,
        max_json_bytes: 1000,
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        max_connections: 8,
    }
}

fn router(dropped: mpsc::UnboundedSender<&'static str>) -> Router {
    let mut router = Router::new();
    let mut add = |method, pattern: &str, handler: fn(Request, Dropped) -> Handled| {
        let dropped = dropped.clone();
        router.add(method, pattern, move |request| handler(request, dropped.clone())).expect("an endpoint");
    };
    add(Get, "/_ping", |_, _| Box::pin(async { Ok(Reply::text("OK")) }));
    add(Post, "/containers/create", |mut request, _| {
        Box::pin(async move { Ok(Reply::json(&request.tree().await?)) })
    });
    add(Post, "/containers/{id}/attach", |request, _| Box::pin(async move { Ok(echo(&request)) }));
    add(Get, "/containers/{id}/logs", |_, dropped| {
        Box::pin(async move {
            let (sender, body) = Body::channel(1);
            tokio::spawn(async move {
                while sender.send("tick\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                drop(Guard("logs", dropped));
            });
            Ok(Reply::body(frame::RAW, body))
        })
    });
    add(Post, "/containers/{id}/wait", |_, dropped| {
        Box::pin(async move {
            let _guard = Guard("wait", dropped);
            std::future::pending().await
        })
    });
    add(Post, "/containers/{id}/kill", |_, _| Box::pin(async { panic!("a handler fails") }));
    add(Post, "/build", |mut request, _| {
        Box::pin(async move {
            let mut bytes = 0;
            while let Some(piece) = request.next_piece().await.map_err(|error| {
                Failure::new(gantry_api::model::ErrorKind::InvalidArgument, error.to_string())
            })? {
                bytes += piece.len();
            }
            Ok(Reply::json(&bytes))
        })
    });
    router
}

type Dropped = mpsc::UnboundedSender<&'static str>;
type Handled = std::pin::Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;

/// Takes the connection over, and sends back whatever comes until the client closes its half.
fn echo(_: &Request) -> Reply {
    Reply::hijack(Upgrade { content_type: frame::RAW }, |Hijacked { fd, early }| async move {
        let stream = std::os::unix::net::UnixStream::from(fd);
        let mut stream = UnixStream::from_std(stream).expect("a non-blocking socket");
        let (mut reader, mut writer) = stream.split();
        writer.write_all(&early).await.expect("the client reads");
        tokio::io::copy(&mut reader, &mut writer).await.expect("the client reads");
    })
}

impl Rig {
    pub(crate) async fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("server.sock");
        let (sender, dropped) = mpsc::unbounded_channel();
        let common = vec![("Api-Version", "1.55".to_owned()), ("Server", "Test".to_owned())];
        let service = Service::new(router(sender), limits, common);
        let address = Address::Unix(path.clone());
        let listener = Listener::open(&address, PlainTcp::LoopbackOnly, None).await.expect("a socket");
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(listener.serve(service, stopped));
        Self { path, dropped, stop, server, _directory: directory }
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.expect("the server listens")
    }

    /// Sends bytes, closes the sending half, and reads to the end.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut client = self.connect().await;
        // A server that refuses early may have closed already.
        let _ = client.write_all(request).await;
        let _ = client.shutdown().await;
        read_all(&mut client).await
    }
}

pub(crate) async fn read_all(client: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut text)).await;
    end.expect("the server ends the connection").expect("the connection ends in order");
    String::from_utf8(text).expect("UTF-8")
}

/// Reads until the text ends with `end`.
pub(crate) async fn read_until(client: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    let mut byte = [0];
    let read = async {
        while !text.ends_with(end) {
            assert_eq!(
                client.read(&mut byte).await.expect("the connection works"),
                1,
                "ended after {text:?}"
            );
            text.push(char::from(byte[0]));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer");
    text
}
