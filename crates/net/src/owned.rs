//! Everything of ours in the kernel, for `fsck`, sweeps and leak tests.

use crate::Host;
use gantry_model::ErrorKind;

/// A thing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owned {
    /// A bridge, by name, and the network's id.
    Bridge {
        /// The link.
        name: String,
        /// The id in its alias.
        owner: String,
    },
    /// The host's end of an endpoint, by name, and the sandbox's id.
    Endpoint {
        /// The link.
        name: String,
        /// The id in its alias.
        owner: String,
    },
    /// Our nft table, and how many ports it publishes.
    Table {
        /// Its name.
        name: String,
        /// Elements in its port maps.
        ports: usize,
    },
    /// An accept of ours in Docker's user chain.
    ForeignRule {
        /// Table and chain, such as `ip filter DOCKER-USER`.
        chain: String,
        /// The bridge it is for.
        bridge: String,
    },
}

/// All that carries our identity.
///
/// # Errors
/// [`OwnedError`].
pub fn list(_host: &Host) -> Result<Vec<Owned>, OwnedError> {
    unimplemented!()
}

/// Removes one thing. Absent already: no error. Removing a bridge also removes its rules.
///
/// # Errors
/// [`OwnedError`].
pub fn remove(_host: &Host, _thing: &Owned) -> Result<(), OwnedError> {
    unimplemented!()
}

/// Removes everything that carries our identity and goes on where something fails.
#[must_use]
pub fn remove_all(_host: &Host) -> Vec<OwnedError> {
    unimplemented!()
}

/// Why a thing could not be listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// The kernel refused.
    #[error("{action} of {what} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// To what.
        what: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl OwnedError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
