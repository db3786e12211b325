//! Trees reached through the descriptor of their root: no path in them can lead out of it, whatever links
//! they hold.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How deep trees may be: deeper ones are not made by people.
pub(super) const MAX_DEPTH: usize = 512;

/// Opens a path of a tree, following links as if its root were `/`. An empty path is the root.
///
/// # Errors
/// Those of openat2(2).
pub fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // EAGAIN: something was renamed meanwhile, so that the kernel cannot be sure.
        match rustix::fs::openat2(&root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// More links than this in one path are a loop, as for the kernel.
const MAX_LINKS: usize = 40;

/// The path of a tree to which another leads through links, those without a target included: absolute and
/// without links as far as it is there. `..` stops at the root.
///
/// # Errors
/// `FilesystemLoop`, and those of openat2(2) and readlinkat(2).
pub(super) fn follow(root: impl AsFd, path: &Path) -> io::Result<PathBuf> {
    let mut left: Vec<OsString> = path.iter().rev().map(OsStr::to_owned).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.as_bytes() {
            b"/" => at = PathBuf::from("/"),
            b"." => {}
            b".." => drop(at.pop()),
            _ => {
                let target = match open(&root, &at, OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(directory) => link_target(&directory, &name),
                    Err(error) => Err(error),
                };
                match target {
                    Ok(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP.into());
                        }
                        left.extend(Path::new(&target).iter().rev().map(OsStr::to_owned));
                    }
                    // No link, or not there, or below something that is no directory: as it is.
                    Err(error)
                        if matches!(
                            error.raw_os_error().map(Errno::from_raw_os_error),
                            Some(Errno::INVAL | Errno::NOENT | Errno::NOTDIR)
                        ) =>
                    {
                        at.push(name);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(at)
}

/// Opens an entry of a directory itself, never what a link points to.
pub(super) fn open_entry(directory: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The state of an entry of a directory itself.
pub(super) fn stat_entry(directory: impl AsFd, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What sort of file it is.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The names in a directory, sorted, without `.` and `..`.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a file of a tree whole, up to a limit; `None` where it is not there or no file.
///
/// # Errors
/// Those of open and read; `IsADirectory`; `FileTooLarge` above the limit.
pub fn read_file(root: impl AsFd, path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(root, path, flags) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match kind(&rustix::fs::fstat(&file)?) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        _ => return Ok(None),
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::from(file);
    io::Read::read_to_end(&mut io::Read::take(&file, limit_bytes + 1), &mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

/// Extended attributes that are content: a user's, and capabilities of programs.
fn is_content(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// The extended attributes of a file or directory that are content, sorted by name.
pub(super) fn xattrs(file: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let file = file.as_fd();
    let mut list = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut list[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < 1 << 16 => list.resize(list.len() * 8, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in list[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !is_content(name.to_bytes()) {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

/// Where a symbolic link points to.
pub(super) fn link_target(directory: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsStr::from_bytes(target.to_bytes()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_what_is_not_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        std::fs::create_dir_all(root.join("real/deep")).expect("made");
        for (target, name) in [
            ("/nosuch", "dead"),
            ("real", "alive"),
            ("../../../up", "real/out"),
            ("loop", "loop"),
            ("dead/x", "two"),
        ] {
            symlink(target, root.join(name)).expect("linked");
        }
        std::fs::write(root.join("file"), "").expect("written");
        let root = std::fs::File::open(root).expect("the root");
        let check = |path: &str, expected: &str| {
            assert_eq!(follow(&root, Path::new(path)).expect(path), Path::new(expected), "{path}");
        };
        check("/dead/a/b", "/nosuch/a/b");
        check("alive/deep", "/real/deep");
        check("/alive/out/x", "/up/x");
        check("/two", "/nosuch/x");
        check("/a/../../b/./c", "/b/c");
        check("/file/x", "/file/x");
        let error = follow(&root, Path::new("/loop/x")).expect_err("a loop");
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}
