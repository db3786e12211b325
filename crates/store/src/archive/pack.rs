//! A part of a tree that is in use, as an archive: what `docker cp` carries out of a container.
//!
//! Not `layer-format v1`: names that start with `.wh.` are names, a path may be renamed, and the tree may
//! change while it is read. What vanishes before it is reached is left out; a file that grows is cut at the
//! size that its header says, one that shrinks is filled up with zeros, so that the archive stays whole.
//! Sockets are left out. Each directory is opened by its name in the one above, and no link is followed.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::Target;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::format::{Meta, kept_xattrs, padding, write_header};

/// What is read of a file at once.
const PIECE_BYTES: usize = 256 << 10;

/// What is put into an archive.
#[derive(Debug, Clone, Copy)]
pub enum Packed<'a> {
    /// A directory with everything below it.
    Directory(BorrowedFd<'a>),
    /// What is in a directory, without the directory itself; its name is empty.
    Contents(BorrowedFd<'a>),
    /// The thing of this name in a directory; a directory of that name comes with what is below it.
    Entry(BorrowedFd<'a>, &'a CStr),
}

/// Writes an archive of one thing, which is called `name` in it: `x`, `.` or `/`. Device numbers, set-id bits,
/// hard links among what is packed and the attributes that layers keep are in it; times are whole seconds.
///
/// # Errors
/// What the kernel said, or the output.
pub fn pack(what: Packed<'_>, name: &[u8], output: impl Write) -> io::Result<()> {
    let mut packer = Packer {
        output: io::BufWriter::with_capacity(PIECE_BYTES, output),
        links: HashMap::new(),
        path: name.to_vec(),
        buffer: Vec::new(),
    };
    let root = match what {
        Packed::Directory(directory) => Some(packer.directory(tree::open_directory(directory, c".")?)?),
        Packed::Contents(directory) => {
            let fd = tree::open_directory(directory, c".")?;
            let names = Names::read(fd.as_fd())?;
            Some(Level { fd, names, next: 0, path_len: packer.path.len() })
        }
        Packed::Entry(parent, name) => packer.entry(parent, name)?,
    };
    packer.walk(root)?;
    packer.output.write_all(&[0; 1024])?;
    packer.output.flush()
}

/// A directory that is being read.
struct Level {
    fd: OwnedFd,
    names: Names,
    next: usize,
    path_len: usize,
}

struct Packer<W: Write> {
    output: io::BufWriter<W>,
    /// Where a file with several names was written first.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The present entry's.
    path: Vec<u8>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn walk(&mut self, root: Option<Level>) -> io::Result<()> {
        let mut levels = Vec::from_iter(root);
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some((name, _)) = level.names.get(level.next) else {
                levels.pop();
                continue;
            };
            level.next += 1;
            if !self.path.is_empty() && !self.path.ends_with(b"/") {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            match self.entry(level.fd.as_fd(), name) {
                Ok(below) => levels.extend(below),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what has a name; a directory is to be walked then.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Level>> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => return self.directory(tree::open_directory(parent, name)?).map(Some),
            FileType::Socket => return Ok(None),
            _ => {}
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let mut meta = meta(b'1', &stat, Vec::new());
                meta.link = first;
                return write_header(&mut self.output, &self.path, &meta).map(|()| None);
            }
            self.links.insert(inode, self.path.clone());
        }
        if kind == FileType::RegularFile {
            return self.file(parent, name).map(|()| None);
        }
        let xattrs = kept_xattrs(Target::At(parent, name))?;
        let target;
        let meta = match kind {
            FileType::Symlink => {
                target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                Meta { mode: 0o777, link: target.as_bytes(), ..meta(b'2', &stat, xattrs) }
            }
            FileType::Fifo => meta(b'6', &stat, xattrs),
            kind => {
                let flag = if kind == FileType::BlockDevice { b'4' } else { b'3' };
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                Meta { device, ..meta(flag, &stat, xattrs) }
            }
        };
        write_header(&mut self.output, &self.path, &meta).map(|()| None)
    }

    fn directory(&mut self, fd: OwnedFd) -> io::Result<Level> {
        let stat = rustix::fs::fstat(&fd)?;
        let mut path = self.path.clone();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        let meta = meta(b'5', &stat, kept_xattrs(Target::Open(fd.as_fd()))?);
        write_header(&mut self.output, &path, &meta)?;
        let names = Names::read(fd.as_fd())?;
        Ok(Level { fd, names, next: 0, path_len: self.path.len() })
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(parent, name, flags, Mode::empty());
        // Not every file system lets us leave the time of access alone.
        let file = open(flags | OFlags::NOATIME).or_else(|error| match error {
            Errno::PERM => open(flags),
            other => Err(other),
        })?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // Something else took its place.
            return Err(io::ErrorKind::NotFound.into());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let meta = Meta { size, ..meta(b'0', &stat, kept_xattrs(Target::Open(file.as_fd()))?) };
        write_header(&mut self.output, &self.path, &meta)?;
        self.buffer.resize(PIECE_BYTES, 0);
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match rustix::io::read(&file, &mut self.buffer[..want])? {
                0 => {
                    self.buffer[..want].fill(0);
                    want
                }
                read => read,
            };
            self.output.write_all(&self.buffer[..read])?;
            left -= read as u64;
        }
        self.output.write_all(padding(size))
    }
}

fn meta(kind: u8, stat: &Stat, xattrs: Vec<(std::ffi::CString, Vec<u8>)>) -> Meta<'static> {
    Meta {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_secs: stat.st_mtime,
        size: 0,
        link: b"",
        device: (0, 0),
        xattrs,
    }
}
