//! What Docker refuses at create, and what it adjusts with a warning. Pure.

use gantry_model::container::RestartPolicy;

use super::Error;
use super::config::{Config, HostConfig, LogConfig, Resources};

/// Less memory than this cannot hold a process.
const LEAST_MEMORY: i64 = 6 << 20;

/// Checks what does not depend on other containers; fills in Docker's defaults.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(config: &Config, host: &mut HostConfig, cpus: usize) -> Result<Vec<String>, Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    if host.auto_remove && host.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    if host.network_mode.starts_with("container:") {
        let conflict = if !config.hostname.is_empty() {
            Some("hostname and the network mode")
        } else if !host.port_bindings.is_empty() || host.publish_all {
            Some("port publishing and the container type network mode")
        } else if !host.names.servers.is_empty() {
            Some("dns and the network mode")
        } else if !host.names.extra_hosts.is_empty() {
            Some("custom host-to-IP mapping and the network mode")
        } else if !config.mac_address.is_empty() {
            Some("mac-address and the network mode")
        } else {
            None
        };
        if let Some(conflict) = conflict {
            return invalid(&format!("conflicting options: {conflict}"));
        }
    }
    if host.namespaces.uts == "host" && !config.hostname.is_empty() {
        return invalid("conflicting options: hostname and the UTS mode");
    }
    if !config.stop_signal.is_empty() {
        signal(&config.stop_signal)?;
    }
    if !matches!(host.log.driver.as_str(), "" | "json-file" | "local" | "none") {
        let driver = &host.log.driver;
        return invalid(&format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found"));
    }
    if !matches!(host.runtime.as_str(), "" | "runc" | "gantry" | "io.containerd.runc.v2") {
        return invalid(&format!("unknown or invalid runtime name: {}", host.runtime));
    }
    if !matches!(host.namespaces.ipc.as_str(), "" | "private" | "shareable" | "host" | "none")
        && !host.namespaces.ipc.starts_with("container:")
    {
        return invalid(&format!("invalid IPC mode: {}", host.namespaces.ipc));
    }
    super::spec::check_security(host)?;
    health_times(config)?;
    log_options(&host.log)?;
    for text in &host.names.extra_hosts {
        if !text.contains([':', '=']) {
            return invalid(&format!("bad format for add-host: {text:?}"));
        }
    }
    let mut warnings = resources(&mut host.resources, cpus)?;
    if host.network_mode == "host" && (!host.port_bindings.is_empty() || host.publish_all) {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    defaults(config, host);
    Ok(warnings)
}

/// Limits.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn resources(resources: &mut Resources, cpus: usize) -> Result<Vec<String>, Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    let mut warnings = Vec::new();
    if (1..LEAST_MEMORY).contains(&resources.memory) {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if resources.memory > 0 && resources.memory_swap > 0 && resources.memory_swap < resources.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if resources.memory == 0 && resources.memory_swap > 0 {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if resources.memory > 0 && resources.memory < resources.memory_reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if (1..LEAST_MEMORY).contains(&resources.memory_reservation) {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if resources.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        let value = resources.memory_swappiness.unwrap_or_default();
        return invalid(&format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    if resources.nano_cpus > 0 && (resources.cpu_period > 0 || resources.cpu_quota > 0) {
        let which = if resources.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return invalid(&format!("Conflicting options: Nano CPUs and {which} cannot both be set"));
    }
    if resources.cpu_shares < 0 {
        let shares = resources.cpu_shares;
        return invalid(&format!("invalid CPU shares ({shares}): value must be a positive integer"));
    }
    if resources.cpu_period != 0 && !(1000..=1_000_000).contains(&resources.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if (1..1000).contains(&resources.cpu_quota) {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if resources.nano_cpus < 0 || resources.nano_cpus > most {
        return invalid(&format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if resources.kernel_memory > 0 {
        resources.kernel_memory = 0;
        warnings.push("Specifying a kernel memory limit is deprecated and has no effect.".into());
    }
    if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    if !(-1000..=1000).contains(&resources.oom_score_adj) {
        return invalid(&format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            resources.oom_score_adj
        ));
    }
    Ok(warnings)
}

/// What a health check's times may be: 0 is the default.
fn health_times(config: &Config) -> Result<(), Error> {
    const LEAST_NS: i64 = 1_000_000;
    let Some(check) = &config.healthcheck else { return Ok(()) };
    for (name, value) in [
        ("Interval", check.interval_ns),
        ("Timeout", check.timeout_ns),
        ("StartPeriod", check.start_period_ns),
        ("StartInterval", check.start_interval_ns),
    ] {
        if value != 0 && value < LEAST_NS {
            return Err(Error::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    Ok(())
}

/// Options that a log driver does not have.
fn log_options(log: &LogConfig) -> Result<(), Error> {
    const EVERYWHERE: [&str; 2] = ["mode", "max-buffer-size"];
    let (name, known) = match log.driver.as_str() {
        "" | "json-file" => (
            "json-file log driver",
            &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"][..],
        ),
        "local" => ("local log driver", &["max-file", "max-size", "compress"][..]),
        _ => return Ok(()),
    };
    match log.options.keys().find(|key| !known.contains(&key.as_str()) && !EVERYWHERE.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(key) => Err(Error::Invalid(format!("unknown log opt '{key}' for {name}"))),
    }
}

fn defaults(config: &Config, host: &mut HostConfig) {
    if config.network_disabled {
        host.network_mode = "none".into();
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    if host.namespaces.ipc.is_empty() {
        host.namespaces.ipc = "private".into();
    }
}

/// Reads a signal by name, with or without `SIG`, or number.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn signal(text: &str) -> Result<i32, Error> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    let invalid = || Error::Invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).map_err(|_| invalid());
    }
    let real_time = match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        "RTMIN" => Some(*REAL_TIME.start()),
        "RTMAX" => Some(*REAL_TIME.end()),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(up), _) => up.parse().ok().map(|up: i32| REAL_TIME.start().saturating_add(up)),
            (_, Some(down)) => down.parse().ok().map(|down: i32| REAL_TIME.end().saturating_sub(down)),
            _ => None,
        },
    };
    real_time.filter(|number| *number < 32 || REAL_TIME.contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("SYS", Some(31)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("NOPE", None),
            ("", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(signal(text).ok(), number, "{text:?}");
        }
    }

    fn check_resources(change: impl FnOnce(&mut Resources), good: bool) {
        let mut given = Resources::default();
        change(&mut given);
        assert_eq!(resources(&mut given, 2).is_ok(), good, "{given:?}");
    }

    #[test]
    fn limits_are_refused_as_docker_refuses_them() {
        check_resources(|r| r.memory = 64 << 20, true);
        check_resources(|r| r.memory = 1 << 20, false);
        check_resources(|r| r.memory_swap = 64 << 20, false);
        check_resources(|r| r.nano_cpus = 2_000_000_000, true);
        check_resources(|r| r.nano_cpus = 2_000_000_001, false);
        check_resources(|r| r.oom_score_adj = -1001, false);
        check_resources(|r| (r.nano_cpus, r.cpu_quota) = (1, 1), false);
        check_resources(|r| r.memory_reservation = 1 << 20, false);
        check_resources(|r| r.cpu_shares = -5, false);
        check_resources(|r| r.cpu_period = 10, false);
        check_resources(|r| r.cpu_period = 2_000_000, false);
        check_resources(|r| r.cpu_quota = 999, false);
        check_resources(|r| (r.cpu_period, r.cpu_quota) = (1000, 1000), true);
    }

    #[test]
    fn modes_that_clash_are_refused() {
        let config = Config { hostname: "h".into(), ..Config::default() };
        let mut host = HostConfig { network_mode: "container:x".into(), ..HostConfig::default() };
        assert!(check(&config, &mut host, 2).is_err());
        let mut host =
            HostConfig { auto_remove: true, restart: RestartPolicy::Always, ..HostConfig::default() };
        assert!(check(&Config::default(), &mut host, 2).is_err());
        let mut host = HostConfig::default();
        check(&Config::default(), &mut host, 2).expect("nothing wrong");
        assert_eq!((host.network_mode.as_str(), host.namespaces.ipc.as_str()), ("bridge", "private"));
    }
}
