//! Copying what the image has at a mount point into a volume in which nothing is yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gantry_sys::tree::{self, Names};
use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid};

/// Deeper trees are refused: no image has them, and the copy goes down by recursion.
const DEEPEST: u32 = 256;

/// Copies the directory at `path` of a root file system into an empty directory, with owners, modes, times
/// and extended attributes. Links in the path are followed inside the root only. Nothing there, or no
/// directory: nothing is copied. A directory that has files already stays as it is.
///
/// # Errors
/// The file system's; the directory is empty again, as far as it can be emptied.
pub(crate) fn populate(root: BorrowedFd<'_>, path: &Path, to: BorrowedFd<'_>) -> io::Result<()> {
    if !is_empty(to)? {
        return Ok(());
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = match rfs::openat2(
        root,
        relative,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(from) => from,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    copy_directory(from.as_fd(), to, 0).inspect_err(|_| empty(to))
}

/// Removes what is in a directory. What cannot be removed stays.
fn empty(directory: BorrowedFd<'_>) {
    for (name, _) in names_in(directory).unwrap_or_default().iter() {
        let _ = tree::remove(directory, name);
    }
}

fn names_in(directory: BorrowedFd<'_>) -> io::Result<Names> {
    Names::read(tree::open_directory(directory, c".")?.as_fd())
}

/// Whether a directory has nothing in it. One that has much is not read to its end.
///
/// # Errors
/// The file system's.
pub(crate) fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for entry in rfs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("the directories to copy into the volume are nested too deeply"));
    }
    for (name, _) in names_in(from)?.iter() {
        copy_entry(from, to, OsStr::from_bytes(name.to_bytes()), depth)?;
    }
    copy_attributes(from, to)?;
    let stat = rfs::fstat(from)?;
    rfs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rfs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    rfs::futimens(to, &times(&stat))?;
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    let stat = rfs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rfs::mkdirat(to, name, Mode::RWXU)?;
            let open = |at: BorrowedFd<'_>| -> io::Result<OwnedFd> {
                Ok(rfs::openat(at, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
            };
            return copy_directory(open(from)?.as_fd(), open(to)?.as_fd(), depth + 1);
        }
        FileType::RegularFile => {
            let mut source = File::from(rfs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?);
            let created =
                rfs::openat(to, name, flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR)?;
            let mut target = File::from(created);
            io::copy(&mut source, &mut target)?;
            copy_attributes(source.as_fd(), target.as_fd())?;
        }
        FileType::Symlink => {
            let target = rfs::readlinkat(from, name, Vec::new())?;
            rfs::symlinkat(target.as_c_str(), to, name)?;
        }
        kind => rfs::mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rfs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rfs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    rfs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Attributes that the target's file system has no place for are left out.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; 4096];
    let Ok(length) = rfs::flistxattr(from, &mut names) else { return Ok(()) };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 65536];
        if let Ok(length) = rfs::fgetxattr(from, name, &mut value) {
            match rfs::fsetxattr(to, name, &value[..length], rfs::XattrFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn times(stat: &rfs::Stat) -> Timestamps {
    let at = |seconds: i64, nanos: u64| rfs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("gantry-populate-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        path
    }

    #[test]
    fn a_tree_is_copied_once_and_links_stay_inside() {
        let root = scratch("root");
        fs::create_dir_all(root.join("data/sub")).expect("made");
        fs::write(root.join("data/sub/file"), "x").expect("written");
        fs::set_permissions(root.join("data/sub/file"), fs::Permissions::from_mode(0o640)).expect("set");
        symlink("/data", root.join("link")).expect("made");
        let volume = scratch("volume");
        let opened = File::open(&root).expect("a directory");
        let into = |path: &Path| File::open(path).expect("a directory");
        populate(opened.as_fd(), Path::new("/link"), into(&volume).as_fd()).expect("a copy");
        let metadata = fs::metadata(volume.join("sub/file")).expect("copied");
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (1, 0o640));
        fs::remove_file(root.join("data/sub/file")).expect("removed");
        populate(opened.as_fd(), Path::new("/data"), into(&volume).as_fd()).expect("nothing to do");
        assert!(volume.join("sub/file").exists(), "a volume with files stays as it is");
        let empty = scratch("empty");
        populate(opened.as_fd(), Path::new("/nosuch"), into(&empty).as_fd()).expect("nothing to do");
        assert!(is_empty(File::open(&empty).expect("there").as_fd()).expect("read"));
        // Nested too deeply, it is refused in the middle.
        let deep = scratch("deep");
        let mut below = deep.join("data");
        (0..=DEEPEST).for_each(|_| below.push("d"));
        fs::create_dir_all(&below).expect("made");
        fs::write(deep.join("data/file"), "x").expect("written");
        let opened = File::open(&deep).expect("a directory");
        populate(opened.as_fd(), Path::new("/data"), into(&empty).as_fd()).expect_err("too deep");
        assert!(is_empty(into(&empty).as_fd()).expect("read"), "half a copy is none");
        for path in [root, volume, empty, deep] {
            fs::remove_dir_all(path).expect("removed");
        }
    }
}
