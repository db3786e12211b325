//! A client of Docker's Engine API over a Unix socket or TCP, for any daemon that speaks it.
//!
//! It knows how to ask ([`Request`]), where ([`Endpoint`]) and what an error looks like
//! ([`Error`]), and nothing of what the answers mean: bodies are `gantry-api`'s types or JSON
//! values. It needs a tokio runtime with I/O; a current-thread one is enough.
//!
//! Without a version ([`Client::with_version`]) requests carry none, which every daemon takes for
//! its newest; so no request is spent on negotiating.
//!
//! Reading order: [`endpoint`], [`request`], [`response`], [`connection`], [`error`].

pub mod connection;
pub mod endpoint;
pub mod error;
pub mod request;
pub mod response;

pub use connection::Client;
pub use endpoint::Endpoint;
pub use error::Error;
pub use gantry_api as api;
pub use request::{Body, Request};
pub use response::{Hijacked, Response};
