//! The overlay driver: a snapshot is an upper directory, and becomes a layer by a rename.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_model::mount::RootMount;
use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::{self, Target};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::driver::{Committed, Difference, Driver, Lower, OVERLAY, effective, open};
use super::{
    After, Change, ChangeKind, Usage, attributes_differ, check_path, copy, count, deep, stub_components,
};
use crate::Error;
use crate::archive::{OPAQUE, Whiteouts, is_kept_xattr, is_whiteout, mtime_of, times};

/// Overlayfs. A snapshot is `fs` (upper) and `work`.
pub(crate) struct Overlay;

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        OVERLAY
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Overlay
    }

    fn probe(&self, root: &Path) -> Result<(), String> {
        let scratch = root.join("tmp/probe");
        let result = probe(&scratch);
        let _ = fs::remove_dir_all(&scratch);
        result.map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }

    fn prepare(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<(), Error> {
        make_directory(directory)?;
        let (upper, work) = (directory.join("fs"), directory.join("work"));
        make_directory(&upper)?;
        make_directory(&work)?;
        match lower.iter().rev().find(|layer| layer.root_entry) {
            Some(layer) => copy_attributes(&layer.path(root), &upper),
            None => set_mode(&upper, 0o755),
        }
    }

    fn mount(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<RootMount, Error> {
        Ok(RootMount::Overlay {
            lower: lower_paths(root, lower),
            upper: Some(directory.join("fs")),
            work: Some(directory.join("work")),
        })
    }

    fn read_only(&self, root: &Path, lower: &[Lower]) -> Result<RootMount, Error> {
        let mut lower = lower_paths(root, lower);
        // Without an upper directory overlay wants two lower ones, which must differ.
        if lower.len() == 1 {
            lower.push(root.join("layers/0/below"));
        }
        Ok(RootMount::Overlay { lower, upper: None, work: None })
    }

    fn changes(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<Vec<Change>, Error> {
        let below = open(&self.read_only(root, lower)?)?;
        let path = directory.join("fs");
        let upper: OwnedFd = fs::File::open(&path).map_err(Error::io("open", &path))?.into();
        let mut changes = Vec::new();
        deep(|| compare(upper.as_fd(), Some(below.as_fd()), Path::new("/"), &mut changes))
            .map_err(Error::io("compare", &path))?;
        changes.sort();
        Ok(changes)
    }

    fn usage(&self, _: &Path, directory: &Path, _: &[Lower]) -> Result<Usage, Error> {
        count(&directory.join("fs"))
    }

    fn difference(&self, commit: &Committed<'_>) -> Result<Difference, Error> {
        let Committed { root, directory, lower, stubs, after } = *commit;
        let tree = match after {
            After::Consumed => directory.join("fs"),
            After::Kept => copy_upper(root, directory)?,
        };
        let upper = fs::File::open(&tree).map_err(Error::io("open", &tree))?;
        for stub in stubs {
            remove_stub(&upper, root, lower, stub).map_err(Error::io("remove the mount point", stub))?;
        }
        let root_changed = match lower.iter().rev().find(|layer| layer.root_entry) {
            Some(layer) => {
                let path = layer.path(root);
                let below = fs::File::open(&path).map_err(Error::io("open", &path))?;
                attributes_differ(upper.as_fd(), below.as_fd()).map_err(Error::io("compare", &tree))?
            }
            None => plain_root_differs(upper.as_fd()).map_err(Error::io("read", &tree))?,
        };
        Ok(Difference { tree, root_changed })
    }
}

/// Copies an upper directory to `tmp/`.
fn copy_upper(root: &Path, directory: &Path) -> Result<PathBuf, Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let copy = root.join(format!("tmp/upper-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    make_directory(&copy)?;
    let upper = directory.join("fs");
    let copied = copy::copy_upper(&upper, &copy).map_err(Error::io("copy", &upper));
    if copied.is_err() {
        // What cannot be removed now goes at the next open.
        let _ = fs::remove_dir_all(&copy);
    }
    copied.map(|()| copy)
}

fn probe(scratch: &Path) -> Result<(), Error> {
    fs::create_dir_all(scratch).map_err(Error::io("make", scratch))?;
    for name in ["lower", "upper", "work"] {
        make_directory(&scratch.join(name))?;
    }
    let opaque = scratch.join("upper");
    let directory = fs::File::open(&opaque).map_err(Error::io("open", &opaque))?;
    xattr::set(Target::Open(directory.as_fd()), OPAQUE, b"y")
        .map_err(Error::io("set attributes of", &opaque))?;
    let mount = RootMount::Overlay {
        lower: vec![scratch.join("lower")],
        upper: Some(scratch.join("upper")),
        work: Some(scratch.join("work")),
    };
    let merged = open(&mount)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(&merged, "file", flags, Mode::RUSR).map_err(Error::io("write to", scratch))?;
    rustix::fs::mknodat(&directory, "gone", FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(Error::io("make a whiteout in", scratch))
}

/// Topmost first; at least one, because overlay wants one: the layer 0, which is always there and empty.
fn lower_paths(root: &Path, lower: &[Lower]) -> Vec<PathBuf> {
    let mut paths: Vec<_> = effective(lower).iter().rev().map(|layer| layer.path(root)).collect();
    if paths.is_empty() {
        paths.push(root.join("layers/0/fs"));
    }
    paths
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir(path).map_err(Error::io("make", path))
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(Error::io("change the mode of", path))
}

/// Copies owner, mode and attributes of one directory to another.
pub(super) fn copy_attributes(from: &Path, to: &Path) -> Result<(), Error> {
    let source = fs::File::open(from).map_err(Error::io("open", from))?;
    let target = fs::File::open(to).map_err(Error::io("open", to))?;
    let copy = || -> io::Result<()> {
        let stat = rustix::fs::fstat(&source)?;
        rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for name in xattr::list(Target::Open(source.as_fd()))? {
            if is_kept_xattr(name.to_bytes())
                && let Some(value) = xattr::get(Target::Open(source.as_fd()), &name)?
            {
                xattr::set(Target::Open(target.as_fd()), &name, &value)?;
            }
        }
        Ok(())
    };
    copy().map_err(Error::io("copy attributes to", to))
}

/// Whether a root differs from what it is when no layer says anything.
pub(super) fn plain_root_differs(upper: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(upper)?;
    let attributes = xattr::list(Target::Open(upper))?;
    Ok((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) != (0, 0, 0o755)
        || attributes.iter().any(|name| is_kept_xattr(name.to_bytes())))
}

fn stat(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Walks the upper directory beside the merged layers below it.
fn compare(
    upper: BorrowedFd<'_>,
    below: Option<BorrowedFd<'_>>,
    path: &Path,
    changes: &mut Vec<Change>,
) -> io::Result<()> {
    check_path(path)?;
    let names = Names::read(tree::open_directory(upper, c".")?.as_fd())?;
    for (name, _) in names.iter() {
        let Some(mine) = stat(upper, name)? else { continue };
        let theirs = match below {
            Some(below) => stat(below, name)?,
            None => None,
        };
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        if is_whiteout(&mine) {
            if theirs.is_some() {
                changes.push(Change { path, kind: ChangeKind::Deleted });
            }
            continue;
        }
        if !is_directory(&mine) {
            let kind = if theirs.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            // What was only opened to be written is here, and as it was.
            if theirs.is_none_or(|theirs| differs(upper, below, name, &mine, &theirs)) {
                changes.push(Change { path, kind });
            }
            continue;
        }
        let at = changes.len();
        let mine_below = tree::open_directory(upper, name)?;
        let opaque = xattr::get(Target::Open(mine_below.as_fd()), OPAQUE)?.as_deref() == Some(b"y");
        let theirs_below = match (below, theirs) {
            (Some(below), Some(stat)) if is_directory(&stat) => Some(tree::open_directory(below, name)?),
            _ => None,
        };
        if let (true, Some(theirs)) = (opaque, &theirs_below) {
            for (name, _) in Names::read(tree::open_directory(theirs.as_fd(), c".")?.as_fd())?.iter() {
                if stat(mine_below.as_fd(), name)?.is_none() {
                    let path = path.join(OsStr::from_bytes(name.to_bytes()));
                    changes.push(Change { path, kind: ChangeKind::Deleted });
                }
            }
        }
        compare(mine_below.as_fd(), theirs_below.as_ref().map(AsFd::as_fd), &path, changes)?;
        // A directory that is only on the way to what changed is told of as changed; one of which nothing is left
        // to tell is not.
        let (kind, told) = match theirs {
            None => (ChangeKind::Added, true),
            Some(theirs) => {
                let told = changes.len() > at || differs(upper, below, name, &mine, &theirs);
                (ChangeKind::Modified, told)
            }
        };
        if told {
            changes.insert(at, Change { path, kind });
        }
    }
    Ok(())
}

/// Whether a thing differs from what was there, as Docker tells it: by owner, mode, device and capabilities, and
/// what is no directory also by size and time.
fn differs(
    upper: BorrowedFd<'_>,
    below: Option<BorrowedFd<'_>>,
    name: &std::ffi::CStr,
    mine: &Stat,
    theirs: &Stat,
) -> bool {
    let known = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let capabilities = |parent| xattr::get(Target::At(parent, name), c"security.capability").ok().flatten();
    known(mine) != known(theirs)
        || (!is_directory(mine) && content(mine) != content(theirs))
        || below.is_some_and(|below| capabilities(upper) != capabilities(below))
}

/// Removes a mount point that the runtime made, and directories above it that are in the upper only
/// because of it: they hold nothing else and say what the layers below say.
fn remove_stub(upper: &fs::File, root: &Path, lower: &[Lower], stub: &Path) -> io::Result<()> {
    let components = stub_components(stub)?;
    let mut parents: Vec<OwnedFd> = Vec::new();
    for component in components.iter().take(components.len().saturating_sub(1)) {
        let parent = parents.last().map_or(upper.as_fd(), AsFd::as_fd);
        match tree::open_directory(parent, component) {
            Ok(directory) => parents.push(directory),
            Err(_) => return Ok(()),
        }
    }
    for depth in (0..components.len()).rev() {
        let parent = if depth == 0 { upper.as_fd() } else { parents[depth - 1].as_fd() };
        let name = &components[depth];
        let Some(stat) = stat(parent, name)? else { return Ok(()) };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mount_point = depth + 1 == components.len();
        let relative: Vec<_> = components[..=depth].iter().map(CString::as_c_str).collect();
        let below = find_below(root, lower, &relative)?;
        let removable = match (kind, &below) {
            (_, Some(_)) if mount_point => false,
            (FileType::RegularFile, None) => mount_point && stat.st_size == 0,
            (FileType::Directory, None) => true,
            (FileType::Directory, Some(path)) => {
                let directory = tree::open_directory(parent, name)?;
                let opaque = xattr::get(Target::Open(directory.as_fd()), OPAQUE)?.is_some();
                let below = fs::File::open(path)?;
                // If it stays, only its time was changed by the mount point.
                let old = rustix::fs::fstat(&below)?;
                rustix::fs::futimens(&directory, &times(mtime_of(&old)))?;
                !opaque && !attributes_differ(directory.as_fd(), below.as_fd())?
            }
            _ => false,
        };
        if !removable {
            return Ok(());
        }
        let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(parent, name, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Where the layers below have a path as a directory, topmost first; `None` if it is not there.
fn find_below(root: &Path, lower: &[Lower], path: &[&std::ffi::CStr]) -> io::Result<Option<PathBuf>> {
    for layer in effective(lower).iter().rev() {
        let base = layer.path(root);
        let mut directory: OwnedFd = fs::File::open(&base)?.into();
        let mut hidden = false;
        for (at, component) in path.iter().enumerate() {
            match stat(directory.as_fd(), component)? {
                None => break,
                Some(stat) if !is_directory(&stat) => {
                    hidden = true;
                    break;
                }
                Some(_) if at + 1 == path.len() => {
                    let relative: PathBuf = path.iter().map(|c| OsStr::from_bytes(c.to_bytes())).collect();
                    return Ok(Some(base.join(relative)));
                }
                Some(_) => directory = tree::open_directory(directory.as_fd(), component)?,
            }
            let opaque = xattr::get(Target::Open(directory.as_fd()), OPAQUE)?.as_deref() == Some(b"y");
            hidden |= opaque;
        }
        if hidden {
            return Ok(None);
        }
    }
    Ok(None)
}
