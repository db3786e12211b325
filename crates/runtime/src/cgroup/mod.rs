//! Control groups, v1, hybrid and v2 behind one trait.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

/// Which hierarchies the host has, from its mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The version.
    pub version: Version,
    /// v1 hierarchies; empty on v2.
    pub hierarchies: Vec<Hierarchy>,
    /// Where cgroup2 is mounted, if it is (v2, and hybrid).
    pub unified: Option<PathBuf>,
}

/// How control groups are set up on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Hierarchies per controller; a cgroup2 mount beside them makes it a hybrid.
    V1,
    /// One hierarchy.
    V2,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers in mount order, such as `cpu`, `cpuacct`; or `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// A failed cgroup operation.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// The controller is not there.
    #[error("the host's kernel has no cgroup controller {0}")]
    NoController(&'static str),
    /// A value is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A file operation failed.
    #[error("cgroup {}: {action}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl CgroupError {
    /// The kind for clients.
    #[must_use]
    pub fn kind(&self) -> gantry_model::ErrorKind {
        match self {
            Self::Invalid(_) => gantry_model::ErrorKind::InvalidArgument,
            Self::NoController(_) | Self::NotMounted | Self::Io { .. } => gantry_model::ErrorKind::Internal,
        }
    }
}

/// Figures of one cgroup. What the kernel does not tell is 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// CPU time in nanoseconds.
    pub cpu_total_ns: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system_ns: u64,
    /// CPU time per processor, nanoseconds; empty on v2.
    pub cpu_per_cpu_ns: Vec<u64>,
    /// CFS periods elapsed.
    pub throttling_periods: u64,
    /// CFS periods in which it was throttled.
    pub throttled_periods: u64,
    /// Time throttled, nanoseconds.
    pub throttled_ns: u64,
    /// Memory in use, page cache included, bytes.
    pub memory_usage_bytes: u64,
    /// The most ever in use, bytes.
    pub memory_max_usage_bytes: u64,
    /// The limit, bytes; `u64::MAX` means none.
    pub memory_limit_bytes: u64,
    /// How often the limit was hit.
    pub memory_failures: u64,
    /// The lines of `memory.stat`.
    pub memory_stat: Vec<(String, u64)>,
    /// Processes and threads.
    pub pids_current: u64,
    /// The limit of them; `u64::MAX` means none.
    pub pids_limit: u64,
    /// Bytes and operations by device: (major, minor, operation, bytes, operations).
    pub blkio: Vec<BlkioEntry>,
}

/// I/O of one device and direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct BlkioEntry {
    /// Device number, first part.
    pub major: u64,
    /// Device number, second part.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard` or `Total`.
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
}

/// Reads which hierarchies the host has. About 0.1 ms: keep the answer.
///
/// # Errors
/// [`CgroupError::NotMounted`], or the mount table could not be read.
pub fn detect() -> Result<Layout, CgroupError> {
    unimplemented!()
}

/// One cgroup in every hierarchy. Dropping it leaves the kernel's alone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup (and its parents) at this absolute path of every hierarchy and sets its
    /// limits. A limit that the kernel has no file for (such as swap accounting) is left out with a
    /// sentence in [`Self::warnings`].
    ///
    /// # Errors
    /// [`CgroupError`]; what was made is removed again.
    pub fn create(
        layout: &Layout,
        path: &Path,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let _ = (layout, path, resources);
        unimplemented!()
    }

    /// Takes up an existing cgroup, as after a restart of the caller; makes nothing.
    #[must_use]
    pub fn open(layout: &Layout, path: &Path) -> Self {
        let _ = layout;
        Self { path: path.into() }
    }

    /// Its path within each hierarchy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `create` or `update` had to leave out, as sentences.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &[]
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        let _ = pid;
        unimplemented!()
    }

    /// The processes in it and below it.
    ///
    /// # Errors
    /// The kernel's refusal; a missing cgroup has no processes.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        unimplemented!()
    }

    /// Kills every process in it and below it, thawing it if it is frozen; does not wait for them.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Freezes every process in it, and waits until they are.
    ///
    /// # Errors
    /// The kernel's refusal, or they were not frozen within two seconds (thawed again then).
    pub fn freeze(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// How many processes the kernel killed for want of memory so far. Read it before [`Self::remove`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        unimplemented!()
    }

    /// Its figures.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        unimplemented!()
    }

    /// Changes limits; what `resources` does not mention stays.
    ///
    /// # Errors
    /// The kernel's refusal; limits set before it stay.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let _ = resources;
        unimplemented!()
    }

    /// Removes it, and cgroups made below it, from every hierarchy. One that is gone counts as removed.
    /// Retries for up to a second while its last processes are vanishing.
    ///
    /// # Errors
    /// The first refusal, after all hierarchies were tried.
    pub fn remove(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }
}
