//! The store: images, the layers they are made of, and the snapshots that containers write to.
//!
//! Everything that is kept lies below one data root and is recorded in one database, `content.db`:
//!
//! ```text
//! content.db                      every row names a thing below, and nothing is there without a row
//! content/blobs/sha256/<hex>      bytes by digest: configurations, manifests, layers as received
//! layers/<layer id>/fs            an unpacked layer, in the snapshot driver's form
//! snapshots/<id>/{fs,work}        a writable layer
//! trash/<n>                       trees on their way out, unlinked in the background
//! tmp/                            bytes that have no digest yet; emptied at every open
//! ```
//!
//! **Order.** Blobs: bytes first, then the row. Layers and snapshots: the row comes before the tree
//! and goes after it; a deletion is a tombstone row and a rename to `trash/` first. So a crash
//! between any two steps leaves either a thing that [`Store::open`] finishes removing, or nothing.
//! **Durability.** Large trees are not synced one file at a time. A layer carries the boot id until it is
//! known to be on the disk; an image becomes visible only after its layers are. After a boot whose id
//! differs, layers that still carry the old one are dropped: no image refers to them.
//! **Reachability.** What neither an image, nor a snapshot, nor a [`Lease`] refers to is garbage, and
//! [`Store::collect`] takes it. Taking a lease and collecting go through the one writer, so a lease
//! that was granted holds.
//!
//! This crate knows tar, overlay's on-disk form and Docker's rules of names and removal. It must not
//! know containers, networks, HTTP or wire types; whether an image is in use is asked by a callback.
//! All calls block; callers on an executor use a blocking thread.
//!
//! Reading order: [`Store`], [`content`], [`archive`], [`layer`], [`snapshot`], [`image`], [`lease`],
//! [`gc`], [`fsck`].

pub mod archive;
pub mod content;
pub mod error;
pub mod fsck;
pub mod gc;
pub mod image;
pub mod layer;
pub mod lease;
pub mod snapshot;

mod durability;
mod reserve;
mod schema;
mod store;
mod trash;

pub use error::Error;
pub use image::Images;
pub use layer::{Layer, Layers};
pub use lease::{Held, Lease, Leases};
pub use snapshot::Snapshots;
pub use store::{DriverChoice, Options, Store};
