//! One database file: its one writer and its readers.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gantry_model::failpoint::{Point, reached};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::{Error, Migration, Schema, Synchronous};

/// Idle read connections that are kept; more are opened when needed and closed afterwards.
const KEPT_READERS: usize = 4;

/// What a connection keeps of the file in memory, in KiB, instead of SQLite's 2,000: there are up to ten connections in
/// a daemon, and a page that is not kept comes from the kernel's cache in a microsecond.
const CACHE_KIB: i64 = 512;

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
        Self::open_after(path, schema, |_| Ok(()))
    }

    /// Opens the file, and brings it to the schema if `look` has nothing against it.
    fn open_after(
        path: &Path,
        schema: &Schema,
        look: impl FnOnce(&Connection) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let opening = Error::opening(path);
        let mut writer = Connection::open(path).map_err(&opening)?;
        configure(&writer).map_err(&opening)?;
        writer.pragma_update(None, "journal_mode", "wal").map_err(&opening)?;
        set_synchronous(&writer, Synchronous::Full).map_err(&opening)?;
        look(&writer)?;
        migrate(&mut writer, path, schema)?;
        set_synchronous(&writer, schema.synchronous).map_err(&opening)?;
        Ok(Self {
            path: path.into(),
            synchronous: schema.synchronous,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// As [`Self::open`], for a database without which the trees in these directories would be taken for garbage: where it
    /// is lost and one of them has entries, it is not made anew, and one that is damaged is not written.
    ///
    /// # Errors
    /// As [`Self::open`], [`Error::Lost`], and [`Error::Damaged`].
    pub fn open_that_records(path: &Path, schema: &Schema, trees: &[PathBuf]) -> Result<Self, Error> {
        Self::find(path, trees)?;
        Self::open_after(path, schema, |connection| check(connection, path))
    }

    /// Whether there is a database that records what these directories have; `false` where there is none, and nothing
    /// to be recorded. Nothing is opened.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn find(path: &Path, trees: &[PathBuf]) -> Result<bool, Error> {
        let has_bytes = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        if has_bytes(path) || has_bytes(Path::new(&log)) {
            return Ok(true);
        }
        let has_entries =
            |tree: &&PathBuf| std::fs::read_dir(tree).is_ok_and(|mut entries| entries.next().is_some());
        match trees.iter().find(has_entries) {
            Some(left) => Err(Error::Lost { path: path.into(), left: left.clone() }),
            None => Ok(false),
        }
    }

    /// Asserts that the file is a whole database. Reads all of it.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what kept it from being read.
    pub fn check(&self) -> Result<(), Error> {
        self.read(|transaction| check(transaction, &self.path))
    }

    /// Opens a file that is there, also beside the process that writes it, to read it as it is: nothing is
    /// migrated, and [`Self::write`] fails.
    ///
    /// # Errors
    /// [`Error::Open`], also where there is no file.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        let opening = Error::opening(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(&opening)?;
        configure(&connection).map_err(&opening)?;
        connection.pragma_update(None, "query_only", true).map_err(&opening)?;
        Ok(Self {
            path: path.into(),
            synchronous: Synchronous::Normal,
            writer: Mutex::new(connection),
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

    /// Copies the log into the file and empties it. Writers wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Sql`]. Where somebody else copies it at the moment, the log stays, and that is no error.
    pub fn empty_log(&self) -> Result<(), Error> {
        lock(&self.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
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
        let opening = Error::opening(&self.path);
        // Read-only by pragma, not by open flag: the last reader to close must be able to tidy the WAL.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(&opening)?;
        configure(&reader).map_err(&opening)?;
        reader.pragma_update(None, "query_only", true).map_err(&opening)?;
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
    let writes = matches!(behavior, TransactionBehavior::Immediate);
    if writes {
        reached(Point::Committing);
    }
    transaction.commit().map_err(Error::from)?;
    if writes {
        reached(Point::Committed);
    }
    Ok(value)
}

fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(Error::opening(path))?;
    if said == "ok" {
        return Ok(());
    }
    // A headline says which of the connection's files it is about, of which there is one.
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("***")).collect();
    Err(Error::Damaged { path: path.into(), said: lines.join(", ") })
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ONE: Migration = Migration { sql: "CREATE TABLE t (x INTEGER)", reader: 1 };
    const ADDS: Migration = Migration { sql: "ALTER TABLE t ADD COLUMN y TEXT", reader: 1 };
    const CHANGES: Migration = Migration { sql: "UPDATE t SET x = -x", reader: 3 };
    const BROKEN: Migration = Migration { sql: "CREATE TABLE u (x); nonsense", reader: 1 };

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-state-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a scratch directory");
            Self(path)
        }

        fn open(&self, migrations: &'static [Migration]) -> Result<Database, Error> {
            Database::open(&self.0.join("x.db"), &Schema { migrations, synchronous: Synchronous::Full })
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn sum(database: &Database) -> i64 {
        let sql = "SELECT total(x) FROM t";
        let read = database.read::<_, Error>(|t| Ok(t.query_row(sql, [], |row| row.get::<_, f64>(0))?));
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
        let sum = read.expect("a sum") as i64;
        sum
    }

    fn add(database: &Database, x: i64) {
        database.write::<_, Error>(|t| Ok(t.execute("INSERT INTO t (x) VALUES (?1)", [x])?)).expect("added");
    }

    #[test]
    fn older_programs_open_what_they_can_read() {
        let scratch = Scratch::new("versions");
        add(&scratch.open(&[ONE]).expect("new"), 1);
        add(&scratch.open(&[ONE, ADDS]).expect("migrated"), 2);
        let rolled_back = scratch.open(&[ONE]).expect("a column more harms nobody");
        add(&rolled_back, 4);
        drop(rolled_back);
        assert_eq!(sum(&scratch.open(&[ONE, ADDS, CHANGES]).expect("migrated")), -7);
        for older in [&[ONE][..], &[ONE, ADDS]] {
            let Err(Error::TooNew { found, reader, known, .. }) = scratch.open(Box::leak(older.into()))
            else {
                panic!("it was opened")
            };
            assert_eq!((found, reader, known as usize), (3, 3, older.len()));
        }
        assert_eq!(sum(&scratch.open(&[ONE, ADDS, CHANGES]).expect("as it was")), -7, "applied once");
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let scratch = Scratch::new("broken");
        add(&scratch.open(&[ONE]).expect("new"), 5);
        assert!(matches!(scratch.open(&[ONE, BROKEN]), Err(Error::Migration { version: 2, .. })));
        let database = scratch.open(&[ONE]).expect("as it was");
        assert_eq!(sum(&database), 5);
        let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'u'";
        let count = database.read::<_, Error>(|t| Ok(t.query_row(tables, [], |row| row.get::<_, i64>(0))?));
        assert_eq!(count.expect("a count"), 0);
    }

    #[test]
    fn an_error_or_a_panic_rolls_back_and_readers_do_not_wait() {
        let scratch = Scratch::new("rollback");
        let database = Arc::new(scratch.open(&[ONE]).expect("new"));
        add(&database, 1);
        let failed = database.write::<(), Error>(|t| {
            t.execute("INSERT INTO t VALUES (10)", [])?;
            assert_eq!(sum(&database), 1, "not committed, and not waited for");
            t.execute("nonsense", [])?;
            Ok(())
        });
        assert!(matches!(failed, Err(Error::Sql(_))));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            database.write::<(), Error>(|t| {
                t.execute("INSERT INTO t VALUES (100)", [])?;
                panic!("within a transaction");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(sum(&database), 1);
        assert!(
            database.read::<_, Error>(|t| Ok(t.execute("DELETE FROM t", [])?)).is_err(),
            "readers cannot write"
        );
    }

    #[test]
    fn writers_take_turns() {
        let scratch = Scratch::new("turns");
        let database = scratch.open(&[ONE]).expect("new");
        add(&database, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let step = |t: &Transaction<'_>| -> Result<(), Error> {
                            let x: i64 = t.query_row("SELECT x FROM t", [], |row| row.get(0))?;
                            t.execute("UPDATE t SET x = ?1", [x + 1])?;
                            Ok(())
                        };
                        database.write_relaxed(step).expect("a turn");
                    }
                });
            }
        });
        assert_eq!(sum(&database), 200);
        let level = database.write::<_, Error>(|t| {
            Ok(t.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(level.expect("the level"), 2, "FULL again");
    }

    #[test]
    fn no_connection_keeps_much_of_the_file() {
        let scratch = Scratch::new("cache");
        let database = scratch.open(&[ONE]).expect("new");
        let kept =
            |t: &Transaction<'_>| Ok(t.pragma_query_value(None, "cache_size", |row| row.get::<_, i64>(0))?);
        // Negative numbers are KiB, positive ones pages.
        assert_eq!(database.write::<_, Error>(kept).expect("the writer's"), -CACHE_KIB);
        assert_eq!(database.read::<_, Error>(kept).expect("a reader's"), -CACHE_KIB);
    }

    #[test]
    fn a_lost_database_is_not_made_anew_beside_its_trees() {
        let scratch = Scratch::new("lost");
        let (path, trees) = (scratch.0.join("x.db"), scratch.0.join("trees"));
        std::fs::create_dir_all(&trees).expect("a directory");
        let schema = Schema { migrations: &[ONE], synchronous: Synchronous::Full };
        let open = || Database::open_that_records(&path, &schema, std::slice::from_ref(&trees));
        drop(open().expect("nothing is there yet"));
        std::fs::write(trees.join("tree"), "x").expect("a tree");
        drop(open().expect("the database is there"));
        std::fs::write(&path, "").expect("emptied");
        let _ = std::fs::remove_file(scratch.0.join("x.db-wal"));
        assert!(matches!(open(), Err(Error::Lost { left, .. }) if left == trees));
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 0, "nothing was made");
        std::fs::remove_file(trees.join("tree")).expect("moved away");
        drop(open().expect("nothing would be lost"));
    }

    #[test]
    fn damage_is_found() {
        let scratch = Scratch::new("damage");
        let database = scratch.open(&[ONE]).expect("opens");
        database.check().expect("whole");
        drop(database);
        let path = scratch.0.join("x.db");
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.iter_mut().skip(100).for_each(|byte| *byte = 0x5a);
        std::fs::write(&path, bytes).expect("written");
        let damaged = std::fs::read(&path).expect("read");
        let found = scratch.open(&[ONE]).and_then(|database| database.check());
        let error = found.expect_err("it is damaged");
        assert!(error.is_damaged(), "{error}");
        // Where it is the only record of something, it is not opened, and the file and what to do are named.
        let schema = Schema { migrations: &[ONE, ADDS], synchronous: Synchronous::Full };
        let error = Database::open_that_records(&path, &schema, &[]).expect_err("it is damaged");
        let text = error.to_string();
        assert!(
            error.is_damaged() && text.contains("x.db is damaged") && text.contains(".recover"),
            "{text}"
        );
        assert_eq!(std::fs::read(&path).expect("read"), damaged, "nothing was changed");
    }
}
