//! What can go wrong with a database.

use std::path::PathBuf;

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
    /// A statement failed.
    #[error("a database operation failed")]
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
            Self::TooNew { .. } | Self::Lost { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the file's bytes are no database, or not a whole one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let (Self::Open { source, .. } | Self::Migration { source, .. } | Self::Sql(source)) = self else {
            return false;
        };
        let code = source.sqlite_error_code();
        matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
    }
}
