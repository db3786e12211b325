//! What Docker fills in where a client's `HostConfig` is silent, before it is kept: this is what inspect
//! shows afterwards.

use gantry_api::host_config::HostConfig;
use gantry_runtime::defaults::{MASKED_PATHS, READONLY_PATHS};

/// What depends on the host and on the daemon's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDefaults {
    /// 1 or 2.
    pub(crate) cgroup_version: u8,
    /// Bytes of `/dev/shm`.
    pub(crate) shm_size_bytes: i64,
    /// The log driver.
    pub(crate) log_driver: String,
    /// Options of the log driver.
    pub(crate) log_options: gantry_api::Map<String>,
}

/// Fills in.
pub(crate) fn fill(host: &mut HostConfig, defaults: &HostDefaults) {
    let or = |value: &mut String, default: &str| {
        if value.is_empty() {
            default.clone_into(value);
        }
    };
    if host.network_mode == "default" {
        host.network_mode.clear();
    }
    or(&mut host.network_mode, "bridge");
    or(&mut host.ipc_mode, "private");
    let cgroup_namespace = if defaults.cgroup_version == 2 && !host.privileged { "private" } else { "host" };
    or(&mut host.cgroupns_mode, cgroup_namespace);
    or(&mut host.restart_policy.name, "no");
    or(&mut host.runtime, "runc");
    if host.log_config.driver.is_empty() {
        host.log_config.driver.clone_from(&defaults.log_driver);
        host.log_config.config.get_or_insert_default().extend(defaults.log_options.clone());
    }
    host.log_config.config.get_or_insert_default();
    if host.shm_size == 0 {
        host.shm_size = defaults.shm_size_bytes;
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    host.memory_swappiness = host.memory_swappiness.filter(|swappiness| *swappiness != -1);
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    if defaults.cgroup_version == 1 {
        host.oom_kill_disable.get_or_insert(false);
    } else {
        host.oom_kill_disable = None;
    }
    if host.privileged || host.pid_mode == "host" || host.ipc_mode == "host" {
        host.security_opt.get_or_insert_with(|| vec!["label=disable".into()]);
    }
    let unconfined = host.security_opt.iter().flatten().any(|option| option == "systempaths=unconfined");
    if host.privileged || unconfined {
        // Docker writes `null` for a privileged container and empty lists for an unconfined one.
        host.masked_paths = (!host.privileged).then(Vec::new);
        host.readonly_paths = (!host.privileged).then(Vec::new);
    } else {
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        host.masked_paths.get_or_insert_with(|| list(&MASKED_PATHS));
        host.readonly_paths.get_or_insert_with(|| list(&READONLY_PATHS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> HostDefaults {
        HostDefaults {
            cgroup_version: 1,
            shm_size_bytes: 64 << 20,
            log_driver: "json-file".into(),
            log_options: gantry_api::Map::new(),
        }
    }

    #[test]
    fn a_silent_client_gets_dockers_defaults() {
        let mut host = HostConfig {
            memory: 5,
            pids_limit: Some(0),
            memory_swappiness: Some(-1),
            ..HostConfig::default()
        };
        fill(&mut host, &defaults());
        assert_eq!(
            (host.network_mode.as_str(), host.ipc_mode.as_str(), host.cgroupns_mode.as_str()),
            ("bridge", "private", "host")
        );
        assert_eq!(
            (host.memory_swap, host.pids_limit, host.memory_swappiness, host.oom_kill_disable),
            (10, None, None, Some(false))
        );
        assert_eq!(host.masked_paths.map_or(0, |paths| paths.len()), 12);
    }

    #[test]
    fn what_a_client_says_stays() {
        let said = HostConfig {
            network_mode: "host".into(),
            shm_size: 1,
            masked_paths: Some(Vec::new()),
            ..HostConfig::default()
        };
        let mut host = said.clone();
        fill(&mut host, &defaults());
        assert_eq!(
            (host.network_mode, host.shm_size, host.masked_paths),
            ("host".into(), 1, Some(Vec::new()))
        );
        let mut privileged = HostConfig { privileged: true, ..HostConfig::default() };
        fill(&mut privileged, &HostDefaults { cgroup_version: 2, ..defaults() });
        assert_eq!(
            (privileged.cgroupns_mode.as_str(), privileged.masked_paths, privileged.oom_kill_disable),
            ("host", None, None)
        );
    }
}
