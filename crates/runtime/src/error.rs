//! Why a container's process could not be made, in Docker's and runc's words.

use gantry_model::ErrorKind;
use serde::{Deserialize, Serialize};

/// What sort of failure; decides the exit code and what a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The program does not exist. Exit code 127.
    NotFound,
    /// The program is a directory or may not be executed. Exit code 126.
    NotExecutable,
    /// `execve` itself failed after everything was found good: a wrong format, a missing
    /// interpreter. Docker counts such a container as started; it has written the text to its
    /// standard error and exited with 255.
    ExecFailed,
    /// No such user or group in the container's files. Exit code 125 (Docker refuses the start).
    User,
    /// The specification is wrong or asks for what is not supported. Exit code 125.
    Invalid,
    /// The host or kernel refused a step. Exit code 125.
    Setup,
}

/// A failed launch or exec. Small and serializable: it crosses the shim's socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct LaunchError {
    /// What sort of failure.
    pub reason: Reason,
    /// The text without any prefix, such as `exec: "x": executable file not found in $PATH`.
    pub text: String,
}

impl LaunchError {
    /// Makes one.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The exit code that Docker gives for it: 125, 126, 127 or (container started and gone) 255.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.reason {
            Reason::NotFound => 127,
            Reason::NotExecutable => 126,
            Reason::ExecFailed => 255,
            Reason::User | Reason::Invalid | Reason::Setup => 125,
        }
    }

    /// The kind for clients.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.reason {
            Reason::NotFound
            | Reason::NotExecutable
            | Reason::ExecFailed
            | Reason::User
            | Reason::Invalid => ErrorKind::InvalidArgument,
            Reason::Setup => ErrorKind::Internal,
        }
    }
}
