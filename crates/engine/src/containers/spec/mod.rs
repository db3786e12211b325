//! Record to OCI specification, with Docker's defaults. Pure: everything that must be looked up on the
//! host comes in as [`Facts`].

mod capabilities;
mod devices;
mod mounts;
mod resources;
mod security;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime as oci;

use super::record::Record;
use super::{Config, Error, HostConfig};
use crate::settings::Defaults;

pub(crate) use capabilities::parse_bounding_set;
pub(crate) use devices::{HostDevice, block_io, scan as scan_devices};
pub(crate) use resources::linux_resources;
pub(crate) use security::SecurityOptions;

/// What is known about the host and the sandbox when a container starts.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// Whether the host has cgroup v2 only: then the cgroup namespace is private by default.
    pub(crate) cgroup_v2: bool,
    /// Capabilities that the host can give, by OCI name (`CAP_CHOWN`).
    pub(crate) host_capabilities: &'a [oci::Capability],
    /// Devices of the host: those asked for by `--device`, or all of them for `--privileged`.
    pub(crate) devices: Vec<HostDevice>,
    /// Block devices whose weights and traffic are set.
    pub(crate) block_io: Option<oci::LinuxBlockIo>,
    /// `hosts`, `hostname` and `resolv.conf`: this container's directory, or that of the container whose network
    /// it shares; `None` mounts none of them.
    pub(crate) network_files: Option<PathBuf>,
    /// The directory for `/dev/shm` where it is shared; `None` gives it one of its own.
    pub(crate) shared_shm: Option<PathBuf>,
    /// The name inside: the container's, or the host's.
    pub(crate) hostname: String,
    /// The daemon's defaults.
    pub(crate) defaults: &'a Defaults,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's list of paths in `/proc` and `/sys` that are hidden.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's list of paths in `/proc` that cannot be written.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes the specification.
///
/// # Errors
/// [`Error::Invalid`] for an unknown capability or ulimit, or a device rule that cannot be read.
pub(crate) fn spec(record: &Record, facts: &Facts<'_>) -> Result<oci::Spec, Error> {
    let (config, host) = (&record.config, &record.host);
    let mut spec = oci::Spec::default();
    let mut root = oci::Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(host.read_only));
    spec.set_version("1.2.0".into())
        .set_root(Some(root))
        .set_process(Some(process(record, facts)?))
        .set_mounts(Some(mounts::mounts(record, facts)?))
        .set_hostname(None)
        .set_linux(Some(linux(record, facts)?));
    if !is_host(&host.namespaces.uts) {
        spec.set_hostname(Some(facts.hostname.clone()));
        spec.set_domainname((!config.domainname.is_empty()).then(|| config.domainname.clone()));
    }
    spec.set_annotations(Some(annotations(config, host)));
    Ok(spec)
}

/// The process of an exec: the container's, with what was asked for changed.
pub(crate) fn exec_process(
    record: &Record,
    request: &super::ExecRequest,
    facts: &Facts<'_>,
) -> Result<oci::Process, Error> {
    let mut process = process(record, facts)?;
    let mut environment = environment(record, facts, request.tty || record.config.tty);
    replace_or_append(&mut environment, &request.env);
    process
        .set_args(Some(request.command.clone()))
        .set_terminal(Some(request.tty))
        .set_env(Some(environment));
    if !request.working_dir.is_empty() {
        process.set_cwd(request.working_dir.clone().into());
    }
    if request.privileged {
        process.set_capabilities(Some(capabilities::all(facts.host_capabilities)));
    }
    Ok(process)
}

fn process(record: &Record, facts: &Facts<'_>) -> Result<oci::Process, Error> {
    let (config, host) = (&record.config, &record.host);
    let mut process = oci::Process::default();
    let words = std::iter::once(&record.path).chain(&record.args).cloned().collect();
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    process
        .set_terminal(Some(config.tty))
        .set_args(Some(words))
        .set_env(Some(environment(record, facts, config.tty)))
        .set_cwd(cwd.into())
        .set_capabilities(Some(capabilities::capabilities(&host.security, facts.host_capabilities)?))
        .set_rlimits(Some(resources::rlimits(&host.resources, facts.defaults)?))
        .set_no_new_privileges(Some(
            SecurityOptions::parse(&host.security.security_opt)?
                .no_new_privileges
                .unwrap_or(facts.defaults.no_new_privileges),
        ))
        .set_oom_score_adj(i32::try_from(host.resources.oom_score_adj).ok());
    Ok(process)
}

/// PATH, HOSTNAME and TERM first, then what was configured, which may replace or remove them.
fn environment(record: &Record, facts: &Facts<'_>, tty: bool) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", facts.hostname)];
    if tty {
        environment.push("TERM=xterm".into());
    }
    replace_or_append(&mut environment, &record.config.env);
    environment
}

/// `KEY=value` replaces or is appended; `KEY` alone removes. That holds for what was there, as in Docker: what the
/// changes themselves say twice comes twice, and the runtime takes the last.
fn replace_or_append(environment: &mut Vec<String>, changes: &[String]) {
    let mut before: Vec<Option<String>> = environment.drain(..).map(Some).collect();
    let mut added = Vec::new();
    for change in changes {
        let key = change.split('=').next().unwrap_or_default();
        let of_key = |entry: &&mut Option<String>| {
            entry.as_deref().is_some_and(|entry| entry.split('=').next() == Some(key))
        };
        match (change.contains('='), before.iter_mut().find(of_key)) {
            (true, Some(entry)) => *entry = Some(change.clone()),
            (true, None) => added.push(change.clone()),
            (false, Some(entry)) => *entry = None,
            (false, None) => {}
        }
    }
    environment.extend(before.into_iter().flatten().chain(added));
}

fn linux(record: &Record, facts: &Facts<'_>) -> Result<oci::Linux, Error> {
    let host = &record.host;
    let privileged = host.security.privileged;
    let mut linux = oci::Linux::default();
    let capabilities = capabilities::capabilities(&host.security, facts.host_capabilities)?;
    let bounding: Vec<_> = capabilities.bounding().iter().flatten().copied().collect();
    let seccomp = SecurityOptions::parse(&host.security.security_opt)?.own_seccomp(&bounding)?;
    let paths = |given: &Option<Vec<String>>, default: &[&str]| match given {
        Some(given) => given.clone(),
        None if privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    };
    linux
        .set_namespaces(Some(namespaces(host, facts)))
        .set_masked_paths(Some(paths(&host.security.masked_paths, &MASKED)))
        .set_readonly_paths(Some(paths(&host.security.readonly_paths, &READ_ONLY)))
        .set_sysctl(Some(sysctls(&record.config, host)))
        .set_seccomp(seccomp)
        .set_devices(Some(devices::nodes(&facts.devices)))
        .set_rootfs_propagation(mounts::root_propagation(record));
    let mut resources = linux_resources(&host.resources)?;
    if let Some(mut block) = facts.block_io.clone() {
        block.set_weight(resources.block_io().as_ref().and_then(oci::LinuxBlockIo::weight));
        resources.set_block_io(Some(block));
    }
    resources.set_devices(Some(devices::rules(host, &facts.devices)?));
    linux.set_resources(Some(resources));
    Ok(linux)
}

fn namespaces(host: &HostConfig, facts: &Facts<'_>) -> Vec<oci::LinuxNamespace> {
    use oci::LinuxNamespaceType as Type;
    let modes = &host.namespaces;
    let cgroup_host = if modes.cgroup.is_empty() { !facts.cgroup_v2 } else { is_host(&modes.cgroup) };
    [
        (Type::Mount, true),
        (Type::Network, !is_host(&host.network_mode)),
        (Type::Uts, !is_host(&modes.uts)),
        (Type::Pid, !is_host(&modes.pid)),
        (Type::Ipc, !is_host(&modes.ipc)),
        (Type::Cgroup, !cgroup_host),
    ]
    .into_iter()
    .filter(|(_, own)| *own)
    .map(|(kind, _)| {
        let mut namespace = oci::LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace
    })
    .collect()
}

/// Unprivileged ping and low ports work wherever the network is the container's own.
fn sysctls(config: &Config, host: &HostConfig) -> HashMap<String, String> {
    let mut sysctls = HashMap::new();
    if !is_host(&host.network_mode) && !host.network_mode.starts_with("container:") {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    sysctls.extend(host.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())));
    if is_host(&host.namespaces.uts) && !config.domainname.is_empty() {
        // The runtime refuses it, as it would change the host's.
        sysctls.insert("kernel.domainname".into(), config.domainname.clone());
    }
    sysctls
}

/// Checks what create can check: capabilities and security options.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check_security(host: &HostConfig) -> Result<(), Error> {
    capabilities::capabilities(&host.security, &[])?;
    SecurityOptions::parse(&host.security.security_opt).map(drop)
}

fn is_host(mode: &str) -> bool {
    mode == "host"
}

fn annotations(config: &Config, host: &HostConfig) -> HashMap<String, String> {
    let mut annotations = HashMap::new();
    // Also root's groups are what the container's files say.
    let user = if config.user.is_empty() { "0" } else { &config.user };
    annotations.insert("gantry.user".into(), user.into());
    if !host.group_add.is_empty() {
        annotations.insert("gantry.groups".into(), host.group_add.join(","));
    }
    let options = SecurityOptions::parse(&host.security.security_opt);
    if options.is_ok_and(|options| options.has_default_seccomp(host.security.privileged)) {
        annotations.insert("gantry.seccomp".into(), "default".into());
    }
    annotations
}

#[cfg(test)]
mod tests;
