//! What can go wrong with a database.

use std::path::{Path, PathBuf};

use gantry_model::ErrorKind;

/// Says why a database could not be opened, read or written. Nothing of a failed transaction stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, or is no database.
    #[error("cannot open the database {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database was changed by a newer program in a way that this one would misread.
    #[error(
        "the database {path} has schema version {found} and needs a program that knows version {reader}; \
         this one knows {known}: install the newer version again, or restore a backup",
        path = path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The database's `user_version`.
        found: u32,
        /// The oldest version that may open it.
        reader: u32,
        /// The version of this program.
        known: u32,
    },
    /// A migration failed; the database is as it was before it.
    #[error("cannot bring the database {path} to schema version {version}", path = path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The version that was being made.
        version: u32,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database is not there, or has no byte, while what it has records of is there.
    #[error(
        "the database {path} is lost, and what it knew of is there in {left}: put a copy of it back, or begin with an \
         empty directory",
        path = path.display(), left = left.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// A directory of what it has records of.
        left: PathBuf,
    },
    /// The file's bytes are no database, or not a whole one. Nothing was changed.
    #[error(
        "the database {path} is damaged ({said}): put a copy of it back, or what can still be read of it (sqlite3 {path} .recover)",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        said: String,
    },
    /// The file system has no room for what a database needs to be opened.
    #[error("the disk of the database {path} is full: make room there and try again", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A statement failed.
    #[error("{}", if is_damage(.0) { "a database is damaged: gantry system fsck says which" } else { "a database operation failed" })]
    Sql(#[from] rusqlite::Error),
}

impl Error {
    /// The sort of failure; a full disk is [`ErrorKind::Unavailable`], everything else is ours.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } | Self::Migration { source, .. } | Self::Sql(source) => {
                match source.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::DatabaseBusy) => {
                        ErrorKind::Unavailable
                    }
                    _ => ErrorKind::Internal,
                }
            }
            Self::Full { .. } => ErrorKind::Unavailable,
            Self::TooNew { .. } | Self::Lost { .. } | Self::Damaged { .. } => ErrorKind::Internal,
        }
    }

    /// Says why a file could not be opened, or not be read when it was.
    pub(crate) fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            if is_damage(&source) {
                return Self::Damaged { path: path.into(), said: said(&source) };
            }
            // The log's index is a file that is written through memory: SQLite has no word of its own for want of room
            // there.
            let is_io = source.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
            let of_room = source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            let room = || rustix::fs::statvfs(path.parent()?).ok();
            if of_room || is_io && room().is_some_and(|disk| disk.f_bavail * disk.f_frsize < NEEDED_BYTES) {
                return Self::Full { path: path.into() };
            }
            Self::Open { path: path.into(), source }
        }
    }

    /// Whether the file's bytes are no database, or not a whole one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open { source, .. } | Self::Migration { source, .. } | Self::Sql(source) => {
                is_damage(source)
            }
            Self::TooNew { .. } | Self::Lost { .. } | Self::Full { .. } => false,
        }
    }
}

/// What SQLite needs beside an open database: the first part of the log's index.
const NEEDED_BYTES: u64 = 64 << 10;

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// SQLite's own words.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        error => error.to_string(),
    }
}
