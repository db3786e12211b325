//! Archives from strangers, and our own form of them.

use std::io::Read;
use std::os::fd::BorrowedFd;

use gantry_model::{ErrorKind, Timestamp};

/// What is too much for one archive. The defaults are the limits that the documentation states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Device nodes.
    pub devices: u64,
    /// Bytes of a path or link target.
    pub path_bytes: usize,
    /// Bytes of all files unpacked, holes included.
    pub unpacked_bytes: u64,
    /// Bytes of one PAX header, GNU long name or sparse map.
    pub header_bytes: usize,
    /// Unpacked bytes per incoming byte, beyond [`Self::ratio_allowance_bytes`].
    pub ratio: u64,
    /// Unpacked bytes before the ratio matters.
    pub ratio_allowance_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            devices: 4096,
            path_bytes: 4095,
            unpacked_bytes: 128 << 30,
            header_bytes: 1 << 20,
            ratio: 100,
            ratio_allowance_bytes: 1 << 30,
        }
    }
}

/// What `.wh.` names in an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// A layer for overlay: character device 0:0 and `trusted.overlay.opaque`.
    Overlay,
    /// A layer kept with `.wh.` files as they are (the `vfs` driver's form).
    Files,
    /// They are applied: what they name is removed from the directory extracted into.
    Applied,
    /// Nothing: ordinary files (ADD of a tar).
    Ordinary,
}

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the archive says.
    Archive,
    /// All to this one.
    Fixed {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// How to unpack an archive into a directory.
#[derive(Debug, Clone, Copy)]
pub struct ExtractOptions {
    /// What is too much.
    pub limits: Limits,
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
    /// Whose the files become.
    pub owner: Owner,
    /// Modification times after it become it.
    pub epoch: Option<Timestamp>,
    /// The time of directories that the archive implies but does not list.
    pub implied_time: Timestamp,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Entries.
    pub entries: u64,
    /// The sum of regular files' sizes.
    pub size_bytes: u64,
    /// The newest modification time (as clamped).
    pub newest: Timestamp,
    /// Whether the archive had an entry for the root itself.
    pub root_entry: bool,
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is a plain tar.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Says why an archive was refused.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct ArchiveError {}

impl ArchiveError {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Tells from its first bytes whether a file is an archive that [`extract`] reads: a tar, plain or
/// compressed. 512 bytes suffice for a plain one; for a compressed one the inner tar is not looked at.
#[must_use]
#[expect(unused_variables)]
pub fn detect(first: &[u8]) -> Option<Compression> {
    unimplemented!()
}

/// Unpacks a tar (plain, gzip or zstd) into a directory, which may have files already. No entry can reach
/// anything outside it.
///
/// # Errors
/// [`ArchiveError`]; what was unpacked until then stays, for the caller to remove.
#[expect(unused_variables)]
pub fn extract(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    options: &ExtractOptions,
) -> Result<Extracted, ArchiveError> {
    unimplemented!()
}
