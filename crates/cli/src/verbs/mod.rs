//! The verbs, one file each or one for those that are one request each.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod bootstrap;
pub(crate) mod build;
pub(crate) mod completion;
pub(crate) mod copy;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod prune;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod volume;
