//! What came back: a status with headers, and a body to be read whole or as it comes.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::connection::Returned;

/// An answer whose status is below 400.
#[derive(Debug)]
pub struct Response {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Incoming,
    pub(crate) returned: Option<Returned>,
}

impl Response {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A header's value; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The next part of the body, as it comes; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Broken`] where the connection ends before the body does.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body; the connection is then free for the next request.
    ///
    /// # Errors
    /// [`Error::Broken`] where the connection ends before the body does.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        let bytes = self.body.collect().await?.to_bytes();
        if let Some(returned) = self.returned {
            returned.give_back();
        }
        Ok(bytes)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// [`Error::Answer`] where it is none of that type, or as [`Self::bytes`].
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let bytes = self.bytes().await?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// A connection that was switched from HTTP to a plain stream.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket, in blocking mode.
    pub fd: OwnedFd,
    /// Whether it is a Unix socket (else TCP).
    pub unix: bool,
    /// What came behind the answer's head.
    pub early: Bytes,
    /// The answer's `Content-Type`: tells a raw stream from a framed one since API 1.42.
    pub content_type: String,
}
