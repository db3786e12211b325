//! Published ports: elements of the hash maps of our nft table. Looking one up costs the same for the first
//! and the ten-thousandth.

use std::net::{IpAddr, SocketAddrV4};

use crate::Host;
use gantry_model::ErrorKind;
use gantry_model::container::Protocol;

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publication {
    /// The host's address; `0.0.0.0` is every IPv4 address of the host, loopback too. IPv6 addresses are
    /// accepted and do nothing here: the kernel cannot translate them to IPv4 (`gantry-netd` will).
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The container's address and port.
    pub target: SocketAddrV4,
}

/// Publishes all of them, in one transaction: all or none. A port that is published to another container is
/// taken over, because who publishes holds the bound socket ([`crate::bind`]). UDP flows that the kernel
/// remembers from before are forgotten, so that the next datagram takes the new way.
///
/// # Errors
/// [`PublishError`]; nothing is published then.
pub fn publish(_host: &Host, _publications: &[Publication]) -> Result<(), PublishError> {
    unimplemented!()
}

/// Unpublishes those of them that still lead to the given target; others, and absent ones, are left alone.
///
/// # Errors
/// [`PublishError`]; it may be called again.
pub fn unpublish(_host: &Host, _publications: &[Publication]) -> Result<(), PublishError> {
    unimplemented!()
}

/// All that is published, in no order.
///
/// # Errors
/// [`PublishError`].
pub fn list(_host: &Host) -> Result<Vec<Publication>, PublishError> {
    unimplemented!()
}

/// What [`reconcile`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Elements that were missing or led elsewhere.
    pub added: usize,
    /// Elements that nobody wants.
    pub removed: usize,
}

/// Makes what is published equal to `wanted`, touching only what differs, in one transaction. For the daemon's
/// start, and for after somebody else has removed our table.
///
/// # Errors
/// [`PublishError`]; nothing is changed then.
pub fn reconcile(_host: &Host, _wanted: &[Publication]) -> Result<Reconciled, PublishError> {
    unimplemented!()
}

/// Why ports could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The kernel refused.
    #[error("{action} of {what} in nft table {table} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The first of the ports, and how many.
        what: String,
        /// Our table.
        table: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl PublishError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
