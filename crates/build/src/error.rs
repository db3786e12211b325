//! Why a build failed, in the words of Docker's classic builder.

use gantry_model::ErrorKind;

/// Why a build failed. Nothing but cache entries of the steps that succeeded is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile or an option is wrong; the text is what the user reads.
    #[error("{0}")]
    Invalid(String),
    /// A stage, image, file or user named does not exist; the text is what the user reads.
    #[error("{0}")]
    NotFound(String),
    /// Something that Docker does and we do not yet; the text says what to do instead.
    #[error("{0}")]
    Unsupported(String),
    /// A `RUN` step's command failed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command's words, joined by blanks.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// The caller withdrew.
    #[error("context canceled")]
    Cancelled,
    /// The host or our own state failed.
    #[error("{what}")]
    Internal {
        /// What was done to what.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BuildError {
    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Command { .. } | Self::Internal { .. } => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The exit code that `errorDetail` carries: a failing command's.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Command { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The text with the chain of its causes, as a client is told.
    #[must_use]
    pub fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        text
    }

    /// Wraps a failure of the host or of our own state.
    pub fn internal(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { what: what.into(), source: source.into() }
    }
}
