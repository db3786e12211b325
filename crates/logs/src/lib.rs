//! The log spool: a container's output on disk, in Docker's json-file format.
//!
//! It knows the entry format, rotation, and how to read what is being written. It knows no
//! container, no API framing, no async. The writer never blocks its caller: a thread of its own does
//! the writing, behind a bounded ring. The reader is polled, and tells which descriptor to wait for.
//!
//! Reading order: [`config`], [`entry`], [`spool`] (writing), [`reader`].

pub mod config;
pub mod entry;
mod file;
pub mod reader;
pub mod spool;

pub use config::{JsonFile, LogConfig, Overflow};
pub use entry::{Details, Entry, Stream};
pub use reader::{Query, Reader};
pub use spool::{Gap, Spool};
