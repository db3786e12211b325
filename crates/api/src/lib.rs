//! Docker's Engine API as values: its JSON bodies, query strings, stream frames, endpoints and
//! versions, 1.24 to 1.55.
//!
//! This crate knows the *wire* and nothing behind it: no I/O, no async, no engine. Whatever is
//! decided about Go's JSON is decided here once ([`gojson`]); whatever an older client must not see
//! or may not send stands in one table ([`differences`]), so that no handler ever compares versions.
//!
//! Reading order: [`version`], [`endpoints`], [`differences`]; [`gojson`], [`query`], [`filters`],
//! [`frame`]; then a module per resource.

pub mod archive;
pub mod build;
pub mod container;
pub mod differences;
pub mod endpoints;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod frame;
pub mod gojson;
pub mod host_config;
pub mod image;
pub mod inspect;
pub mod network;
pub mod progress;
pub mod query;
pub mod system;
pub mod version;
pub mod volume;

pub use endpoints::{Endpoint, Method};
pub use error::ErrorResponse;
pub use gantry_model as model;
pub use query::Query;
pub use version::ApiVersion;

/// A Go map with string keys: sorted when written, as Go does.
pub type Map<V> = std::collections::BTreeMap<String, V>;

/// A Go set, written as a map to empty objects: `{"80/tcp":{}}`.
pub type Set = Map<Empty>;

/// An empty object; whatever is in it when read is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Empty {}

/// Go's zero time, which is written where something has not happened yet.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// What `serde(skip_serializing_if)` asks for Go's `omitempty`: whether a value is its type's default.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
