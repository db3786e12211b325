//! v2: one directory.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use rustix::fs::inotify;

use crate::cgroup::file::{Directory, below};
use crate::cgroup::{Backend, Birth, BlkioEntry, CgroupError, Stats, devices, kill_processes, until};

/// One cgroup of the unified hierarchy.
#[derive(Debug)]
pub(crate) struct V2 {
    mount: PathBuf,
    directory: Directory,
}

impl V2 {
    pub(crate) fn new(mount: &Path, path: &Path) -> Self {
        Self { mount: mount.into(), directory: Directory(below(mount, path)) }
    }
}

impl Backend for V2 {
    fn create(&self) -> Result<(), CgroupError> {
        let path = &self.directory.0;
        std::fs::create_dir_all(path).map_err(|source| CgroupError::Io {
            action: "making",
            path: path.clone(),
            source,
        })?;
        let mut above: Vec<&Path> =
            path.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(&self.mount)).collect();
        above.reverse();
        for ancestor in above {
            let directory = Directory(ancestor.into());
            let available = directory.read("cgroup.controllers")?;
            for controller in available.split_ascii_whitespace() {
                // One by one: a controller that cannot be handed down must not keep the others back.
                let _ = directory.write("cgroup.subtree_control", &format!("+{controller}"));
            }
        }
        Ok(())
    }

    fn apply(&self, resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
        let directory = &self.directory;
        if let Some(memory) = resources.memory() {
            set_memory(directory, memory, warnings)?;
        }
        if let Some(cpu) = resources.cpu() {
            set_cpu(directory, cpu)?;
        }
        if let Some(pids) = resources.pids()
            && pids.limit() != 0
        {
            let limit = if pids.limit() < 0 { "max".to_owned() } else { pids.limit().to_string() };
            directory.write("pids.max", &limit)?;
        }
        if let Some(block) = resources.block_io() {
            set_io(directory, block, warnings)?;
        }
        if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
            let io = |action| move |source| CgroupError::Io { action, path: directory.0.clone(), source };
            let program =
                gantry_sys::bpf::load_device_program(&devices::v2_program(&devices::with_usual(rules)))
                    .map_err(io("loading a device program for"))?;
            let cgroup = std::fs::File::open(&directory.0).map_err(io("opening"))?;
            gantry_sys::bpf::attach_device_program(cgroup.as_fd(), program.as_fd())
                .map_err(io("attaching a device program to"))?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            directory.write(&format!("hugetlb.{}.max", limit.page_size()), &limit.limit().to_string())?;
        }
        for (file, value) in resources.unified().iter().flatten() {
            if file.contains('/') {
                return Err(CgroupError::Invalid(format!("unified resource {file:?} must be a file name")));
            }
            directory.write(file, value)?;
        }
        Ok(())
    }

    fn birth(&self) -> Result<Birth, CgroupError> {
        let path = self.directory.0.clone();
        let flags = libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_PATH;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let file = opened.map_err(|source| CgroupError::Io { action: "opening", path, source })?;
        Ok(Birth::Directory(OwnedFd::from(file)))
    }

    fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        self.directory.write("cgroup.procs", &pid.to_string())
    }

    fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let mut found = Vec::new();
        self.directory.processes(&mut found)?;
        Ok(found)
    }

    fn kill_all(&self) -> Result<(), CgroupError> {
        match self.directory.write_if_present("cgroup.kill", "1") {
            Ok(true) => Ok(()),
            Ok(false) => kill_processes(&|| self.procs()),
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn freeze(&self) -> Result<(), CgroupError> {
        self.directory.write("cgroup.freeze", "1")?;
        let frozen = || self.directory.value("cgroup.events", "frozen") == Some(1);
        if until(Duration::from_secs(2), &frozen) {
            return Ok(());
        }
        self.thaw()?;
        Err(CgroupError::Invalid("unable to freeze".into()))
    }

    fn thaw(&self) -> Result<(), CgroupError> {
        self.directory.write("cgroup.freeze", "0")
    }

    fn is_frozen(&self) -> bool {
        self.directory.value("cgroup.events", "frozen") == Some(1)
    }

    fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        Ok(self.directory.value("memory.events", "oom_kill").unwrap_or(0))
    }

    fn oom_watch(&self) -> Result<OwnedFd, CgroupError> {
        let path = self.directory.0.join("memory.events");
        let watch = || -> io::Result<OwnedFd> {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&watch, &path, inotify::WatchFlags::MODIFY)?;
            Ok(watch)
        };
        watch().map_err(|source| CgroupError::Io { action: "watching", path: path.clone(), source })
    }

    fn stats(&self) -> Result<Stats, CgroupError> {
        let directory = &self.directory;
        let cpu = directory.pairs("cpu.stat");
        let figure = |key: &str| cpu.iter().find(|(known, _)| known == key).map_or(0, |(_, value)| *value);
        Ok(Stats {
            cpu_total_ns: figure("usage_usec") * 1000,
            cpu_user_ns: figure("user_usec") * 1000,
            cpu_system_ns: figure("system_usec") * 1000,
            cpu_per_cpu_ns: Vec::new(),
            throttling_periods: figure("nr_periods"),
            throttled_periods: figure("nr_throttled"),
            throttled_ns: figure("throttled_usec") * 1000,
            memory_usage_bytes: directory.number("memory.current").unwrap_or(0),
            memory_max_usage_bytes: directory.number("memory.peak").unwrap_or(0),
            memory_limit_bytes: directory.number("memory.max").unwrap_or(u64::MAX),
            memory_failures: directory.value("memory.events", "max").unwrap_or(0),
            memory_stat: directory.pairs("memory.stat"),
            pids_current: directory.number("pids.current").unwrap_or(0),
            pids_limit: directory.number("pids.max").unwrap_or(u64::MAX),
            blkio: io_entries(&directory.read("io.stat").unwrap_or_default()),
        })
    }

    fn directories(&self) -> Vec<&Directory> {
        vec![&self.directory]
    }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn set_memory(
    directory: &Directory,
    memory: &LinuxMemory,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        let value = swap_alone(swap, limit)?;
        if !directory.write_if_present("memory.swap.max", &value)? {
            warnings.push(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                    .into(),
            );
        }
    }
    if let Some(limit) = limit {
        directory.write("memory.max", &or_max(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        directory.write("memory.low", &or_max(reservation))?;
    }
    Ok(())
}

/// OCI's swap is memory and swap together; v2 wants swap alone.
fn swap_alone(swap: i64, limit: Option<i64>) -> Result<String, CgroupError> {
    match limit {
        _ if swap < 0 => Ok("max".into()),
        Some(limit) if limit < 0 => Ok("max".into()),
        Some(limit) if swap >= limit => Ok((swap - limit).to_string()),
        Some(_) => Err(CgroupError::Invalid("memory+swap limit should be >= memory limit".into())),
        None => Err(CgroupError::Invalid("unable to set swap limit without memory limit".into())),
    }
}

/// v1's 2 to 262144 shares as v2's weight of 1 to 10000.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn set_cpu(directory: &Directory, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        directory.write("cpu.weight", &weight(shares).to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        directory.write("cpu.idle", &idle.to_string())?;
    }
    let (quota, period) = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or_else(|| "max".to_owned(), or_max);
        directory.write("cpu.max", &format!("{quota} {}", period.unwrap_or(100_000)))?;
    }
    if let Some(burst) = cpu.burst() {
        directory.write("cpu.max.burst", &burst.to_string())?;
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            directory.write(file, value)?;
        }
    }
    Ok(())
}

fn set_io(
    directory: &Directory,
    block: &LinuxBlockIo,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let bfq = directory.write_if_present("io.bfq.weight", &weight.to_string())?;
        // v1's 10 to 1000 as v2's 1 to 10000.
        let wide = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
        if !bfq && !directory.write_if_present("io.weight", &wide.to_string())? {
            warnings.push(
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".into(),
            );
        }
    }
    let limits = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (key, devices) in limits {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {key}={}", device.major(), device.minor(), device.rate());
            directory.write("io.max", &line)?;
        }
    }
    Ok(())
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn io_entries(text: &str) -> Vec<BlkioEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let values: Vec<(&str, u64)> = words
            .filter_map(|word| word.split_once('=').and_then(|(key, value)| Some((key, value.parse().ok()?))))
            .collect();
        let value = |key: &str| values.iter().find(|(known, _)| *known == key).map_or(0, |(_, value)| *value);
        for (operation, bytes, count) in
            [("Read", "rbytes", "rios"), ("Write", "wbytes", "wios"), ("Discard", "dbytes", "dios")]
        {
            entries.push(BlkioEntry {
                major,
                minor,
                operation: operation.into(),
                bytes: value(bytes),
                operations: value(count),
            });
        }
    }
    entries
}

impl CgroupError {
    /// Whether it says that the cgroup is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_converted() {
        assert_eq!([weight(2), weight(1024), weight(262_144)], [1, 39, 10_000]);
        assert_eq!(swap_alone(300, Some(100)).expect("swap"), "200");
        assert_eq!(swap_alone(-1, Some(100)).expect("swap"), "max");
        assert!(swap_alone(50, Some(100)).is_err() && swap_alone(50, None).is_err());
    }

    #[test]
    fn io_lines_are_read() {
        let entries = io_entries("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nodd\n");
        assert_eq!(entries.len(), 3);
        assert_eq!((entries[1].bytes, entries[1].operations), (2, 4));
    }
}
