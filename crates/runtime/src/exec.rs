//! Starting a further process in a running container.

use std::collections::HashMap;

use oci_spec::runtime::LinuxSeccomp;

use crate::cgroup::Cgroup;
use crate::launch::{Created, Stdio, Supervise};
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
    let _ = exec;
    unimplemented!()
}
