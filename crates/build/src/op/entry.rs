//! What files look like, for keys: kind, mode, name, link target, extended attributes and bytes; owner and
//! time only where they are copied too.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags, Stat};

use super::tree;
use crate::solver::key::KeyMaker;

/// What of a file counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// Owner and modification time: for copies that keep them.
    pub(super) owner_and_time: bool,
    /// Times above it count as it.
    pub(super) epoch_secs: i64,
}

const BUFFER_BYTES: usize = 128 * 1024;

/// Feeds files to a key.
pub(super) struct Looker<'a> {
    maker: &'a mut KeyMaker,
    counted: Counted,
    buffer: Vec<u8>,
}

impl<'a> Looker<'a> {
    pub(super) fn new(maker: &'a mut KeyMaker, counted: Counted) -> Self {
        Self { maker, counted, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Looks at a file, directory or link and everything below it.
    pub(super) fn entry(&mut self, directory: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
        let stat = tree::stat_entry(directory, name)?;
        self.maker.field(name.as_bytes());
        match tree::kind(&stat) {
            FileType::Symlink => {
                self.head(b"link", &stat);
                let target = tree::link_target(directory, name)?;
                self.maker.field(target.as_bytes());
                Ok(())
            }
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                self.directory(tree::open_entry(directory, name, flags)?, &stat, depth)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                self.file(tree::open_entry(directory, name, flags)?, &stat)
            }
            _ => {
                self.head(b"node", &stat);
                self.maker.number(stat.st_rdev);
                self.maker.number(u64::from(stat.st_mode));
                Ok(())
            }
        }
    }

    /// Looks at a directory that is open, and everything in it.
    pub(super) fn directory(&mut self, directory: OwnedFd, stat: &Stat, depth: usize) -> io::Result<()> {
        if depth > tree::MAX_DEPTH {
            return Err(io::Error::other(format!(
                "directories are nested more than {} deep",
                tree::MAX_DEPTH
            )));
        }
        self.head(b"directory", stat);
        self.xattrs(&directory)?;
        let names = tree::names(directory.as_fd())?;
        self.maker.number(names.len() as u64);
        names.iter().try_for_each(|name| self.entry(directory.as_fd(), name, depth + 1))
    }

    /// Looks at a regular file that is open.
    pub(super) fn file(&mut self, file: OwnedFd, stat: &Stat) -> io::Result<()> {
        self.head(b"file", stat);
        self.xattrs(&file)?;
        let mut file = File::from(file);
        // The length goes last: it is what was read, whatever the inode says.
        let mut length = 0;
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.maker.raw(&self.buffer[..count]);
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.maker.number(length);
        Ok(())
    }

    fn head(&mut self, kind: &[u8], stat: &Stat) {
        self.maker.field(kind);
        self.maker.number(u64::from(stat.st_mode & 0o7777));
        if kind == b"file" {
            self.maker.number(u64::try_from(stat.st_size).unwrap_or(0));
        }
        if self.counted.owner_and_time {
            self.maker.number(u64::from(stat.st_uid));
            self.maker.number(u64::from(stat.st_gid));
            let secs = stat.st_mtime.min(self.counted.epoch_secs);
            self.maker.field(&secs.to_le_bytes());
            let fraction = if secs == stat.st_mtime { stat.st_mtime_nsec } else { 0 };
            self.maker.number(fraction);
        }
    }

    fn xattrs(&mut self, file: impl AsFd) -> io::Result<()> {
        let found = tree::xattrs(file)?;
        self.maker.number(found.len() as u64);
        for (name, value) in found {
            self.maker.field(name.to_bytes());
            self.maker.field(&value);
        }
        Ok(())
    }
}
