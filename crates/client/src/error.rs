//! What can go wrong between a client and a daemon, in the stock client's words.

/// Why a request has no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("unable to parse docker host `{0}`")]
    Endpoint(String),
    /// Nobody listens there.
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    Unreachable {
        /// The address.
        endpoint: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody does, and we may not.
    #[error("permission denied while trying to connect to the docker API at {endpoint}")]
    Denied {
        /// The address.
        endpoint: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon refused, with a status of 400 or more.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("error during connect: {0}")]
    Broken(String),
    /// The answer is not the JSON that it should be.
    #[error("error reading the daemon's answer: {0}")]
    Answer(#[from] serde_json::Error),
}

impl Error {
    /// The HTTP status of a refusal; 0 for every other error.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Daemon { status, .. } => *status,
            _ => 0,
        }
    }

    /// Sorts a failed connection.
    pub(crate) fn connecting(endpoint: &crate::Endpoint, source: std::io::Error) -> Self {
        let endpoint = endpoint.to_string();
        match source.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Denied { endpoint, source },
            _ => Self::Unreachable { endpoint, source },
        }
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Broken(text)
    }
}
