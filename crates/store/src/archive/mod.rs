//! Archives from strangers, and our own form of them.
//!
//! Reading: [`extract`] unpacks a tar in old, ustar, GNU or PAX form, plain or compressed by gzip,
//! zstd, xz or bzip2, into a directory, and refuses what is hostile: see [`Limits`] for how much is too much, and
//! [`ArchiveError`] for what is never taken. Its memory does not grow with the archive. Nothing is
//! resolved by path: parents are opened inside the root (`openat2` with `RESOLVE_IN_ROOT`), the last
//! component is made exclusively and never followed.
//!
//! Writing: [`write_layer`] gives a layer in `layer-format v1` (`docs/layer-format-v1.md`), in which
//! equal trees are equal bytes; [`pack`] gives a part of a tree that is in use as `docker cp` has it.
//!
//! Not unpacked, silently: attributes that are the host's or overlay's own business
//! (`trusted.overlay.*`, `security.selinux`, `security.ima`, `security.evm`, `user.overlay.*`), owner
//! names (only numbers count), volume labels, and names below `.wh..wh.` other than the opaque mark.

mod attributes;
mod entry;
mod error;
mod extract;
mod format;
mod holes;
mod names;
mod pack;
mod pax;
mod stream;
mod whiteout;

use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_model::Timestamp;

pub(crate) use attributes::{mtime_of, times};
pub(crate) use entry::{Entries, Entry, Kind};
pub use error::ArchiveError;
pub use format::{EMPTY_LAYER_DIFF_ID, Source, write_layer};
pub(crate) use format::{OPAQUE, Written, is_kept_xattr, member_header};
pub use pack::{Packed, pack};
pub(crate) use stream::Pump;
pub(crate) use whiteout::{OPAQUE_FILE, WHITEOUT, is_whiteout, make_whiteout};

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

/// What an archive is unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// A tree that is being made. Directories that the archive implies or adds to keep their times, its
    /// root entry is the root's, and whatever could be meant to lead outside is refused.
    New,
    /// A tree that is in use, as `docker cp` has it. The root's own entry says nothing, directories that
    /// the archive does not list show by their time that something was put into them. Names are cleaned as
    /// Docker cleans them: absolute ones are below the root, and `..` may take back what stands before it.
    /// The target of a symbolic link is anything: it is for whoever lives in the tree.
    Living(Overwrite),
}

/// What may take the place of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Anything.
    Anything,
    /// Not a directory that of something else, nor the other way round ([`ArchiveError::Clash`]).
    SameKind,
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
    /// What is there already.
    pub onto: Onto,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Entries.
    pub entries: u64,
    /// The sum of regular files' sizes and of symbolic links' lengths, as Docker counts.
    pub size_bytes: u64,
    /// The newest modification time (as clamped).
    pub newest: Timestamp,
    /// Whether the archive had an entry for the root itself.
    pub root_entry: bool,
    /// Whether the archive hides everything below it: an opaque mark in the root.
    pub root_opaque: bool,
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
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Tells from its first bytes whether a file is an archive that [`extract`] reads: a tar, plain or
/// compressed. 512 bytes suffice; for a compressed one the inner tar is not looked at.
#[must_use]
pub fn detect(first: &[u8]) -> Option<Compression> {
    match stream::magic(first) {
        Compression::None if first.len() >= 512 => {
            entry::is_header(&first[..512]).then_some(Compression::None)
        }
        Compression::None => None,
        compressed => Some(compressed),
    }
}

/// As [`detect`], but looks into what is compressed: a file that is compressed and no tar is no archive.
///
/// # Errors
/// Those of reading; bytes that cannot be decompressed are no archive, and no error.
pub fn is_archive(mut input: impl BufRead) -> io::Result<bool> {
    let compression = stream::magic(input.fill_buf()?);
    let mut first = Vec::with_capacity(512);
    let read = stream::decompress(input, compression)
        .and_then(|plain| plain.take(512).read_to_end(&mut first).map(drop));
    match (read, compression) {
        (Err(error), Compression::None) => Err(error),
        (Err(_), _) => Ok(false),
        (Ok(()), _) => Ok(first.len() == 512 && entry::is_header(&first)),
    }
}

/// Unpacks a tar (plain or compressed) into a directory, which may have files already. No entry can reach
/// anything outside it.
///
/// # Errors
/// [`ArchiveError`]; what was unpacked until then stays, for the caller to remove.
pub fn extract(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    options: &ExtractOptions,
) -> Result<Extracted, ArchiveError> {
    extract_observed(input, root, options, Observers { incoming: ignore, plain: None::<fn(&[u8])> })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an observer that can fail")]
fn ignore(_: &[u8]) -> io::Result<()> {
    Ok(())
}

/// Who sees the bytes on their way.
pub(crate) struct Observers<I, P> {
    /// Of the stream as it comes; its errors end the unpacking.
    pub(crate) incoming: I,
    /// Of the plain tar, to its last byte.
    pub(crate) plain: Option<P>,
}

/// As [`extract`], showing the bytes as they come and as they are in the plain tar.
pub(crate) fn extract_observed<I, P>(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    options: &ExtractOptions,
    observers: Observers<I, P>,
) -> Result<Extracted, ArchiveError>
where
    I: FnMut(&[u8]) -> io::Result<()> + Send,
    P: FnMut(&[u8]) + Send,
{
    let incoming = &AtomicU64::new(0);
    let Observers { incoming: mut see_incoming, plain: see_plain } = observers;
    std::thread::scope(|scope| {
        let mut raw = stream::Pump::start(scope, move || {
            Ok(stream::Tee {
                inner: input,
                observe: move |bytes: &[u8]| {
                    incoming.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    see_incoming(bytes)
                },
            })
        });
        let compression = stream::magic(raw.fill_buf().map_err(ArchiveError::from_read)?);
        if compression == Compression::None && see_plain.is_none() {
            return extract::run(raw, root, options, incoming);
        }
        let limits = options.limits;
        let plain = stream::Pump::start(scope, move || {
            let inner = stream::decompress(raw, compression)?;
            let inner = stream::RatioGuard { inner, incoming, plain: 0, limits };
            let mut see_plain = see_plain;
            Ok(stream::Tee {
                inner,
                observe: move |bytes: &[u8]| {
                    if let Some(see) = &mut see_plain {
                        see(bytes);
                    }
                    Ok(())
                },
            })
        });
        extract::run(plain, root, options, incoming)
    })
}

/// Reads an archive whose entries are no tree of files but have meanings of their own, plain or compressed.
/// What `read` leaves is not read.
///
/// # Errors
/// Those of `read`, and of the stream before its first entry.
pub(crate) fn read_entries<T, E: From<ArchiveError>>(
    input: impl Read + Send,
    limits: Limits,
    read: impl FnOnce(&mut Entries<Pump>) -> Result<T, E>,
) -> Result<T, E> {
    let incoming = &AtomicU64::new(0);
    std::thread::scope(|scope| {
        let mut raw = stream::Pump::start(scope, move || {
            let observe = move |bytes: &[u8]| {
                incoming.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(())
            };
            Ok(stream::Tee { inner: input, observe })
        });
        let compression = stream::magic(raw.fill_buf().map_err(ArchiveError::from_read)?);
        if compression == Compression::None {
            return read(&mut Entries::new(raw, limits));
        }
        let plain = stream::Pump::start(scope, move || {
            let inner = stream::decompress(raw, compression)?;
            Ok(stream::RatioGuard { inner, incoming, plain: 0, limits })
        });
        read(&mut Entries::new(plain, limits))
    })
}

/// The plain tar inside a stream.
pub(crate) fn plain<'r>(mut input: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let compression = stream::magic(input.fill_buf()?);
    stream::decompress(input, compression)
}
