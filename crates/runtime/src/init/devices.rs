//! `/dev`: device nodes, the usual links, the console; and what is hidden of `/proc` and `/sys`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::mount::{Attributes, Reach, set_attributes};
use gantry_sys::rooted::{self, Missing, PathBuffer};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::init::plan::{DevicePlan, RootPlan};
use crate::init::report::{Report, Step};
use crate::init::rootfs::{Shown, attach, clone_tree, tmpfs};

/// Links in `/dev`: (name, target).
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Fills the container's own `/dev`.
pub(crate) fn fill(root: BorrowedFd<'_>, plan: &RootPlan, report: Report<'_>) -> Step {
    for device in &plan.devices {
        make(root, device).map_err(|error| {
            report.failed(error, format_args!("creating device \"/{}\"", Shown(&device.path)))
        })?;
    }
    let link = || {
        let dev = rooted::open(root, c"dev", OFlags::PATH | OFlags::DIRECTORY)?;
        for (name, target) in LINKS {
            match rustix::fs::symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        if rooted::open(root, c"proc/kcore", OFlags::PATH).is_ok() {
            match rustix::fs::symlinkat(c"/proc/kcore", &dev, c"core") {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    link().map_err(|error: Errno| report.failed(error, format_args!("creating links in /dev")))
}

fn make(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), Errno> {
    let path = device.path.as_bytes();
    let split = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = split.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    let parent = PathBuffer::new(&[parent])?;
    let name = PathBuffer::new(&[name])?;
    let parent = rooted::ensure(root, parent.as_c_str(), Missing::Directory, Mode::from_raw_mode(0o755))?.fd;
    let mode = Mode::from_raw_mode(device.mode);
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(&parent, name.as_c_str(), device.kind, mode, number) {
        Ok(()) => {}
        // A bind mount is there already.
        Err(Errno::EXIST) => return Ok(()),
        // No right to make nodes here (a user namespace, or a container around us): show the host's.
        Err(Errno::PERM) => return show_host_node(root, device),
        Err(error) => return Err(error),
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
        rustix::fs::chownat(&parent, name.as_c_str(), uid, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn show_host_node(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), Errno> {
    let target = rooted::ensure(root, &device.path, Missing::File, Mode::from_raw_mode(0o666))?.fd;
    let source = PathBuffer::new(&[b"/", device.path.as_bytes()])?;
    let node = clone_tree(CWD, source.as_c_str(), Reach::Single)?;
    attach(node.as_fd(), target.as_fd())
}

/// Shows the terminal as `/dev/console`.
pub(crate) fn console(root: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    let target = rooted::ensure(root, c"dev/console", Missing::File, Mode::from_raw_mode(0o666))?.fd;
    let node = clone_tree(terminal, c"", Reach::Single)?;
    attach(node.as_fd(), target.as_fd())
}

/// Hides the masked paths: an empty read-only directory over a directory, `/dev/null` over a file.
pub(crate) fn mask(root: BorrowedFd<'_>, paths: &[CString], report: Report<'_>) -> Step {
    let mut empty: Option<OwnedFd> = None;
    let mut null: Option<OwnedFd> = None;
    for path in paths {
        mask_one(root, path, &mut empty, &mut null)
            .map_err(|error| report.failed(error, format_args!("can't mask path \"/{}\"", Shown(path))))?;
    }
    Ok(())
}

fn mask_one(
    root: BorrowedFd<'_>,
    path: &CStr,
    empty: &mut Option<OwnedFd>,
    null: &mut Option<OwnedFd>,
) -> Result<(), Errno> {
    let target = match rooted::open(root, path, OFlags::PATH) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error),
    };
    let directory = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode).is_dir();
    let source = if directory { empty } else { null };
    // One superblock serves all: the first is attached itself, the rest are copies of it. (A copy of what
    // is not attached yet needs Linux 6.15.)
    if let Some(source) = source {
        return attach(clone_tree(source.as_fd(), c"", Reach::Single)?.as_fd(), target.as_fd());
    }
    let first = if directory {
        tmpfs(&[(c"nr_blocks", c"1"), (c"nr_inodes", c"1")], Attributes::RDONLY)?
    } else {
        null_device(root)?
    };
    attach(first.as_fd(), target.as_fd())?;
    *source = Some(first);
    Ok(())
}

/// The container's own `/dev/null` if it is the true one, else the host's.
fn null_device(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    if let Ok(node) = rooted::open_no_links(root, c"dev/null", OFlags::PATH) {
        let stat = rustix::fs::fstat(&node)?;
        let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if character && stat.st_rdev == rustix::fs::makedev(1, 3) {
            return clone_tree(node.as_fd(), c"", Reach::Single);
        }
    }
    clone_tree(CWD, c"/dev/null", Reach::Single)
}

/// Makes the read-only paths read-only, each by a mount of itself over itself.
pub(crate) fn protect(root: BorrowedFd<'_>, paths: &[CString], report: Report<'_>) -> Step {
    for path in paths {
        protect_one(root, path).map_err(|error| {
            report.failed(error, format_args!("can't make \"/{}\" read-only", Shown(path)))
        })?;
    }
    Ok(())
}

fn protect_one(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = match rooted::open(root, path, OFlags::PATH) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mount = clone_tree(target.as_fd(), c"", Reach::Recursive)?;
    let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    set_attributes(mount.as_fd(), c"", Reach::Single, read_only).map_err(Errno::from_raw_os_error)?;
    attach(mount.as_fd(), target.as_fd())
}
