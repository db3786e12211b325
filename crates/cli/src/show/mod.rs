//! From a daemon's answers to what the user reads.

pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod units;
