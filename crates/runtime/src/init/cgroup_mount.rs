//! `/sys/fs/cgroup` in the container: its own cgroup and nothing above it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use gantry_sys::mount::{Attributes, Reach, set_attributes};
use gantry_sys::rooted::{self, Missing};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::init::mount_plan::MountPlan;
use crate::init::report::{Report, Step};
use crate::init::rootfs::{Mounted, attach, clone_tree, propagate, tmpfs};

/// What to show, by the host's layout. Empty if the host has no cgroups.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMounts {
    /// v1 hierarchies.
    pub(crate) hierarchies: Vec<HierarchyMount>,
    /// Links for the single names of co-mounted controllers: (name, target).
    pub(crate) links: Vec<(CString, CString)>,
    /// v2: the host's path of the container's own directory.
    pub(crate) unified: Option<CString>,
    /// Whether the container has a cgroup namespace of its own, which hides what is above by itself.
    pub(crate) private: bool,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HierarchyMount {
    /// Its directory, such as `cpu,cpuacct`.
    pub(crate) name: CString,
    /// Its mount options: controllers, or `name=…` with `none`.
    pub(crate) options: Vec<(CString, Option<CString>)>,
    /// The host's path of the container's own directory.
    pub(crate) own: CString,
}

/// Mounts it at the plan's destination.
pub(crate) fn mount(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    cgroups: &CgroupMounts,
    _report: Report<'_>,
) -> Step<Mounted> {
    Ok(try_mount(root, plan, cgroups))
}

fn try_mount(root: BorrowedFd<'_>, plan: &MountPlan, cgroups: &CgroupMounts) -> Mounted {
    let mode = Mode::from_raw_mode(0o755);
    let target = rooted::ensure(root, &plan.destination, Missing::Directory, mode)?.fd;
    if let Some(own) = &cgroups.unified {
        let mount = if cgroups.private { new_unified() } else { Err(Errno::PERM) };
        let mount = mount.or_else(|_| clone_tree(CWD, own, Reach::Single))?;
        let change = Attributes { set: plan.single.set | plan.recursive.set, ..Attributes::default() };
        set_attributes(mount.as_fd(), c"", Reach::Single, change).map_err(Errno::from_raw_os_error)?;
        attach(mount.as_fd(), target.as_fd())?;
        return propagate(mount.as_fd(), plan);
    }
    let set = plan.single.set | plan.recursive.set;
    let base = tmpfs(&[(c"mode", c"755")], set & !Attributes::RDONLY)?;
    for hierarchy in &cgroups.hierarchies {
        rustix::fs::mkdirat(&base, hierarchy.name.as_c_str(), mode)?;
    }
    for (name, target) in &cgroups.links {
        rustix::fs::symlinkat(target.as_c_str(), &base, name.as_c_str())?;
    }
    attach(base.as_fd(), target.as_fd())?;
    for hierarchy in &cgroups.hierarchies {
        let mount = if cgroups.private {
            new_hierarchy(hierarchy, set)?
        } else {
            let mount = clone_tree(CWD, &hierarchy.own, Reach::Single)?;
            let change = Attributes { set, ..Attributes::default() };
            set_attributes(mount.as_fd(), c"", Reach::Single, change).map_err(Errno::from_raw_os_error)?;
            mount
        };
        let place = rooted::open(base.as_fd(), &hierarchy.name, rustix::fs::OFlags::PATH)?;
        attach(mount.as_fd(), place.as_fd())?;
    }
    if set & Attributes::RDONLY != 0 {
        let change = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
        set_attributes(base.as_fd(), c"", Reach::Single, change).map_err(Errno::from_raw_os_error)?;
    }
    propagate(base.as_fd(), plan)
}

fn new_unified() -> Result<std::os::fd::OwnedFd, Errno> {
    let context = fsopen(c"cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"cgroup")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn new_hierarchy(hierarchy: &HierarchyMount, set: u64) -> Result<std::os::fd::OwnedFd, Errno> {
    let context = fsopen(c"cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"cgroup")?;
    for (key, value) in &hierarchy.options {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(set).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
