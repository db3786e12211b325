//! The supervisor of one container: what the program `gantry-shim` does, and how a daemon talks to it.
//!
//! One static process per container, from its first start to its final exit. It launches the
//! container, owns its streams or terminal, serves attached clients, spools output, keeps the journal
//! and the held descriptors, and carries out stops and restarts by policy. It needs nobody: a daemon
//! may die, be upgraded or hang, and the container does not notice.
//!
//! It knows the runtime and the log spool. It knows no image, no network, no API and no database. It
//! is one thread over one epoll; the only other thread writes the log, and is there only while
//! output flows, so that a slow disk delays no signal.
//!
//! For daemons: [`spawn`] starts one, [`connection`] talks to it, [`protocol`] is what is said,
//! [`journal`] reads what one that died left behind, [`census`] finds those that cannot be talked to.

pub mod census;
pub mod connection;
pub mod journal;
pub mod protocol;
pub mod spawn;

mod client;
mod container;
mod descriptors;
mod detach;
mod execs;
mod lifecycle;
mod link;
mod oom;
mod poller;
mod requests;
mod restart;
mod streams;
pub mod supervisor;
