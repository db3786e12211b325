//! Control groups, v1, hybrid and v2 behind one trait.
//!
//! A hybrid host is v1 here: all controllers that matter are in hierarchies of their own, and the unified
//! one beside them is left alone.

mod devices;
mod file;
mod layout;
pub(crate) mod service;
mod v1;
mod v2;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal};

use crate::cgroup::file::Directory;
pub(crate) use crate::cgroup::file::below as path_below;

/// Which hierarchies the host has, from its mount table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    /// The version.
    pub version: Version,
    /// v1 hierarchies; empty on v2.
    pub hierarchies: Vec<Hierarchy>,
    /// Where cgroup2 is mounted, if it is (v2, and hybrid).
    pub unified: Option<PathBuf>,
}

/// How control groups are set up on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Hierarchies per controller; a cgroup2 mount beside them makes it a hybrid.
    V1,
    /// One hierarchy.
    V2,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// The kernel does not take a value.
    #[error("failed to write {value:?}: write {}", path.display())]
    Write {
        /// What was written.
        value: String,
        /// To which file.
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
            Self::NoController(_) | Self::NotMounted | Self::Io { .. } | Self::Write { .. } => {
                gantry_model::ErrorKind::Internal
            }
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

/// Reads which hierarchies the host has. The kernel writes its whole mount table for it: half a
/// millisecond on a host with some dozen mounts, so keep the answer.
///
/// # Errors
/// [`CgroupError::NotMounted`], or the mount table could not be read.
pub fn detect() -> Result<Layout, CgroupError> {
    layout::detect()
}

/// What a version does in its own way.
trait Backend: std::fmt::Debug + Send + Sync {
    fn create(&self) -> Result<(), CgroupError>;
    fn apply(&self, resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<(), CgroupError>;
    fn birth(&self) -> Result<Birth, CgroupError>;
    fn attach(&self, pid: i32) -> Result<(), CgroupError>;
    fn procs(&self) -> Result<Vec<i32>, CgroupError>;
    fn kill_all(&self) -> Result<(), CgroupError>;
    fn freeze(&self) -> Result<(), CgroupError>;
    fn thaw(&self) -> Result<(), CgroupError>;
    fn is_frozen(&self) -> bool;
    fn oom_kill_count(&self) -> Result<u64, CgroupError>;
    fn oom_watch(&self) -> Result<OwnedFd, CgroupError>;
    fn stats(&self) -> Result<Stats, CgroupError>;
    fn directories(&self) -> Vec<&Directory>;
}

/// How a process gets into the cgroup while it is made.
#[derive(Debug)]
pub(crate) enum Birth {
    /// v2: born in this directory.
    Directory(OwnedFd),
    /// v1: it writes `0` to each of these `tasks` files.
    Tasks(Vec<OwnedFd>),
}

/// One cgroup in every hierarchy. Dropping it leaves the kernel's alone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    layout: Layout,
    backend: Box<dyn Backend>,
    warnings: Vec<String>,
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
        let mut cgroup = Self::open(layout, path);
        let made =
            cgroup.backend.create().and_then(|()| resources.map_or(Ok(()), |limits| cgroup.update(limits)));
        match made {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                for directory in cgroup.backend.directories() {
                    // Whatever else fails here, the first error is the one to tell.
                    let _ = directory.remove();
                }
                Err(error)
            }
        }
    }

    /// Takes up an existing cgroup, as after a restart of the caller; makes nothing.
    #[must_use]
    pub fn open(layout: &Layout, path: &Path) -> Self {
        let backend: Box<dyn Backend> = match (layout.version, &layout.unified) {
            (Version::V2, Some(mount)) => Box::new(v2::V2::new(mount, path)),
            _ => Box::new(v1::V1::new(layout, path)),
        };
        Self { path: path.into(), layout: layout.clone(), backend, warnings: Vec::new() }
    }

    /// Its path within each hierarchy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host's hierarchies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What `create` or `update` had to leave out, as sentences.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives those sentences away, so that each is told once.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Opens what a process that is being made needs to get in.
    pub(crate) fn birth(&self) -> Result<Birth, CgroupError> {
        self.backend.birth()
    }

    /// Removes it where nothing is in it: no process, no group. Where something is it stays, which is no error.
    pub fn remove_if_empty(&self) {
        for directory in self.backend.directories() {
            // The kernel refuses where something is in it.
            let _ = std::fs::remove_dir(&directory.0);
        }
    }

    /// Whether it exists, in the hierarchy that counts processes.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.backend.directories().iter().any(|directory| directory.0.is_dir())
    }

    /// Moves a process into it.
    ///
    /// On v1 this waits for the kernel, about 10 ms after idling. A process that is being made by
    /// [`crate::launch::create`] gets in without.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        self.backend.attach(pid)
    }

    /// The processes in it and below it.
    ///
    /// # Errors
    /// The kernel's refusal; a missing cgroup has no processes.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        self.backend.procs()
    }

    /// Kills every process in it and below it, thawing it if it is frozen; does not wait for their end.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        self.backend.kill_all()
    }

    /// Freezes every process in it, and waits until they are.
    ///
    /// # Errors
    /// The kernel's refusal, or they were not frozen within two seconds (thawed again then).
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.backend.freeze()
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.backend.thaw()
    }

    /// Whether its processes are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.backend.is_frozen()
    }

    /// How many processes the kernel killed for want of memory so far. Read it before [`Self::remove`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        self.backend.oom_kill_count()
    }

    /// A descriptor that becomes readable when memory ran out in it, a moment before the kernel kills, and at other
    /// times too: [`Self::oom_kill_count`] tells. To be read empty each time; it does not block.
    ///
    /// # Errors
    /// The kernel's refusal; [`CgroupError::NoController`] without memory controller.
    pub fn oom_watch(&self) -> Result<OwnedFd, CgroupError> {
        self.backend.oom_watch()
    }

    /// Its figures.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        self.backend.stats()
    }

    /// Changes limits; what `resources` does not mention stays.
    ///
    /// # Errors
    /// The kernel's refusal; limits set before it stay.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<(), CgroupError> {
        self.backend.apply(resources, &mut self.warnings)
    }

    /// Removes it, and cgroups made below it, from every hierarchy. One that is gone counts as removed; its
    /// parents stay. Retries for up to a second while its last processes are vanishing.
    ///
    /// # Errors
    /// The first refusal, after all hierarchies were tried.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut first = None;
        let deadline = Instant::now() + Duration::from_secs(1);
        for directory in self.backend.directories() {
            let mut pause = Duration::from_micros(200);
            let result = loop {
                match directory.remove() {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(20));
                    }
                    result => break result,
                }
            };
            if let Err(source) = result {
                let error = CgroupError::Io { action: "removing", path: directory.0.clone(), source };
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Kills until nobody new turns up; a process that forks while it is killed has children to be found next.
fn kill_processes(procs: &dyn Fn() -> Result<Vec<i32>, CgroupError>) -> Result<(), CgroupError> {
    let mut known: Vec<i32> = Vec::new();
    for _ in 0..100 {
        let mut fresh = procs()?;
        fresh.retain(|pid| !known.contains(pid));
        if fresh.is_empty() {
            return Ok(());
        }
        for pid in fresh.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        known.append(&mut fresh);
    }
    Ok(())
}

/// Waits until it holds; tells whether it did in time.
fn until(limit: Duration, holds: &dyn Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(100);
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    true
}
