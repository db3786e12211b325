//! State: SQLite with one writer, several readers, and schemas that say who may still read them.
//!
//! A [`Database`] is one file in WAL mode. Every change goes through [`Database::write`] (or
//! [`Database::write_relaxed`]), which takes the one writing connection, so that a check and the
//! change that rests on it are never interleaved with somebody else's; readers have connections of
//! their own and see the last committed state without waiting. This crate knows SQL transactions and
//! versions. It must not know what is stored: each owner (content, engine) brings its [`Schema`].
//!
//! **Versions.** A schema is a list of migrations; `user_version` counts those that were applied.
//! Each migration names the oldest schema version whose program can still read and write the
//! database afterwards, and the database remembers the highest such number. So a program that was
//! rolled back opens a newer database if nothing in it would be misread (columns it does not know are
//! left alone), and refuses it with [`Error::TooNew`] otherwise, before anything is changed.
//!
//! **What a crash costs.** After a process dies, nothing that was committed is lost. After a power
//! loss, a database with [`Synchronous::Full`] has everything that `write` committed; one with
//! [`Synchronous::Normal`] may lose its last transactions, but is never torn. `write_relaxed` is the
//! second behaviour for one transaction of a `Full` database; the next `write` makes it durable too.
//!
//! Reading order: [`Schema`], [`Database`], [`Error`].

mod database;
mod error;
mod schema;

pub use database::Database;
pub use error::Error;
pub use rusqlite;
pub use schema::{Migration, Schema, Synchronous};
