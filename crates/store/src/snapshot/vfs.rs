//! The copying driver: a snapshot is a whole copy of its layers, merged. For file systems that overlay
//! cannot have its upper directory on, such as another overlay. Layers mark removed files by `.wh.` files.
//!
//! What changed in a snapshot is found without a second copy: everything that was copied has a change
//! time before that of the file `prepared`, which is made last; only what is newer is compared.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gantry_model::mount::RootMount;
use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::Target;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec};
use rustix::io::Errno;

use super::copy::{Links, copy_leaf, copy_metadata};
use super::driver::{Committed, Difference, Driver, Lower, VFS, effective};
use super::overlay::{copy_attributes, make_directory, plain_root_differs, set_mode};
use super::{
    After, Change, ChangeKind, Usage, attributes_differ, check_path, deep, kept_xattrs, mount_points,
    stub_components,
};
use crate::Error;
use crate::archive::{OPAQUE_FILE, WHITEOUT, Whiteouts, make_whiteout, times};
use crate::content::digest_of;

/// Copies. A snapshot is `fs`; a layer may have merged views in `merged/<hash of the layers below>`.
pub(crate) struct Vfs;

impl Driver for Vfs {
    fn name(&self) -> &'static str {
        VFS
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Files
    }

    fn probe(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<(), Error> {
        make_directory(directory)?;
        let path = directory.join("fs");
        merge(root, lower, &path)?;
        let mark = directory.join("prepared");
        fs::write(&mark, "").map_err(Error::io("make", &mark))
    }

    fn mount(&self, _: &Path, directory: &Path, _: &[Lower]) -> Result<RootMount, Error> {
        Ok(RootMount::Bind { source: directory.join("fs") })
    }

    fn read_only(&self, root: &Path, lower: &[Lower]) -> Result<RootMount, Error> {
        Ok(RootMount::Bind { source: merged(root, lower)? })
    }

    fn changes(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<Vec<Change>, Error> {
        let mut changes: Vec<Change> = compared(root, directory, lower, MountPoints::Nobodys)?
            .into_iter()
            .map(|(path, kind)| Change { path: Path::new("/").join(path), kind })
            .collect();
        changes.sort();
        Ok(changes)
    }

    fn usage(&self, root: &Path, directory: &Path, lower: &[Lower]) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        for (path, kind) in compared(root, directory, lower, MountPoints::Nobodys)? {
            if kind == ChangeKind::Deleted {
                continue;
            }
            usage.entries += 1;
            if let Ok(stat) = fs::symlink_metadata(directory.join("fs").join(&path))
                && (stat.is_file() || stat.is_symlink())
            {
                usage.size_bytes += stat.len();
            }
        }
        Ok(usage)
    }

    fn difference(&self, commit: &Committed<'_>) -> Result<Difference, Error> {
        let Committed { root, directory, lower, stubs, after } = *commit;
        let below = merged(root, lower)?;
        let live = directory.join("fs");
        let remove_stubs = |tree: &Path| {
            stubs.iter().try_for_each(|stub| {
                remove_stub(tree, &below, stub).map_err(Error::io("remove the mount point", stub))
            })
        };
        if after == After::Consumed {
            remove_stubs(&live)?;
        }
        let tree = directory.join("difference");
        match fs::remove_dir_all(&tree) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { action: "remove", path: tree, source: error });
            }
            _ => {}
        }
        make_directory(&tree)?;
        copy_attributes(&live, &tree)?;
        // A container's commit names no stubs, for on overlay there are none.
        let mount_points = match after {
            After::Kept => MountPoints::Nobodys,
            After::Consumed => MountPoints::Changes,
        };
        let changes = compared(root, directory, lower, mount_points)?;
        let reserved =
            |path: &&PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT));
        if let Some(path) = changes.keys().find(reserved) {
            return Err(Error::ReservedName { path: Path::new("/").join(path) });
        }
        copy_changes(&live, &tree, &changes).map_err(Error::io("copy changes to", &tree))?;
        if after == After::Kept {
            remove_stubs(&tree)?;
        }
        let open = |path: &Path| fs::File::open(path).map_err(Error::io("open", path));
        let root_changed = if lower.iter().any(|layer| layer.root_entry) {
            attributes_differ(open(&live)?.as_fd(), open(&below)?.as_fd())
        } else {
            plain_root_differs(open(&live)?.as_fd())
        };
        Ok(Difference { root_changed: root_changed.map_err(Error::io("compare", &live))?, tree })
    }
}

/// Merges layers into a new directory.
fn merge(root: &Path, lower: &[Lower], path: &Path) -> Result<(), Error> {
    make_directory(path)?;
    let target: OwnedFd = fs::File::open(path).map_err(Error::io("open", path))?.into();
    for layer in effective(lower) {
        let from = layer.path(root);
        let source: OwnedFd = fs::File::open(&from).map_err(Error::io("open", &from))?.into();
        let mut links = Links::below(target.as_fd());
        deep(|| add_layer(source.as_fd(), target.as_fd(), Path::new(""), &mut links))
            .map_err(Error::io("copy", &from))?;
    }
    match lower.iter().rev().find(|layer| layer.root_entry) {
        Some(layer) => copy_attributes(&layer.path(root), path),
        None => set_mode(path, 0o755),
    }
}

/// The merged view of layers, made when it is first asked for, kept with the topmost one.
fn merged(root: &Path, lower: &[Lower]) -> Result<PathBuf, Error> {
    let Some(top) = lower.last() else { return Ok(root.join("layers/0/fs")) };
    let chain: Vec<String> = lower.iter().map(|layer| layer.id.to_string()).collect();
    let home = root.join(format!("layers/{}/merged", top.id));
    let view = home.join(&digest_of(chain.join(",").as_bytes()).hex()[..32]);
    if view.exists() {
        return Ok(view);
    }
    fs::create_dir_all(&home).map_err(Error::io("make", &home))?;
    let thread = format!("{:?}", std::thread::current().id());
    let scratch = root.join("tmp").join(format!("merge-{}-{thread}", top.id));
    let _ = fs::remove_dir_all(&scratch);
    merge(root, lower, &scratch)?;
    match fs::rename(&scratch, &view) {
        // Somebody else was faster.
        Err(_) if view.exists() => fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?,
        result => result.map_err(Error::io("rename to", &view))?,
    }
    Ok(view)
}

/// Puts one layer's directory on top of what is there: first what it removes, then what it has.
fn add_layer(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    path: &Path,
    links: &mut Links<'_>,
) -> io::Result<()> {
    check_path(path)?;
    let names = Names::read(tree::open_directory(source, c".")?.as_fd())?;
    for (name, _) in names.iter() {
        if name == OPAQUE_FILE {
            for (old, _) in Names::read(tree::open_directory(target, c".")?.as_fd())?.iter() {
                tree::remove(target, old)?;
            }
        } else if let Some(hidden) = name.to_bytes().strip_prefix(WHITEOUT) {
            tree::remove(target, &CString::new(hidden)?)?;
        }
    }
    for (name, _) in names.iter().filter(|(name, _)| !name.to_bytes().starts_with(WHITEOUT)) {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            tree::remove(target, name)?;
            copy_leaf(source, target, name, &stat, &path, links)?;
            continue;
        }
        if !is_directory_at(target, name) {
            tree::remove(target, name)?;
            rustix::fs::mkdirat(target, name, Mode::RWXU)?;
        }
        let (from, to) = (tree::open_directory(source, name)?, tree::open_directory(target, name)?);
        add_layer(from.as_fd(), to.as_fd(), &path, links)?;
        copy_metadata(from.as_fd(), to.as_fd(), &stat)?;
    }
    Ok(())
}

fn is_directory_at(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// What the usual mount points are that a layer does not have and whoever mounts has made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MountPoints {
    /// Changes like others.
    Changes,
    /// Nobody's, as on overlay.
    Nobodys,
}

/// What differs between a snapshot and its layers, by relative path: parents before what is in them.
fn compared(
    root: &Path,
    directory: &Path,
    lower: &[Lower],
    mount_points: MountPoints,
) -> Result<BTreeMap<PathBuf, ChangeKind>, Error> {
    let below = merged(root, lower)?;
    let live = directory.join("fs");
    let mark = directory.join("prepared");
    let prepared = fs::symlink_metadata(&mark).map_err(Error::io("read", &mark))?;
    let prepared = {
        use std::os::unix::fs::MetadataExt;
        (prepared.ctime(), prepared.ctime_nsec())
    };
    let mut changes = BTreeMap::new();
    let mut walk = || -> io::Result<()> {
        let (live, below) = (fs::File::open(&live)?, fs::File::open(&below)?);
        compare(live.as_fd(), below.as_fd(), Path::new(""), (prepared, mount_points), &mut changes)
    };
    deep(&mut walk).map_err(Error::io("compare", &live))?;
    Ok(changes)
}

fn compare(
    live: BorrowedFd<'_>,
    below: BorrowedFd<'_>,
    path: &Path,
    (prepared, mount_points): ((i64, i64), MountPoints),
    changes: &mut BTreeMap<PathBuf, ChangeKind>,
) -> io::Result<()> {
    check_path(path)?;
    let before = changes.len();
    let mine = Names::read(tree::open_directory(live, c".")?.as_fd())?;
    for (name, _) in mine.iter() {
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        let stat = rustix::fs::statat(live, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let old = match rustix::fs::statat(below, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) => Some(old),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        let nobodys = mount_points == MountPoints::Nobodys;
        if nobodys && old.is_none() && is_untouched_mount_point(live, name, &stat, &path)? {
            continue;
        }
        match &old {
            None => drop(changes.insert(path.clone(), ChangeKind::Added)),
            Some(old) if !is_same(live, below, name, &stat, old, prepared)? => {
                changes.insert(path.clone(), ChangeKind::Modified);
            }
            Some(_) => {}
        }
        if is_directory {
            let live = tree::open_directory(live, name)?;
            let old = old.filter(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory);
            match old {
                Some(_) => {
                    let below = tree::open_directory(below, name)?;
                    compare(live.as_fd(), below.as_fd(), &path, (prepared, mount_points), changes)?;
                }
                None => all_added(live.as_fd(), &path, changes)?,
            }
        }
    }
    for (name, _) in Names::read(tree::open_directory(below, c".")?.as_fd())?.iter() {
        if matches!(rustix::fs::statat(live, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
            changes.insert(path.join(OsStr::from_bytes(name.to_bytes())), ChangeKind::Deleted);
        }
    }
    // A layer names the directories that its changes are in.
    if changes.len() > before && !path.as_os_str().is_empty() {
        changes.entry(path.into()).or_insert(ChangeKind::Modified);
    }
    Ok(())
}

/// Whether a thing is what a mount was made upon and nothing else: here nothing lies below all layers, so whoever
/// mounts makes it.
fn is_untouched_mount_point(
    parent: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    path: &Path,
) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0 && mount_points::is_file(path)),
        FileType::Directory if mount_points::is_directory(path) => {
            let directory = tree::open_directory(parent, name)?;
            for (name, _) in Names::read(tree::open_directory(directory.as_fd(), c".")?.as_fd())?.iter() {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if !is_untouched_mount_point(directory.as_fd(), name, &stat, &path)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn all_added(
    live: BorrowedFd<'_>,
    path: &Path,
    changes: &mut BTreeMap<PathBuf, ChangeKind>,
) -> io::Result<()> {
    check_path(path)?;
    for (name, _) in Names::read(tree::open_directory(live, c".")?.as_fd())?.iter() {
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        changes.insert(path.clone(), ChangeKind::Added);
        if is_directory_at(live, name) {
            all_added(tree::open_directory(live, name)?.as_fd(), &path, changes)?;
        }
    }
    Ok(())
}

fn is_same(
    live: BorrowedFd<'_>,
    below: BorrowedFd<'_>,
    name: &CStr,
    new: &Stat,
    old: &Stat,
    prepared: (i64, i64),
) -> io::Result<bool> {
    let changed_at = (new.st_ctime, i64::try_from(new.st_ctime_nsec).unwrap_or(0));
    let key = |stat: &Stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let size = if kind == FileType::Directory { 0 } else { stat.st_size };
        // Taking a file out of a directory and putting it back is no change of the directory.
        (stat.st_mode, stat.st_uid, stat.st_gid, size, stat.st_rdev, stat.st_mtime, stat.st_mtime_nsec)
    };
    if key(new) != key(old) {
        return Ok(false);
    }
    if changed_at < prepared {
        return Ok(true);
    }
    if kept_xattrs(Target::At(live, name))? != kept_xattrs(Target::At(below, name))? {
        return Ok(false);
    }
    match FileType::from_raw_mode(new.st_mode) {
        FileType::Symlink => Ok(rustix::fs::readlinkat(live, name, Vec::new())?
            == rustix::fs::readlinkat(below, name, Vec::new())?),
        FileType::RegularFile => same_bytes(live, below, name),
        _ => Ok(true),
    }
}

fn same_bytes(live: BorrowedFd<'_>, below: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    use std::io::BufRead;
    let open = |parent: BorrowedFd<'_>| -> io::Result<io::BufReader<fs::File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
        Ok(io::BufReader::with_capacity(1 << 16, file))
    };
    let (mut one, mut other) = (open(live)?, open(below)?);
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Copies what changed into an empty tree, in layer form.
fn copy_changes(live: &Path, tree: &Path, changes: &BTreeMap<PathBuf, ChangeKind>) -> io::Result<()> {
    let (live, tree) = (fs::File::open(live)?, fs::File::open(tree)?);
    let mut links = Links::below(tree.as_fd());
    // The paths come in order: what is in a directory after the directory.
    for (path, kind) in changes {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = CString::new(path.file_name().unwrap_or_default().as_bytes())?;
        let (from, to) = (open_below(live.as_fd(), parent)?, open_below(tree.as_fd(), parent)?);
        if *kind == ChangeKind::Deleted {
            make_whiteout(to.as_fd(), &name, Whiteouts::Files)?;
            continue;
        }
        let stat = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            rustix::fs::mkdirat(&to, &name, Mode::RWXU)?;
        } else {
            copy_leaf(from.as_fd(), to.as_fd(), &name, &stat, path, &mut links)?;
        }
    }
    // Directories last and from below: making what is in them changed their times.
    for (path, _) in changes.iter().rev().filter(|(_, kind)| **kind != ChangeKind::Deleted) {
        if let (Ok(from), Ok(to)) = (open_below(live.as_fd(), path), open_below(tree.as_fd(), path)) {
            copy_metadata(from.as_fd(), to.as_fd(), &rustix::fs::fstat(&from)?)?;
        }
    }
    Ok(())
}

fn open_below(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut directory = tree::open_directory(root, c".")?;
    for component in path.components() {
        directory =
            tree::open_directory(directory.as_fd(), &CString::new(component.as_os_str().as_bytes())?)?;
    }
    Ok(directory)
}

/// Removes a mount point that the runtime made, and directories above it that are there only for it.
fn remove_stub(live: &Path, below: &Path, stub: &Path) -> io::Result<()> {
    let components = stub_components(stub)?;
    let root = fs::File::open(live)?;
    for depth in (0..components.len()).rev() {
        let relative: PathBuf =
            components[..=depth].iter().map(|c| OsStr::from_bytes(c.to_bytes())).collect();
        let Ok(parent) = open_below(root.as_fd(), relative.parent().unwrap_or(Path::new(""))) else {
            return Ok(());
        };
        let Ok(stat) = rustix::fs::statat(&parent, &components[depth], AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        if let Ok(old) = fs::symlink_metadata(below.join(&relative)) {
            // The directory was there: it keeps its place and gets its time back.
            if depth + 1 < components.len()
                && old.is_dir()
                && let Ok(directory) = open_below(root.as_fd(), &relative)
            {
                use std::os::unix::fs::MetadataExt;
                let mtime = Timespec { tv_sec: old.mtime(), tv_nsec: old.mtime_nsec() };
                rustix::fs::futimens(&directory, &times(mtime))?;
            }
            return Ok(());
        }
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => AtFlags::REMOVEDIR,
            FileType::RegularFile if depth + 1 == components.len() && stat.st_size == 0 => AtFlags::empty(),
            _ => return Ok(()),
        };
        match rustix::fs::unlinkat(&parent, &components[depth], flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
