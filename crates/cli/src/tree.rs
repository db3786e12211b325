//! Files and trees of this machine as archives, and archives as files of this machine.
//!
//! What is unpacked comes from a daemon that may be anybody's: parents are opened below the destination and
//! nowhere else (`openat2` with `RESOLVE_BENEATH`), the last component is made anew and never followed. As in
//! the stock client, files become the user's own, and neither a directory takes the place of a file nor a file
//! that of a directory. [`Owner::Kept`] is what Docker's documentation says of `cp -a` (its client does not do it).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use indicatif::ProgressBar;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// What is left out of a file where it is all zeros.
const HOLE_BYTES: usize = 16 << 10;

/// The first component of each name in an archive, and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rename {
    /// As the archive has it; `.` and `/` stand for what is in a directory.
    pub(crate) from: String,
    /// As it shall be.
    pub(crate) to: String,
}

impl Rename {
    fn apply(&self, path: &Path) -> PathBuf {
        let parts = || path.components().filter(|part| matches!(part, Component::Normal(_)));
        let rest: PathBuf = match self.from.as_str() {
            "." | "/" => parts().collect(),
            _ => parts().skip(1).collect(),
        };
        Path::new(&self.to).join(rest)
    }
}

/// Whose files become that are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user's.
    User,
    /// Whose they were, by number, as far as the user may give files away.
    Kept,
}

/// A writer that moves a bar.
pub(crate) struct Metered<W> {
    /// What is written to.
    pub(crate) inner: W,
    /// What moves.
    pub(crate) bar: ProgressBar,
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bar.inc(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Packs a file or a tree; `name` is what it is called in the archive. Sockets are left out.
///
/// # Errors
/// Those of reading and of the output.
pub(crate) fn pack(path: &Path, name: &str, out: impl Write) -> io::Result<()> {
    let mut packer =
        Packer { builder: Builder::new(io::BufWriter::with_capacity(256 << 10, out)), links: HashMap::new() };
    packer.entry(path, Path::new(name))?;
    packer.builder.into_inner()?.flush()
}

struct Packer<W: Write> {
    builder: Builder<W>,
    /// Files with several names: which, and under what name they came first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode) {
                header.set_entry_type(EntryType::Link);
                let first = first.clone();
                return self.builder.append_link(&mut header, name, first);
            }
            self.links.insert(inode, name.to_owned());
        }
        if !kind.is_symlink() {
            self.attributes(path)?;
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.builder.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            // A file that shrinks meanwhile is filled up, one that grows is cut.
            let data = File::open(path)?.chain(io::repeat(0)).take(metadata.len());
            return self.builder.append_data(&mut header, name, data);
        }
        if !kind.is_dir() {
            header.set_entry_type(match () {
                () if kind.is_fifo() => EntryType::Fifo,
                () if kind.is_block_device() => EntryType::Block,
                () => EntryType::Char,
            });
            let device = if kind.is_fifo() { 0 } else { metadata.rdev() };
            header.set_device_major(rustix::fs::major(device))?;
            header.set_device_minor(rustix::fs::minor(device))?;
            return self.builder.append_data(&mut header, name, io::empty());
        }
        header.set_entry_type(EntryType::Directory);
        let mut with_slash = name.as_os_str().as_bytes().to_vec();
        with_slash.push(b'/');
        self.builder.append_data(
            &mut header,
            PathBuf::from(std::ffi::OsString::from_vec(with_slash)),
            io::empty(),
        )?;
        let mut children = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children {
            match self.entry(&child.path(), &name.join(child.file_name())) {
                // It went away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Says what attributes the next entry has: capabilities and the user's own.
    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut names = vec![0; 64 << 10];
        // A file system without attributes has none.
        let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return Ok(()) };
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        for name in names[..length].split(|&byte| byte == 0) {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            if text != "security.capability" && !text.starts_with("user.") {
                continue;
            }
            let mut value = vec![0; 64 << 10];
            if let Ok(length) = rustix::fs::lgetxattr(path, text, &mut value) {
                value.truncate(length);
                records.push((format!("SCHILY.xattr.{text}"), value));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        self.builder
            .append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

/// Unpacks an archive into a directory.
///
/// # Errors
/// The stream's, the file system's, and names that lead outside.
pub(crate) fn unpack(
    input: impl Read,
    directory: &Path,
    rename: Option<&Rename>,
    owner: Owner,
) -> io::Result<()> {
    let root =
        rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut archive = Archive::new(io::BufReader::with_capacity(256 << 10, input));
    let mut times = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = match rename {
            Some(rename) => rename.apply(&entry.path()?),
            None => entry.path()?.into_owned(),
        };
        let Some((parent, name)) = inside(&path)? else { continue };
        let parent = beneath(&root, &parent)?;
        let is_directory =
            make(&root, &parent, &name, &mut entry, rename, owner).map_err(|error| named(&path, error))?;
        if is_directory {
            times.push((path, stamps(entry.header())));
        }
    }
    // A directory's time changes with what is put into it: last things first.
    for (path, time) in times.into_iter().rev() {
        if let Some((parent, name)) = inside(&path)? {
            let parent = beneath(&root, &parent)?;
            rustix::fs::utimensat(&parent, name.as_os_str(), &time, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    let text = crate::spec::env::describe(&error);
    io::Error::new(error.kind(), format!("{}: {text}", path.display()))
}

fn stamps(header: &Header) -> Timestamps {
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// A path's parent and name; nothing for the root. Leading slashes and `.` mean nothing.
fn inside(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(io::Error::other(format!("invalid entry name {:?}", path.display().to_string())));
            }
            _ => {}
        }
    }
    let Some(name) = clean.file_name().map(PathBuf::from) else { return Ok(None) };
    clean.pop();
    Ok(Some((clean, name)))
}

fn beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH) {
            // Something was renamed on this machine meanwhile, and the kernel cannot be sure.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// Makes one entry; `true` for a directory, whose time is set later.
fn make(
    root: &OwnedFd,
    parent: &OwnedFd,
    name: &Path,
    entry: &mut Entry<'_, impl Read>,
    rename: Option<&Rename>,
    owner: Owner,
) -> io::Result<bool> {
    let header = entry.header().clone();
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let is_directory = header.entry_type() == EntryType::Directory;
    if let Ok(there) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        match (FileType::from_raw_mode(there.st_mode) == FileType::Directory, is_directory) {
            (true, true) => {}
            (true, false) => return Err(io::Error::other("cannot overwrite directory with non-directory")),
            (false, true) => return Err(io::Error::other("cannot overwrite non-directory with directory")),
            (false, false) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        }
    }
    let link = || entry.link_name().map(|link| link.map(std::borrow::Cow::into_owned).unwrap_or_default());
    match header.entry_type() {
        EntryType::Directory => {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            give(parent, name, &header, owner)?;
            rustix::fs::fchmod(&made, mode)?;
            set_attributes(&made, entry)?;
            return Ok(true);
        }
        EntryType::Symlink => {
            rustix::fs::symlinkat(link()?, parent, name)?;
            give(parent, name, &header, owner)?;
            rustix::fs::utimensat(parent, name, &stamps(&header), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        EntryType::Link => {
            let target = match rename {
                Some(rename) => rename.apply(&link()?),
                None => link()?,
            };
            let Some((directory, target)) = inside(&target)? else {
                return Err(io::Error::other("a hard link must name a file"));
            };
            let directory = beneath(root, &directory)?;
            rustix::fs::linkat(&directory, &target, parent, name, AtFlags::empty())?;
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            let kind = match header.entry_type() {
                EntryType::Fifo => FileType::Fifo,
                EntryType::Char => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            let number = |part: io::Result<Option<u32>>| part.map(Option::unwrap_or_default);
            let device = rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?);
            rustix::fs::mknodat(parent, name, kind, mode, device)?;
            give(parent, name, &header, owner)?;
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
            rustix::fs::utimensat(parent, name, &stamps(&header), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(made);
            write_with_holes(entry, header.entry_size()?, &mut file)?;
            give(parent, name, &header, owner)?;
            rustix::fs::fchmod(&file, mode)?;
            set_attributes(&file, entry)?;
            rustix::fs::futimens(&file, &stamps(&header))?;
        }
    }
    Ok(false)
}

/// Gives what was just made to its owner. Comes before its mode: it takes set-id bits away.
fn give(parent: &OwnedFd, name: &Path, header: &Header, owner: Owner) -> io::Result<()> {
    if owner == Owner::User {
        return Ok(());
    }
    let number = |number: u64| u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData);
    let (uid, gid) = (Uid::from_raw(number(header.uid()?)?), Gid::from_raw(number(header.gid()?)?));
    match rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // They stay the user's.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file; whole blocks of zeros become holes, as they may have been.
fn write_with_holes(from: &mut impl Read, size_bytes: u64, file: &mut File) -> io::Result<()> {
    // One more than a small file has, so that its end is met at once.
    let room = usize::try_from(size_bytes.saturating_add(1)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; room.min(4 * HOLE_BYTES)];
    let mut size = 0;
    loop {
        // Whole buffers, so that blocks stay whole.
        let mut length = 0;
        while length < buffer.len() {
            match from.read(&mut buffer[length..])? {
                0 => break,
                read => length += read,
            }
        }
        for block in buffer[..length].chunks(HOLE_BYTES) {
            if block != &[0; HOLE_BYTES][..block.len()] {
                file.write_all_at(block, size)?;
            }
            size += block.len() as u64;
        }
        if length < buffer.len() {
            return file.set_len(size);
        }
    }
}

/// Sets the attributes that an entry has, as far as this file system and this user can.
fn set_attributes(made: &impl AsFd, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let Some(records) = entry.pax_extensions()? else { return Ok(()) };
    for record in records {
        let record = record?;
        let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(made, OsStr::from_bytes(name), record.value_bytes(), flags) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("gantry-tree-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_tree_goes_out_and_in_again() {
        let scratch = scratch("both");
        let from = scratch.join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::write(from.join("d/file"), "text").unwrap();
        fs::set_permissions(from.join("d/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(from.join("d/file"), from.join("hard")).unwrap();
        symlink("d/file", from.join("soft")).unwrap();
        fs::create_dir(scratch.join("to")).unwrap();
        let long = "long".repeat(50);
        fs::write(from.join(&long), "x").unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"x", 1 << 20).unwrap();
        sparse.set_len((2 << 20) + 5).unwrap();
        let mut bytes = Vec::new();
        pack(&from, "from", &mut bytes).unwrap();
        let rename = Rename { from: "from".into(), to: "new".into() };
        unpack(bytes.as_slice(), &scratch.join("to"), Some(&rename), Owner::User).unwrap();
        let to = scratch.join("to/new");
        let (file, hard) = (fs::metadata(to.join("d/file")).unwrap(), fs::metadata(to.join("hard")).unwrap());
        assert_eq!((file.ino(), file.mode() & 0o777), (hard.ino(), 0o640));
        assert_eq!(fs::read_link(to.join("soft")).unwrap(), Path::new("d/file"));
        assert_eq!(fs::read(to.join(&long)).unwrap(), b"x");
        assert_eq!(fs::read(to.join("sparse")).unwrap(), fs::read(from.join("sparse")).unwrap());
        assert!(fs::metadata(to.join("sparse")).unwrap().blocks() * 512 < 1 << 20, "its holes were filled");
        let before = fs::metadata(from.join("d")).unwrap().mtime();
        assert_eq!(fs::metadata(to.join("d")).unwrap().mtime(), before);
        let error = unpack(
            bytes.as_slice(),
            &to,
            Some(&Rename { from: "from".into(), to: "soft".into() }),
            Owner::User,
        );
        assert!(error.unwrap_err().to_string().contains("cannot overwrite non-directory"));
        fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn nothing_is_unpacked_outside() {
        let scratch = scratch("outside");
        fs::create_dir(scratch.join("to")).unwrap();
        let archive = |entries: &[(&str, Option<&str>)]| {
            let mut builder = Builder::new(Vec::new());
            for (name, link) in entries {
                let mut header = Header::new_gnu();
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_mode(0o644);
                header.set_size(0);
                if let Some(link) = link {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_link_name(link).unwrap();
                }
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            }
            builder.into_inner().unwrap()
        };
        for entries in [
            &[("../x", None)][..],
            &[("a/../../x", None)],
            &[("l", Some("..")), ("l/x", None)],
            &[("l", Some("/tmp")), ("l/gantry-tree-x", None)],
        ] {
            unpack(archive(entries).as_slice(), &scratch.join("to"), None, Owner::User).unwrap_err();
        }
        assert!(!scratch.join("x").exists());
        unpack(archive(&[("/x", None)]).as_slice(), &scratch.join("to"), None, Owner::User).unwrap();
        assert!(scratch.join("to/x").exists(), "an absolute name is below the destination");
        fs::remove_dir_all(&scratch).unwrap();
    }
}
