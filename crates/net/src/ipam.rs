//! Addresses: which subnet a new network gets, and which address a new endpoint.

use std::net::Ipv4Addr;

use crate::Host;
use crate::address::Ipv4Net;
use gantry_model::ErrorKind;

/// The addresses of one subnet. Pure and in memory: the engine fills it from its records at its start.
///
/// The network's first and last address and those reserved are never given out. An address that was released
/// is given out again only after all others: the kernel takes down an old namespace some time after
/// its last descriptor was closed, and until then it may still answer for its address.
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Ipv4Net,
}

impl Pool {
    /// All addresses of `subnet` (its host bits are ignored) free.
    ///
    /// # Errors
    /// [`IpamError::Subnet`] for a prefix below 8 or above 30.
    pub fn new(subnet: Ipv4Net) -> Result<Self, IpamError> {
        Ok(Self { subnet })
    }

    /// The subnet, host bits cleared.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// Takes the next free address.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`].
    pub fn allocate(&mut self) -> Result<Ipv4Addr, IpamError> {
        unimplemented!()
    }

    /// Takes this address: the gateway, one that a user asked for, one of a record.
    ///
    /// # Errors
    /// [`IpamError::InUse`], [`IpamError::OutOfRange`].
    pub fn reserve(&mut self, _address: Ipv4Addr) -> Result<(), IpamError> {
        unimplemented!()
    }

    /// Gives an address back. One that is free, or not of this subnet, is ignored.
    pub fn release(&mut self, _address: Ipv4Addr) {
        unimplemented!()
    }

    /// How many addresses are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        unimplemented!()
    }
}

/// A range that subnets are cut from (Docker's `--default-address-pool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The range.
    pub base: Ipv4Net,
    /// The prefix length of each subnet, at least that of `base`.
    pub size: u8,
}

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
#[must_use]
pub fn default_pools() -> Vec<AddressPool> {
    unimplemented!()
}

/// The first subnet of `pools` that overlaps neither a route or address of the host, nor its resolvers, nor
/// `taken` (the subnets of networks that are recorded but not made at the moment).
///
/// # Errors
/// [`IpamError::NoSubnet`]; [`IpamError::Kernel`] where the host's routes could not be read.
pub fn choose_subnet(_host: &Host, _pools: &[AddressPool], _taken: &[Ipv4Net]) -> Result<Ipv4Net, IpamError> {
    unimplemented!()
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every address is taken. Docker's words.
    #[error("no available IPv4 addresses on this network's address pools: {subnet}")]
    Exhausted {
        /// The pool's subnet.
        subnet: Ipv4Net,
    },
    /// The address asked for is taken. Docker's words.
    #[error("Address already in use")]
    InUse {
        /// The address.
        address: Ipv4Addr,
    },
    /// The address asked for cannot be an endpoint's.
    #[error("Requested address is out of range")]
    OutOfRange {
        /// The address.
        address: Ipv4Addr,
        /// The pool's subnet.
        subnet: Ipv4Net,
    },
    /// The subnet is too small or too large for a network.
    #[error("subnet {subnet} cannot hold a network: its prefix must be /8 to /30")]
    Subnet {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The host uses them all. Docker's words.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// The host's routes could not be read.
    #[error("reading the host's routes failed")]
    Kernel(#[source] std::io::Error),
}

impl IpamError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::Forbidden,
            Self::OutOfRange { .. } | Self::Subnet { .. } => ErrorKind::InvalidArgument,
            Self::Exhausted { .. } | Self::NoSubnet | Self::Kernel(_) => ErrorKind::Internal,
        }
    }
}
