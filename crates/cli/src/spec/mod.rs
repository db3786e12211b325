//! From flags to the API's bodies: pure but for files that a flag names.

pub(crate) mod container;
pub(crate) mod env;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod platform;
pub(crate) mod ports;
