//! The sockets that hold published ports: while one is open, no other process takes the port, and a port that
//! some process has is an error before anything starts. They are never read; the kernel translates addresses
//! before a socket is looked for. All binds of host addresses go through here.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_model::ErrorKind;
use gantry_model::container::Protocol;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::{Host, ports};

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
    next: AtomicU32,
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
        addresses: &[IpAddr],
        choice: PortChoice,
        protocol: Protocol,
    ) -> Result<BoundPort, BindError> {
        let (first, last) = match choice {
            PortChoice::Any => local_port_range(),
            PortChoice::Range { first, last } => (first, last.max(first)),
        };
        let count = u32::from(last - first) + 1;
        // Taking one step for each port tried keeps concurrent callers apart.
        let mut refusal = BindError::Exhausted;
        for step in 0..count {
            let at = match choice {
                PortChoice::Any => self.next.fetch_add(1, Ordering::Relaxed) % count,
                PortChoice::Range { .. } => step,
            };
            let port = first + u16::try_from(at).expect("an offset within a range of ports");
            match bind_all(addresses, port, protocol) {
                Ok(sockets) => return Ok(BoundPort { port, sockets }),
                Err(error @ BindError::InUse { .. }) => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(if count == 1 { refusal } else { BindError::Exhausted })
    }
}

fn bind_all(addresses: &[IpAddr], port: u16, protocol: Protocol) -> Result<Vec<OwnedFd>, BindError> {
    addresses.iter().map(|address| bind(*address, port, protocol)).collect()
}

/// The kernel's range for short-lived ports, read anew because it may be changed.
fn local_port_range() -> (u16, u16) {
    const DEFAULT: (u16, u16) = (32768, 60999);
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => (first, last),
        _ => DEFAULT,
    }
}

/// Binds one address and port. For a port above 0 only.
///
/// The socket takes the port for itself: no other can be bound to it, whatever options that one sets. It does not
/// listen, so a connection that reaches it, because no rule led it elsewhere, is refused at once.
///
/// # Errors
/// [`BindError`].
pub fn bind(address: IpAddr, port: u16, protocol: Protocol) -> Result<OwnedFd, BindError> {
    hold(SocketAddr::new(address, port), protocol).map_err(|errno| {
        let protocol = protocol.as_str();
        if errno == Errno::ADDRINUSE {
            BindError::InUse { address, port, protocol, target: String::new() }
        } else {
            BindError::Refused { address, port, protocol, target: String::new(), source: errno.into() }
        }
    })
}

fn hold(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier holder may linger for a minute (TIME_WAIT); this option lets us bind all the
        // same. It would also let others in who set it, unless one of the two has ever listened: so listen for
        // a moment, stop, and take the option back.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &address)?;
        net::listen(&socket, 0)?;
        net::shutdown(&socket, net::Shutdown::Read)?;
        sockopt::set_socket_reuseaddr(&socket, false)?;
    } else {
        net::bind(&socket, &address)?;
        // Datagrams that reach it are never read.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, 0);
    }
    Ok(socket)
}

/// Whether the host has IPv6 at all, so that `::` can be bound too.
#[must_use]
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// Why a port could not be held. `Display` is Docker's inner part, such as
/// `failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp: address already in use`; the engine puts
/// `failed to set up container networking: driver failed programming external connectivity on endpoint NAME
/// (ID): ` before it, and asks for [`BindError::explain`], which adds what only it knows.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Some process has it.
    #[error("failed to bind host port for {address}:{port}{target}/{protocol}: address already in use")]
    InUse {
        /// The host's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'static str,
        /// A colon and the container's address and port; empty before [`BindError::explain`].
        target: String,
    },
    /// It is published to another container of this daemon. Docker's words.
    #[error("Bind for {address}:{port} failed: port is already allocated")]
    Allocated {
        /// The host's address that the other has.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// No port of the range is free.
    #[error("all ports are allocated")]
    Exhausted,
    /// The kernel refused for another reason: not an address of this host, no such protocol.
    #[error("failed to bind host port for {address}:{port}{target}/{protocol}: {}", words(source))]
    Refused {
        /// The host's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'static str,
        /// As in [`BindError::InUse`].
        target: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    /// Tells apart whether another container of ours has the port, and names the container's end, as Docker does.
    #[must_use]
    pub fn explain(self, host: &Host, to: SocketAddrV4) -> Self {
        let target = format!(":{to}");
        match self {
            Self::InUse { address, port, protocol, .. } => {
                match ports::published_at(host, address, port, protocol) {
                    Some(address) => Self::Allocated { address, port },
                    None => Self::InUse { address, port, protocol, target },
                }
            }
            Self::Refused { address, port, protocol, source, .. } => {
                Self::Refused { address, port, protocol, target, source }
            }
            other => other,
        }
    }

    /// What sort of failure this is. Docker answers all of them with 500.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Go's words for an error number, which Docker passes on and clients look for.
fn words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ADDRNOTAVAIL) => "cannot assign requested address".into(),
        Some(Errno::ACCESS) => "permission denied".into(),
        Some(Errno::AFNOSUPPORT) => "address family not supported by protocol".into(),
        Some(Errno::PROTONOSUPPORT) => "protocol not supported".into(),
        _ => error.to_string(),
    }
}
