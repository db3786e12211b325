//! What a handler sees of a request.

use bytes::{Bytes, BytesMut};
use gantry_api::gojson;
use gantry_api::model::ErrorKind;
use gantry_api::{ApiVersion, Endpoint, Query, differences};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::{Failure, Limits};

/// A request that was routed.
#[derive(Debug)]
pub struct Request {
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// The version that the client speaks.
    pub version: ApiVersion,
    /// What the pattern's names stand for, decoded, in their order.
    pub(crate) names: Vec<String>,
    /// The parameters that the version has.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) limits: std::sync::Arc<Limits>,
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke off.
    #[error("the request's body broke off")]
    Broken(#[source] hyper::Error),
    /// Nothing came for too long.
    #[error("the request's body did not come in time")]
    TimedOut,
}

impl Request {
    /// What the pattern's first name stands for; empty where it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The next piece of the body as it comes; `None` at its end.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let next = tokio::time::timeout(self.limits.body_timeout, self.body.frame()).await;
            match next.map_err(|_| BodyError::TimedOut)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(BodyError::Broken(error)),
                // Trailers have no meaning here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads the whole body; at most as much as JSON may be long.
    ///
    /// # Errors
    /// [`Failure`] with 413, 408 or 400.
    pub async fn bytes(&mut self) -> Result<Bytes, Failure> {
        let mut whole = BytesMut::new();
        loop {
            match self.next_piece().await {
                Ok(None) => return Ok(whole.freeze()),
                Ok(Some(piece)) if whole.len() + piece.len() > self.limits.max_json_bytes => {
                    let message =
                        format!("the request's body is longer than {} bytes", self.limits.max_json_bytes);
                    return Err(Failure::with_status(StatusCode::PAYLOAD_TOO_LARGE, message));
                }
                Ok(Some(piece)) => whole.extend_from_slice(&piece),
                Err(error @ BodyError::TimedOut) => {
                    return Err(Failure::with_status(StatusCode::REQUEST_TIMEOUT, error.to_string()));
                }
                Err(error) => return Err(Failure::new(ErrorKind::InvalidArgument, error.to_string())),
            }
        }
    }

    /// Whether there is a body at all.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.headers.contains_key(TRANSFER_ENCODING)
            || self.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
    }

    /// Reads the body as a tree of JSON without what the client's version cannot say. `None` where there
    /// is no body.
    ///
    /// # Errors
    /// [`Failure`] with 400 for a wrong content type or text.
    pub async fn tree(&mut self) -> Result<Option<serde_json::Value>, Failure> {
        if !self.has_body() {
            return Ok(None);
        }
        let kind =
            self.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?")).to_owned();
        let media = kind.split(';').next().unwrap_or("").trim();
        if !media.eq_ignore_ascii_case("application/json") {
            let message = format!("unsupported Content-Type header ({kind}): must be 'application/json'");
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
        let text = self.bytes().await?;
        if text.is_empty() {
            return Ok(None);
        }
        let mut tree = gojson::parse(&text).map_err(invalid)?;
        differences::body(self.endpoint, self.version, &mut tree);
        Ok(Some(tree))
    }

    /// Reads the body as JSON of this type; the default where there is none.
    ///
    /// # Errors
    /// As [`Request::tree`].
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        match self.tree().await? {
            Some(tree) => gojson::from_value(tree).map_err(invalid),
            None => Ok(T::default()),
        }
    }
}

fn invalid(error: gojson::InvalidJson) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, error.to_string())
}
