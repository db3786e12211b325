//! Endpoints: a network namespace's link to a bridge.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use crate::Host;
use crate::address::{Ipv4Net, MacAddress};
use gantry_model::ErrorKind;

/// What an endpoint is to be.
#[derive(Debug, Clone)]
pub struct EndpointSpec<'a> {
    /// The bridge to plug into.
    pub port: BridgePort<'a>,
    /// The namespace that gets the link.
    pub namespace: BorrowedFd<'a>,
    /// The link's name in the namespace: `eth0`, `eth1`, …
    pub name: &'a str,
    /// Its address, with the subnet's prefix.
    pub address: Ipv4Net,
    /// The default route's gateway; `None` adds no default route (internal networks, second networks).
    pub gateway: Option<Ipv4Addr>,
    /// Its hardware address.
    pub mac: MacAddress,
    /// In bytes; 0 means the kernel's default, 1500.
    pub mtu: u32,
}

/// The host's end of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct BridgePort<'a> {
    /// [`crate::bridge::Bridge::index`].
    pub bridge: u32,
    /// The link's name, from [`crate::Identity::endpoint_name`]; 1 to 15 bytes.
    pub name: &'a str,
    /// The sandbox's id, for the tag in the link's alias.
    pub owner: &'a str,
    /// Whether it may talk to the bridge's other containers directly:
    /// [`crate::bridge::Traffic::between_containers`].
    pub between_containers: bool,
}

/// An endpoint as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The index of the host's end.
    pub host_index: u32,
    /// The index of the container's end, in its namespace.
    pub index: u32,
}

/// Makes the link: host's end in the bridge and up, the container's end in the namespace with name, hardware
/// address, address, default route, up; without IPv6. `lo` is the sandbox's own affair. May be called for
/// several namespaces at once, from several threads.
///
/// It goes away with its namespace; nobody needs to remove it.
///
/// # Errors
/// [`AttachError`]; nothing of it is left then.
pub fn attach(_host: &Host, _spec: &EndpointSpec<'_>) -> Result<Endpoint, AttachError> {
    unimplemented!()
}

/// Removes the endpoint whose host's end has this name, while its namespace lives on (`network disconnect`).
/// No link with this name: no error.
///
/// # Errors
/// [`AttachError::Kernel`].
pub fn detach(_host: &Host, _host_name: &str) -> Result<(), AttachError> {
    unimplemented!()
}

/// Why an endpoint could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The namespace could not be entered.
    #[error("entering the network namespace of {name} failed")]
    Namespace {
        /// The host's end.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("{action} of endpoint {name} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The host's end.
        name: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl AttachError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
