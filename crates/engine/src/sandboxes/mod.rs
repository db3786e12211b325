//! Sandboxes: the namespaces, endpoints and ports that containers live in.
//!
//! A sandbox has its own id, record and reference count. `run` makes one; `--net container:` shares
//! it. It lives from a start by hand to the final exit, over restarts by policy; descriptors are
//! held by the shims, not here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gantry_model::{ErrorKind, NetworkId, SandboxId};
use serde::{Deserialize, Serialize};

use crate::containers::config::Port;

/// All sandboxes. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {}

/// What a container is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// The sandbox while there is one.
    pub sandbox: Option<SandboxId>,
    /// By network name (`bridge`, `host`, `none`).
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Published ports, and exposed ports with an empty list.
    pub ports: BTreeMap<Port, Vec<HostPort>>,
}

/// One attachment to one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// The endpoint's id: 64 hexadecimal digits; empty while not attached.
    pub id: String,
    /// The container's address; `None` while not attached or for host and none.
    pub address: Option<Ipv4Addr>,
    /// The prefix length of the network.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// `02:42:ac:11:00:02`; empty while not attached.
    pub mac_address: String,
    /// Further names.
    pub aliases: Vec<String>,
}

/// Where a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The host's address; unspecified is all.
    pub ip: IpAddr,
    /// The host's port.
    pub port: u16,
}

/// The network of a build step: a sandbox without record. It goes away when dropped.
pub struct Ephemeral {
    /// The network namespace; `None` is the host's.
    pub network: Option<OwnedFd>,
    /// A hosts file to mount.
    pub hosts: PathBuf,
    /// A resolver configuration to mount.
    pub resolv_conf: PathBuf,
}

impl Sandboxes {
    /// Makes the network of a build step: mode `default`/`bridge`, `host` or `none`. Blocks for about 2 ms.
    ///
    /// # Errors
    /// [`Error`]; nothing remains.
    pub fn ephemeral(&self, _mode: &str) -> Result<Ephemeral, Error> {
        unimplemented!("filled next")
    }
}

/// Says why a sandbox could not be made, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such network.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// The host refused.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNetwork(_) => ErrorKind::NotFound,
            Self::Setup(_) => ErrorKind::Internal,
        }
    }
}
