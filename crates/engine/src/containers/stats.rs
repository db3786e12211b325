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
    pub async fn stats(&self, container: &str) -> Result<Stats, Error> {
        let view = self.core.index.find(container)?.view();
        let mut stats = Stats { read: crate::events::now(), ..Stats::default() };
        if !view.state.is_running() {
            return Ok(stats);
        }
        let found = self.core.host.open_cgroup(&view.record).stats();
        let found = found.map_err(|error| Error::Internal(crate::chain(&error)))?;
        let none = |limit: u64| if limit == u64::MAX { 0 } else { limit };
        stats.cpu_ns = (found.cpu_total_ns, found.cpu_system_ns, found.cpu_user_ns);
        stats.online_cpus = u32::try_from(self.core.host.cpus).unwrap_or(u32::MAX);
        stats.system_cpu_ns = std::fs::read_to_string("/proc/stat").map_or(0, |text| host_cpu(&text));
        let host_memory = crate::system::memory_bytes();
        stats.memory_bytes = (found.memory_usage_bytes, found.memory_limit_bytes.min(host_memory));
        let inactive =
            found.memory_stat.iter().find(|(key, _)| key == "total_inactive_file" || key == "inactive_file");
        stats.inactive_file_bytes = inactive.map_or(0, |(_, bytes)| *bytes);
        stats.pids = (found.pids_current, none(found.pids_limit));
        let block = |operation: &str| {
            let of = found.blkio.iter().filter(|entry| entry.operation.eq_ignore_ascii_case(operation));
            of.map(|entry| entry.bytes).sum()
        };
        stats.block_bytes = (block("Read"), block("Write"));
        let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", view.state.pid));
        if view.record.host.network_mode != "host" {
            stats.network = devices.map(|text| interfaces(&text)).unwrap_or_default();
        }
        Ok(stats)
    }
}

/// Sums the first line of `/proc/stat`, without guests' time, which is part of user time.
fn host_cpu(text: &str) -> u64 {
    const NANOS_PER_TICK: u64 = 10_000_000;
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(NANOS_PER_TICK)
}

/// Reads `/proc/<pid>/net/dev`, loopback left out.
fn interfaces(text: &str) -> Vec<(String, u64, u64, u64, u64)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(name, rest)| {
            let numbers: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            Some((
                name.trim().to_owned(),
                *numbers.first()?,
                *numbers.get(1)?,
                *numbers.get(8)?,
                *numbers.get(9)?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(host_cpu("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1\n"), 360_000_000);
        let text = "Inter-|\n face |\n    lo: 1 1 0 0 0 0 0 0 1 1 0\n  eth0: 10 2 0 0 0 0 0 0 30 4 0 0\n";
        assert_eq!(interfaces(text), [("eth0".to_owned(), 10, 2, 30, 4)]);
    }
}
