//! The sockets that hold published ports: while one is open, no other process takes the port, and a port that
//! some process has is an error before anything starts. They are never read; the kernel translates addresses
//! before a socket is looked for. All binds of host addresses go through here.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use gantry_model::ErrorKind;
use gantry_model::container::Protocol;

/// Which host ports would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// The first free one of the kernel's range for short-lived ports
    /// (`/proc/sys/net/ipv4/ip_local_port_range`), after the one given last.
    Any,
    /// The first free one from `first` to `last`, both included; the same for exactly this one.
    Range {
        /// At least 1.
        first: u16,
        /// At least `first`.
        last: u16,
    },
}

impl PortChoice {
    /// Exactly this port; 0 is [`PortChoice::Any`].
    #[must_use]
    pub fn exactly(port: u16) -> Self {
        if port == 0 { Self::Any } else { Self::Range { first: port, last: port } }
    }
}

/// A port held on all addresses asked for.
#[derive(Debug)]
pub struct BoundPort {
    /// The port.
    pub port: u16,
    /// One socket for each address, in their order, all with this port. Close-on-exec.
    pub sockets: Vec<OwnedFd>,
}

/// Gives out host ports. One for each daemon: it remembers where it stopped, nothing else.
#[derive(Debug, Default)]
pub struct PortAllocator {
    last: std::sync::atomic::AtomicU32,
}

impl PortAllocator {
    /// Starts at the beginning of the range.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds one port on all of `addresses` (such as `0.0.0.0` and `::`; IPv6 sockets are IPv6 only).
    ///
    /// # Errors
    /// [`BindError`] of the last port tried; nothing is held then.
    pub fn bind(
        &self,
        _addresses: &[IpAddr],
        _choice: PortChoice,
        _protocol: Protocol,
    ) -> Result<BoundPort, BindError> {
        unimplemented!()
    }
}

/// Binds one address and port. For a port above 0 only.
///
/// # Errors
/// [`BindError`].
pub fn bind(_address: IpAddr, _port: u16, _protocol: Protocol) -> Result<OwnedFd, BindError> {
    unimplemented!()
}

/// Whether the host has IPv6 at all, so that `::` can be bound too.
#[must_use]
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Why a port could not be held. `Display` is Docker's inner part, such as
/// `failed to bind host port 0.0.0.0:80/tcp: address already in use`; the engine puts
/// `failed to set up container networking: driver failed programming external connectivity on endpoint NAME
/// (ID): ` before it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Some process has it.
    #[error("failed to bind host port {address}:{port}/{protocol}: address already in use")]
    InUse {
        /// The host's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'static str,
    },
    /// No port of the range is free.
    #[error("all ports are allocated")]
    Exhausted,
    /// The kernel refused for another reason: not an address of this host, no such protocol.
    #[error("failed to bind host port {address}:{port}/{protocol}: {source}")]
    Refused {
        /// The host's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl BindError {
    /// What sort of failure this is. Docker answers all of them with 500.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
