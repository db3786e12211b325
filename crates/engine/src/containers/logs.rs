//! What a container wrote.

use std::os::fd::{AsFd, OwnedFd};

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
                    return Ok(Some(LogEntry { stderr, time: entry.time, bytes: entry.line }));
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
        };
        let failed = |error: std::io::Error| Error::Internal(format!("the log cannot be opened: {error}"));
        let reader = Reader::open(&view.record.directory.join("log"), query).map_err(failed)?;
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

/// Reads Docker's sizes: `10m`, `1g`, `512k`, `100`; `-1` is none.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("10m", Some(10 << 20)), ("1G", Some(1 << 30)), ("7", Some(7)), ("-1", None), ("x", None)]
        {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
