//! Making a container's first process: [`create`] sets everything up and stops right before
//! `execve`; [`Created::start`] lets it go.

mod cgroup_view;
mod namespaces;
pub(crate) mod spawn;

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_model::mount::RootMount;
use gantry_sys::ns::Kinds;
use gantry_sys::process::StringArray;
use oci_spec::runtime::Spec;

use crate::cgroup::{Birth, Cgroup};
use crate::init::cgroup_mount::CgroupMounts;
use crate::init::identity::Room;
use crate::init::mount_plan::What;
use crate::init::plan::{self, ProgramPlan, c_string, invalid};
use crate::init::{self, ContainerPlan, Entry, Streams, Supplies};
use crate::launch::namespaces::Namespaces;
use crate::launch::spawn::{Control, Spawn};
use crate::{LaunchError, Process, Reason};

/// Existing namespaces to enter. What is `None` here and listed in the specification without a
/// path is made new; what the specification does not list stays the caller's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Joined<'a> {
    /// Network.
    pub net: Option<BorrowedFd<'a>>,
    /// IPC.
    pub ipc: Option<BorrowedFd<'a>>,
    /// UTS.
    pub uts: Option<BorrowedFd<'a>>,
    /// PID: the new process is born into it.
    pub pid: Option<BorrowedFd<'a>>,
    /// User.
    pub user: Option<BorrowedFd<'a>>,
    /// Cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// The process's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors, closed in the caller by `create`. Their owner becomes the container's
    /// user, so that `/dev/stdout` can be opened again.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's own devpts, of this size (0 by 0: the kernel's default).
    Terminal {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
}

/// Whether the process may outlive its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervise<'a> {
    /// The calling thread's end kills it (`PR_SET_PDEATHSIG`), so call from the main thread.
    Child,
    /// It lives on, but is started by its maker.
    Unbound,
    /// It lives on and can be started by another process (see [`start_detached`]).
    Detached {
        /// An existing directory, in which two FIFOs are made: `start` and `report`.
        dir: &'a Path,
    },
}

/// Everything that makes a container's first process.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The OCI specification. `root.readonly` counts, `root.path` does not: see `root`.
    pub spec: &'a Spec,
    /// The root file system, mounted inside the container's own mount namespace.
    pub root: &'a RootMount,
    /// Existing namespaces to enter.
    pub namespaces: Joined<'a>,
    /// Standard streams.
    pub stdio: Stdio,
    /// The cgroup to be born in; `None` stays in the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Whether it may outlive the caller.
    pub supervise: Supervise<'a>,
    /// `--init`: the host path of `gantry-init`. It is bind-mounted at `/sbin/docker-init` and put
    /// before the arguments, so the specification need not mention it.
    pub init: Option<&'a Path>,
}

/// A process that is set up and waits right before `execve`.
#[derive(Debug)]
pub struct Created {
    /// The process.
    pub process: Process,
    /// The terminal's master side, if one was asked for.
    pub terminal: Option<OwnedFd>,
    /// What had to be left out or lowered (such as a limit that may not be raised), as sentences.
    pub warnings: Vec<String>,
    pub(crate) control: Control,
}

/// Makes the process and sets everything up, up to the point right before `execve`.
///
/// Blocks until that point (milliseconds). Forks from the calling thread.
///
/// # Errors
/// [`LaunchError`] in runc's words; the process is gone and reaped then, the cgroup is left to its
/// owner. An unknown program or user is found here, not at start.
pub fn create(launch: Launch<'_>) -> Result<Created, LaunchError> {
    let spec = launch.spec;
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref().ok_or_else(|| invalid("process property must be set".into()))?;
    let no_annotations = HashMap::new();
    let annotations = spec.annotations().as_ref().unwrap_or(&no_annotations);
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let prefix: &[&str] = if launch.init.is_some() { &["/sbin/docker-init", "--"] } else { &[] };
    let mut program = plan::program(process, annotations, profile, prefix, &launch.stdio)?;
    program.personality = linux.and_then(personality);

    let namespaces = Namespaces::plan(linux, &launch.namespaces)?;
    let birth = launch.cgroup.map(Cgroup::birth).transpose().map_err(|error| cgroup_error(&error))?;
    let own_uts = namespaces.clone.contains(Kinds::UTS);
    let name = |name: &Option<String>| {
        let name = name.as_ref().filter(|name| own_uts && !name.is_empty());
        name.map(|name| c_string(name.as_bytes())).transpose()
    };
    let root = plan::root(spec, launch.root, launch.init)?;
    let shows_cgroups = root.mounts.iter().any(|mount| mount.what == What::Cgroup);
    let private = namespaces.unshare.contains(Kinds::CGROUP) || launch.namespaces.cgroup.is_some();
    let container = ContainerPlan {
        enter: namespaces.enter(&launch.namespaces),
        unshare: namespaces.unshare,
        cgroup_tasks: tasks(birth.as_ref()),
        loopback: namespaces.clone.contains(Kinds::NET),
        hostname: name(spec.hostname())?,
        domainname: name(spec.domainname())?,
        sysctls: plan::sysctls(linux)?,
        cgroups: if shows_cgroups {
            cgroup_view::plan(launch.cgroup, private)?
        } else {
            CgroupMounts::default()
        },
        root,
    };
    let streams = streams(launch.stdio);
    let mut supplies = Some(supplies(&program, container.root.mounts.len()));
    let spawn = Spawn {
        kinds: namespaces.clone,
        cgroup: directory(birth.as_ref()),
        pid_namespace: namespaces.pid(&launch.namespaces),
        program: &program,
        supervise: launch.supervise,
    };
    let created = spawn::spawn(&spawn, &mut |stage| match supplies.take() {
        Some(supplies) => init::run(&Entry::Container(&container), &streams, stage, supplies),
        None => 125,
    });
    if let Some(supplies) = supplies {
        supplies.release();
    }
    created
}

/// What a child uses up, with room for all that it may add.
pub(crate) fn supplies(program: &ProgramPlan, mounts: usize) -> Supplies<'_> {
    let mut args = StringArray::with_capacity(program.args.len());
    program.args.iter().for_each(|arg| args.push(arg));
    let mut env = StringArray::with_capacity(program.env.len() + 1);
    program.env.iter().for_each(|entry| env.push(entry));
    Supplies {
        sources: ManuallyDrop::new(Vec::with_capacity(mounts)),
        room: ManuallyDrop::new(Room::new()),
        args: ManuallyDrop::new(args),
        env: ManuallyDrop::new(env),
    }
}

pub(crate) fn streams(stdio: Stdio) -> Streams {
    match stdio {
        Stdio::Fds { stdin, stdout, stderr } => Streams::Fds([stdin, stdout, stderr]),
        Stdio::Terminal { rows, cols } => Streams::Terminal(rows, cols),
    }
}

pub(crate) fn tasks(birth: Option<&Birth>) -> &[OwnedFd] {
    match birth {
        Some(Birth::Tasks(files)) => files,
        _ => &[],
    }
}

pub(crate) fn directory(birth: Option<&Birth>) -> Option<BorrowedFd<'_>> {
    match birth {
        Some(Birth::Directory(directory)) => Some(directory.as_fd()),
        _ => None,
    }
}

pub(crate) fn cgroup_error(error: &crate::cgroup::CgroupError) -> LaunchError {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    LaunchError::new(Reason::Setup, format!("unable to apply cgroup configuration: {error}{source}"))
}

fn personality(linux: &oci_spec::runtime::Linux) -> Option<u64> {
    use oci_spec::runtime::LinuxPersonalityDomain as Domain;
    linux.personality().as_ref().map(|personality| match personality.domain() {
        Domain::PerLinux => 0,
        Domain::PerLinux32 => 8,
    })
}

impl Created {
    /// Lets the process execute its program and waits until it has. Take [`Self::terminal`] before.
    ///
    /// # Errors
    /// What `execve` said, as [`Reason::ExecFailed`]; the process is gone and reaped then.
    pub fn start(self) -> Result<Process, LaunchError> {
        spawn::start(self.process, self.control)
    }
}

/// Starts a process that was created [`Supervise::Detached`], from any process.
///
/// # Errors
/// As [`Created::start`], and if the process has ended.
pub fn start_detached(dir: &Path) -> Result<(), LaunchError> {
    spawn::start_by_fifos(dir)
}
