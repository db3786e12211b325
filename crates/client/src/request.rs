//! What is asked: method, path, query, headers, body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gantry_api::Query;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// A request's body.
#[derive(Debug)]
pub enum Body {
    /// None.
    Empty,
    /// So many bytes at once.
    Full(Bytes),
    /// Chunks as they come; an error ends the request.
    Chunks(mpsc::Receiver<std::io::Result<Bytes>>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Chunks(receiver) => {
                receiver.poll_recv(context).map(|item| item.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Empty => hyper::body::SizeHint::with_exact(0),
            Self::Full(bytes) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            Self::Chunks(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

impl Request {
    /// Asks with a method for a path such as `/containers/json`: without version, already escaped
    /// (see [`segment`]).
    #[must_use]
    pub fn new(method: http::Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Query::default(), headers: Vec::new(), body: Body::Empty }
    }

    /// Asks with GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(http::Method::GET, path)
    }

    /// Asks with POST.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(http::Method::POST, path)
    }

    /// Asks with DELETE.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(http::Method::DELETE, path)
    }

    /// Adds to the query.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push(key, value);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// [`crate::Error::Answer`] where the value is none that JSON has.
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self, crate::Error> {
        let bytes = serde_json::to_vec(value)?;
        Ok(self.body("application/json", Body::Full(bytes.into())))
    }

    /// Sends a body of a type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Body) -> Self {
        self.headers.push(("Content-Type", content_type.to_owned()));
        self.body = body;
        self
    }
}

/// Escapes a name or id for a path; slashes stay, as image names have them.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn segments_are_escaped() {
        assert_eq!(super::segment("a/b:1@sha256:0?x %é"), "a/b:1@sha256:0%3Fx%20%25%C3%A9");
    }
}
