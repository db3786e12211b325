//! What a container wrote.

use gantry_model::Timestamp;

use super::{Containers, Error};

/// Which entries, and whether to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Goes on until the container stops.
    pub follow: bool,
    /// The last n entries; `None` is all.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// One entry: a line, or a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Whether it was written to standard error.
    pub stderr: bool,
    /// When.
    pub time: Timestamp,
    /// With its newline, where it had one.
    pub bytes: Vec<u8>,
}

/// Entries in order.
pub struct LogStream {}

impl LogStream {
    /// The next entry; `None` at the end. Dropping the stream ends following.
    ///
    /// # Errors
    /// [`Error::Internal`] if the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, Error> {
        unimplemented!("filled next")
    }

    /// Whether the container has a terminal: its log is then sent raw, without frames.
    #[must_use]
    pub fn tty(&self) -> bool {
        unimplemented!("filled next")
    }
}

impl Containers {
    /// Opens a container's log.
    ///
    /// # Errors
    /// [`Error::Invalid`] where neither stream was asked for, or its driver cannot be read.
    pub async fn logs(&self, _container: &str, _options: LogOptions) -> Result<LogStream, Error> {
        unimplemented!("filled next")
    }
}
