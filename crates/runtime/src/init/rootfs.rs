//! The container's file system, built in the child's own mount namespace.
//!
//! The new root is attached over `/` of the copied tree, which hides nothing: absolute paths still start
//! at the old root below it. So the host's paths stay reachable until the pivot, while everything in the
//! container is reached through the descriptor of the new root alone.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::mount::{Attributes, Reach, overlay_takes_directories_one_by_one, set_attributes};
use gantry_sys::rooted::{self, Missing, PathBuffer};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::init::cgroup_mount::{self, CgroupMounts};
use crate::init::mount_plan::{MountPlan, What};
use crate::init::plan::{RootPlan, RootSource};
use crate::init::report::{Report, Step};

/// The magic number of procfs (`PROC_SUPER_MAGIC`).
pub(crate) const PROC_MAGIC: i64 = 0x9fa0;

/// Opens every bind mount's source, before the new root is attached, so that none can contain it.
/// `sources` has room for all.
pub(crate) fn open_sources(
    mounts: &[MountPlan],
    sources: &mut Vec<Option<OwnedFd>>,
    report: Report<'_>,
) -> Step {
    for mount in mounts {
        let source = match &mount.what {
            What::Bind { source, below, reach } => {
                let cloned = match below {
                    None => clone_tree(CWD, source, *reach),
                    Some(below) => clone_below(source, below, *reach),
                };
                Some(cloned.map_err(|error| {
                    report.failed(
                        error,
                        format_args!(
                            "error mounting {source:?} to rootfs at \"/{}\"",
                            Shown(&mount.destination)
                        ),
                    )
                })?)
            }
            _ => None,
        };
        sources.push(source);
    }
    Ok(())
}

/// Cuts the mount namespace off the host's and attaches the new root; gives its descriptor.
pub(crate) fn attach_root(plan: &RootPlan, report: Report<'_>) -> Step<OwnedFd> {
    let shared = plan.propagation.is_some_and(|(bits, _)| bits == libc::MS_SHARED);
    let (bits, reach) =
        if shared { (libc::MS_PRIVATE, Reach::Single) } else { (libc::MS_SLAVE, Reach::Recursive) };
    let change = Attributes { propagation: bits, ..Attributes::default() };
    set_attributes(CWD, c"/", reach, change)
        .map_err(|error| report.failed(error, format_args!("changing the propagation of /")))?;
    let root = match &plan.mount {
        RootSource::Overlay { lower, upper, work } => overlay(lower, upper.as_deref(), work.as_deref())
            .and_then(|root| writable(root, upper.is_some()))
            .map_err(|error| report.failed(error, format_args!("mounting the overlay root")))?,
        RootSource::Bind { source } => clone_tree(CWD, source, Reach::Recursive)
            .map_err(|error| report.failed(error, format_args!("mounting the root {source:?}")))?,
    };
    move_mount(&root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| report.failed(error, format_args!("attaching the root")))?;
    Ok(root)
}

/// Overlay falls back to read-only where the disk has no room for what it keeps in the work directory; that is then the
/// error, and not whatever is the first that cannot be written.
fn writable(root: OwnedFd, wanted: bool) -> Result<OwnedFd, Errno> {
    if wanted && fstatvfs(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Errno::NOSPC);
    }
    Ok(root)
}

/// A detached copy of a mount (and those below it).
pub(crate) fn clone_tree(at: BorrowedFd<'_>, path: &CStr, reach: Reach) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if reach == Reach::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, path, flags)
}

/// Copies what is below a directory. Whoever changes links there meanwhile does not lead out of it.
fn clone_below(source: &CStr, below: &CStr, reach: Reach) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(source, flags, Mode::empty())?;
    let found = rooted::open_beneath(base.as_fd(), below, OFlags::PATH)?;
    clone_tree(found.as_fd(), c"", reach)
}

/// Attaches a detached mount at what `target` refers to.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// The longest string that `fsconfig` takes.
const STRING_LIMIT: usize = 255;

fn overlay(lower: &[CString], upper: Option<&CStr>, work: Option<&CStr>) -> Result<OwnedFd, Errno> {
    // Two directories at least, or an upper one: overlay refuses a single lower layer.
    let single = lower.len() == 1 && upper.is_none();
    if single {
        let root = clone_tree(CWD, &lower[0], Reach::Single)?;
        let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
        set_attributes(root.as_fd(), c"", Reach::Single, read_only).map_err(Errno::from_raw_os_error)?;
        return Ok(root);
    }
    if !overlay_takes_directories_one_by_one() {
        return overlay_by_one_string(lower, upper, work);
    }
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"overlay")?;
    for option in [c"redirect_dir", c"metacopy", c"index"] {
        fsconfig_set_string(&context, option, c"off")?;
    }
    for directory in lower {
        set_path(&context, c"lowerdir+", directory)?;
    }
    if let (Some(upper), Some(work)) = (upper, work) {
        set_path(&context, c"upperdir", upper)?;
        set_path(&context, c"workdir", work)?;
    }
    fsconfig_create(&context)?;
    let attributes =
        if upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Sets a path, by a short name of a descriptor if it is too long itself.
fn set_path(context: &OwnedFd, key: &CStr, path: &CStr) -> Result<(), Errno> {
    if path.to_bytes().len() <= STRING_LIMIT {
        return fsconfig_set_string(context, key, path);
    }
    let directory =
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut number = [0; 10];
    let name = PathBuffer::new(&[b"/proc/self/fd/", decimal(raw(&directory), &mut number)])?;
    fsconfig_set_string(context, key, name.as_c_str())
}

/// Before Linux 6.7: all layers in one option, of a page at most, by short names, through mount(2). Mounted
/// over `/`, and taken off it again as a detached tree.
fn overlay_by_one_string(
    lower: &[CString],
    upper: Option<&CStr>,
    work: Option<&CStr>,
) -> Result<OwnedFd, Errno> {
    let mut data = PathBuffer::new(&[b"redirect_dir=off,metacopy=off,index=off,lowerdir="])?;
    for (at, directory) in lower.iter().enumerate() {
        let separator: &[u8] = if at == 0 { b"" } else { b":" };
        append_directory(&mut data, separator, directory)?;
    }
    if let (Some(upper), Some(work)) = (upper, work) {
        append_directory(&mut data, b",upperdir=", upper)?;
        append_directory(&mut data, b",workdir=", work)?;
    }
    let target = lower[0].as_c_str();
    let flags = if upper.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
    rustix::mount::mount(c"overlay", target, c"overlay", flags, Some(data.as_c_str()))?;
    let tree = clone_tree(CWD, target, Reach::Single)?;
    rustix::mount::unmount(target, UnmountFlags::DETACH)?;
    Ok(tree)
}

fn append_directory(data: &mut PathBuffer, before: &[u8], path: &CStr) -> Result<(), Errno> {
    let directory =
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut number = [0; 10];
    *data = PathBuffer::new(&[
        data.as_bytes(),
        before,
        b"/proc/self/fd/",
        decimal(raw(&directory), &mut number),
    ])?;
    // Kept open until the mount is made; the child's exec, or its end, closes it.
    std::mem::forget(directory);
    Ok(())
}

fn raw(fd: &OwnedFd) -> u32 {
    std::os::fd::AsRawFd::as_raw_fd(fd).unsigned_abs()
}

fn decimal(mut value: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

/// Makes every mount of the container, in order.
pub(crate) fn mount_all(
    root: BorrowedFd<'_>,
    mounts: &[MountPlan],
    sources: &mut [Option<OwnedFd>],
    cgroups: &CgroupMounts,
    report: Report<'_>,
) -> Step {
    for (mount, source) in mounts.iter().zip(sources) {
        let result = match (&mount.what, source.take()) {
            (What::Bind { .. }, Some(source)) => bind(root, mount, source.as_fd(), report)?,
            (What::Cgroup, _) => cgroup_mount::mount(root, mount, cgroups, report)?,
            (What::Filesystem { kind, options, source }, _) => {
                filesystem(root, mount, (kind, source, options), report)?
            }
            (What::Bind { .. }, None) => Err(Errno::BADF),
        };
        result.map_err(|error| {
            let shown = match &mount.what {
                What::Bind { source, .. } | What::Filesystem { source, .. } => source.as_c_str(),
                What::Cgroup => c"cgroup",
            };
            report.failed(
                error,
                format_args!("error mounting {shown:?} to rootfs at \"/{}\"", Shown(&mount.destination)),
            )
        })?;
    }
    Ok(())
}

/// What a failed step is: told by the caller with the mount's name, unless it has been told.
pub(crate) type Mounted = Result<(), Errno>;

fn bind(root: BorrowedFd<'_>, plan: &MountPlan, source: BorrowedFd<'_>, report: Report<'_>) -> Step<Mounted> {
    let directory = match rustix::fs::fstat(source) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode).is_dir(),
        Err(error) => return Ok(Err(error)),
    };
    let missing = if directory { Missing::Directory } else { Missing::File };
    let target = match rooted::ensure(root, &plan.destination, missing, Mode::from_raw_mode(0o755)) {
        Ok(ensured) => ensured.fd,
        Err(error) => return Ok(Err(error)),
    };
    outside_proc(target.as_fd(), plan, report)?;
    match rustix::fs::fstat(&target) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() != directory => {
            return Ok(Err(Errno::NOTDIR));
        }
        Ok(_) => {}
        Err(error) => return Ok(Err(error)),
    }
    let make = || {
        if plan.single != Attributes::default() {
            set_attributes(source, c"", Reach::Single, plan.single).map_err(Errno::from_raw_os_error)?;
        }
        if plan.recursive != Attributes::default() {
            set_attributes(source, c"", Reach::Recursive, plan.recursive)
                .map_err(Errno::from_raw_os_error)?;
        }
        attach(source, target.as_fd())?;
        propagate(source, plan)
    };
    Ok(make())
}

/// Sets a mount's propagation.
pub(crate) fn propagate(mount: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Errno> {
    for (bits, reach) in &plan.propagation {
        let change = Attributes { propagation: *bits, ..Attributes::default() };
        set_attributes(mount, c"", *reach, change).map_err(Errno::from_raw_os_error)?;
    }
    Ok(())
}

type Filesystem<'a> = (&'a CString, &'a CString, &'a [(CString, Option<CString>)]);

fn filesystem(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    (kind, source, options): (&CString, &CString, &Vec<(CString, Option<CString>)>),
    report: Report<'_>,
) -> Step<Mounted> {
    let ensured =
        match rooted::ensure(root, &plan.destination, Missing::Directory, Mode::from_raw_mode(0o755)) {
            Ok(ensured) => ensured,
            Err(error) => return Ok(Err(error)),
        };
    if matches!(kind.to_bytes(), b"proc" | b"sysfs") {
        // A link here could put what shows the kernel where masked paths do not look.
        if let Err(error) = rooted::open_no_links(root, &plan.destination, OFlags::PATH | OFlags::DIRECTORY) {
            return Err(report.failed(
                error,
                format_args!(
                    "{kind:?} must be mounted on an ordinary directory, not \"/{}\"",
                    Shown(&plan.destination)
                ),
            ));
        }
    } else {
        outside_proc(ensured.fd.as_fd(), plan, report)?;
    }
    let make = || {
        let mode = inherited_mode(kind, options, &ensured)?;
        let filesystem: Filesystem<'_> = (kind, source, options);
        let mount = new_filesystem(filesystem, mode, immediate(plan))?;
        attach(mount.as_fd(), ensured.fd.as_fd()).map_err(|error| {
            if error == Errno::INVAL { file_or(error, ensured.fd.as_fd()) } else { error }
        })?;
        propagate(mount.as_fd(), plan)
    };
    Ok(make())
}

/// The kernel calls it invalid to mount a directory over a file; users are told which of the two is none.
fn file_or(error: Errno, place: BorrowedFd<'_>) -> Errno {
    match rustix::fs::fstat(place) {
        Ok(stat) if !FileType::from_raw_mode(stat.st_mode).is_dir() => Errno::NOTDIR,
        _ => error,
    }
}

/// The attributes set at once; `/dev` becomes read-only only when it has been filled.
fn immediate(plan: &MountPlan) -> u64 {
    let all = plan.single.set | plan.recursive.set;
    if plan.destination.as_bytes() == b"dev" { all & !Attributes::RDONLY } else { all }
}

/// A tmpfs over a directory that was there takes its mode, unless told otherwise.
fn inherited_mode(
    kind: &CStr,
    options: &[(CString, Option<CString>)],
    target: &rooted::Ensured,
) -> Result<Option<u32>, Errno> {
    if kind != c"tmpfs" || target.made || options.iter().any(|(key, _)| key.as_c_str() == c"mode") {
        return Ok(None);
    }
    Ok(Some(rustix::fs::fstat(&target.fd)?.st_mode & 0o7777))
}

fn new_filesystem(
    (kind, source, options): Filesystem<'_>,
    mode: Option<u32>,
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", source.as_c_str())?;
    if let Some(mode) = mode {
        let digit = |shift: u32| b'0' + u8::try_from(mode >> shift & 7).unwrap_or(0);
        let text = [digit(9), digit(6), digit(3), digit(0)];
        fsconfig_set_string(&context, c"mode", PathBuffer::new(&[&text])?.as_c_str())?;
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A small file system of ours: `tmpfs` with these options.
pub(crate) fn tmpfs(options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// What may be mounted inside `/proc`, as runc allows it.
const IN_PROC: [&CStr; 11] = [
    c"proc/cpuinfo",
    c"proc/diskstats",
    c"proc/meminfo",
    c"proc/stat",
    c"proc/swaps",
    c"proc/uptime",
    c"proc/loadavg",
    c"proc/slabinfo",
    c"proc/net/dev",
    c"proc/sys/kernel/ns_last_pid",
    c"proc/sys/crypto/fips_enabled",
];

/// Refuses a target in procfs, however it was reached: it could undo what is masked there.
fn outside_proc(target: BorrowedFd<'_>, plan: &MountPlan, report: Report<'_>) -> Step {
    let destination = plan.destination.as_c_str();
    if destination == c"proc" || IN_PROC.contains(&destination) {
        return Ok(());
    }
    match rustix::fs::fstatfs(target) {
        Ok(stat) if stat.f_type == PROC_MAGIC => Err(report.failed(
            0,
            format_args!("\"/{}\" cannot be mounted because it is inside /proc", Shown(destination)),
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(report.failed(error, format_args!("statfs \"/{}\"", Shown(destination)))),
    }
}

/// Makes the new root the root, and lets go of the old one. The working directory is the new root then.
pub(crate) fn pivot(root: BorrowedFd<'_>, plan: &RootPlan, report: Report<'_>) -> Step {
    let fail =
        |step: &'static str| move |error: Errno| report.failed(error, format_args!("pivot_root: {step}"));
    let old = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(fail("open /"))?;
    rustix::process::fchdir(root).map_err(fail("fchdir"))?;
    match rustix::process::pivot_root(c".", c".") {
        Ok(()) => {}
        // The host runs from its initial memory file system, which cannot be put anywhere else. The new root
        // covers it already; what is below stays, out of reach without CAP_SYS_CHROOT.
        Err(Errno::INVAL) => {
            rustix::process::chroot(c".").map_err(fail("chroot"))?;
            return rustix::process::chdir(c"/").map_err(fail("chdir"));
        }
        Err(error) => return Err(fail("pivot_root")(error)),
    }
    rustix::process::fchdir(&old).map_err(fail("fchdir to the old root"))?;
    if plan.propagation.is_some_and(|(bits, _)| bits == libc::MS_SHARED) {
        // So that the unmount below stays here.
        let change = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
        set_attributes(old.as_fd(), c"", Reach::Recursive, change)
            .map_err(Errno::from_raw_os_error)
            .map_err(fail("slave"))?;
    }
    rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(fail("unmounting the old root"))?;
    drop(old);
    rustix::process::chdir(c"/").map_err(fail("chdir"))?;
    if let Some((bits, reach)) = plan.propagation {
        let change = Attributes { propagation: bits, ..Attributes::default() };
        set_attributes(root, c"", reach, change)
            .map_err(Errno::from_raw_os_error)
            .map_err(fail("propagation"))?;
    }
    Ok(())
}

/// A C string shown as it is.
pub(crate) struct Shown<'a>(pub(crate) &'a CStr);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for chunk in self.0.to_bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}
