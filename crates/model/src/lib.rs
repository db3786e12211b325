//! The words that every other crate speaks: ids, digests, references, platforms, image values,
//! mounts, events, filters and the kinds of errors.
//!
//! This crate knows no I/O, no async, no Docker wire format and no kernel. Whatever is here can be
//! compared, printed, parsed and stored, and nothing more. Docker's JSON shapes are `api`'s; OCI and
//! Docker *image* configurations are here because their bytes are content, not conversation.
//!
//! Reading order: [`id`], [`digest`], [`reference`], [`platform`], [`image`], [`mount`],
//! [`container`], [`event`], [`filter`], [`time`], [`error`]. [`failpoint`] is empty but in test builds,
//! and here because every crate that must be crashed may use this one.

pub mod container;
pub mod digest;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod filter;
pub mod go;
pub mod id;
pub mod image;
pub mod mount;
pub mod platform;
pub mod reference;
pub mod time;

pub use digest::Digest;
pub use error::ErrorKind;
pub use id::{ContainerId, ExecId, LayerId, NetworkId, SandboxId, SnapshotId};
pub use platform::Platform;
pub use reference::Reference;
pub use time::Timestamp;
