//! The builder: a Dockerfile and a context become an image.
//!
//! What this crate knows: Dockerfiles and `.dockerignore`, the graph of operations that they mean
//! (isomorphic to BuildKit's LLB), how to solve it with the cache asked first, how each operation is
//! done in a snapshot, and how the result is told in the words of Docker's classic builder.
//!
//! What it must not know: HTTP (what it fetches comes from the [`fetch::Fetcher`] hook), Docker's wire types, containers of the engine, and how a bridge is
//! made. Namespaces of a step with a network come from the [`executor::Network`] hook, which the
//! daemon implements.
//!
//! The walk of one build: [`builder`] takes a [`request::BuildRequest`], [`context`] unpacks what the
//! client sent, [`dockerfile`] parses and lowers it to a [`graph`], [`solver`] walks that, [`op`] does
//! the work, [`export`] writes the image. [`event`]s are sent on the way; [`render`] makes the classic
//! `Step 1/5` stream of them.
//!
//! Everything is synchronous: the daemon calls [`builder::Builder::build`] on a blocking thread.

pub mod builder;
pub mod cancel;
pub mod context;
pub mod dockerfile;
pub mod dockerignore;
pub mod error;
pub mod event;
pub mod executor;
pub mod export;
pub mod fetch;
pub mod graph;
pub mod op;
pub mod render;
pub mod request;
pub mod solver;
pub mod usage;

pub use builder::{Builder, BuilderOptions, BuiltImage};
pub use cancel::Cancel;
pub use error::BuildError;
pub use event::BuildEvent;
pub use request::{BuildOptions, BuildRequest, ContextSource, NetworkMode, RunOptions};
