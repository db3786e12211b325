//! From a daemon's answers to what the user reads.

mod go_types;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod units;
