//! One sample of what a container uses.

use gantry_model::Timestamp;
use gantry_runtime::cgroup;

use super::{Containers, Error};

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// When it was read; zero if there was nothing to read.
    pub read: Timestamp,
    /// What its control group counts; `None` of a container that does not run.
    pub used: Option<cgroup::Stats>,
    /// Whether that group is of version 2, which counts less.
    pub unified: bool,
    /// Nanoseconds of CPU of the whole host.
    pub system_cpu_ns: u64,
    /// CPUs that are online.
    pub online_cpus: u32,
    /// Bytes of memory that it may use at most: its limit, or what the host has.
    pub memory_limit_bytes: u64,
    /// Its interfaces but loopback; none where it has the host's.
    pub network: Vec<Interface>,
}

/// What went through an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

impl Containers {
    /// Reads one sample: the default one, of no time, if the container does not run.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub async fn stats(&self, container: &str) -> Result<Stats, Error> {
        let view = self.core.index.find(container)?.view();
        if !view.state.is_running() {
            return Ok(Stats::default());
        }
        let mut stats = Stats { read: crate::events::now(), ..Stats::default() };
        let used = self.core.host.open_cgroup(&view.record).stats();
        let used = used.map_err(|error| Error::Internal(crate::chain(&error)))?;
        stats.memory_limit_bytes = used.memory_limit_bytes.min(crate::system::memory_bytes());
        stats.used = Some(used);
        stats.unified = self.core.host.cgroups.version == cgroup::Version::V2;
        stats.online_cpus = u32::try_from(self.core.host.cpus).unwrap_or(u32::MAX);
        stats.system_cpu_ns = std::fs::read_to_string("/proc/stat").map_or(0, |text| host_cpu(&text));
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
fn interfaces(text: &str) -> Vec<Interface> {
    let read = |line: &str| {
        let (name, rest) = line.split_once(':').filter(|(name, _)| name.trim() != "lo")?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // Eight columns for each direction, the first four of which are the same.
        let traffic = |from: usize| match numbers.get(from..from + 4)? {
            &[bytes, packets, errors, dropped] => Some(Traffic { bytes, packets, errors, dropped }),
            _ => None,
        };
        Some(Interface { name: name.trim().to_owned(), received: traffic(0)?, sent: traffic(8)? })
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(host_cpu("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1\n"), 360_000_000);
        let text = "Inter-|\n face |\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0\n  eth0: 10 2 0 1 0 0 0 0 30 4 5 6\n";
        let received = Traffic { bytes: 10, packets: 2, errors: 0, dropped: 1 };
        let sent = Traffic { bytes: 30, packets: 4, errors: 5, dropped: 6 };
        assert_eq!(interfaces(text), [Interface { name: "eth0".into(), received, sent }]);
    }
}
