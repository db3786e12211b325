//! The engine database: its schema, and the one way to write it.
//!
//! ```text
//! meta               what belongs to the data root: the daemon's id
//! networks           built-in ones too, so that references are foreign keys
//! containers         one without a snapshot was being made or unmade when the daemon died
//! container_volumes  a volume with a row here cannot be removed
//! sandboxes          network state of what runs: address, ports; `owner` is the container that made it
//! sandbox_members    who lives in it; the address is free again when nobody does
//! volumes            named and anonymous
//! ```
//! `record` and `state` are JSON of [`crate::containers::Record`] and [`crate::containers::State`]:
//! fields are added with defaults, so an older program still reads them. `seq` is the last journal
//! record of the container's shim that is contained in `state`; both change in one transaction.
//!
//! Transactions are short (tens of microseconds) and are run on the caller's thread. What would make
//! one of them long, copying the log back into the database, is done by a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use gantry_model::ErrorKind;
use gantry_state::{Database, Migration, Schema, Synchronous};
use parking_lot::Mutex;
use rusqlite::Transaction;

use crate::OpenError;

const SCHEMA: Schema = Schema {
    migrations: &[Migration {
        reader: 1,
        sql: "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, created INTEGER NOT NULL
) STRICT;
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, seq INTEGER NOT NULL,
    record TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE volumes (
    name TEXT PRIMARY KEY, record TEXT NOT NULL
) STRICT;
CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes (name) ON DELETE RESTRICT,
    PRIMARY KEY (container, volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_users ON container_volumes (volume);
CREATE TABLE sandboxes (
    id TEXT PRIMARY KEY, network TEXT NOT NULL REFERENCES networks (id), owner TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE TABLE sandbox_members (
    sandbox TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE, container TEXT NOT NULL,
    PRIMARY KEY (sandbox, container)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_of ON sandbox_members (container);
",
    }],
    synchronous: Synchronous::Normal,
};

/// Transactions after which the log is copied back.
const CHECKPOINT_EVERY: u32 = 256;
/// Bytes of the log from which it is emptied although writers wait for that: while there is always one who writes, it
/// would never begin anew.
const LONG_LOG_BYTES: u64 = 16 << 20;

/// The engine database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    writes: AtomicU32,
    /// Wakes the thread that copies the log back; the thread ends when it is dropped.
    checkpoint: Sender<()>,
    /// Held while that thread copies.
    copying: Arc<Mutex<()>>,
}

/// A failed transaction; nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The database failed. Whoever asked sees this text alone, so it has SQLite's, such as that the disk is full.
    #[error("engine database: {}", crate::chain(.0))]
    State(gantry_state::Error),
    /// A record cannot be read or written as JSON.
    #[error("engine database: a record cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<gantry_state::Error> for LedgerError {
    fn from(error: gantry_state::Error) -> Self {
        Self::State(error)
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::State(error.into())
    }
}

impl LedgerError {
    /// Whether something still refers to what was to go.
    pub(crate) fn is_referred_to(&self) -> bool {
        self.extended_code().is_some_and(|code| {
            code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY
                || code == rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER
        })
    }

    fn extended_code(&self) -> Option<i32> {
        match self {
            Self::State(gantry_state::Error::Sql(error)) => {
                error.sqlite_error().map(|error| error.extended_code)
            }
            _ => None,
        }
    }
}

impl Ledger {
    /// Opens or makes the database.
    pub(crate) fn open(path: &Path, containers: &Path) -> Result<Self, OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::Database(error.to_string());
        let opened = Database::open_that_records(path, &SCHEMA, &[containers.to_owned()]);
        let database = opened.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => OpenError::Full(crate::chain(&error)),
            _ => failed(&crate::chain(&error)),
        })?;
        database
            .write(|transaction| -> Result<(), LedgerError> {
                Ok(transaction.pragma_update(None, "wal_autocheckpoint", 0)?)
            })
            .map_err(|error| failed(&error))?;
        let (checkpoint, due) = channel();
        let copying = Arc::new(Mutex::new(()));
        let (path, held) = (path.to_owned(), Arc::clone(&copying));
        std::thread::Builder::new()
            .name("engine-db".into())
            .stack_size(256 << 10)
            .spawn(move || checkpoints(&path, &due, &held))
            .map_err(|error| failed(&error))?;
        Ok(Self { shared: Arc::new(Shared { database, writes: AtomicU32::new(0), checkpoint, copying }) })
    }

    /// Runs one transaction: all of it or nothing.
    pub(crate) fn write<T, E: From<gantry_state::Error>>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = self.shared.database.write(run);
        if self.shared.writes.fetch_add(1, Ordering::Relaxed) % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            self.shared.shorten_log();
        }
        result
    }

    /// Reads within one snapshot.
    pub(crate) fn read<T>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.shared.database.read(run)
    }
}

impl Shared {
    fn shorten_log(&self) {
        let mut log = self.database.path().as_os_str().to_owned();
        log.push("-wal");
        if std::fs::metadata(log).is_ok_and(|log| log.len() > LONG_LOG_BYTES) {
            let _copied = self.copying.lock();
            if let Err(error) = self.database.empty_log() {
                tracing::warn!("the engine database's log was not emptied: {error}");
            }
        } else {
            // The thread outlives this sender; should it have failed to, the log is emptied when it is long.
            let _ = self.checkpoint.send(());
        }
    }
}

/// Copies the log back whenever it is told to. Writers are not kept waiting for it.
fn checkpoints(path: &Path, due: &Receiver<()>, copying: &Mutex<()>) {
    let Ok(connection) = rusqlite::Connection::open(path) else { return };
    while due.recv().is_ok() {
        while due.try_recv().is_ok() {}
        let _held = copying.lock();
        let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = result {
            tracing::warn!("the engine database's log was not copied back: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_short_while_there_is_always_one_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.db");
        let ledger = Ledger::open(&path, &directory.path().join("containers")).unwrap();
        let run = |statement: &str| {
            let execute =
                |transaction: &Transaction<'_>| Ok::<_, LedgerError>(transaction.execute_batch(statement)?);
            ledger.write(execute).unwrap();
        };
        run("CREATE TABLE filler (bytes BLOB)");
        for _ in 0..6000 {
            run("INSERT INTO filler VALUES (zeroblob(16000))");
        }
        let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
        assert!(log < 32 << 20, "{log} bytes of 96 million are in the log still");
    }
}
