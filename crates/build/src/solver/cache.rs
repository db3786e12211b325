//! The cache's tables.
//!
//! ```text
//! results  id, outputs (JSON: layers of each output), note, name (the step's text), made and used (seconds since
//!          1970), uses (builds that found it)
//! keys     key -> result; several keys may lead to one result
//! links    key, input, selector -> the key of that input: how a key came about
//! ```
//! A database of its own, because losing it costs time and nothing else; so it does not wait for the
//! disk. Layers that its results name may be gone: whoever asks checks.

use std::collections::HashSet;
use std::path::Path;

use gantry_model::LayerId;
use gantry_state::rusqlite::{OptionalExtension, params};
use gantry_state::{Database, Migration, Schema, Synchronous};
use serde::{Deserialize, Serialize};

use super::LayerRef;
use super::key::{Key, KeyMaker};
use crate::error::BuildError;

/// An input of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which input of the operation.
    pub input: i64,
    /// What of it counts; `None` is all.
    pub selector: Option<String>,
    /// The input's key, or the key of what was selected.
    pub key: Key,
}

/// A key and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// The operation's own key.
    pub operation: Key,
    /// The inputs.
    pub links: Vec<Link>,
}

impl Record {
    /// Makes the key of an operation with these inputs.
    #[must_use]
    pub fn new(operation: Key, links: Vec<Link>) -> Self {
        let mut maker = KeyMaker::new("vertex");
        maker.field(operation.as_bytes());
        for link in &links {
            maker.field(&link.input.to_le_bytes());
            maker.field(if link.selector.is_some() { b"content" } else { b"tree" });
            maker.field(link.key.as_bytes());
        }
        Self { key: maker.finish(), operation, links }
    }
}

/// A result as the cache keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The layers of each output, lowest first.
    pub outputs: Vec<Vec<LayerRef>>,
    /// How the history names what was copied.
    pub note: String,
    /// What the step is called.
    pub name: String,
}

/// A result as lists of the cache show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; later results have greater ones.
    pub id: i64,
    /// One of its keys, in hexadecimal.
    pub key: String,
    /// It.
    pub stored: Stored,
    /// When it was made, in seconds since 1970; 0 where that was not yet recorded.
    pub made_secs: i64,
    /// When a build last made or found it, in seconds since 1970.
    pub used_secs: i64,
    /// How many builds found it.
    pub uses: i64,
}

/// A result that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: i64,
    /// It.
    pub stored: Stored,
}

/// Remembers results.
pub trait Cache {
    /// Finds a result by any of its keys.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database fails.
    fn find(&mut self, key: &Key) -> Result<Option<Found>, BuildError>;

    /// Remembers a result under several keys, each of which loses what it led to before.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database fails.
    fn record(&mut self, records: &[Record], stored: &Stored) -> Result<(), BuildError>;

    /// Forgets a result and its keys.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database fails.
    fn forget(&mut self, id: i64) -> Result<(), BuildError>;
}

/// The cache's database. Shared: each build has a handle to it.
pub struct CacheDatabase {
    database: Database,
}

const SCHEMA: Schema = Schema {
    migrations: &[Migration {
        sql: "
            CREATE TABLE results (id INTEGER PRIMARY KEY, outputs TEXT NOT NULL, note TEXT NOT NULL, used INTEGER NOT NULL);
            CREATE TABLE keys (
                key BLOB PRIMARY KEY,
                operation BLOB NOT NULL,
                result INTEGER NOT NULL REFERENCES results(id) ON DELETE CASCADE
            ) WITHOUT ROWID;
            CREATE INDEX keys_by_result ON keys(result);
            CREATE TABLE links (
                key BLOB NOT NULL REFERENCES keys(key) ON DELETE CASCADE,
                input INTEGER NOT NULL,
                selector TEXT,
                from_key BLOB NOT NULL,
                PRIMARY KEY (key, input)
            ) WITHOUT ROWID;",
        reader: 1,
    }, Migration { sql: "
            ALTER TABLE results ADD COLUMN name TEXT NOT NULL DEFAULT '';
            ALTER TABLE results ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE results ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;", reader: 1 }],
    synchronous: Synchronous::Normal,
};

fn failed(error: gantry_state::Error) -> BuildError {
    BuildError::internal("the build cache's database failed", error)
}

impl CacheDatabase {
    /// Opens the database in a directory, or makes it.
    ///
    /// # Errors
    /// [`BuildError::Internal`].
    pub fn open(directory: &Path) -> Result<Self, BuildError> {
        let path = directory.join("cache.db");
        let open = || -> Result<Database, gantry_state::Error> {
            let database = Database::open(&path, &SCHEMA)?;
            database.check()?;
            Ok(database)
        };
        let database = match open() {
            Err(error) if error.is_damaged() => {
                tracing::warn!("the build cache {} is damaged and begins anew", path.display());
                for name in ["cache.db", "cache.db-wal", "cache.db-shm"] {
                    // What cannot be removed is opened once more, and that says why not.
                    let _ = std::fs::remove_file(directory.join(name));
                }
                open()
            }
            opened => opened,
        };
        Ok(Self { database: database.map_err(failed)? })
    }

    /// The layers that results name. A result that cannot be read names none.
    ///
    /// # Errors
    /// [`BuildError::Internal`].
    pub fn layers(&self) -> Result<HashSet<LayerId>, BuildError> {
        let entries = self.entries()?;
        let layers = entries.iter().flat_map(|entry| entry.stored.outputs.iter().flatten());
        Ok(layers.map(|layer| layer.id).collect())
    }

    /// All results, the oldest first. One that cannot be read has no outputs.
    ///
    /// # Errors
    /// [`BuildError::Internal`].
    pub fn entries(&self) -> Result<Vec<Entry>, BuildError> {
        self.database
            .read(|tx| -> Result<Vec<Entry>, gantry_state::Error> {
                let mut statement = tx.prepare(
                    "SELECT id, outputs, note, name, made, used, uses,
                        (SELECT min(lower(hex(key))) FROM keys WHERE result = results.id)
                     FROM results ORDER BY id",
                )?;
                let entries = statement.query_map([], |row| {
                    let outputs: String = row.get(1)?;
                    Ok(Entry {
                        id: row.get(0)?,
                        stored: Stored {
                            outputs: serde_json::from_str(&outputs).unwrap_or_default(),
                            note: row.get(2)?,
                            name: row.get(3)?,
                        },
                        made_secs: row.get(4)?,
                        used_secs: row.get(5)?,
                        uses: row.get(6)?,
                        key: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
                    })
                })?;
                Ok(entries.collect::<Result<_, _>>()?)
            })
            .map_err(failed)
    }

    /// Notes that a build found these results.
    ///
    /// # Errors
    /// [`BuildError::Internal`].
    pub fn touch(&self, ids: &[i64]) -> Result<(), BuildError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.each(ids, "UPDATE results SET used = ?2, uses = uses + 1 WHERE id = ?1", &[now_secs()])
    }

    /// Forgets results and their keys.
    ///
    /// # Errors
    /// [`BuildError::Internal`].
    pub fn forget_all(&self, ids: &[i64]) -> Result<(), BuildError> {
        self.each(ids, "DELETE FROM results WHERE id = ?1", &[])
    }

    fn each(&self, ids: &[i64], sql: &str, more: &[i64]) -> Result<(), BuildError> {
        self.database
            .write(|tx| -> Result<(), gantry_state::Error> {
                let mut statement = tx.prepare_cached(sql)?;
                for id in ids {
                    let values = std::iter::once(id).chain(more);
                    statement.execute(gantry_state::rusqlite::params_from_iter(values))?;
                }
                Ok(())
            })
            .map_err(failed)
    }
}

fn now_secs() -> i64 {
    gantry_model::Timestamp::from_system(std::time::SystemTime::now()).secs()
}

impl Cache for &CacheDatabase {
    fn find(&mut self, key: &Key) -> Result<Option<Found>, BuildError> {
        let row = self
            .database
            .read(|tx| -> Result<_, gantry_state::Error> {
                Ok(tx
                    .prepare_cached(
                        "SELECT id, outputs, note, name FROM results WHERE id = (SELECT result FROM keys WHERE key = ?1)",
                    )?
                    .query_row([key.as_bytes().as_slice()], |row| {
                        let outputs: String = row.get(1)?;
                        Ok((row.get(0)?, outputs, row.get(2)?, row.get(3)?))
                    })
                    .optional()?)
            })
            .map_err(failed)?;
        // A row that cannot be read is as good as none.
        Ok(row.and_then(|(id, outputs, note, name)| {
            let outputs = serde_json::from_str(&outputs).ok()?;
            Some(Found { id, stored: Stored { outputs, note, name } })
        }))
    }

    fn record(&mut self, records: &[Record], stored: &Stored) -> Result<(), BuildError> {
        let outputs = serde_json::to_string(&stored.outputs)
            .map_err(|error| BuildError::internal("writing a cache record failed", error))?;
        self.database
            .write(|tx| -> Result<(), gantry_state::Error> {
                tx.prepare_cached(
                    "INSERT INTO results (outputs, note, name, made, used) VALUES (?1, ?2, ?3, ?4, ?4)",
                )?
                .execute(params![outputs, stored.note, stored.name, now_secs()])?;
                let result = tx.last_insert_rowid();
                for record in records {
                    let key = record.key.as_bytes().as_slice();
                    tx.prepare_cached("DELETE FROM keys WHERE key = ?1")?.execute([key])?;
                    tx.prepare_cached("INSERT INTO keys (key, operation, result) VALUES (?1, ?2, ?3)")?
                        .execute(params![key, record.operation.as_bytes().as_slice(), result])?;
                    let mut insert = tx.prepare_cached(
                        "INSERT INTO links (key, input, selector, from_key) VALUES (?1, ?2, ?3, ?4)",
                    )?;
                    for link in &record.links {
                        insert.execute(params![
                            key,
                            link.input,
                            link.selector,
                            link.key.as_bytes().as_slice()
                        ])?;
                    }
                }
                // Results that no key leads to any more are of no use.
                tx.prepare_cached("DELETE FROM results WHERE id NOT IN (SELECT result FROM keys)")?
                    .execute([])?;
                Ok(())
            })
            .map_err(failed)
    }

    fn forget(&mut self, id: i64) -> Result<(), BuildError> {
        self.database
            .write(|tx| -> Result<(), gantry_state::Error> {
                tx.execute("DELETE FROM results WHERE id = ?1", [id])?;
                Ok(())
            })
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_by_any_key_until_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = CacheDatabase::open(directory.path()).expect("a database");
        let mut cache = &database;
        let operation = KeyMaker::new("test").finish();
        let tree = Record::new(operation, vec![Link { input: 0, selector: None, key: operation }]);
        let content =
            Record::new(operation, vec![Link { input: 0, selector: Some("file:x".into()), key: operation }]);
        assert_ne!(tree.key, content.key);
        let stored = Stored { outputs: vec![vec![]], note: "file:x".into(), name: "COPY x /".into() };
        cache.record(&[tree.clone(), content.clone()], &stored).expect("recorded");
        let found = cache.find(&tree.key).expect("asked").expect("found");
        assert_eq!(found.stored, stored);
        assert_eq!(cache.find(&content.key).expect("asked"), Some(found.clone()));
        cache.record(std::slice::from_ref(&tree), &stored).expect("recorded again");
        assert_ne!(cache.find(&tree.key).expect("asked").expect("found").id, found.id);
        database.touch(&[found.id]).expect("noted");
        let entries = database.entries().expect("listed");
        assert_eq!(entries.iter().map(|entry| entry.uses).collect::<Vec<_>>(), [1, 0]);
        assert!(entries[0].made_secs > 0 && entries[0].stored == stored, "{entries:?}");
        cache.forget(found.id).expect("forgotten");
        assert_eq!(cache.find(&content.key).expect("asked"), None);
        database.forget_all(&[entries[1].id]).expect("forgotten");
        assert_eq!(cache.find(&tree.key).expect("asked"), None);
    }
}
