//! Why a request failed.

use std::io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there, or we may not connect.
    #[error("Cannot connect to the daemon at {host}. Is the daemon running?")]
    Connect {
        /// The address.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Io(#[from] io::Error),
    /// The daemon refused; its own words.
    #[error("{message}")]
    Api {
        /// The HTTP status code.
        status: u16,
        /// `{"message":…}`, or the body as it was.
        message: String,
    },
    /// What came is not HTTP, or not what this request is answered with.
    #[error("unexpected answer of the daemon: {0}")]
    Protocol(String),
    /// The daemon's JSON is not what was expected.
    #[error("unexpected answer of the daemon: {0}")]
    Json(#[from] gantry_api::gojson::InvalidJson),
}

impl Error {
    /// The HTTP status code of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon says that the thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nothing listens at the address.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}
