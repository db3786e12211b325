//! Errors on the wire: `{"message":"…"}`, and the one map from [`ErrorKind`] to HTTP.

use gantry_model::ErrorKind;
use serde::{Deserialize, Serialize};

/// The body of every failed request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// What went wrong, in words that clients print and sometimes match on.
    pub message: String,
}

/// The HTTP status code of a kind of error. [`ErrorKind::Cancelled`] has none of its own (no answer
/// reaches the client); it is 499 in logs, as nginx writes it.
#[must_use]
pub fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::InvalidArgument => 400,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict => 409,
        ErrorKind::NotModified => 304,
        ErrorKind::NotImplemented => 501,
        ErrorKind::Unavailable => 503,
        ErrorKind::Cancelled => 499,
        ErrorKind::Internal => 500,
    }
}
