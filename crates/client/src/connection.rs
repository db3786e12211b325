//! Connections to a daemon: one is kept for the next request, each pending request has its own.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::{Body, Endpoint, Error, Hijacked, Request, Response};

type Idle = Arc<Mutex<Option<SendRequest<Body>>>>;

/// A daemon to be asked. Cheap to clone; clones share the kept connection.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    version: Option<String>,
    idle: Idle,
}

/// A connection whose answer was read, on its way back to be used again.
#[derive(Debug)]
pub(crate) struct Returned {
    sender: SendRequest<Body>,
    idle: Idle,
}

impl Returned {
    pub(crate) fn give_back(self) {
        if let Ok(mut idle) = self.idle.lock() {
            *idle = Some(self.sender);
        }
    }
}

impl Client {
    /// Makes a client; nothing is connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, version: None, idle: Arc::default() }
    }

    /// The same, asking for an API version such as `1.51`.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Where it connects to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// [`Error::Daemon`] for a status of 400 or more; else the connection's errors.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let mut sender = self.connection().await?;
        let answer = sender.send_request(self.assemble(request)?).await?;
        let (head, body) = answer.into_parts();
        let returned = Some(Returned { sender, idle: Arc::clone(&self.idle) });
        let response = Response { head, body, returned };
        let status = response.status();
        if status < 400 {
            return Ok(response);
        }
        let bytes = response.bytes().await?;
        Err(Error::Daemon { status, message: message_of(&bytes, status) })
    }

    /// Sends a request that turns the connection into a stream (attach, exec).
    ///
    /// # Errors
    /// As [`Self::send`]; [`Error::Broken`] where the daemon does not switch.
    pub async fn hijack(&self, request: Request) -> Result<Hijacked, Error> {
        let request = request.header("Connection", "Upgrade").header("Upgrade", "tcp");
        let mut sender = self.connect().await?;
        let answer = sender.send_request(self.assemble(request)?).await?;
        let status = answer.status().as_u16();
        if status >= 400 {
            let bytes = answer.into_body().collect().await?.to_bytes();
            return Err(Error::Daemon { status, message: message_of(&bytes, status) });
        }
        if status != 101 {
            return Err(Error::Broken(format!("the daemon did not switch to a stream: status {status}")));
        }
        let header = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = header.unwrap_or("").to_owned();
        let upgraded = hyper::upgrade::on(answer).await?;
        let broken = |error: std::io::Error| Error::Broken(error.to_string());
        match upgraded.downcast::<TokioIo<UnixStream>>() {
            Ok(parts) => {
                let stream = parts.io.into_inner().into_std().map_err(broken)?;
                stream.set_nonblocking(false).map_err(broken)?;
                Ok(Hijacked { fd: OwnedFd::from(stream), unix: true, early: parts.read_buf, content_type })
            }
            Err(upgraded) => {
                let parts = upgraded
                    .downcast::<TokioIo<TcpStream>>()
                    .map_err(|_| Error::Broken("a stream of a kind that was never opened".into()))?;
                let stream = parts.io.into_inner().into_std().map_err(broken)?;
                stream.set_nonblocking(false).map_err(broken)?;
                Ok(Hijacked { fd: OwnedFd::from(stream), unix: false, early: parts.read_buf, content_type })
            }
        }
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Error> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.take());
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let failed = |source| Error::connecting(&self.endpoint, source);
        match &self.endpoint {
            Endpoint::Unix(path) => handshake(UnixStream::connect(path).await.map_err(failed)?).await,
            Endpoint::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await.map_err(failed)?;
                // Requests are small and answered at once; waiting to fill a packet only costs time.
                let _ = stream.set_nodelay(true);
                handshake(stream).await
            }
        }
    }

    fn assemble(&self, request: Request) -> Result<http::Request<Body>, Error> {
        let mut path = match &self.version {
            Some(version) => format!("/v{version}{}", request.path),
            None => request.path,
        };
        if !request.query.is_empty() {
            path = format!("{path}?{}", request.query.encode());
        }
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Tcp(authority) => authority,
        };
        let mut builder = http::Request::builder().method(request.method).uri(path).header("Host", host);
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        builder.body(request.body).map_err(|error| Error::Broken(error.to_string()))
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach whoever waits for an answer on it.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn message_of(body: &Bytes, status: u16) -> String {
    match serde_json::from_slice::<gantry_api::ErrorResponse>(body) {
        Ok(error) if !error.message.is_empty() => error.message,
        _ if body.is_empty() => format!("the daemon answered with status {status} and no message"),
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
