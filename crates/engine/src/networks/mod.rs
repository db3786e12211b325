//! Networks: the built-in `bridge`, `host` and `none`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use gantry_model::filter::Filters;
use gantry_model::{ContainerId, ErrorKind, NetworkId, Timestamp};

/// All networks. Cheap to clone.
#[derive(Clone)]
pub struct Networks {}

/// What inspect of a network shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Address and prefix of the subnet, and the gateway; `None` for host and none.
    pub subnet: Option<((Ipv4Addr, u8), Ipv4Addr)>,
    /// Docker's options (`com.docker.network.bridge.name`, …).
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Running containers on it.
    pub containers: Vec<NetworkMember>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its endpoint there.
    pub endpoint: crate::sandboxes::Endpoint,
}

impl Networks {
    /// All networks, in Docker's order. Filters: `name`, `id`, `driver`, `type`, `scope`, `label`, `dangling`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub fn list(&self, _filters: &Filters) -> Result<Vec<NetworkView>, Error> {
        unimplemented!("filled next")
    }

    /// Finds a network by name, id or prefix of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`].
    pub fn inspect(&self, _network: &str) -> Result<NetworkView, Error> {
        unimplemented!("filled next")
    }

    /// What the host's own firewall blocks, with the rule that would open it; shown by `info`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        unimplemented!("filled next")
    }
}

/// Says why an operation on a network failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNetwork(_) => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
        }
    }
}
