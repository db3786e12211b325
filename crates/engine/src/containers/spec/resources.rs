//! Limits: cgroup values and process limits.

use oci_spec::runtime as oci;

use crate::containers::Error;
use crate::containers::config::Resources;
use crate::settings::Defaults;

/// Turns limits into cgroup values; what is 0 is left to the kernel.
///
/// # Errors
/// [`Error::Invalid`] for a negative value where there is none.
pub(crate) fn linux_resources(resources: &Resources) -> Result<oci::LinuxResources, Error> {
    let mut linux = oci::LinuxResources::default();
    linux.set_devices(None);
    linux.set_memory(memory(resources)?);
    linux.set_cpu(cpu(resources)?);
    if let Some(limit) = resources.pids_limit {
        let mut pids = oci::LinuxPids::default();
        // An update takes an earlier limit back with 0 or -1.
        pids.set_limit(if limit > 0 { limit } else { -1 });
        linux.set_pids(Some(pids));
    }
    if resources.blkio_weight > 0 {
        let mut block = oci::LinuxBlockIo::default();
        block.set_weight(Some(resources.blkio_weight));
        linux.set_block_io(Some(block));
    }
    Ok(linux)
}

fn memory(resources: &Resources) -> Result<Option<oci::LinuxMemory>, Error> {
    let mut memory = oci::LinuxMemory::default();
    let some = |value: i64| (value != 0).then_some(value);
    memory.set_limit(some(resources.memory)).set_reservation(some(resources.memory_reservation));
    // Docker's rule: as much swap as memory unless told otherwise.
    memory.set_swap(match resources.memory_swap {
        0 if resources.memory > 0 => Some(resources.memory.saturating_mul(2)),
        other => some(other),
    });
    memory.set_swappiness(match resources.memory_swappiness {
        None | Some(-1) => None,
        Some(value) => Some(positive("memory swappiness", value)?),
    });
    memory.set_disable_oom_killer(resources.oom_kill_disable.filter(|disable| *disable));
    Ok((memory != oci::LinuxMemory::default()).then_some(memory))
}

fn cpu(resources: &Resources) -> Result<Option<oci::LinuxCpu>, Error> {
    /// `--cpus` is a quota in a period of this many microseconds.
    const PERIOD_US: i64 = 100_000;
    let mut cpu = oci::LinuxCpu::default();
    let some = |name: &str, value: i64| match value {
        0 => Ok(None),
        value => positive(name, value).map(Some),
    };
    cpu.set_shares(some("cpu shares", resources.cpu_shares)?)
        .set_realtime_period(some("cpu realtime period", resources.cpu_realtime_period)?)
        .set_realtime_runtime((resources.cpu_realtime_runtime != 0).then_some(resources.cpu_realtime_runtime))
        .set_cpus((!resources.cpuset_cpus.is_empty()).then(|| resources.cpuset_cpus.clone()))
        .set_mems((!resources.cpuset_mems.is_empty()).then(|| resources.cpuset_mems.clone()));
    if resources.nano_cpus > 0 {
        cpu.set_period(Some(positive("cpu period", PERIOD_US)?));
        cpu.set_quota(Some(resources.nano_cpus.saturating_mul(PERIOD_US / 1000) / 1_000_000));
    } else {
        cpu.set_period(some("cpu period", resources.cpu_period)?);
        cpu.set_quota((resources.cpu_quota != 0).then_some(resources.cpu_quota));
    }
    Ok((cpu != oci::LinuxCpu::default()).then_some(cpu))
}

fn positive(name: &str, value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Invalid(format!("invalid value for {name}: {value}")))
}

/// Process limits: the container's over the daemon's.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name.
pub(super) fn rlimits(resources: &Resources, defaults: &Defaults) -> Result<Vec<oci::PosixRlimit>, Error> {
    let mut limits = defaults.ulimits.clone();
    for (name, limit) in &mut limits {
        lower(name, limit);
    }
    limits.extend(resources.ulimits.iter().map(|(name, limit)| (name.clone(), *limit)));
    limits
        .into_iter()
        .map(|(name, limit)| {
            let kind = kind(&name).ok_or_else(|| Error::Invalid(format!("invalid ulimit type: {name}")))?;
            let value = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
            let rlimit =
                oci::PosixRlimitBuilder::default().typ(kind).soft(value(limit.soft)).hard(value(limit.hard));
            rlimit.build().map_err(|error| Error::Internal(error.to_string()))
        })
        .collect()
}

/// Lowers a default of the daemon's to what may be given here: every container would be refused with it otherwise.
fn lower(name: &str, limit: &mut crate::containers::config::Ulimit) {
    let Some(present) = number(name).and_then(|number| gantry_sys::process::rlimit(number).ok()) else {
        return;
    };
    let most = i64::try_from(present.hard).unwrap_or(i64::MAX);
    for value in [&mut limit.soft, &mut limit.hard] {
        if u64::try_from(*value).unwrap_or(u64::MAX) > present.hard {
            tracing::warn!("the default ulimit {name} may not be raised here and is {most}");
            *value = most;
        }
    }
}

/// The kernel's number.
fn number(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok())
}

fn kind(name: &str) -> Option<oci::PosixRlimitType> {
    use oci::PosixRlimitType as Type;
    Some(match name {
        "core" => Type::RlimitCore,
        "cpu" => Type::RlimitCpu,
        "data" => Type::RlimitData,
        "fsize" => Type::RlimitFsize,
        "locks" => Type::RlimitLocks,
        "memlock" => Type::RlimitMemlock,
        "msgqueue" => Type::RlimitMsgqueue,
        "nice" => Type::RlimitNice,
        "nofile" => Type::RlimitNofile,
        "nproc" => Type::RlimitNproc,
        "rss" => Type::RlimitRss,
        "rtprio" => Type::RlimitRtprio,
        "rttime" => Type::RlimitRttime,
        "sigpending" => Type::RlimitSigpending,
        "stack" => Type::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_cgroup_values() {
        let resources = Resources {
            memory: 64 << 20,
            nano_cpus: 1_500_000_000,
            pids_limit: Some(10),
            ..Resources::default()
        };
        let linux = linux_resources(&resources).expect("good values");
        let memory = linux.memory().as_ref().expect("a limit");
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        let cpu = linux.cpu().as_ref().expect("a quota");
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        let none = linux_resources(&Resources::default()).expect("nothing");
        assert!(none.memory().is_none() && none.cpu().is_none() && none.pids().is_none());
        let unlimited = Resources { pids_limit: Some(-1), ..Resources::default() };
        let unlimited = linux_resources(&unlimited).expect("good values");
        assert_eq!(unlimited.pids().as_ref().map(oci::LinuxPids::limit), Some(-1), "an earlier limit goes");
        assert!(linux_resources(&Resources { cpu_shares: -1, ..Resources::default() }).is_err());
    }
}
