//! A container's root file system as somebody beside it sees it.
//!
//! | the container | the view |
//! | --- | --- |
//! | runs, or is paused | a copy of its mount namespace without `/proc`, `/dev` and `/sys`: what its processes see |
//! | does not run | a namespace with its snapshot, and on it its volumes, binds and the files that the engine writes |
//!
//! A thread makes the namespace and ends; descriptors of the namespace and of its root stay. Nothing is mounted
//! where anybody else could see it, and the root's `..` is the root. While a container that does not run is
//! looked at, it is not started: overlay allows one user of an upper directory at a time.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::SnapshotId;
use gantry_model::mount::MountKind;
use gantry_sys::mount::{Attributes, Reach};
use gantry_sys::ns::{self, Kinds};
use gantry_sys::rooted;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use tokio::sync::OwnedMutexGuard;

use crate::containers::Error;
use crate::containers::core::Core;
use crate::containers::index::Entry;
use crate::containers::record::{Record, View};
use crate::containers::subpath;

/// `MS_PRIVATE`.
const PRIVATE: u64 = 1 << 18;

/// What the kernel fills, and is nobody's files.
const KERNELS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// A root file system for one operation.
pub(super) struct Rootfs {
    root: OwnedFd,
    /// Without it the mounts would fall apart.
    _namespace: OwnedFd,
    /// Keeps the container from being started; none where it runs.
    rest: Option<OwnedMutexGuard<()>>,
}

impl Rootfs {
    /// Its root directory.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether the container ran when it was opened.
    pub(super) fn is_live(&self) -> bool {
        self.rest.is_none()
    }
}

/// Opens the root file system of a container. Blocks.
///
/// # Errors
/// [`Error::Internal`]; [`Error::NotFound`] where a bind's source is gone.
pub(super) fn open(core: &Core, entry: &Entry) -> Result<(Arc<View>, Rootfs), Error> {
    let view = entry.view();
    if let Some(rootfs) = open_live(&view)? {
        return Ok((view, rootfs));
    }
    let rest = Arc::clone(&entry.rest).blocking_lock_owned();
    // It may have been started while we waited.
    let view = entry.view();
    if let Some(rootfs) = open_live(&view)? {
        return Ok((view, rootfs));
    }
    let (root, namespace) = apart(|own| at_rest(core, &view.record, own))?;
    Ok((view, Rootfs { root, _namespace: namespace, rest: Some(rest) }))
}

/// The mount namespace of a container's processes; `None` if there are none.
fn namespace_of(view: &View) -> Option<OwnedFd> {
    let pid = i32::try_from(view.state.pid).unwrap_or(0);
    if !view.state.is_running() || pid == 0 {
        return None;
    }
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
    // Looked at after the namespace was opened: it is that of this process, or of none.
    gantry_runtime::Process::adopt(pid, view.state.start_time_ticks).ok()?;
    Some(namespace.into())
}

fn cannot_look(error: io::Error) -> Error {
    Error::Internal(format!("cannot look into the container: {error}"))
}

/// What the processes of a container see; `None` if there are none.
fn open_live(view: &View) -> Result<Option<Rootfs>, Error> {
    let Some(namespace) = namespace_of(view) else { return Ok(None) };
    let destinations: Vec<PathBuf> =
        view.record.mounts.iter().map(|point| point.destination.clone()).collect();
    let (root, namespace) = apart(|own| live(namespace.as_fd(), &destinations, own).map_err(cannot_look))?;
    Ok(Some(Rootfs { root, _namespace: namespace, rest: None }))
}

/// The root directory of a container that runs, without what is mounted in it; `None` where it does not run.
///
/// It is the container's own mount of it: a second overlay over an upper directory that is in use may see anything.
///
/// # Errors
/// [`Error::Internal`].
pub(in crate::containers) fn root_alone(view: &View) -> Result<Option<OwnedFd>, Error> {
    let Some(namespace) = namespace_of(view) else { return Ok(None) };
    let alone = || {
        ns::enter(namespace.as_fd(), Kinds::MOUNT).map_err(io::Error::from_raw_os_error)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(CWD, "/", flags)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&mount, ".", flags, Mode::empty())?)
    };
    apart(|_| alone().map_err(cannot_look)).map(Some)
}

/// Runs something on a thread with directories of its own, which gets `/proc/thread-self`.
fn apart<T: Send>(run: impl FnOnce(BorrowedFd<'_>) -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let own = rustix::fs::open("/proc/thread-self", flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|own| ns::own_directories().map(|()| own).map_err(io::Error::from_raw_os_error))
                .map_err(|error| Error::Internal(error.to_string()))?;
            run(own.as_fd())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn live(
    namespace: BorrowedFd<'_>,
    destinations: &[PathBuf],
    own: BorrowedFd<'_>,
) -> io::Result<(OwnedFd, OwnedFd)> {
    ns::enter(namespace, Kinds::MOUNT).map_err(io::Error::from_raw_os_error)?;
    fresh()?;
    for path in KERNELS {
        if destinations.iter().any(|destination| destination == Path::new(path)) {
            continue;
        }
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    opened(own)
}

/// Gives the thread a mount namespace in which nothing is shared with any other.
fn fresh() -> io::Result<()> {
    let error = io::Error::from_raw_os_error;
    ns::unshare(Kinds::MOUNT).map_err(error)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let private = Attributes { propagation: PRIVATE, ..Attributes::default() };
    gantry_sys::mount::set_attributes(root.as_fd(), c"", Reach::Recursive, private).map_err(error)
}

/// The thread's root, and its mount namespace.
fn opened(own: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let namespace = rustix::fs::openat(own, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((root, namespace))
}

/// A tree of the host's that is mounted into the container.
struct Bind {
    source: PathBuf,
    /// What is mounted below it; empty is all.
    subpath: String,
    destination: PathBuf,
    writable: bool,
}

/// Volumes, binds and the engine's files, parents before children.
fn binds(record: &Record) -> Vec<Bind> {
    let taken = |path: &Path| record.mounts.iter().any(|point| point.destination == path);
    let mut binds: Vec<Bind> = ["hosts", "hostname", "resolv.conf"]
        .map(|name| (record.directory.join(name), Path::new("/etc").join(name)))
        .into_iter()
        // A container that was never started has none yet.
        .filter(|(source, destination)| source.exists() && !taken(destination))
        .map(|(source, destination)| Bind {
            source,
            subpath: String::new(),
            destination,
            writable: !record.host.read_only,
        })
        .collect();
    binds.extend(record.mounts.iter().filter(|point| point.kind != MountKind::Tmpfs).filter_map(|point| {
        let (source, writable) = match &point.device {
            None => (point.source.clone(), point.writable),
            Some(device) if device.is_bind() => {
                let read_only = device.options.split(',').any(|option| option == "ro");
                ((&device.device).into(), point.writable && !read_only)
            }
            // In memory or elsewhere: there is nothing of it while the container does not run.
            Some(_) => return None,
        };
        Some(Bind {
            source,
            subpath: point.subpath.clone(),
            destination: point.destination.clone(),
            writable,
        })
    }));
    binds.sort_by_key(|bind| bind.destination.components().count());
    binds
}

fn at_rest(core: &Core, record: &Record, own: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), Error> {
    let internal = |error: io::Error| Error::Internal(format!("cannot mount the container's files: {error}"));
    fresh().map_err(internal)?;
    // Opened before the place where they would be is covered.
    let trees = binds(record).into_iter().map(|bind| {
        let tree = tree_of(&bind).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound(format!(
                "cannot look into the container: its mount's source {} does not exist",
                bind.source.display()
            )),
            _ => internal(error),
        })?;
        Ok((tree, bind.destination))
    });
    let trees = trees.collect::<Result<Vec<_>, Error>>()?;
    let place = core.host.settings.exec_root.join("c");
    core.store
        .snapshots()
        .attach(&SnapshotId::from(&record.id), &place)
        .map_err(|error| Error::Internal(crate::chain(&error)))?;
    join(&place, &trees).and_then(|()| opened(own)).map_err(internal)
}

/// A detached copy of a bind's source, with all that is mounted below it.
fn tree_of(bind: &Bind) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = if bind.subpath.is_empty() {
        rustix::mount::open_tree(CWD, &bind.source, flags)?
    } else {
        let below = subpath::open(&bind.source, &bind.subpath)?;
        rustix::mount::open_tree(&below, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?
    };
    if !bind.writable {
        let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
        gantry_sys::mount::set_attributes(tree.as_fd(), c"", Reach::Recursive, read_only)
            .map_err(io::Error::from_raw_os_error)?;
    }
    Ok(tree)
}

/// Mounts trees into what is mounted at a place, and makes that the thread's root; the host's tree is gone then.
fn join(place: &Path, trees: &[(OwnedFd, PathBuf)]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(place, flags, Mode::empty())?;
    for (tree, destination) in trees {
        let stat = rustix::fs::fstat(tree)?;
        let missing = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rooted::Missing::Directory,
            _ => rooted::Missing::File,
        };
        let path = CString::new(destination.as_os_str().as_bytes())?;
        let target = rooted::ensure(root.as_fd(), &path, missing, Mode::from_raw_mode(0o755))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(tree, "", &target.fd, "", flags)?;
    }
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root lies on top of the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
