//! Between the engine's terms and Docker's JSON. Everything here is pure but for the clock that callers
//! hand in.

pub(crate) mod create;
pub(crate) mod defaults;
pub(crate) mod graph;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod network;
pub(crate) mod older;
pub(crate) mod status;
pub(crate) mod summary;
pub(crate) mod time;
pub(crate) mod volume;
