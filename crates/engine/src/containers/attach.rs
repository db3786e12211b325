//! Attaching a client to a container's standard streams.
//!
//! Two steps, because HTTP must answer in between: [`Containers::attach`] checks and gives an
//! [`Attachment`]; after the connection was hijacked, [`Attachment::connect`] gives the shim the
//! descriptor, which speaks to the client from then on, also without the daemon. A container that
//! does not run yet keeps attachments until it starts.

use std::os::fd::OwnedFd;

use super::{Containers, Error};

/// What to attach and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Standard input, from the client.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Past output first.
    pub logs: bool,
    /// Goes on after past output.
    pub stream: bool,
    /// The keys that detach: `ctrl-p,ctrl-q`; empty is that default.
    pub detach_keys: String,
}

/// A checked attach, waiting for its connection.
pub struct Attachment {}

impl Attachment {
    /// Whether output is framed in Docker's multiplexed form (no terminal).
    #[must_use]
    pub fn multiplexed(&self) -> bool {
        unimplemented!("filled next")
    }

    /// Hands over the hijacked connection with the bytes that were read from it after the request.
    /// Returns when the shim (or the waiting container) has it; the streams go on by themselves and the
    /// connection closes when the container exits or the client detaches.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the container went away; the connection is closed then.
    pub async fn connect(self, _connection: OwnedFd, _early: Vec<u8>) -> Result<(), Error> {
        unimplemented!("filled next")
    }
}

impl Containers {
    /// Checks that a client may attach.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Conflict`] if it is paused or restarting.
    pub async fn attach(&self, _container: &str, _options: AttachOptions) -> Result<Attachment, Error> {
        unimplemented!("filled next")
    }
}
