//! HTTP as a Docker daemon speaks it: sockets, connections, routing, hijacking, streams.
//!
//! This crate knows connections and the table of endpoints; it must not know what any endpoint does.
//! hyper parses and frames; the accept loop and each connection are ours, because Docker's clients
//! need three things that servers seldom do: a client may close its sending half and still read, a
//! client that vanishes ends what was done for it, and a handler may take the raw descriptor with the
//! bytes read so far (`attach`, `exec`).
//!
//! Reading order: [`listen`] (sockets), [`connection`] (one client), [`router`] (paths and versions),
//! [`request`] and [`reply`] (what handlers see), [`hijack`], [`limits`].

pub mod connection;
pub mod hijack;
pub mod limits;
pub mod listen;
pub mod reply;
pub mod request;
pub mod router;
mod socket;

pub use hijack::{Hijacked, Upgrade};
pub use limits::Limits;
pub use listen::{Address, ListenError, Listener};
pub use reply::{Body, Failure, Reply, Sender};
pub use request::{BodyError, Request};
pub use router::{Router, RouterError};
