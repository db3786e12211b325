//! Why an archive was refused.

use std::io;

use gantry_model::ErrorKind;

/// Says why an archive was refused. Paths are as the archive has them, with odd bytes replaced.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream broke off for reasons of its own.
    #[error("cannot read the archive")]
    Input(#[source] io::Error),
    /// The compressed data is damaged, or needs more memory than we give.
    #[error("cannot decompress the archive")]
    Compressed(#[source] io::Error),
    /// It is not a tar, or a damaged one.
    #[error("the archive is damaged at its entry {entry}: {reason}")]
    Damaged {
        /// Counted from 1.
        entry: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path that must not be.
    #[error("the archive has an entry {path:?}, which is refused: {reason}")]
    BadPath {
        /// The path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A link that must not be.
    #[error("the archive has a link {path:?} to {target:?}, which is refused: {reason}")]
    BadLink {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// Why.
        reason: &'static str,
    },
    /// A name that leads out of the tree that it is for.
    #[error("invalid entry name {path:?}")]
    Outside {
        /// The name.
        path: String,
    },
    /// A hard link to something outside.
    #[error("invalid hardlink target {target:?}")]
    OutsideLink {
        /// What it names.
        target: String,
    },
    /// A directory in place of something else, or the other way round, where that is not wanted.
    #[error("{path:?} is {there}, and the archive has {comes} of that name")]
    Clash {
        /// The entry's path.
        path: String,
        /// `a directory` or `no directory`.
        there: &'static str,
        /// The other one.
        comes: &'static str,
    },
    /// A sort of entry that we do not unpack.
    #[error("the archive has an entry {path:?} of an unknown type {kind:?}")]
    UnknownType {
        /// The path.
        path: String,
        /// The header's type character.
        kind: char,
    },
    /// There is more of something than we unpack.
    #[error("the archive is refused: {what} exceed the limit of {limit}")]
    TooMuch {
        /// Of what: a plural.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An entry could not be made.
    #[error("cannot unpack {path:?}")]
    Write {
        /// The entry's path.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ArchiveError {
    /// The sort of failure: the archive's fault, unless our disk failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Unavailable
            }
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::NotFound => {
                    ErrorKind::InvalidArgument
                }
                _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                    ErrorKind::InvalidArgument
                }
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::InvalidArgument,
        }
    }

    /// An error while an entry was made: a refusal that it carries, or what the kernel said.
    pub(crate) fn from_write(path: &[u8], error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|source| Self::Write { path: shown(path), source })
    }

    /// Carries a refusal through `io::Read`; [`Self::from_read`] takes it out again.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The refusal inside an error of a reader, or the reader's own.
    pub(crate) fn from_read(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Input)
    }
}

/// A path for a message.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(path).into_owned();
    if text.len() > 256 {
        let cut = (0..=256).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
