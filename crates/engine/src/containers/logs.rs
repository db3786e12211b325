//! What a container wrote.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

pub use gantry_logs::Details;
use gantry_logs::entry::Stream;
use gantry_logs::reader::{Next, Query, Reader};
use gantry_model::Timestamp;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wait::{WaitCondition, Waiter};
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
    /// Whether entries come with their attributes.
    pub details: Details,
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
    /// Labels, variables and the tag that the log options name, where they were asked for.
    pub attributes: BTreeMap<String, String>,
}

/// Entries in order.
pub struct LogStream {
    reader: Reader,
    follow: Option<Follow>,
    tty: bool,
}

/// What following needs.
struct Follow {
    grown: AsyncFd<OwnedFd>,
    /// Comes when the container has stopped for good.
    ended: std::pin::Pin<Box<dyn std::future::Future<Output = super::Exit> + Send>>,
}

impl LogStream {
    /// The next entry; `None` at the end. Dropping the stream ends following.
    ///
    /// # Errors
    /// [`Error::Internal`] if the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, Error> {
        let failed = |error: std::io::Error| Error::Internal(format!("the log cannot be read: {error}"));
        loop {
            match self.reader.next_entry().map_err(failed)? {
                Next::End => return Ok(None),
                Next::Entry(entry) => {
                    let stderr = entry.stream == Stream::Stderr;
                    let (time, bytes, attributes) = (entry.time, entry.line, entry.attributes);
                    return Ok(Some(LogEntry { stderr, time, bytes, attributes }));
                }
                Next::Wait => {}
            }
            let Some(follow) = &mut self.follow else { return Ok(None) };
            tokio::select! {
                ready = follow.grown.readable() => ready.map_err(failed)?.clear_ready(),
                _ = &mut follow.ended => {
                    self.reader.finish();
                    self.follow = None;
                }
            }
        }
    }

    /// Whether the container has a terminal: its log is then sent raw, without frames.
    #[must_use]
    pub fn tty(&self) -> bool {
        self.tty
    }
}

impl Containers {
    /// Opens a container's log.
    ///
    /// # Errors
    /// [`Error::Invalid`] where neither stream was asked for, or its driver cannot be read.
    pub async fn logs(&self, container: &str, options: LogOptions) -> Result<LogStream, Error> {
        let entry = self.core.index.find(container)?;
        let view = entry.view();
        let stream = match (options.stdout, options.stderr) {
            (true, true) => None,
            (true, false) => Some(Stream::Stdout),
            (false, true) => Some(Stream::Stderr),
            (false, false) => {
                return Err(Error::Invalid("you must choose at least one stream".into()));
            }
        };
        if view.record.host.log.driver == "none" {
            return Err(Error::Invalid("configured logging driver does not support reading".into()));
        }
        // Registered before the log is opened: an end in between is not missed.
        let waiter = match options.follow {
            true => Some(self.wait(entry.id.as_str(), WaitCondition::NotRunning).await?),
            false => None,
        };
        let query = Query {
            tail: options.tail.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            since: options.since,
            until: options.until,
            follow: options.follow,
            stream,
            details: options.details,
        };
        let failed = |error: std::io::Error| Error::Internal(format!("the log cannot be opened: {error}"));
        // A tail of packed files is found by unpacking them.
        let directory = view.record.directory.join("log");
        let reader = crate::blocking(move || Reader::open(&directory, query)).await.map_err(failed)?;
        let follow = match waiter {
            Some(waiter) => Some(follow(&reader, waiter).map_err(failed)?),
            None => None,
        };
        Ok(LogStream { reader, follow, tty: view.record.config.tty })
    }
}

fn follow(reader: &Reader, waiter: Waiter) -> std::io::Result<Follow> {
    let descriptor = reader.as_fd().try_clone_to_owned()?;
    let grown = crate::readiness::watch(descriptor, Interest::READABLE)?;
    Ok(Follow { grown, ended: Box::pin(waiter.exit()) })
}
