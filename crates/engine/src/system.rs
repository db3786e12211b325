//! The host and the daemon, as `info` shows them.

use gantry_model::Timestamp;

/// The host and the daemon. Cheap to clone.
#[derive(Clone)]
pub struct System {}

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
    /// Reads it.
    pub async fn info(&self) -> Info {
        unimplemented!("filled next")
    }
}
