//! What a handler answers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gantry_api::model::ErrorKind;
use gantry_api::{ErrorResponse, gojson};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::hijack::{Hijacked, Order, Upgrade};

/// A handler's answer.
#[derive(Debug)]
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    /// JSON in the newest version's shape: what the client's version lacks is removed before it goes out.
    Json(Vec<u8>),
    /// JSON that is the same in every version.
    JsonText(Vec<u8>),
    Body(Body),
    Hijack(Order),
}

/// A refusal: a kind, which decides the status, and a message for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the status.
    pub kind: ErrorKind,
    /// A status that no kind has: 413, 431, 405.
    pub status: Option<StatusCode>,
    /// For the client, in Docker's words where clients match on them.
    pub message: String,
}

impl Failure {
    /// A refusal.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into() }
    }

    /// A refusal with a status of its own.
    #[must_use]
    pub fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidArgument, status: Some(status), message: message.into() }
    }

    pub(crate) fn reply(&self) -> Reply {
        let code = self.status.unwrap_or_else(|| {
            StatusCode::from_u16(gantry_api::error::status(self.kind))
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        });
        if code == StatusCode::NOT_MODIFIED {
            return Reply::status(code);
        }
        let body = ErrorResponse { message: self.message.clone() };
        Reply { status: code, headers: HeaderMap::new(), content: Content::JsonText(gojson::to_vec(&body)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Reply {
    /// A status without a body.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), content: Content::Empty }
    }

    /// `204 No Content`.
    #[must_use]
    pub fn no_content() -> Self {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// JSON that is the same in every version.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        let content = Content::JsonText(gojson::to_vec(value));
        Self { status: StatusCode::OK, headers: HeaderMap::new(), content }
    }

    /// JSON in the newest version's shape; what the client's version lacks is removed before it goes out.
    #[must_use]
    pub fn versioned_json<T: Serialize + ?Sized>(value: &T) -> Self {
        let content = Content::Json(gojson::to_vec(value));
        Self { status: StatusCode::OK, headers: HeaderMap::new(), content }
    }

    /// A body.
    #[must_use]
    pub fn body(content_type: &'static str, body: Body) -> Self {
        let mut reply = Self::status(StatusCode::OK);
        reply.content = Content::Body(body);
        reply.with_header(CONTENT_TYPE, content_type)
    }

    /// A text.
    #[must_use]
    pub fn text(text: &'static str) -> Self {
        Self::body("text/plain; charset=utf-8", Body::full(text))
    }

    /// Takes the connection over: the head is written, then `then` gets the socket. It runs as a task of
    /// its own; the connection is out of the server's hands.
    #[must_use]
    pub fn hijack<F>(upgrade: Upgrade, then: impl FnOnce(Hijacked) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let takeover = Box::new(|hijacked| Box::pin(then(hijacked)) as _);
        let mut reply = Self::status(StatusCode::SWITCHING_PROTOCOLS);
        reply.content = Content::Hijack(Order { upgrade, takeover });
        reply
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a header; one whose value HTTP does not allow is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// A reply's body.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Full(Bytes),
    /// As it comes; the last item may be an error, which breaks the connection off so that the client
    /// sees that something is missing.
    Stream(mpsc::Receiver<std::io::Result<Bytes>>),
}

/// The writing end of a streamed body.
#[derive(Debug, Clone)]
pub struct Sender(mpsc::Sender<std::io::Result<Bytes>>);

/// Says that the client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Gone;

impl Body {
    /// All of it.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    /// A body that is written as it comes; at most `pieces` wait for the client.
    #[must_use]
    pub fn channel(pieces: usize) -> (Sender, Self) {
        let (sender, receiver) = mpsc::channel(pieces.max(1));
        (Sender(sender), Self::Stream(receiver))
    }
}

impl Sender {
    /// Writes a piece; waits while the client is slow. An empty piece is nothing.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(bytes.into())).await.map_err(|_| Gone)
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send_blocking(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.blocking_send(Ok(bytes.into())).map_err(|_| Gone)
    }

    /// Breaks the connection off, so that the client sees that something is missing.
    pub async fn fail(self, error: std::io::Error) {
        // A client that is gone needs no telling.
        let _ = self.0.send(Err(error)).await;
    }

    /// The same for a thread that may block.
    pub fn fail_blocking(self, error: std::io::Error) {
        // A client that is gone needs no telling.
        let _ = self.0.blocking_send(Err(error));
    }

    /// Whether the client is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns once the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(receiver) => {
                receiver.poll_recv(context).map(|next| next.map(|next| next.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
