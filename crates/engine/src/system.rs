//! The host and the daemon, as `info` shows them.

use std::sync::Arc;

use gantry_model::Timestamp;
use gantry_runtime::cgroup::Version;

use crate::containers::core::Core;
use crate::images::Images;

/// The host and the daemon. Cheap to clone.
#[derive(Clone)]
pub struct System {
    core: Arc<Core>,
    images: Images,
    id: Arc<str>,
}

/// What `info` shows. Everything is read anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// The daemon's id, kept in the data root: a UUID.
    pub id: String,
    /// Containers that run, are paused, are stopped.
    pub containers: (usize, usize, usize),
    /// Images.
    pub images: usize,
    /// The snapshot driver: `overlay2`-like name, and lines of its status.
    pub driver: String,
    /// Lines about the driver: key and value.
    pub driver_status: Vec<(String, String)>,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Whether controllers are there: memory, swap, pids, cpu quota, cpu shares, cpuset, kernel memory TCP, OOM kill disable.
    pub controllers: Controllers,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` and `VERSION_ID` of os-release.
    pub operating_system: (String, String),
    /// `x86_64`.
    pub architecture: String,
    /// CPUs.
    pub cpus: usize,
    /// Bytes.
    pub memory_bytes: u64,
    /// The host's name.
    pub name: String,
    /// The data root.
    pub data_root: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Security options as Docker lists them (`name=seccomp,profile=builtin`, `name=cgroupns`).
    pub security_options: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Subscribers to events.
    pub event_listeners: usize,
    /// Descriptors that are open, and threads.
    pub descriptors_and_threads: (usize, usize),
    /// Now, on the daemon's clock.
    pub system_time: Timestamp,
    /// The default log driver.
    pub logging_driver: String,
}

/// Which controllers the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers {
    /// Memory limits.
    pub memory: bool,
    /// Swap limits.
    pub swap: bool,
    /// Process limits.
    pub pids: bool,
    /// CPU quota and period.
    pub cpu_cfs: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Switching the OOM killer off (cgroup v1).
    pub oom_kill_disable: bool,
    /// IPv4 forwarding.
    pub ipv4_forwarding: bool,
}

impl System {
    pub(crate) fn new(core: Arc<Core>, images: Images, id: String) -> Self {
        Self { core, images, id: id.into() }
    }

    /// Reads it.
    pub async fn info(&self) -> Info {
        let containers = crate::containers::Containers::new(Arc::clone(&self.core)).counts();
        let system = self.clone();
        let read = crate::blocking(move || Ok::<_, std::convert::Infallible>(system.read(containers)));
        match read.await {
            Ok(info) => info,
            Err(never) => match never {},
        }
    }

    fn read(&self, containers: (usize, usize, usize)) -> Info {
        let core = &self.core;
        let settings = &core.host.settings;
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = file("/etc/os-release");
        let field = |key: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let v2 = core.host.cgroups.version == Version::V2;
        let controllers = self.controllers();
        let mut warnings = core.networks.warnings();
        let lacks = [
            (controllers.memory, "No memory limit support"),
            (controllers.swap, "No swap limit support"),
            (controllers.cpu_cfs, "No cpu cfs quota support"),
            (controllers.cpu_shares, "No cpu shares support"),
            (controllers.cpuset, "No cpuset support"),
            (controllers.ipv4_forwarding, "IPv4 forwarding is disabled"),
        ];
        warnings.extend(lacks.iter().filter(|(has, _)| !has).map(|(_, what)| format!("WARNING: {what}")));
        let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
        security.extend(v2.then(|| "name=cgroupns".to_owned()));
        let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
        Info {
            id: self.id.to_string(),
            containers,
            images: self.images.count(),
            driver: core.store.driver_name().into(),
            driver_status: driver_status(core.store.driver_name(), &settings.data_root),
            cgroup_version: if v2 { "2" } else { "1" }.into(),
            controllers,
            kernel_version: file("/proc/sys/kernel/osrelease").trim().into(),
            operating_system: (field("PRETTY_NAME"), field("VERSION_ID")),
            architecture: std::env::consts::ARCH.into(),
            cpus: core.host.cpus,
            memory_bytes: memory_bytes(),
            name: hostname(),
            data_root: settings.data_root.to_string_lossy().into_owned(),
            labels: settings.labels.clone(),
            security_options: security,
            warnings,
            event_listeners: core.events.listeners(),
            descriptors_and_threads: (count("/proc/self/fd"), count("/proc/self/task")),
            system_time: crate::events::now(),
            logging_driver: match settings.defaults.log.driver.as_str() {
                "" => "json-file".into(),
                given => given.into(),
            },
        }
    }

    fn controllers(&self) -> Controllers {
        let layout = &self.core.host.cgroups;
        let v2 = layout.unified.as_ref().filter(|_| layout.version == Version::V2);
        let of_v2 =
            v2.map(|mount| std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default());
        let has = |name: &str| match &of_v2 {
            Some(names) => names.split_whitespace().any(|have| have == name),
            None => layout.hierarchies.iter().any(|one| one.controllers.iter().any(|have| have == name)),
        };
        let v1_file = |controller: &str, file: &str| {
            let mount =
                layout.hierarchies.iter().find(|one| one.controllers.iter().any(|have| have == controller));
            mount.is_some_and(|one| one.mount.join(file).exists())
        };
        let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
        Controllers {
            memory: has("memory"),
            swap: v2.is_some() || v1_file("memory", "memory.memsw.limit_in_bytes"),
            pids: has("pids"),
            cpu_cfs: v2.is_some() && has("cpu") || v1_file("cpu", "cpu.cfs_quota_us"),
            cpu_shares: has("cpu"),
            cpuset: has("cpuset"),
            oom_kill_disable: v2.is_none() && has("memory"),
            ipv4_forwarding: forwarding.is_ok_and(|text| text.trim() == "1"),
        }
    }
}

/// What Docker tells of its driver of the same name. Every overlay is mounted with the same options, and
/// differences are read from its upper directory.
fn driver_status(driver: &str, data_root: &std::path::Path) -> Vec<(String, String)> {
    if driver != "overlay2" {
        return Vec::new();
    }
    let kind = rustix::fs::statfs(data_root).map_or("unknown", |found| file_system(found.f_type));
    let lines = [
        ("Backing Filesystem", kind),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ];
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Docker's name of a file system by its magic number (statfs(2)).
fn file_system(magic: i64) -> &'static str {
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        _ => "<unknown>",
    }
}

/// The host's name.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// The host's memory in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_overlay_has_lines_of_its_own() {
        let lines = driver_status("overlay2", std::path::Path::new("/proc"));
        assert_eq!(lines[0], ("Backing Filesystem".into(), "<unknown>".into()));
        assert_eq!(lines.len(), 5);
        assert!(driver_status("vfs", std::path::Path::new("/")).is_empty());
    }
}
