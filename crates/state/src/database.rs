//! One database file: its one writer and its readers.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::{Error, Migration, Schema, Synchronous};

/// Idle read connections that are kept; more are opened when needed and closed afterwards.
const KEPT_READERS: usize = 4;

/// How long another process (a backup, `sqlite3`) may hold a lock before a statement fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open database. Cheap to share behind an `Arc`; all methods block the calling thread.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    synchronous: Synchronous,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens the file, makes it if it is not there, and applies the migrations that it lacks.
    ///
    /// Foreign keys are enforced. The directory must exist.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::TooNew`] (nothing was changed) and [`Error::Migration`] (the
    /// migrations before it stay).
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, Error> {
        let opening = |source| Error::Open { path: path.into(), source };
        let mut writer = Connection::open(path).map_err(opening)?;
        configure(&writer).map_err(opening)?;
        writer.pragma_update(None, "journal_mode", "wal").map_err(opening)?;
        set_synchronous(&writer, Synchronous::Full).map_err(opening)?;
        migrate(&mut writer, path, schema)?;
        set_synchronous(&writer, schema.synchronous).map_err(opening)?;
        Ok(Self {
            path: path.into(),
            synchronous: schema.synchronous,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs one transaction on the writing connection, after those of other threads.
    ///
    /// `Ok` commits, `Err` rolls back. The closure must not call `write` again: it would wait for
    /// itself.
    ///
    /// # Errors
    /// What the closure returns, or [`Error::Sql`] where begin or commit fails.
    pub fn write<T, E: From<Error>>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        transact(&mut lock(&self.writer), TransactionBehavior::Immediate, run)
    }

    /// As [`Self::write`], but does not wait for the disk: a power loss may undo it until the next
    /// `write`. For records that a new boot can do without, such as those of trees that it sweeps.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_relaxed<T, E: From<Error>>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.synchronous == Synchronous::Normal {
            return self.write(run);
        }
        let mut writer = lock(&self.writer);
        set_synchronous(&writer, Synchronous::Normal).map_err(Error::from)?;
        let result = transact(&mut writer, TransactionBehavior::Immediate, run);
        // Left at NORMAL, later commits would silently promise too much; better to say so now.
        set_synchronous(&writer, Synchronous::Full).map_err(Error::from)?;
        result
    }

    /// Reads on a connection that cannot write, within one snapshot of the database.
    ///
    /// # Errors
    /// What the closure returns, or [`Error`] where no connection can be had.
    pub fn read<T, E: From<Error>>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = lock(&self.readers).pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let result = transact(&mut reader, TransactionBehavior::Deferred, run);
        let mut readers = lock(&self.readers);
        if readers.len() < KEPT_READERS {
            readers.push(reader);
        }
        result
    }

    fn open_reader(&self) -> Result<Connection, Error> {
        let opening = |source| Error::Open { path: self.path.clone(), source };
        // Read-only by pragma, not by open flag: the last reader to close must be able to tidy the WAL.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(opening)?;
        configure(&reader).map_err(opening)?;
        reader.pragma_update(None, "query_only", true).map_err(opening)?;
        Ok(reader)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a closure dropped its transaction, which rolled back: the connection is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn transact<T, E: From<Error>>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    run: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction_with_behavior(behavior).map_err(Error::from)?;
    let value = run(&transaction)?;
    transaction.commit().map_err(Error::from)?;
    Ok(value)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "foreign_keys", true)
}

fn set_synchronous(connection: &Connection, synchronous: Synchronous) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(match synchronous {
            Synchronous::Full => "PRAGMA synchronous=FULL",
            Synchronous::Normal => "PRAGMA synchronous=NORMAL",
        })?
        .execute([])
        .map(|_| ())
}

/// Applies the missing migrations, each in one transaction with its version.
///
/// The minimum reader lives in a table of one row, because SQLite has only one number of its own.
fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), Error> {
    let known = u32::try_from(schema.migrations.len()).expect("a schema has a handful of migrations");
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| Error::Open { path: path.into(), source })?;
    if found > known {
        let reader = minimum_reader(connection)?.unwrap_or(found);
        if reader > known {
            return Err(Error::TooNew { path: path.into(), found, reader, known });
        }
        return Ok(());
    }
    for (version, migration) in (1..).zip(schema.migrations).skip(found as usize) {
        apply(connection, version, migration).map_err(|source| Error::Migration {
            path: path.into(),
            version,
            source,
        })?;
    }
    Ok(())
}

fn minimum_reader(connection: &Connection) -> Result<Option<u32>, rusqlite::Error> {
    connection.query_row("SELECT reader FROM schema_reader", [], |row| row.get(0)).optional()
}

fn apply(connection: &mut Connection, version: u32, migration: &Migration) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_reader (one INTEGER PRIMARY KEY CHECK (one = 1), reader INTEGER NOT NULL)",
    )?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO schema_reader VALUES (1, ?1) ON CONFLICT DO UPDATE SET reader = max(reader, excluded.reader)",
        [migration.reader],
    )?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
