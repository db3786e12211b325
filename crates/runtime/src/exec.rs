//! Starting a further process in a running container.

use std::collections::HashMap;
use std::os::fd::AsFd;

use gantry_sys::ns::Kinds;
use oci_spec::runtime::LinuxSeccomp;

use crate::cgroup::Cgroup;
use crate::init::plan;
use crate::init::{self, Entry, ExecPlan};
use crate::launch::spawn::Spawn;
use crate::launch::{self, Created, Stdio, Supervise};
use crate::{LaunchError, Process};

/// Everything that makes a further process in a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// A process of the container, whose namespaces are entered.
    pub target: &'a Process,
    /// The program, user, environment, capabilities and limits.
    pub process: &'a oci_spec::runtime::Process,
    /// Annotations that the runtime understands (see the crate's page): the container's, with
    /// `gantry.user` replaced by this process's own.
    pub annotations: &'a HashMap<String, String>,
    /// Standard streams.
    pub stdio: Stdio,
    /// The container's cgroup; `None` stays in the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// The container's filter, unless the annotation `gantry.seccomp` says `default`.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// Whether it may outlive the caller.
    pub supervise: Supervise<'a>,
}

/// Makes a process in the running container, a child of the caller, stopped right before `execve`.
///
/// # Errors
/// As [`crate::launch::create`].
pub fn exec(exec: Exec<'_>) -> Result<Created, LaunchError> {
    let program = plan::program(exec.process, exec.annotations, exec.seccomp, &[], &exec.stdio)?;
    let birth = exec.cgroup.map(Cgroup::birth).transpose().map_err(|error| launch::cgroup_error(&error))?;
    let kinds =
        [Kinds::NET, Kinds::IPC, Kinds::UTS, Kinds::CGROUP].into_iter().fold(Kinds::MOUNT, Kinds::and);
    let entered =
        ExecPlan { target: exec.target.as_fd(), kinds, cgroup_tasks: launch::tasks(birth.as_ref()) };
    let streams = launch::streams(exec.stdio);
    let mut supplies = Some(launch::supplies(&program, 0));
    let spawn = Spawn {
        kinds: Kinds::NONE,
        cgroup: launch::directory(birth.as_ref()),
        pid_namespace: Some(exec.target.as_fd()),
        program: &program,
        supervise: exec.supervise,
    };
    let created = launch::spawn::spawn(&spawn, &mut |stage| match supplies.take() {
        Some(supplies) => init::run(&Entry::Exec(&entered), &streams, stage, supplies),
        None => 125,
    });
    if let Some(supplies) = supplies {
        supplies.release();
    }
    created
}
