//! v1: a directory per hierarchy.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use rustix::event::{EventfdFlags, eventfd};

use crate::cgroup::file::{Directory, below};
use crate::cgroup::{Backend, Birth, BlkioEntry, CgroupError, Layout, Stats, devices, kill_processes, until};

/// One cgroup in every hierarchy.
#[derive(Debug)]
pub(crate) struct V1 {
    hierarchies: Vec<(Vec<String>, Directory, PathBuf)>,
}

impl V1 {
    pub(crate) fn new(layout: &Layout, path: &Path) -> Self {
        let hierarchies = layout.hierarchies.iter().map(|hierarchy| {
            let directory = Directory(below(&hierarchy.mount, path));
            (hierarchy.controllers.clone(), directory, hierarchy.mount.clone())
        });
        Self { hierarchies: hierarchies.collect() }
    }

    fn directory(&self, controller: &'static str) -> Result<&Directory, CgroupError> {
        self.find(controller).ok_or(CgroupError::NoController(controller))
    }

    fn find(&self, controller: &str) -> Option<&Directory> {
        let has = |(controllers, ..): &&(Vec<String>, Directory, PathBuf)| {
            controllers.iter().any(|known| known == controller)
        };
        self.hierarchies.iter().find(has).map(|(_, directory, _)| directory)
    }

    fn main(&self) -> Option<&Directory> {
        self.find("pids")
            .or_else(|| self.find("memory"))
            .or(self.hierarchies.first().map(|(_, first, _)| first))
    }
}

impl Backend for V1 {
    fn create(&self) -> Result<(), CgroupError> {
        for (controllers, directory, mount) in &self.hierarchies {
            make(&directory.0)?;
            if controllers.iter().any(|controller| controller == "cpuset") {
                inherit_cpuset(&directory.0, mount)?;
            }
        }
        Ok(())
    }

    fn apply(&self, resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
        if let Some(memory) = resources.memory() {
            set_memory(self.directory("memory")?, memory, warnings)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.set_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids()
            && pids.limit() != 0
        {
            let limit = if pids.limit() < 0 { "max".to_owned() } else { pids.limit().to_string() };
            self.directory("pids")?.write("pids.max", &limit)?;
        }
        if let Some(block) = resources.block_io() {
            set_blkio(self.directory("blkio")?, block, warnings)?;
        }
        if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
            let directory = self.directory("devices")?;
            for rule in devices::with_usual(rules) {
                let (file, line) = devices::v1_line(&rule);
                directory.write(file, &line)?;
            }
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            let Some(directory) = self.find("hugetlb") else {
                warnings
                    .push("the kernel has no hugetlb controller here: huge page limits are left out".into());
                break;
            };
            directory.write(
                &format!("hugetlb.{}.limit_in_bytes", limit.page_size()),
                &limit.limit().to_string(),
            )?;
        }
        if let Some(class) = resources.network().as_ref().and_then(|network| network.class_id()) {
            self.directory("net_cls")?.write("net_cls.classid", &class.to_string())?;
        }
        if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            return Err(CgroupError::Invalid("cannot set unified resources: the host has cgroup v1".into()));
        }
        Ok(())
    }

    fn birth(&self) -> Result<Birth, CgroupError> {
        let open = |(_, directory, _): &(Vec<String>, Directory, PathBuf)| {
            let path = directory.0.join("tasks");
            let file = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(&path);
            file.map(OwnedFd::from).map_err(|source| CgroupError::Io { action: "opening", path, source })
        };
        Ok(Birth::Tasks(self.hierarchies.iter().map(open).collect::<Result<_, _>>()?))
    }

    fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        for (_, directory, _) in &self.hierarchies {
            directory.write("cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let mut found = Vec::new();
        if let Some(directory) = self.main() {
            directory.processes(&mut found)?;
        }
        Ok(found)
    }

    fn kill_all(&self) -> Result<(), CgroupError> {
        let Some(freezer) = self.find("freezer") else { return kill_processes(&|| self.procs()) };
        if self.procs()?.is_empty() {
            return Ok(());
        }
        // Frozen, nothing can fork away from the killing; what cannot be frozen soon is killed anyway.
        let _ = freezer.write("freezer.state", "FROZEN");
        let frozen = || freezer.read("freezer.state").is_ok_and(|state| state.trim() == "FROZEN");
        let _ = until(Duration::from_millis(50), &frozen);
        let result = kill_processes(&|| self.procs());
        match freezer.write("freezer.state", "THAWED") {
            Err(error) if !error.is_gone() => result.and(Err(error)),
            _ => result,
        }
    }

    fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.directory("freezer")?;
        freezer.write("freezer.state", "FROZEN")?;
        let frozen = || freezer.read("freezer.state").is_ok_and(|state| state.trim() == "FROZEN");
        if until(Duration::from_secs(2), &frozen) {
            return Ok(());
        }
        freezer.write("freezer.state", "THAWED")?;
        Err(CgroupError::Invalid("unable to freeze".into()))
    }

    fn thaw(&self) -> Result<(), CgroupError> {
        self.directory("freezer")?.write("freezer.state", "THAWED")
    }

    fn is_frozen(&self) -> bool {
        let state = self.find("freezer").and_then(|freezer| freezer.read("freezer.state").ok());
        state.is_some_and(|state| state.trim() != "THAWED")
    }

    fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        Ok(self.directory("memory")?.value("memory.oom_control", "oom_kill").unwrap_or(0))
    }

    fn oom_watch(&self) -> Result<OwnedFd, CgroupError> {
        let directory = self.directory("memory")?;
        let path = directory.0.join("memory.oom_control");
        let failed = |source| CgroupError::Io { action: "watching", path: path.clone(), source };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = eventfd(0, flags).map_err(|error| failed(error.into()))?;
        // Needed for this one write only.
        let control = std::fs::File::open(&path).map_err(failed)?;
        let pair = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        directory.write("cgroup.event_control", &pair)?;
        Ok(event)
    }

    fn stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = Stats::default();
        if let Some(cpu) = self.find("cpuacct") {
            stats.cpu_total_ns = cpu.number("cpuacct.usage").unwrap_or(0);
            stats.cpu_user_ns = cpu.number("cpuacct.usage_user").unwrap_or(0);
            stats.cpu_system_ns = cpu.number("cpuacct.usage_sys").unwrap_or(0);
            let each = cpu.read("cpuacct.usage_percpu").unwrap_or_default();
            stats.cpu_per_cpu_ns = each.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        }
        if let Some(cpu) = self.find("cpu") {
            stats.throttling_periods = cpu.value("cpu.stat", "nr_periods").unwrap_or(0);
            stats.throttled_periods = cpu.value("cpu.stat", "nr_throttled").unwrap_or(0);
            stats.throttled_ns = cpu.value("cpu.stat", "throttled_time").unwrap_or(0);
        }
        if let Some(memory) = self.find("memory") {
            stats.memory_usage_bytes = memory.number("memory.usage_in_bytes").unwrap_or(0);
            stats.memory_max_usage_bytes = memory.number("memory.max_usage_in_bytes").unwrap_or(0);
            stats.memory_limit_bytes = no_limit(memory.number("memory.limit_in_bytes"));
            stats.memory_failures = memory.number("memory.failcnt").unwrap_or(0);
            stats.memory_stat = memory.pairs("memory.stat");
        }
        if let Some(pids) = self.find("pids") {
            stats.pids_current = pids.number("pids.current").unwrap_or(0);
            stats.pids_limit = pids.number("pids.max").unwrap_or(u64::MAX);
        }
        if let Some(blkio) = self.find("blkio") {
            stats.blkio = blkio_entries(blkio);
        }
        Ok(stats)
    }

    fn directories(&self) -> Vec<&Directory> {
        self.hierarchies.iter().map(|(_, directory, _)| directory).collect()
    }
}

impl V1 {
    fn set_cpu(&self, cpu: &LinuxCpu) -> Result<(), CgroupError> {
        let has_cpu = cpu.shares().is_some() || cpu.quota().is_some() || cpu.period().is_some();
        if has_cpu || cpu.burst().is_some() || cpu.idle().is_some() {
            set_cpu_time(self.directory("cpu")?, cpu)?;
        }
        if cpu.realtime_period().is_some() || cpu.realtime_runtime().is_some() {
            let directory = self.directory("cpu")?;
            if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
                directory.write("cpu.rt_period_us", &period.to_string())?;
            }
            if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
                directory.write("cpu.rt_runtime_us", &runtime.to_string())?;
            }
        }
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.directory("cpuset")?.write(file, value)?;
            }
        }
        Ok(())
    }
}

/// The kernel would take the nearest value that it allows; runc refuses.
fn check_shares(shares: u64) -> Result<(), CgroupError> {
    match shares {
        0..2 => Err(CgroupError::Invalid("the minimum allowed cpu-shares is 2".into())),
        2..=262_144 => Ok(()),
        _ => Err(CgroupError::Invalid("the maximum allowed cpu-shares is 262144".into())),
    }
}

fn set_cpu_time(directory: &Directory, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        check_shares(shares)?;
        directory.write("cpu.shares", &shares.to_string())?;
    }
    let period = cpu.period().filter(|period| *period != 0).map(|period| period.to_string());
    let mut period_left = None;
    if let Some(period) = &period {
        // A shorter period than the quota in force allows: the quota goes first then.
        match directory.write("cpu.cfs_period_us", period) {
            Err(CgroupError::Write { source, .. })
                if source.raw_os_error() == Some(libc::EINVAL) && cpu.quota().is_some() =>
            {
                period_left = Some(period);
            }
            result => result?,
        }
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        directory.write("cpu.cfs_quota_us", &quota.max(-1).to_string())?;
    }
    if let Some(period) = period_left {
        directory.write("cpu.cfs_period_us", period)?;
    }
    if let Some(burst) = cpu.burst() {
        directory.write("cpu.cfs_burst_us", &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        directory.write("cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

fn set_memory(
    directory: &Directory,
    memory: &LinuxMemory,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = memory.swap().filter(|swap| *swap != 0);
    let write_limit =
        || limit.map_or(Ok(()), |limit| directory.write("memory.limit_in_bytes", &limit.max(-1).to_string()));
    let write_swap = |warnings: &mut Vec<String>| -> Result<(), CgroupError> {
        let Some(swap) = swap else { return Ok(()) };
        if !directory.write_if_present("memory.memsw.limit_in_bytes", &swap.max(-1).to_string())? {
            warnings.push(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                    .into(),
            );
        }
        Ok(())
    };
    // Memory may never exceed memory with swap: which goes first depends on the direction of the change.
    match write_limit() {
        Err(CgroupError::Write { source, .. })
            if source.raw_os_error() == Some(libc::EINVAL) && swap.is_some() =>
        {
            write_swap(warnings)?;
            write_limit()?;
        }
        result => {
            result?;
            write_swap(warnings)?;
        }
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        directory.write("memory.soft_limit_in_bytes", &reservation.max(-1).to_string())?;
    }
    if let Some(limit) = memory.kernel_tcp().filter(|limit| *limit != 0) {
        directory.write_if_present("memory.kmem.tcp.limit_in_bytes", &limit.max(-1).to_string())?;
    }
    if let Some(swappiness) = memory.swappiness().filter(|swappiness| *swappiness <= 100) {
        directory.write_if_present("memory.swappiness", &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        directory.write("memory.oom_control", "1")?;
    }
    Ok(())
}

fn set_blkio(
    directory: &Directory,
    block: &LinuxBlockIo,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let mut weighted = |suffix: &str, value: String| -> Result<(), CgroupError> {
        for prefix in ["blkio.", "blkio.bfq."] {
            if directory.write_if_present(&format!("{prefix}{suffix}"), &value)? {
                return Ok(());
            }
        }
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .into(),
        );
        Ok(())
    };
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        weighted("weight", weight.to_string())?;
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            weighted("weight_device", format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    let throttles: [(&str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("blkio.throttle.read_bps_device", block.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block.throttle_write_iops_device()),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            directory.write(file, &format!("{}:{} {}", device.major(), device.minor(), device.rate()))?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), CgroupError> {
    let made = match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    };
    made.map_err(|source| CgroupError::Io { action: "making", path: path.into(), source })
}

/// A new cpuset is empty, and no process can enter it: it gets its parent's processors and memory nodes.
/// Writing them has the kernel go through all its processes, so the parent is told to give them to its next
/// children at their birth; only a hierarchy's root is left as it is.
fn inherit_cpuset(path: &Path, mount: &Path) -> Result<(), CgroupError> {
    let full =
        |path: &Path| Directory(path.into()).read("cpuset.cpus").is_ok_and(|text| !text.trim().is_empty());
    if full(path) {
        return Ok(());
    }
    let mut chain: Vec<&Path> = path.ancestors().take_while(|ancestor| *ancestor != mount).collect();
    chain.reverse();
    // The upper ones have been filled before, mostly: only the last needs work then.
    let parent_full = chain.len() < 2 || full(chain[chain.len() - 2]);
    let from = if parent_full { chain.len().saturating_sub(1) } else { 0 };
    for path in &chain[from..] {
        let (own, parent) = (Directory((*path).into()), Directory(path.parent().unwrap_or(mount).into()));
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if own.read(file)?.trim().is_empty() {
                own.write(file, parent.read(file)?.trim())?;
            }
        }
        if parent.0 != mount {
            // A kernel that will not only costs its next children that time.
            let _ = parent.write("cgroup.clone_children", "1");
        }
    }
    Ok(())
}

/// The kernel writes a number near 2^63 where there is no limit.
fn no_limit(limit: Option<u64>) -> u64 {
    limit.filter(|limit| *limit < 1 << 62).unwrap_or(u64::MAX)
}

fn blkio_entries(directory: &Directory) -> Vec<BlkioEntry> {
    let mut entries: Vec<BlkioEntry> = Vec::new();
    for (file, operations) in
        [("blkio.throttle.io_service_bytes", false), ("blkio.throttle.io_serviced", true)]
    {
        for line in directory.read(file).unwrap_or_default().lines() {
            let Some((device, operation, value)) = blkio_line(line) else { continue };
            let at = entries
                .iter()
                .position(|entry| (entry.major, entry.minor) == device && entry.operation == operation)
                .unwrap_or_else(|| {
                    entries.push(BlkioEntry {
                        major: device.0,
                        minor: device.1,
                        operation: operation.to_owned(),
                        ..BlkioEntry::default()
                    });
                    entries.len() - 1
                });
            let slot = if operations { &mut entries[at].operations } else { &mut entries[at].bytes };
            *slot = value;
        }
    }
    entries
}

/// `8:0 Read 4096`; the last line, `Total 4096`, names no device.
fn blkio_line(line: &str) -> Option<((u64, u64), &str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let operation = words.next()?;
    Some(((major.parse().ok()?, minor.parse().ok()?), operation, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lines_are_read() {
        assert_eq!(blkio_line("8:0 Read 4096"), Some(((8, 0), "Read", 4096)));
        assert_eq!(blkio_line("Total 4096"), None);
    }

    #[test]
    fn a_huge_limit_is_none() {
        assert_eq!(no_limit(Some(9_223_372_036_854_771_712)), u64::MAX);
        assert_eq!(no_limit(Some(4096)), 4096);
    }

    #[test]
    fn shares_beyond_the_kernels_are_refused() {
        let refused = |shares| check_shares(shares).err().map(|error| error.to_string());
        assert_eq!(refused(1).as_deref(), Some("the minimum allowed cpu-shares is 2"));
        assert_eq!((refused(2), refused(262_144)), (None, None));
        assert_eq!(refused(262_145).as_deref(), Some("the maximum allowed cpu-shares is 262144"));
    }
}
