//! From entries to files, relative to directory descriptors.
//!
//! Parents are opened inside the root and kept in a small cache, because neighbours share them. The
//! cache also holds the time that each directory shall have: making a file changes its directory's
//! time, so it is put back when the directory leaves the cache. That way no list of directories grows
//! with the archive. Whatever replaces a directory or a link empties the cache first.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_model::Timestamp;
use gantry_sys::{rooted, tree, xattr};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Uid};
use rustix::io::Errno;

use super::attributes::{change_mode, mtime_of, set_xattrs, times};
use super::entry::{Entries, Entry, Kind};
use super::error::{ArchiveError, shown};
use super::holes;
use super::stream::check_ratio;
use super::whiteout::{OPAQUE_FILE, WHITEOUT, WHITEOUT_META, is_whiteout, make_whiteout, mark_opaque};
use super::{ExtractOptions, Extracted, Onto, Overwrite, Owner, Whiteouts};

/// Directories that are kept open.
const CACHED: usize = 24;
/// Directories of a living tree that are remembered as listed: some megabytes at most.
const LISTED: usize = 1 << 16;
/// Unpacks all entries, then reads the stream to its end.
pub(super) fn run<R: BufRead>(
    input: R,
    root: BorrowedFd<'_>,
    options: &ExtractOptions,
    incoming: &AtomicU64,
) -> Result<Extracted, ArchiveError> {
    let mut entries = Entries::new(input, options.limits).onto(options.onto);
    let mut extractor = Extractor {
        root,
        options,
        cache: Vec::new(),
        done: Extracted::default(),
        whiteouts: false,
        listed: HashSet::new(),
    };
    while let Some(entry) = entries.next()? {
        extractor.entry(&mut entries, &entry, incoming)?;
    }
    entries.drain()?;
    extractor.flush()?;
    Ok(extractor.done)
}

/// A directory that is open.
struct Cached {
    path: Vec<u8>,
    fd: OwnedFd,
    inode: (u64, u64),
    /// What its modification time shall be.
    mtime: Timespec,
    changed: bool,
    /// Whether it gets `mtime` back. Directories of a living tree do if the archive lists them.
    timed: bool,
}

struct Extractor<'a> {
    root: BorrowedFd<'a>,
    options: &'a ExtractOptions,
    /// The most recently used one last.
    cache: Vec<Cached>,
    done: Extracted,
    /// Whether any whiteout was made: only then may a new entry meet one.
    whiteouts: bool,
    /// Directories of a living tree that the archive listed, and whose times it therefore says; at most
    /// [`LISTED`] of them. One more that comes back into the cache shows when it was added to.
    listed: HashSet<(u64, u64)>,
}

impl Extractor<'_> {
    fn entry<R: BufRead>(
        &mut self,
        entries: &mut Entries<R>,
        entry: &Entry,
        incoming: &AtomicU64,
    ) -> Result<(), ArchiveError> {
        let failed = |error: io::Error| ArchiveError::from_write(&entry.path, error);
        let (parent, name) = split(&entry.path);
        if self.options.whiteouts != Whiteouts::Ordinary && self.reserved(entry, parent, name)? {
            return Ok(());
        }
        if matches!(entry.kind, Kind::CharDevice(0, 0)) {
            let reason = "the device 0:0 stands for a removed file";
            return Err(ArchiveError::BadPath { path: shown(&entry.path), reason });
        }
        self.done.entries += 1;
        self.done.newest = self.done.newest.max(self.clamped(entry.mtime));
        if entry.path.is_empty() {
            self.done.root_entry = true;
            if self.is_living() {
                return Ok(());
            }
            self.parent(b"").map_err(failed)?;
            return self.directory_attributes(entry).map_err(failed);
        }
        let name = CString::new(name).expect("paths have no zero bytes");
        self.parent(parent).map_err(failed)?;
        match &entry.kind {
            Kind::Directory => self.directory(parent, &name, entry).map_err(failed),
            Kind::File => {
                self.done.size_bytes = self.done.size_bytes.saturating_add(entry.size);
                if entry.sparse.is_some() {
                    let incoming = incoming.load(Ordering::Relaxed);
                    check_ratio(self.done.size_bytes, incoming, &self.options.limits)?;
                }
                self.file(entries, parent, &name, entry)
            }
            Kind::HardLink(target) => self.hard_link(parent, &name, target).map_err(failed),
            Kind::Symlink(target) => {
                self.done.size_bytes = self.done.size_bytes.saturating_add(target.len() as u64);
                self.node(parent, &name, entry).map_err(failed)
            }
            _ => self.node(parent, &name, entry).map_err(failed),
        }
    }

    /// Handles `.wh.` names; `true` if the entry was one.
    fn reserved(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<bool, ArchiveError> {
        let failed = |error: io::Error| ArchiveError::from_write(&entry.path, error);
        if parent.split(|&b| b == b'/').any(|component| component.starts_with(WHITEOUT_META)) {
            return Ok(true);
        }
        let bad = |reason| Err(ArchiveError::BadPath { path: shown(&entry.path), reason });
        if parent.split(|&b| b == b'/').any(|component| component.starts_with(WHITEOUT)) {
            return bad("names that start with .wh. stand for removed files");
        }
        if !name.starts_with(WHITEOUT) {
            return Ok(false);
        }
        let opaque = name == OPAQUE_FILE.to_bytes();
        if name.starts_with(WHITEOUT_META) && !opaque {
            return Ok(true);
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return bad("it names nothing to remove");
        }
        self.done.entries += 1;
        self.whiteouts = true;
        self.parent(parent).map_err(failed)?;
        if opaque {
            self.done.root_opaque |= parent.is_empty();
            let form = self.options.whiteouts;
            let directory = self.top();
            mark_opaque(directory.fd.as_fd(), form).map_err(failed)?;
            directory.changed = true;
            return Ok(true);
        }
        let hidden = CString::new(hidden).expect("paths have no zero bytes");
        self.whiteout(&hidden).map_err(failed)?;
        Ok(true)
    }

    /// Makes a whiteout in the present parent. Where the archive has a thing of that name itself, that
    /// thing wins, and a directory hides what is below it.
    fn whiteout(&mut self, hidden: &CStr) -> io::Result<()> {
        let form = self.options.whiteouts;
        let parent = self.top();
        parent.changed = true;
        match rustix::fs::statat(&parent.fd, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let directory = tree::open_directory(parent.fd.as_fd(), hidden)?;
                return mark_opaque(directory.as_fd(), form);
            }
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        make_whiteout(parent.fd.as_fd(), hidden, form)
    }

    fn directory(&mut self, parent: &[u8], name: &CStr, entry: &Entry) -> io::Result<()> {
        loop {
            let directory = self.top();
            match rustix::fs::mkdirat(&directory.fd, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    directory.changed = true;
                    if self.whiteouts && self.options.whiteouts == Whiteouts::Files {
                        self.take_whiteout_file(parent, name)?;
                    }
                    break;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let stat = rustix::fs::statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                break;
            }
            let hidden = is_whiteout(&stat) && self.options.whiteouts == Whiteouts::Overlay;
            if self.options.onto == Onto::Living(Overwrite::SameKind) {
                return Err(clash(&entry.path, "no directory", "a directory").into());
            }
            self.make_room(parent, name)?;
            if hidden {
                let directory = self.top();
                rustix::fs::mkdirat(&directory.fd, name, Mode::from_raw_mode(0o700))?;
                let made = tree::open_directory(directory.fd.as_fd(), name)?;
                mark_opaque(made.as_fd(), Whiteouts::Overlay)?;
                break;
            }
        }
        self.child(&entry.path, name)?;
        self.directory_attributes(entry)
    }

    /// In the form with files: a directory takes the place of a whiteout, and hides what was below it.
    fn take_whiteout_file(&mut self, parent: &[u8], name: &CStr) -> io::Result<()> {
        self.parent(parent)?;
        let directory = self.top();
        let mut whiteout = WHITEOUT.to_vec();
        whiteout.extend_from_slice(name.to_bytes());
        match rustix::fs::unlinkat(&directory.fd, whiteout.as_slice(), AtFlags::empty()) {
            Ok(()) => {
                let made = tree::open_directory(directory.fd.as_fd(), name)?;
                if rustix::fs::fstat(&made).is_ok() {
                    mark_opaque(made.as_fd(), Whiteouts::Files)?;
                }
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the attributes of the directory on top of the cache, and the time that it shall have.
    fn directory_attributes(&mut self, entry: &Entry) -> io::Result<()> {
        let (uid, gid) = self.owner(entry);
        let mtime = self.timespec(entry.mtime);
        let directory = self.top();
        rustix::fs::fchown(&directory.fd, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&directory.fd, Mode::from_raw_mode(entry.mode))?;
        set_xattrs(xattr::Target::Open(directory.fd.as_fd()), entry)?;
        directory.mtime = mtime;
        directory.changed = true;
        directory.timed = true;
        let inode = directory.inode;
        if self.is_living() && self.listed.len() < LISTED {
            self.listed.insert(inode);
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entries: &mut Entries<R>,
        parent: &[u8],
        name: &CStr,
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let failed = |error: io::Error| ArchiveError::from_write(&entry.path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .make(parent, name, |directory| {
                rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
            })
            .map_err(failed)?;
        let ends_in_hole = match &entry.sparse {
            None => holes::write(entries, &file, 0, entry.size, &failed)?,
            Some(map) => {
                for segment in map {
                    holes::write(entries, &file, segment.offset, segment.length, &failed)?;
                }
                true
            }
        };
        if ends_in_hole {
            rustix::fs::ftruncate(&file, entry.size).map_err(|error| failed(error.into()))?;
        }
        self.file_attributes(&file, entry).map_err(failed)
    }

    fn file_attributes(&self, file: &OwnedFd, entry: &Entry) -> io::Result<()> {
        let (uid, gid) = self.owner(entry);
        // Owner first: changing it takes set-id bits and capabilities away. Time last.
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
        set_xattrs(xattr::Target::Open(file.as_fd()), entry)?;
        Ok(rustix::fs::futimens(file, &times(self.timespec(entry.mtime)))?)
    }

    fn hard_link(&mut self, parent: &[u8], name: &CStr, target: &[u8]) -> io::Result<()> {
        let (target_parent, target_name) = split(target);
        let target_name = CString::new(target_name).expect("paths have no zero bytes");
        let target_directory = open_inside(self.root, target_parent)?;
        let stat = rustix::fs::statat(&target_directory, &target_name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.parent(parent)?;
        let same = rustix::fs::statat(&self.top().fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|have| (have.st_dev, have.st_ino) == (stat.st_dev, stat.st_ino));
        if same {
            return Ok(());
        }
        self.make(parent, name, |directory| {
            rustix::fs::linkat(&target_directory, &target_name, directory, name, AtFlags::empty())
        })
    }

    /// Symbolic links, devices and fifos.
    fn node(&mut self, parent: &[u8], name: &CStr, entry: &Entry) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o600);
        self.make(parent, name, |directory| match &entry.kind {
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), directory, name),
            Kind::CharDevice(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, device)
            }
            Kind::BlockDevice(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(directory, name, FileType::BlockDevice, mode, device)
            }
            _ => rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0),
        })?;
        let (uid, gid) = self.owner(entry);
        let mtime = self.timespec(entry.mtime);
        let directory = self.top();
        let fd = directory.fd.as_fd();
        rustix::fs::chownat(fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            change_mode(fd, name, Mode::from_raw_mode(entry.mode))?;
        }
        set_xattrs(xattr::Target::At(fd, name), entry)?;
        Ok(rustix::fs::utimensat(fd, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn is_living(&self) -> bool {
        matches!(self.options.onto, Onto::Living(_))
    }

    /// Makes something that must not exist; what does exist is removed first.
    fn make<T>(
        &mut self,
        parent: &[u8],
        name: &CStr,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        if self.whiteouts && self.options.whiteouts == Whiteouts::Files {
            let mut whiteout = WHITEOUT.to_vec();
            whiteout.extend_from_slice(name.to_bytes());
            match rustix::fs::unlinkat(&self.top().fd, whiteout.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let directory = self.top();
        directory.changed = true;
        match make(directory.fd.as_fd()) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
        if self.options.onto == Onto::Living(Overwrite::SameKind) {
            let stat = rustix::fs::statat(&self.top().fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let path = if parent.is_empty() {
                    name.to_bytes().to_vec()
                } else {
                    [parent, b"/", name.to_bytes()].concat()
                };
                return Err(clash(&path, "a directory", "no directory").into());
            }
        }
        self.make_room(parent, name)?;
        Ok(make(self.top().fd.as_fd())?)
    }

    /// Removes what has the name, and forgets all open directories: paths may lead elsewhere now.
    fn make_room(&mut self, parent: &[u8], name: &CStr) -> io::Result<()> {
        let stat = rustix::fs::statat(&self.top().fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Directory | FileType::Symlink) {
            self.flush()?;
            self.parent(parent)?;
        }
        let directory = self.top();
        directory.changed = true;
        tree::remove(directory.fd.as_fd(), name)
    }

    fn top(&mut self) -> &mut Cached {
        self.cache.last_mut().expect("`parent` was called and puts its directory last")
    }

    /// Brings a directory to the top of the cache, making it and its parents if they are missing.
    fn parent(&mut self, path: &[u8]) -> io::Result<()> {
        if let Some(at) = self.cache.iter().rposition(|cached| cached.path == path) {
            let last = self.cache.len() - 1;
            if at != last {
                let cached = self.cache.remove(at);
                self.cache.push(cached);
            }
            return Ok(());
        }
        let fd = match open_inside(self.root, path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {
                self.implied(path)?;
                open_inside(self.root, path)?
            }
            Err(error) => return Err(error),
        };
        self.remember(path, fd)
    }

    /// Brings a directory that is below the top of the cache to the top. It is opened by its name, and a link
    /// that somebody put there meanwhile is not followed.
    fn child(&mut self, path: &[u8], name: &CStr) -> io::Result<()> {
        if self.cache.iter().any(|cached| cached.path == path) {
            return self.parent(path);
        }
        let fd = tree::open_directory(self.top().fd.as_fd(), name)?;
        self.remember(path, fd)
    }

    /// Puts an open directory into the cache, last.
    fn remember(&mut self, path: &[u8], fd: OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(&fd)?;
        let inode = (stat.st_dev, stat.st_ino);
        // The same directory by another path, through a link: one entry, or its time would be kept twice.
        if let Some(at) = self.cache.iter().position(|cached| cached.inode == inode) {
            let mut cached = self.cache.remove(at);
            cached.path = path.to_vec();
            self.cache.push(cached);
            return Ok(());
        }
        if self.cache.len() == CACHED {
            let oldest = self.cache.remove(0);
            restore_time(&oldest)?;
        }
        let mtime =
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        let timed = !self.is_living() || self.listed.contains(&inode);
        self.cache.push(Cached { path: path.to_vec(), fd, inode, mtime, changed: false, timed });
        Ok(())
    }

    /// Makes a directory that the archive implies, and those above it. In a living tree a link to nothing leads
    /// to where they are made.
    fn implied(&self, path: &[u8]) -> io::Result<()> {
        if self.is_living() {
            let path = CString::new(path).expect("paths have no zero bytes");
            rooted::ensure(self.root, &path, rooted::Missing::Directory, Mode::from_raw_mode(0o755))?;
            return Ok(());
        }
        let mut missing = vec![path];
        let mut above = split(path).0;
        let mut directory = loop {
            match open_inside(self.root, above) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !above.is_empty() => {
                    missing.push(above);
                    above = split(above).0;
                }
                result => break result?,
            }
        };
        let restored = match self.cache.iter().find(|cached| cached.path == above) {
            Some(cached) => cached.mtime,
            None => mtime_of(&rustix::fs::fstat(&directory)?),
        };
        let first = directory.try_clone()?;
        let implied = self.timespec(self.options.implied_time);
        for path in missing.into_iter().rev() {
            let name = CString::new(split(path).1).expect("paths have no zero bytes");
            rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o755)).map_err(
                |error| match error {
                    // It is there, and cannot be opened for not being there.
                    Errno::EXIST => {
                        io::Error::other(format!("{} is a link whose target does not exist", shown(path)))
                    }
                    error => error.into(),
                },
            )?;
            let made = tree::open_directory(directory.as_fd(), &name)?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
            if let Owner::Fixed { uid, gid } = self.options.owner {
                rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            // Making the next one changes this one's time again.
            rustix::fs::futimens(&directory, &times(implied))?;
            rustix::fs::futimens(&made, &times(implied))?;
            directory = made;
        }
        Ok(rustix::fs::futimens(&first, &times(restored))?)
    }

    /// Closes all directories, with the times that they shall have.
    fn flush(&mut self) -> Result<(), ArchiveError> {
        for cached in self.cache.drain(..) {
            restore_time(&cached)
                .map_err(|source| ArchiveError::Write { path: shown(&cached.path), source })?;
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        match self.options.owner {
            Owner::Archive => (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)),
            Owner::Fixed { uid, gid } => (Uid::from_raw(uid), Gid::from_raw(gid)),
        }
    }

    fn clamped(&self, time: Timestamp) -> Timestamp {
        self.options.epoch.map_or(time, |epoch| time.min(epoch))
    }

    fn timespec(&self, time: Timestamp) -> Timespec {
        let time = self.clamped(time);
        Timespec { tv_sec: time.secs(), tv_nsec: time.subsec_nanos().into() }
    }
}

impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Write { source, .. } => source,
            other => other.into_io(),
        }
    }
}

/// Opens a directory inside the root; links are followed, and lead nowhere else.
fn open_inside(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename or mount elsewhere on the machine made the kernel unsure; it says to try again.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

fn clash(path: &[u8], there: &'static str, comes: &'static str) -> ArchiveError {
    ArchiveError::Clash { path: shown(path), there, comes }
}

fn restore_time(cached: &Cached) -> io::Result<()> {
    if cached.changed && cached.timed {
        rustix::fs::futimens(&cached.fd, &times(cached.mtime))?;
    }
    Ok(())
}

/// A path's directory and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
