//! Bridges, endpoints, published ports, addresses and name-resolution files of one host.
//!
//! This crate is stateless: it is handed allocations, names and a descriptor of a network namespace, and
//! what it makes lives in the kernel. It starts no process, and no thread that outlives its work. Everything it
//! makes carries the name or the tag of an [`Identity`], so that several daemons share a host, and
//! [`owned`] can list and remove all of it, whoever made it.
//!
//! What it must not know: containers, images, Docker's API, the database.
//!
//! A start over a bridge, as `engine` does it:
//!
//! 1. at the daemon's start: [`Host::open`], [`ipam::choose_subnet`] (or the recorded one),
//!    [`bridge::ensure`], [`ports::reconcile`] with all publications of the records, and a
//!    [`firewall::Watch`] on a thread, which tells when somebody else changed the rules;
//! 2. [`ipam::Pool::allocate`] an address;
//! 3. [`endpoint::attach`] into the sandbox's namespace;
//! 4. [`bind::PortAllocator::bind`] for each port: the sockets go to the shim, which holds them;
//! 5. [`ports::publish`] all of them in one transaction;
//! 6. at the end: [`ports::unpublish`], close the sockets and the namespace, and only then
//!    [`ipam::Pool::release`]. Closing the namespace's last descriptor removes the link.
//!
//! Every function is synchronous and short (below a millisecond, [`bridge::ensure`] aside); a caller on an
//! async runtime may still prefer a blocking thread.
//!
//! Reading order: [`identity`], [`address`], [`host`], [`bridge`], [`endpoint`], [`ports`], [`bind`],
//! [`ipam`], [`dns`], [`firewall`], [`owned`].

pub mod address;
pub mod bind;
pub mod bridge;
pub mod dns;
pub mod endpoint;
pub mod firewall;
pub mod host;
pub mod identity;
pub mod ipam;
pub mod owned;
pub mod ports;

mod flows;
mod rules;
mod table;

pub use address::{Ipv4Net, MacAddress};
pub use host::{Host, HostError};
pub use identity::Identity;
