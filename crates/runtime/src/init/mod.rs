//! What happens between `clone3` and `execve`.
//!
//! Everything here runs in the child, on a copy of the maker's memory in which another thread may have
//! held any lock: no allocation, no lock, no panic. What is needed was made before, in [`plan`] and
//! [`identity::Room`]; what goes wrong is said through [`report`].

pub(crate) mod cgroup_mount;
pub(crate) mod devices;
pub(crate) mod identity;
pub(crate) mod mount_plan;
pub(crate) mod plan;
pub(crate) mod program;
pub(crate) mod report;
pub(crate) mod rootfs;
pub(crate) mod terminal;

use std::ffi::{CStr, CString};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::mount::{Attributes, Reach, set_attributes};
use gantry_sys::ns::{self, Kinds};
use gantry_sys::process::{self, StringArray};
use gantry_sys::rooted::{self, Missing};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::init::cgroup_mount::CgroupMounts;
use crate::init::identity::{Identity, Room};
use crate::init::plan::{RootPlan, Sysctl};
use crate::init::program::{Gate, Stage};
use crate::init::report::{Report, Step};

/// The streams of a child.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Standard input, output and error.
    Fds([OwnedFd; 3]),
    /// A terminal of this many rows and columns.
    Terminal(u16, u16),
}

/// Everything that the first process of a container needs beyond its program.
#[derive(Debug)]
pub(crate) struct ContainerPlan<'a> {
    /// Namespaces to enter, one descriptor and kind each.
    pub(crate) enter: Vec<(BorrowedFd<'a>, Kinds)>,
    /// Namespaces to make after the cgroup was entered.
    pub(crate) unshare: Kinds,
    /// `tasks` files of v1 cgroups to enter.
    pub(crate) cgroup_tasks: &'a [OwnedFd],
    /// Whether the network namespace is new, so that its loopback link must be set up.
    pub(crate) loopback: bool,
    /// Names for a new UTS namespace.
    pub(crate) hostname: Option<CString>,
    pub(crate) domainname: Option<CString>,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) root: RootPlan,
    pub(crate) cgroups: CgroupMounts,
}

/// What a child uses up or fills: made before the clone, and never freed in the child, which ends or
/// executes.
#[derive(Debug)]
pub(crate) struct Supplies<'a> {
    pub(crate) sources: ManuallyDrop<Vec<Option<OwnedFd>>>,
    pub(crate) room: ManuallyDrop<Room>,
    pub(crate) args: ManuallyDrop<StringArray<'a>>,
    pub(crate) env: ManuallyDrop<StringArray<'a>>,
}

impl Supplies<'_> {
    /// Frees them, in the maker.
    pub(crate) fn release(self) {
        drop((
            ManuallyDrop::into_inner(self.sources),
            ManuallyDrop::into_inner(self.room),
            ManuallyDrop::into_inner(self.args),
            ManuallyDrop::into_inner(self.env),
        ));
    }
}

/// Everything that a further process needs beyond its program.
#[derive(Debug)]
pub(crate) struct ExecPlan<'a> {
    /// A process of the container, by pidfd.
    pub(crate) target: BorrowedFd<'a>,
    /// Which of its namespaces to enter.
    pub(crate) kinds: Kinds,
    /// `tasks` files of v1 cgroups to enter.
    pub(crate) cgroup_tasks: &'a [OwnedFd],
}

/// What [`Stage`] is made of before the root is known.
#[derive(Debug)]
pub(crate) struct ChildStage<'a> {
    pub(crate) program: &'a plan::ProgramPlan,
    pub(crate) control: BorrowedFd<'a>,
    pub(crate) fifos: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    pub(crate) dies_with_maker: bool,
}

impl<'a> ChildStage<'a> {
    fn stage<'b>(&'b self, root: BorrowedFd<'b>) -> Stage<'b>
    where
        'a: 'b,
    {
        let gate = match self.fifos {
            None => Gate::Socket(self.control),
            Some((start, report)) => Gate::Fifos { start, report },
        };
        let report = Report::new(self.control);
        Stage { plan: self.program, report, gate, dies_with_maker: self.dies_with_maker, root }
    }
}

/// What a child becomes.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// A container's first process.
    Container(&'a ContainerPlan<'a>),
    /// A further process of a running container.
    Exec(&'a ExecPlan<'a>),
}

/// Sets a child up and executes its program. The value is its exit code if it gets no further.
pub(crate) fn run(
    entry: &Entry<'_>,
    streams: &Streams,
    stage: ChildStage<'_>,
    supplies: Supplies<'_>,
) -> i32 {
    // 125 is Docker's code for what never ran.
    try_run(entry, streams, stage, supplies).unwrap_or(125)
}

fn try_run(
    entry: &Entry<'_>,
    streams: &Streams,
    stage: ChildStage<'_>,
    mut supplies: Supplies<'_>,
) -> Step<i32> {
    let report = Report::new(stage.control);
    begin(&stage, report)?;
    let (root, console) = match entry {
        Entry::Container(plan) => (plan.enter(&mut supplies.sources, report)?, Console::Shown),
        Entry::Exec(plan) => (plan.enter(report)?, Console::Unchanged),
    };
    let identity = identity::resolve(root.as_fd(), stage.program, &mut supplies.room, report)?;
    if let Entry::Container(plan) = entry {
        plan.furnish(root.as_fd(), &mut supplies.sources, report)?;
    }
    take_streams(root.as_fd(), streams, identity, console, report)?;
    if let Entry::Container(plan) = entry {
        plan.finish(root.as_fd(), &stage.program.cwd, report)?;
    }
    let stage = stage.stage(root.as_fd());
    program::run(&stage, identity, &supplies.room, &supplies.args, supplies.env)
}

impl ContainerPlan<'_> {
    /// Enters cgroups and namespaces and attaches the root, which nothing can be seen of elsewhere.
    fn enter(&self, sources: &mut Vec<Option<OwnedFd>>, report: Report<'_>) -> Step<OwnedFd> {
        join_cgroups(self.cgroup_tasks, report)?;
        enter_namespaces(self, report)?;
        write_sysctls(&self.sysctls, report)?;
        rootfs::open_sources(&self.root.mounts, sources, report)?;
        rootfs::attach_root(&self.root, report)
    }

    /// Mounts what belongs into the root.
    fn furnish(&self, root: BorrowedFd<'_>, sources: &mut [Option<OwnedFd>], report: Report<'_>) -> Step {
        rootfs::mount_all(root, &self.root.mounts, sources, &self.cgroups, report)?;
        if self.root.fill_dev { devices::fill(root, &self.root, report) } else { Ok(()) }
    }

    /// Makes the working directory, protects what is to be protected, and goes into the root.
    fn finish(&self, root: BorrowedFd<'_>, cwd: &CStr, report: Report<'_>) -> Step {
        rooted::ensure(root, cwd, Missing::Directory, Mode::from_raw_mode(0o755))
            .map_err(|error| report.failed(error, format_args!("mkdir cwd")))?;
        finish_root(root, &self.root, report)?;
        rootfs::pivot(root, &self.root, report)
    }
}

impl ExecPlan<'_> {
    /// Enters the container's cgroups and namespaces; its root is then our own.
    fn enter(&self, report: Report<'_>) -> Step<OwnedFd> {
        join_cgroups(self.cgroup_tasks, report)?;
        ns::enter(self.target, self.kinds)
            .map_err(|error| report.failed(error, format_args!("entering the container's namespaces")))?;
        rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| report.failed(error, format_args!("opening the container's root")))
    }
}

fn begin(stage: &ChildStage<'_>, report: Report<'_>) -> Step {
    process::reset_signals();
    if stage.dies_with_maker {
        process::set_parent_death_signal(libc::SIGKILL)
            .map_err(|error| report.failed(error, format_args!("set the parent-death signal")))?;
    }
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().map_err(|error| report.failed(error, format_args!("setsid")))?;
    Ok(())
}

/// Enters the v1 cgroups by writing `0` to `tasks`: a thread that moves itself needs no global lock and so
/// no grace period of the kernel, which a move by pid waits 10 ms for after idling.
fn join_cgroups(tasks: &[OwnedFd], report: Report<'_>) -> Step {
    for file in tasks {
        rustix::io::write(file, b"0")
            .map_err(|error| report.failed(error, format_args!("unable to apply cgroup configuration")))?;
    }
    Ok(())
}

fn enter_namespaces(plan: &ContainerPlan<'_>, report: Report<'_>) -> Step {
    for (fd, kinds) in &plan.enter {
        ns::enter(*fd, *kinds).map_err(|error| {
            report.failed(error, format_args!("joining a namespace ({:#x})", kinds.bits()))
        })?;
    }
    if !plan.unshare.is_empty() {
        ns::unshare(plan.unshare)
            .map_err(|error| report.failed(error, format_args!("unsharing the cgroup namespace")))?;
    }
    if plan.loopback
        && let Err(error) = ns::loopback_up()
    {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        return Err(report.failed(number, format_args!("setting the loopback link up")));
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.to_bytes())
            .map_err(|error| report.failed(error, format_args!("sethostname")))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.to_bytes())
            .map_err(|error| report.failed(error, format_args!("setdomainname")))?;
    }
    Ok(())
}

/// Through the host's `/proc`, which shows the settings of the writer's namespaces and which no image can fake.
fn write_sysctls(sysctls: &[Sysctl], report: Report<'_>) -> Step {
    if sysctls.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(c"/proc/sys", flags, Mode::empty())
        .map_err(|error| report.failed(error, format_args!("opening /proc/sys")))?;
    // runc's texts, which name the procfs that it mounts for the purpose.
    for Sysctl { key, path, value } in sysctls {
        let (key, shown) = (rootfs::Shown(key), rootfs::Shown(path));
        let file = open_sysctl(base.as_fd(), path).map_err(|error| {
            let place = format_args!("openat2 fsmount:fscontext:proc/./sys/{shown}");
            report.failed(error, format_args!("open sysctl {key} file: unsafe procfs detected: {place}"))
        })?;
        rustix::io::write(&file, value.to_bytes()).map_err(|error| {
            let place = format_args!("write fsmount:fscontext:proc/./sys/{shown}");
            report.failed(error, format_args!("failed to write sysctl {key} = {value:?}: {place}"))
        })?;
    }
    Ok(())
}

fn open_sysctl(base: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let file = rooted::open_no_links(base, path, OFlags::WRONLY)?;
    if rustix::fs::fstatfs(&file)?.f_type != rootfs::PROC_MAGIC {
        return Err(Errno::XDEV);
    }
    Ok(file)
}

/// Whether `/dev/console` shows the terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Console {
    Shown,
    Unchanged,
}

fn take_streams(
    root: BorrowedFd<'_>,
    streams: &Streams,
    identity: Identity,
    console: Console,
    report: Report<'_>,
) -> Step {
    match streams {
        Streams::Fds([stdin, stdout, stderr]) => program::place_streams([stdin, stdout, stderr], report),
        Streams::Terminal(rows, cols) => {
            let terminal = terminal::open(root, (*rows, *cols), identity.uid, report)?;
            if console == Console::Shown {
                devices::console(root, terminal.as_fd())
                    .map_err(|error| report.failed(error, format_args!("mounting /dev/console")))?;
            }
            rustix::process::ioctl_tiocsctty(&terminal)
                .map_err(|error| report.failed(error, format_args!("setting the controlling terminal")))?;
            program::place_streams([&terminal, &terminal, &terminal], report)
        }
    }
}

fn finish_root(root: BorrowedFd<'_>, plan: &RootPlan, report: Report<'_>) -> Step {
    devices::protect(root, &plan.read_only, report)?;
    devices::mask(root, &plan.masked, report)?;
    let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    let dev_read_only = plan.mounts.iter().any(|mount| {
        mount.destination.as_bytes() == b"dev" && mount.single.set & Attributes::RDONLY != 0 && plan.fill_dev
    });
    if dev_read_only {
        rooted::open(root, c"dev", OFlags::PATH)
            .and_then(|dev| {
                set_attributes(dev.as_fd(), c"", Reach::Single, read_only).map_err(Errno::from_raw_os_error)
            })
            .map_err(|error| report.failed(error, format_args!("making /dev read-only")))?;
    }
    if plan.readonly {
        set_attributes(root, c"", Reach::Single, read_only)
            .map_err(|error| report.failed(error, format_args!("making the root read-only")))?;
    }
    Ok(())
}
