//! Limits that Docker refuses or adjusts with a warning, at create and at update. Pure but for [`Available::here`].

use super::Error;
use super::config::Resources;

/// Less memory than this cannot hold a process.
const LEAST_MEMORY: i64 = 6 << 20;

/// Microseconds: the kernel's bounds of a CPU period, and its least quota.
const PERIOD_US: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;

/// What the host has to give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Available {
    /// CPUs.
    pub(super) cpus: usize,
    /// CPUs by number, as the kernel lists them: `0-3,8`. Empty where they were not asked for.
    pub(super) cpu_list: String,
    /// Memory nodes, likewise.
    pub(super) node_list: String,
    /// Whether the kernel can share a disk by weight, and device by device.
    pub(super) block_weights: (bool, bool),
}

/// What the limits are for: a container that is being made, or one that is there, whose other limits stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// All limits of a container.
    Create,
    /// Those that change.
    Update,
}

impl Available {
    /// Reads what the limits refer to, and nothing else.
    pub(super) fn here(cpus: usize, resources: &Resources) -> Self {
        let list = |wanted: &str, path: &str| {
            if wanted.is_empty() {
                return String::new();
            }
            std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        };
        Self {
            cpus,
            cpu_list: list(&resources.cpuset_cpus, "/sys/devices/system/cpu/online"),
            node_list: list(&resources.cpuset_mems, "/sys/devices/system/node/has_memory"),
            block_weights: if resources.blkio_weight == 0 && resources.blkio_weights.is_empty() {
                (false, false)
            } else {
                (has_block_weight("weight"), has_block_weight("weight_device"))
            },
        }
    }
}

/// With cgroup v1 the file says so; with v2 the runtime does, when it sets it.
fn has_block_weight(name: &str) -> bool {
    let hierarchy = std::path::Path::new("/sys/fs/cgroup/blkio");
    !hierarchy.exists()
        || ["blkio.", "blkio.bfq."].iter().any(|prefix| hierarchy.join(format!("{prefix}{name}")).exists())
}

/// Checks and adjusts; returns warnings.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(
    resources: &mut Resources,
    available: &Available,
    occasion: Occasion,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    memory(resources, occasion)?;
    cpu(resources, available)?;
    block(resources, available, &mut warnings)?;
    if resources.kernel_memory > 0 {
        resources.kernel_memory = 0;
        warnings.push("Specifying a kernel memory limit is deprecated and has no effect.".into());
    }
    if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    if !(-1000..=1000).contains(&resources.oom_score_adj) {
        return Err(Error::Invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            resources.oom_score_adj
        )));
    }
    Ok(warnings)
}

fn memory(resources: &Resources, occasion: Occasion) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    let (memory, swap, reservation) = (resources.memory, resources.memory_swap, resources.memory_reservation);
    if memory != 0 && memory < LEAST_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 && occasion == Occasion::Create {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if reservation != 0 && reservation < LEAST_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && memory < reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    match resources.memory_swappiness {
        Some(value) if !(-1..=100).contains(&value) => {
            invalid(&format!("Invalid value: {value}, valid memory swappiness range is 0-100"))
        }
        _ => Ok(()),
    }
}

fn block(resources: &mut Resources, available: &Available, warnings: &mut Vec<String>) -> Result<(), Error> {
    let (weight, device_weight) = available.block_weights;
    if resources.blkio_weight > 0 && !weight {
        resources.blkio_weight = 0;
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .into(),
        );
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(Error::Invalid("Range of blkio weight is from 10 to 1000".into()));
    }
    if !resources.blkio_weights.is_empty() && !device_weight {
        resources.blkio_weights.clear();
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .into(),
        );
    }
    Ok(())
}

fn cpu(resources: &Resources, available: &Available) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let (period, runtime) = (resources.cpu_realtime_period, resources.cpu_realtime_runtime);
    if period != 0 && runtime > period {
        return invalid("cpu real-time runtime cannot be higher than cpu real-time period".into());
    }
    if resources.nano_cpus > 0 && (resources.cpu_period > 0 || resources.cpu_quota > 0) {
        let which = if resources.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return invalid(format!("Conflicting options: Nano CPUs and {which} cannot both be set"));
    }
    let cpus = available.cpus;
    let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if resources.nano_cpus < 0 || resources.nano_cpus > most {
        return invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if resources.cpu_shares < 0 {
        let shares = resources.cpu_shares;
        return invalid(format!("invalid CPU shares ({shares}): value must be a positive integer"));
    }
    if resources.cpu_period != 0 && !PERIOD_US.contains(&resources.cpu_period) {
        let text = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        return invalid(text.into());
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < *PERIOD_US.start() {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    set(&resources.cpuset_cpus, &available.cpu_list, "cpuset cpus", "CPUs")?;
    set(&resources.cpuset_mems, &available.node_list, "cpuset mems", "memory nodes")
}

/// Checks that a set is well formed and part of what is available. A host that does not list what it has
/// is not asked: the kernel decides then.
fn set(wanted: &str, available: &str, name: &str, what: &str) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(ranges) = ranges(wanted) else {
        return Err(Error::Invalid(format!("Invalid value {wanted} for {name}: invalid format: {wanted}")));
    };
    let Some(have) = self::ranges(available) else { return Ok(()) };
    let inside = |(first, last): &(u32, u32)| {
        (*first..=*last).all(|number| have.iter().any(|(first, last)| (first..=last).contains(&&number)))
    };
    if ranges.iter().all(inside) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "Requested {what} are not available - requested {wanted}, available: {available}"
    )))
}

/// `0-3,8`: pairs of first and last, up to 8191, as many as a kernel can have; `None` where it is not a list.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    const MOST: u32 = 8191;
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last <= MOST).then_some((first, last))
    };
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(one)
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::config::DeviceWeight;

    fn refused(change: impl FnOnce(&mut Resources), want: &str) {
        let mut given = Resources::default();
        change(&mut given);
        let available = Available {
            cpus: 2,
            cpu_list: "0-1".into(),
            node_list: "0".into(),
            block_weights: (true, false),
        };
        let got = check(&mut given, &available, Occasion::Create)
            .err()
            .map_or(String::new(), |error| error.to_string());
        assert_eq!(got, want, "{given:?}");
    }

    #[test]
    fn limits_are_refused_as_docker_refuses_them() {
        const PERIOD: &str =
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        const CPUS: &str = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
        refused(|r| r.memory = 64 << 20, "");
        refused(|r| r.memory = 1 << 20, "Minimum memory limit allowed is 6MB");
        refused(|r| r.memory = -1, "Minimum memory limit allowed is 6MB");
        refused(|r| r.memory_reservation = 1, "Minimum memory reservation allowed is 6MB");
        refused(
            |r| r.memory_swap = 64 << 20,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
        refused(|r| r.nano_cpus = 2_000_000_000, "");
        refused(|r| r.nano_cpus = 2_000_000_001, CPUS);
        refused(
            |r| (r.nano_cpus, r.cpu_quota) = (1, 1),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        );
        refused(|r| r.cpu_period = 1, PERIOD);
        refused(|r| r.cpu_period = 1_000_001, PERIOD);
        refused(|r| r.cpu_quota = 1, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
        refused(|r| r.cpu_quota = -1, "");
        refused(
            |r| (r.cpu_realtime_period, r.cpu_realtime_runtime) = (1000, 2000),
            "cpu real-time runtime cannot be higher than cpu real-time period",
        );
        refused(|r| r.cpu_shares = -1, "invalid CPU shares (-1): value must be a positive integer");
        refused(|r| r.oom_score_adj = -1001, "Invalid value -1001, range for oom score adj is [-1000, 1000]");
    }

    #[test]
    fn weights_that_the_kernel_lacks_are_dropped_with_a_warning() {
        refused(|r| r.blkio_weight = 500, "");
        refused(|r| r.blkio_weight = 5, "Range of blkio weight is from 10 to 1000");
        let mut given = Resources { blkio_weight: 5, ..Resources::default() };
        given.blkio_weights.push(DeviceWeight { path: "/dev/x".into(), weight: 500 });
        let warnings =
            check(&mut given, &Available::default(), Occasion::Create).map(|warnings| warnings.len());
        assert_eq!((warnings.ok(), given.blkio_weight, given.blkio_weights.len()), (Some(2), 0, 0));
    }

    #[test]
    fn an_update_leaves_alone_what_it_does_not_name() {
        let mut given = Resources { memory_swap: 64 << 20, ..Resources::default() };
        assert!(check(&mut given, &Available::default(), Occasion::Update).is_ok());
        assert!(check(&mut given, &Available::default(), Occasion::Create).is_err());
    }

    #[test]
    fn sets_are_parts_of_what_is_there() {
        refused(|r| r.cpuset_cpus = "0,1".into(), "");
        refused(|r| r.cpuset_cpus = "0-1".into(), "");
        refused(|r| (r.cpuset_cpus, r.cpuset_mems) = ("1,0".into(), "0".into()), "");
        refused(
            |r| r.cpuset_cpus = "0-9".into(),
            "Requested CPUs are not available - requested 0-9, available: 0-1",
        );
        refused(|r| r.cpuset_cpus = "x".into(), "Invalid value x for cpuset cpus: invalid format: x");
        refused(|r| r.cpuset_cpus = "1-0".into(), "Invalid value 1-0 for cpuset cpus: invalid format: 1-0");
        refused(
            |r| r.cpuset_cpus = "1-2".into(),
            "Requested CPUs are not available - requested 1-2, available: 0-1",
        );
        refused(
            |r| r.cpuset_mems = "9".into(),
            "Requested memory nodes are not available - requested 9, available: 0",
        );
    }
}
