//! Bridges: one for each network with the `bridge` driver.

use crate::Host;
use crate::address::Ipv4Net;
use crate::firewall::Warning;
use gantry_model::ErrorKind;

/// What a bridge is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The link's name, from [`crate::Identity::default_bridge_name`] or
    /// [`crate::Identity::bridge_name`]; 1 to 15 bytes.
    pub name: String,
    /// The network's id, for the tag in the link's alias.
    pub owner: String,
    /// The bridge's own address, which is the containers' gateway, with the subnet's prefix.
    pub gateway: Ipv4Net,
    /// In bytes; 0 means the kernel's default, 1500.
    pub mtu: u32,
    /// What traffic passes.
    pub traffic: Traffic,
}

/// What traffic of a bridge passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Containers of this bridge reach each other's unpublished ports (Docker's `--icc`, default true).
    pub between_containers: bool,
    /// What leaves the host has the host's address (Docker's `--ip-masq`, default true).
    pub masquerade: bool,
    /// Neither leaves the host nor comes from beyond it (`docker network create --internal`).
    pub internal: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { between_containers: true, masquerade: true, internal: false }
    }
}

/// A bridge as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The link's index, for [`crate::endpoint::EndpointSpec`]. Constant while the link lives.
    pub index: u32,
    /// What could not be opened, or was changed beyond the bridge; for the log and for `info`.
    pub warnings: Vec<Warning>,
}

/// Makes the bridge and its rules as `spec` says, or corrects what is there: address, MTU, sysctls
/// (`route_localnet` on this link; `ip_forward` on the host), rules, and two accepts where Docker's user chain
/// exists. Idempotent; endpoints attached to it stay.
///
/// # Errors
/// [`BridgeError`]. A bridge that this call made is removed again; one that was there stays.
pub fn ensure(_host: &Host, _spec: &BridgeSpec) -> Result<Bridge, BridgeError> {
    unimplemented!()
}

/// The address of the bridge with this name, if it is there: what an earlier daemon chose.
///
/// # Errors
/// [`BridgeError::Kernel`].
pub fn address(_host: &Host, _name: &str) -> Result<Option<Ipv4Net>, BridgeError> {
    unimplemented!()
}

/// Removes the bridge, its rules and its accepts in Docker's user chain. No bridge with this name: no error.
///
/// # Errors
/// [`BridgeError`]; what could be removed is.
pub fn remove(_host: &Host, _name: &str) -> Result<(), BridgeError> {
    unimplemented!()
}

/// Why a bridge could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A link of this name exists and is not ours: not a bridge, or without our tag.
    #[error("a link named {name} exists and was not made by this daemon; remove it (ip link del {name}) or choose another name")]
    Foreign {
        /// The link.
        name: String,
    },
    /// A kernel setting could not be written.
    #[error("writing {path} failed")]
    Sysctl {
        /// The file under `/proc/sys`.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("{action} of bridge {name} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The link.
        name: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl BridgeError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } => ErrorKind::Conflict,
            Self::Sysctl { .. } | Self::Kernel { .. } => ErrorKind::Internal,
        }
    }
}
