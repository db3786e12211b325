//! What Docker refuses at create, and what it adjusts with a warning. Pure.

use gantry_model::container::RestartPolicy;
use gantry_model::image::Healthcheck;

use super::Error;
use super::config::{Config, HostConfig};
use super::limits::{self, Available, Occasion};
use super::{log_driver, mountpoints};

/// Checks what does not depend on other containers nor on the image, in Docker's order: before the image is
/// looked up. Fills in Docker's defaults; returns warnings.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(
    config: &Config,
    host: &mut HostConfig,
    available: &Available,
) -> Result<Vec<String>, Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    if host.auto_remove && host.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    check_config(config)?;
    check_joined(config, host)?;
    if host.namespaces.uts == "host" && !config.hostname.is_empty() {
        return invalid("conflicting options: hostname and the UTS mode");
    }
    log_driver::check(&host.log)?;
    if !matches!(host.runtime.as_str(), "" | "runc" | "gantry" | "io.containerd.runc.v2") {
        return invalid(&format!("unknown or invalid runtime name: {}", host.runtime));
    }
    check_modes(host)?;
    super::spec::check_security(host)?;
    check_extra_hosts(&host.names.extra_hosts)?;
    mountpoints::check(&host.mounts)?;
    let mut warnings = limits::check(&mut host.resources, available, Occasion::Create)?;
    if host.network_mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    defaults(config, host);
    Ok(warnings)
}

/// What stands in the configuration itself.
fn check_config(config: &Config) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let directory = &config.working_dir;
    if !directory.is_empty() && !directory.starts_with('/') {
        return invalid(format!(
            "the working directory '{directory}' is invalid, it needs to be an absolute path"
        ));
    }
    // Any number but 0 will do, as in Docker: one that is no signal ends nothing, and the time runs out.
    if !config.stop_signal.is_empty() && !config.stop_signal.parse::<i32>().is_ok_and(|number| number != 0) {
        signal(&config.stop_signal)?;
    }
    if let Some(variable) =
        config.env.iter().find(|variable| variable.is_empty() || variable.starts_with('='))
    {
        return invalid(format!("invalid environment variable: {variable}"));
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

/// Docker's least duration of a health check, in nanoseconds; 0 is the default.
const LEAST_HEALTH_NS: i64 = 1_000_000;

fn check_health(health: &Healthcheck) -> Result<(), Error> {
    let durations = [
        ("Interval", health.interval_ns),
        ("Timeout", health.timeout_ns),
        ("StartPeriod", health.start_period_ns),
        ("StartInterval", health.start_interval_ns),
    ];
    for (name, value) in durations {
        if value != 0 && value < LEAST_HEALTH_NS {
            return Err(Error::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::Invalid("Retries in Healthcheck cannot be negative".into()));
    }
    Ok(())
}

/// What a container that joins another's network cannot have of its own.
fn check_joined(config: &Config, host: &HostConfig) -> Result<(), Error> {
    let other = match host.network_mode.as_str() {
        // A container that is not named.
        "container" => "",
        mode => match mode.strip_prefix("container:") {
            Some(other) => other,
            None => return Ok(()),
        },
    };
    if other.is_empty() {
        let text = "invalid network mode: invalid container format container:<name|id>";
        return Err(Error::Invalid(text.into()));
    }
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            !host.port_bindings.is_empty() || host.publish_all,
            "port publishing and the container type network mode",
        ),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
        (!host.names.servers.is_empty(), "dns and the network mode"),
        (!host.names.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (!config.mac_address.is_empty(), "mac-address and the network mode"),
    ];
    match conflicts.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Error::Invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// The namespaces' modes.
fn check_modes(host: &HostConfig) -> Result<(), Error> {
    let modes = &host.namespaces;
    let joins = |mode: &str| mode.strip_prefix("container:").is_some_and(|other| !other.is_empty());
    let checks = [
        (
            "IPC",
            &modes.ipc,
            // Docker looks whose it is to be when it starts.
            modes.ipc.starts_with("container:")
                || matches!(modes.ipc.as_str(), "" | "private" | "shareable" | "host" | "none"),
        ),
        ("PID", &modes.pid, joins(&modes.pid) || matches!(modes.pid.as_str(), "" | "host")),
        ("UTS", &modes.uts, matches!(modes.uts.as_str(), "" | "host")),
        ("cgroup namespace", &modes.cgroup, matches!(modes.cgroup.as_str(), "" | "private" | "host")),
    ];
    match checks.iter().find(|(.., good)| !good) {
        Some((name, mode, _)) => Err(Error::Invalid(format!("invalid {name} mode: {mode}"))),
        None => Ok(()),
    }
}

/// `name:address` or `name=address`; `host-gateway` stands for an address.
fn check_extra_hosts(entries: &[String]) -> Result<(), Error> {
    for text in entries {
        let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return Err(Error::Invalid(format!("bad format for add-host: {text:?}")));
        };
        if name.is_empty() {
            return Err(Error::Invalid(format!("bad format for add-host: {text:?}")));
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::Invalid(format!("invalid IP address in add-host: {address:?}")));
        }
    }
    Ok(())
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
    // As much swap as memory unless told otherwise; an update of the memory alone leaves the sum as it is.
    let resources = &mut host.resources;
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
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
    use crate::containers::config::ExposedPort;

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

    fn here() -> Available {
        Available { cpus: 2, ..Available::default() }
    }

    fn refused(config: Config, mut host: HostConfig) -> String {
        check(&config, &mut host, &here()).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn what_stands_in_the_configuration_is_checked() {
        let config = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            refused(config, HostConfig::default())
        };
        assert_eq!(config(|_| {}), "");
        assert_eq!(config(|c| c.env = vec!["A".into(), "B=".into()]), "");
        assert_eq!(config(|c| c.env = vec!["=x".into()]), "invalid environment variable: =x");
        assert_eq!(
            config(|c| c.working_dir = "rel".into()),
            "the working directory 'rel' is invalid, it needs to be an absolute path"
        );
        let health = |interval_ns, retries| Healthcheck { interval_ns, retries, ..Healthcheck::default() };
        assert_eq!(check_health(&health(0, 0)).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(
            check_health(&health(1, 0)).map_err(|error| error.to_string()),
            Err("Interval in Healthcheck cannot be less than 1ms".into())
        );
        assert_eq!(
            check_health(&health(0, -1)).map_err(|error| error.to_string()),
            Err("Retries in Healthcheck cannot be negative".into())
        );
    }

    #[test]
    fn namespace_modes_and_names_are_checked() {
        let host = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            refused(Config::default(), host)
        };
        assert_eq!(host(|h| h.namespaces.pid = "x".into()), "invalid PID mode: x");
        assert_eq!(host(|h| h.namespaces.pid = "container:a".into()), "");
        assert_eq!(host(|h| h.namespaces.uts = "x".into()), "invalid UTS mode: x");
        assert_eq!(host(|h| h.namespaces.cgroup = "x".into()), "invalid cgroup namespace mode: x");
        assert_eq!(host(|h| h.names.extra_hosts = vec!["a:host-gateway".into(), "b=::1".into()]), "");
        assert_eq!(
            host(|h| h.names.extra_hosts = vec!["a:x".into()]),
            "invalid IP address in add-host: \"x\""
        );
        assert_eq!(
            host(|h| h.network_mode = "container:".into()),
            "invalid network mode: invalid container format container:<name|id>"
        );
        let exposed = Config { exposed_ports: [ExposedPort("80".into())].into(), ..Config::default() };
        let joined = HostConfig { network_mode: "container:a".into(), ..HostConfig::default() };
        assert_eq!(
            refused(exposed, joined),
            "conflicting options: port exposing and the container type network mode"
        );
    }

    #[test]
    fn modes_that_clash_are_refused() {
        let config = Config { hostname: "h".into(), ..Config::default() };
        let mut host = HostConfig { network_mode: "container:x".into(), ..HostConfig::default() };
        assert!(check(&config, &mut host, &here()).is_err());
        let mut host =
            HostConfig { auto_remove: true, restart: RestartPolicy::Always, ..HostConfig::default() };
        assert!(check(&Config::default(), &mut host, &here()).is_err());
        let mut host = HostConfig::default();
        check(&Config::default(), &mut host, &here()).expect("nothing wrong");
        assert_eq!((host.network_mode.as_str(), host.namespaces.ipc.as_str()), ("bridge", "private"));
    }
}
