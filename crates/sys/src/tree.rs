//! Directory trees by descriptor: listing in order, removal that no depth can stop, and small ones
//! opened whole.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// The names in a directory, sorted by their bytes, in two allocations however many there are.
#[derive(Debug, Default, Clone)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each name starts and what it is; a name ends at its zero byte.
    starts: Vec<(u32, FileType)>,
}

impl Names {
    /// Reads a directory to its end. `.` and `..` are left out.
    ///
    /// The descriptor's position is used: it must be freshly opened, or rewound, and not be `O_PATH`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Self::default();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let start = u32::try_from(names.bytes.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
            names.bytes.extend_from_slice(entry.file_name().to_bytes_with_nul());
            names.starts.push((start, entry.file_type()));
        }
        let bytes = &names.bytes;
        names.starts.sort_unstable_by(|a, b| name_at(bytes, a.0).cmp(name_at(bytes, b.0)));
        Ok(names)
    }

    /// The names and types in order. The type is `Unknown` where the file system does not say.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&CStr, FileType)> {
        self.starts.iter().map(|&(start, kind)| (name_at(&self.bytes, start), kind))
    }

    /// The name and type at a place in the order.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&CStr, FileType)> {
        self.starts.get(at).map(|&(start, kind)| (name_at(&self.bytes, start), kind))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the directory is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

fn name_at(bytes: &[u8], start: u32) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[start as usize..]).expect("each name was stored with its zero byte")
}

/// Opens a directory below another for reading, without following a symbolic link.
///
/// # Errors
/// What the kernel said; `NotADirectory` for anything else, links included.
pub fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Removes a name and everything below it. One that is not there is no error.
///
/// Nothing is followed. It keeps two descriptors and the names of one path open, however deep the tree
/// is, and goes up by `..`; where that does not lead back to where it came from, because somebody moved a
/// directory meanwhile, it ends.
///
/// # Errors
/// What the kernel said first, or that a directory was moved; the rest of the tree stays.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut current = open_directory(parent, name)?;
    // Each with the directory that it is in.
    let mut path: Vec<(CString, Inode)> = vec![(name.to_owned(), inode_of(parent)?)];
    loop {
        if let Some(child) = remove_files(current.as_fd())? {
            path.push((child, inode_of(current.as_fd())?));
            let (child, _) = path.last().expect("it was pushed just now");
            current = open_directory(current.as_fd(), child)?;
            continue;
        }
        let (done, above) = path.pop().expect("the loop ends with the first directory");
        if path.is_empty() {
            return Ok(rustix::fs::unlinkat(parent, &done, AtFlags::REMOVEDIR)?);
        }
        current = open_directory(current.as_fd(), c"..")?;
        if inode_of(current.as_fd())? != above {
            return Err(io::Error::other("a directory was moved while it was being removed"));
        }
        rustix::fs::unlinkat(&current, &done, AtFlags::REMOVEDIR)?;
    }
}

/// Opens a tree of at most `entries` things, the directory itself included, so that each can be synced by itself. `None`
/// where there are more, or some that cannot be opened for that (symbolic links, devices, fifos).
///
/// Nothing is followed.
///
/// # Errors
/// What the kernel said first.
pub fn open_small(directory: OwnedFd, entries: usize) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut opened = vec![directory];
    let mut next = 0;
    // What is not a directory has no names, and is passed over.
    while let Some(directory) = opened.get(next) {
        next += 1;
        if FileType::from_raw_mode(rustix::fs::fstat(directory)?.st_mode) != FileType::Directory {
            continue;
        }
        let names = Names::read(directory.as_fd())?;
        if opened.len() + names.len() > entries {
            return Ok(None);
        }
        let directory = opened[next - 1].try_clone()?;
        for (name, kind) in names.iter() {
            if !matches!(kind, FileType::Directory | FileType::RegularFile) {
                return Ok(None);
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            opened.push(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
        }
    }
    Ok(Some(opened))
}

/// Tells a directory from every other one that is there at the same time.
type Inode = (u64, u64);

fn inode_of(directory: BorrowedFd<'_>) -> io::Result<Inode> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Unlinks a directory's files and empty directories, chunk by chunk; returns the first directory
/// that is not empty, if there is one.
fn remove_files(directory: BorrowedFd<'_>) -> io::Result<Option<CString>> {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    loop {
        // Rewound each time: what a directory yields after removals is not defined.
        rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut any = false;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            any = true;
            let flags =
                if entry.file_type() == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match rustix::fs::unlinkat(directory, entry.file_name(), flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR) => {
                    return Ok(Some(entry.file_name().to_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !any {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_trees_of_files_are_opened_whole() {
        let base = std::env::temp_dir().join(format!("gantry-small-{}", std::process::id()));
        std::fs::create_dir_all(base.join("a/b")).expect("a scratch directory");
        std::fs::write(base.join("a/b/file"), "x").expect("a file");
        let opened = |entries| {
            let root = std::fs::File::open(&base).expect("the directory");
            open_small(root.into(), entries).expect("to be opened").map(|all| all.len())
        };
        assert_eq!((opened(4), opened(3)), (Some(4), None));
        std::os::unix::fs::symlink("file", base.join("a/link")).expect("a link");
        assert_eq!(opened(9), None, "nobody can open a link");
        std::fs::remove_dir_all(&base).expect("clean");
    }

    #[test]
    fn deep_and_wide_trees_go_whole() {
        let base = std::env::temp_dir().join(format!("gantry-tree-{}", std::process::id()));
        std::fs::create_dir_all(base.join("t")).expect("a scratch directory");
        let root = std::fs::File::open(&base).expect("the directory");
        let mut deep = open_directory(root.as_fd(), c"t").expect("the tree");
        // Far deeper than PATH_MAX and than the limit of descriptors.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "dddd", Mode::RWXU).expect("a directory");
            rustix::fs::symlinkat("/", &deep, "link").expect("a link");
            deep = open_directory(deep.as_fd(), c"dddd").expect("a directory");
        }
        for n in 0..2000 {
            std::fs::write(base.join(format!("t/file-{n:04}")), "").expect("a file");
        }
        let names = Names::read(open_directory(root.as_fd(), c"t").expect("open").as_fd()).expect("names");
        assert_eq!(names.len(), 2002);
        assert!(names.iter().is_sorted_by(|a, b| a.0 < b.0));
        remove(root.as_fd(), c"t").expect("removal");
        remove(root.as_fd(), c"t").expect("removing what is gone");
        assert!(!base.join("t").exists());
        std::fs::remove_dir_all(&base).expect("clean");
    }
}
