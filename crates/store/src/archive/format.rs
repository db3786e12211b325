//! `layer-format v1`: a tree as a tar, in one way only. `docs/layer-format-v1.md` is the
//! specification; whoever changes what this file writes changes every digest.
//!
//! The walk reads each directory once, whole, and emits it in this order: the directory itself, its
//! opaque mark, its whiteouts by name, everything else by name, each with what is below it. Names are
//! compared as bytes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use gantry_model::{Digest, Timestamp};
use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::{self, Target};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec};

use super::Whiteouts;
use super::attributes::times;
use super::whiteout::{OPAQUE_FILE, WHITEOUT, is_whiteout};
use crate::Error;

/// The DiffID of a layer that changes nothing: the SHA-256 of 1024 zero bytes.
pub const EMPTY_LAYER_DIFF_ID: Digest = Digest::from_sha256([
    0x5f, 0x70, 0xbf, 0x18, 0xa0, 0x86, 0x00, 0x70, 0x16, 0xe9, 0x48, 0xb0, 0x4a, 0xed, 0x3b, 0x82, 0x10,
    0x3a, 0x36, 0xbe, 0xa4, 0x17, 0x55, 0xb6, 0xcd, 0xdf, 0xaf, 0x10, 0xac, 0xe3, 0xc6, 0xef,
]);

/// Overlay's mark of a directory that hides those below.
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// Attributes that are overlay's own business.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The longest path that is written, in bytes; what [`super::Limits`] allows by default.
const PATH_BYTES: usize = 4095;
const BLOCK: usize = 512;

/// Whether an attribute is part of a layer. The others are the host's business (labels of its
/// security modules) or overlay's.
pub(crate) fn is_kept_xattr(name: &[u8]) -> bool {
    let kept = name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    kept && !OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix))
}

/// The tree that becomes a layer.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its root directory.
    pub root: BorrowedFd<'a>,
    /// How it marks removed files: [`Whiteouts::Overlay`] or [`Whiteouts::Files`].
    pub whiteouts: Whiteouts,
    /// Whether the root's own owner, mode and attributes are part of the layer.
    pub root_entry: bool,
    /// Modification times after it are written as it, and set to it in the tree.
    pub epoch: Option<Timestamp>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Entries.
    pub entries: u64,
    /// The sum of regular files' sizes, hard links once, and of symbolic links' lengths: as Docker counts.
    pub size_bytes: u64,
    /// The newest modification time, as written.
    pub newest: Timestamp,
}

/// Writes a tree in `layer-format v1`.
///
/// # Errors
/// [`Error::ReservedName`], [`Error::Io`] where the tree cannot be read, [`Error::Output`].
pub fn write_layer(source: &Source<'_>, output: impl Write) -> Result<Written, Error> {
    let mut writer = Writer {
        source,
        output: io::BufWriter::with_capacity(64 * 1024, output),
        links: HashMap::new(),
        written: Written::default(),
        path: Vec::new(),
        buffer: Vec::new(),
    };
    writer.root()?;
    writer.output.write_all(&[0; 2 * BLOCK]).map_err(Error::Output)?;
    writer.output.flush().map_err(Error::Output)?;
    Ok(writer.written)
}

struct Writer<'a, W: Write> {
    source: &'a Source<'a>,
    output: io::BufWriter<W>,
    /// Where a file with several names was written first.
    links: HashMap<(u64, u64), Vec<u8>>,
    written: Written,
    /// The present entry's path, without a slash at either end.
    path: Vec<u8>,
    buffer: Vec<u8>,
}

/// A directory that is being walked.
struct Level {
    fd: OwnedFd,
    names: Names,
    next: usize,
    path_len: usize,
    mtime: Timespec,
}

/// What a header says, besides the path.
pub(super) struct Meta<'a> {
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime_secs: i64,
    pub(super) size: u64,
    pub(super) link: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
}

impl<W: Write> Writer<'_, W> {
    fn root(&mut self) -> Result<(), Error> {
        let root = tree::open_directory(self.source.root, c".").map_err(Error::io("open", "/"))?;
        let stat = rustix::fs::fstat(&root).map_err(Error::io("read", "/"))?;
        if self.source.root_entry {
            let (mtime_secs, _) = self.clamped(&stat);
            let meta = self.meta(b'5', &stat, mtime_secs, Target::Open(root.as_fd()))?;
            self.path.extend_from_slice(b".");
            self.header(&meta)?;
            self.path.clear();
        }
        let mut levels = vec![self.level(root, &stat)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some(name) = level.names.get(level.next).map(|(name, _)| name.to_owned()) else {
                self.leave(&levels.pop().expect("the loop's condition"))?;
                continue;
            };
            level.next += 1;
            if let Some(below) = self.child(level.fd.as_fd(), &name)? {
                levels.push(below);
            }
        }
        Ok(())
    }

    /// Reads a directory, and writes its opaque mark and whiteouts.
    fn level(&mut self, fd: OwnedFd, stat: &Stat) -> Result<Level, Error> {
        let names = Names::read(fd.as_fd()).map_err(self.io("list"))?;
        let path_len = self.path.len();
        if self.source.whiteouts == Whiteouts::Overlay {
            let opaque =
                xattr::get(Target::Open(fd.as_fd()), OPAQUE).map_err(self.io("read attributes of"))?;
            if opaque.as_deref() == Some(b"y") {
                self.mark(OPAQUE_FILE.to_bytes(), path_len)?;
            }
        }
        for (name, kind) in names.iter() {
            let hidden = match self.source.whiteouts {
                Whiteouts::Overlay => {
                    matches!(kind, FileType::CharacterDevice | FileType::Unknown)
                        && is_whiteout(&self.stat(fd.as_fd(), name)?)
                }
                _ => name.to_bytes().starts_with(WHITEOUT),
            };
            if hidden && self.source.whiteouts == Whiteouts::Overlay {
                self.mark(&[WHITEOUT, name.to_bytes()].concat(), path_len)?;
            } else if hidden {
                self.mark(name.to_bytes(), path_len)?;
            }
        }
        let (_, mtime) = self.clamped(stat);
        Ok(Level { fd, names, next: 0, path_len, mtime })
    }

    /// Writes an entry that stands for a removed file.
    fn mark(&mut self, name: &[u8], path_len: usize) -> Result<(), Error> {
        self.enter(name, path_len)?;
        let meta = Meta {
            kind: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_secs: 0,
            size: 0,
            link: b"",
            device: (0, 0),
            xattrs: Vec::new(),
        };
        self.header(&meta)?;
        self.path.truncate(path_len);
        Ok(())
    }

    fn enter(&mut self, name: &[u8], path_len: usize) -> Result<(), Error> {
        self.path.truncate(path_len);
        if path_len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if self.path.len() > PATH_BYTES {
            return Err(Error::Io {
                action: "write to a layer",
                path: self.shown(),
                source: io::ErrorKind::InvalidFilename.into(),
            });
        }
        Ok(())
    }

    fn child(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Level>, Error> {
        let path_len = self.path.len();
        let stat = self.stat(parent, name)?;
        if name.to_bytes().starts_with(WHITEOUT) {
            // In the form with files these are whiteouts and were written with the directory.
            if self.source.whiteouts == Whiteouts::Files {
                return Ok(None);
            }
            self.enter(name.to_bytes(), path_len)?;
            return Err(Error::ReservedName { path: self.shown() });
        }
        if self.source.whiteouts == Whiteouts::Overlay && is_whiteout(&stat) {
            return Ok(None);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(None);
        }
        self.enter(name.to_bytes(), path_len)?;
        let (mtime_secs, time) = self.clamped(&stat);
        if kind == FileType::Directory {
            let directory = tree::open_directory(parent, name).map_err(self.io("open"))?;
            let meta = self.meta(b'5', &stat, mtime_secs, Target::Open(directory.as_fd()))?;
            self.header(&meta)?;
            return self.level(directory, &stat).map(Some);
        }
        self.leaf(parent, name, &stat, mtime_secs)?;
        if i128::from(time.tv_sec) != i128::from(stat.st_mtime) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(parent, name, &times(time), flags).map_err(self.io("set the time of"))?;
        }
        Ok(None)
    }

    fn leaf(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        mtime_secs: i64,
    ) -> Result<(), Error> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let link = first.clone();
                let mut meta = self.meta(b'1', stat, mtime_secs, Target::At(parent, name))?;
                // The first one has said it; a link is only a name.
                meta.xattrs.clear();
                meta.link = &link;
                return self.header(&meta);
            }
            self.links.insert(inode, self.path.clone());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(parent, name, mtime_secs),
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(parent, name, Vec::new()).map_err(self.io("read the link"))?;
                let mut meta = self.meta(b'2', stat, mtime_secs, Target::At(parent, name))?;
                meta.mode = 0o777;
                meta.link = target.as_bytes();
                self.written.size_bytes += target.as_bytes().len() as u64;
                self.header(&meta)
            }
            kind => {
                let type_flag = match kind {
                    FileType::CharacterDevice => b'3',
                    FileType::BlockDevice => b'4',
                    _ => b'6',
                };
                let mut meta = self.meta(type_flag, stat, mtime_secs, Target::At(parent, name))?;
                if kind != FileType::Fifo {
                    meta.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                }
                self.header(&meta)
            }
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr, mtime_secs: i64) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(self.io("open"))?;
        // What is open is what counts: the size in the header must be that of the data.
        let stat = rustix::fs::fstat(&file).map_err(self.io("read"))?;
        let mut meta = self.meta(b'0', &stat, mtime_secs, Target::Open(file.as_fd()))?;
        meta.size = u64::try_from(stat.st_size).unwrap_or(0);
        self.written.size_bytes += meta.size;
        let size = meta.size;
        self.header(&meta)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(256 * 1024, 0);
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = rustix::io::read(&file, &mut buffer[..want]).map_err(self.io("read"))?;
            if read == 0 {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Io { action: "read (it shrank)", path: self.shown(), source });
            }
            self.output.write_all(&buffer[..read]).map_err(Error::Output)?;
            left -= read as u64;
        }
        self.buffer = buffer;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        self.output.write_all(padding(size)).map_err(Error::Output)
    }

    /// After a directory's entries, whose times may have changed its own: puts it right.
    fn leave(&self, level: &Level) -> Result<(), Error> {
        if self.source.epoch.is_none() {
            return Ok(());
        }
        let now = rustix::fs::fstat(&level.fd).map_err(self.io("read"))?;
        if i128::from(level.mtime.tv_sec) != i128::from(now.st_mtime) {
            rustix::fs::futimens(&level.fd, &times(level.mtime)).map_err(self.io("set the time of"))?;
        }
        Ok(())
    }

    fn stat(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Error> {
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.io("read"))
    }

    /// The time to write, in seconds, and the one to set.
    fn clamped(&self, stat: &Stat) -> (i64, Timespec) {
        let time =
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        match self.source.epoch {
            Some(epoch) if time.tv_sec >= epoch.secs() => {
                let clamped = Timespec { tv_sec: epoch.secs(), tv_nsec: 0 };
                (clamped.tv_sec, clamped)
            }
            _ => (time.tv_sec, time),
        }
    }

    fn meta(
        &self,
        kind: u8,
        stat: &Stat,
        mtime_secs: i64,
        target: Target<'_>,
    ) -> Result<Meta<'static>, Error> {
        let xattrs = kept_xattrs(target).map_err(self.io("read attributes of"))?;
        Ok(Meta {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_secs,
            size: 0,
            link: b"",
            device: (0, 0),
            xattrs,
        })
    }

    /// Writes the header of the entry at `self.path`, after an extended one if it does not fit.
    fn header(&mut self, meta: &Meta<'_>) -> Result<(), Error> {
        self.written.entries += 1;
        self.written.newest = self.written.newest.max(Timestamp::from_secs(meta.mtime_secs));
        let mut path = self.path.clone();
        if meta.kind == b'5' {
            path.push(b'/');
        }
        write_header(&mut self.output, &path, meta).map_err(Error::Output)
    }

    fn shown(&self) -> PathBuf {
        let mut path = b"/".to_vec();
        path.extend_from_slice(&self.path);
        std::ffi::OsString::from_vec(path).into()
    }

    fn io<E: Into<io::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> Error + use<E, W> {
        let path = self.shown();
        move |source| Error::Io { action, path, source: source.into() }
    }
}

/// Writes an entry's header, after an extended one if it does not fit. A directory's path ends with a slash.
pub(super) fn write_header(output: &mut impl Write, path: &[u8], meta: &Meta<'_>) -> io::Result<()> {
    let records = extended(path, meta);
    if !records.is_empty() {
        let size = records.len() as u64;
        let header = Ustar { path: b"././@PaxHeader", kind: b'x', size, ..Ustar::default() };
        output.write_all(&ustar(&header))?;
        output.write_all(&records)?;
        output.write_all(padding(size))?;
    }
    output.write_all(&ustar(&Ustar {
        path,
        kind: meta.kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        size: meta.size,
        mtime_secs: meta.mtime_secs,
        link: meta.link,
        device: meta.device,
    }))
}

/// The zeros that follow so many bytes of data.
pub(super) fn padding(size: u64) -> &'static [u8] {
    &[0; BLOCK][..usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("less than a block")]
}

/// The attributes of a thing that an archive has.
pub(super) fn kept_xattrs(target: Target<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    for name in xattr::list(target)?.into_iter().filter(|name| is_kept_xattr(name.to_bytes())) {
        if let Some(value) = xattr::get(target, &name)? {
            xattrs.push((name, value));
        }
    }
    Ok(xattrs)
}

/// What does not fit the ustar header, as PAX records sorted by key; empty if everything fits.
fn extended(path: &[u8], meta: &Meta<'_>) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |needed: bool, key: &str, value: &dyn Fn() -> Vec<u8>| {
        if needed {
            records.push((key.into(), value()));
        }
    };
    add(path.len() > 100, "path", &|| path.to_vec());
    add(meta.link.len() > 100, "linkpath", &|| meta.link.to_vec());
    add(!fits(meta.uid.into(), 7), "uid", &|| meta.uid.to_string().into());
    add(!fits(meta.gid.into(), 7), "gid", &|| meta.gid.to_string().into());
    add(!fits(meta.size, 11), "size", &|| meta.size.to_string().into());
    let time_fits = u64::try_from(meta.mtime_secs).is_ok_and(|secs| fits(secs, 11));
    add(!time_fits, "mtime", &|| meta.mtime_secs.to_string().into());
    for (name, value) in &meta.xattrs {
        records.push(([b"SCHILY.xattr.", name.to_bytes()].concat(), value.clone()));
    }
    records.sort();
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = 3 + key.len() + value.len();
        // The length counts its own digits.
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(&key);
        bytes.push(b'=');
        bytes.extend_from_slice(&value);
        bytes.push(b'\n');
    }
    bytes
}

/// The header of a member of an archive that is no layer: a regular file, or a directory where `path` ends
/// with a slash. Owner 0, modes 0644 and 0755, after an extended header where the size needs one.
pub(crate) fn member_header(path: &str, size: u64, mtime_secs: i64) -> Vec<u8> {
    let (kind, mode) = if path.ends_with('/') { (b'5', 0o755) } else { (b'0', 0o644) };
    let meta =
        Meta { kind, mode, uid: 0, gid: 0, mtime_secs, size, link: b"", device: (0, 0), xattrs: vec![] };
    let mut bytes = Vec::with_capacity(BLOCK);
    write_header(&mut bytes, path.as_bytes(), &meta).expect("a vector takes everything");
    bytes
}

/// Whether a number fits so many octal digits.
fn fits(number: u64, digits: u32) -> bool {
    number < 1 << (3 * digits)
}

#[derive(Default)]
struct Ustar<'a> {
    path: &'a [u8],
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime_secs: i64,
    link: &'a [u8],
    device: (u32, u32),
}

/// ```text
/// 0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 sum 8 | 156 type
/// 157 link 100 | 257 "ustar\0" "00" | 265 owner 32 | 297 group 32 | 329 major 8 | 337 minor 8 | 345 prefix
/// ```
/// Numbers are octal digits with leading zeros and a final zero byte; one that does not fit is 0 here and
/// stands in a PAX record.
fn ustar(header: &Ustar<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, room: usize, text: &[u8]| {
        let length = text.len().min(room);
        block[at..at + length].copy_from_slice(&text[..length]);
    };
    text(0, 100, header.path);
    text(157, 100, header.link);
    text(257, 8, b"ustar\x0000");
    let mut octal = |at: usize, digits: u32, number: u64| {
        let number = if fits(number, digits) { number } else { 0 };
        for (place, digit) in (0..digits).rev().enumerate() {
            block[at + place] = b'0' + u8::try_from(number >> (3 * digit) & 7).expect("three bits");
        }
    };
    octal(100, 7, header.mode.into());
    octal(108, 7, header.uid.into());
    octal(116, 7, header.gid.into());
    octal(124, 11, header.size);
    octal(136, 11, u64::try_from(header.mtime_secs).unwrap_or(0));
    octal(329, 7, header.device.0.into());
    octal(337, 7, header.device.1.into());
    block[156] = header.kind;
    let spaces = 8 * u64::from(b' ');
    let sum = block.iter().map(|&byte| u64::from(byte)).sum::<u64>() + spaces;
    for (place, digit) in (0..6_u32).rev().enumerate() {
        block[148 + place] = b'0' + u8::try_from(sum >> (3 * digit) & 7).expect("three bits");
    }
    block[155] = b' ';
    block
}
