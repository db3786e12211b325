//! One sample of what a container uses.

use gantry_model::Timestamp;

use super::{Containers, Error};

/// One sample. A stopped container has zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// When it was read.
    pub read: Timestamp,
    /// Nanoseconds of CPU, all and in the kernel and in user mode.
    pub cpu_ns: (u64, u64, u64),
    /// Nanoseconds of CPU of the whole host.
    pub system_cpu_ns: u64,
    /// CPUs that are online.
    pub online_cpus: u32,
    /// Bytes of memory in use and their limit.
    pub memory_bytes: (u64, u64),
    /// Bytes of inactive file cache.
    pub inactive_file_bytes: u64,
    /// Processes and threads, and their limit (0 is none).
    pub pids: (u64, u64),
    /// Bytes read from and written to block devices.
    pub block_bytes: (u64, u64),
    /// By interface: name, received bytes and packets, sent bytes and packets.
    pub network: Vec<(String, u64, u64, u64, u64)>,
}

impl Containers {
    /// Reads one sample.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub async fn stats(&self, _container: &str) -> Result<Stats, Error> {
        unimplemented!("filled next")
    }
}
