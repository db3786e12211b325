//! `version` and `info`.

use gantry_api::system::{
    Commit, Component, Firewall, IndexConfig, Info, PlatformName, Plugins, RegistryConfig, Runtime, Swarm,
    Version,
};
use gantry_api::{Map, version};
use gantry_engine::system::Info as Facts;

/// Our version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reply of `GET /version`.
pub(crate) fn version(facts: &Facts) -> Version {
    let arch = gantry_model::Platform::host().architecture;
    let details: Map<String> = [
        ("ApiVersion", version::MAX.to_string()),
        ("Arch", arch.clone()),
        ("Experimental", "false".into()),
        ("KernelVersion", facts.kernel_version.clone()),
        ("MinAPIVersion", version::MIN.to_string()),
        ("Os", "linux".into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let component = |name: &str, details| Component { name: name.into(), version: VERSION.into(), details };
    Version {
        platform: PlatformName { name: "Gantry".into() },
        components: vec![
            component("Engine", details),
            component("gantry-shim", Map::new()),
            component("gantry-runtime", Map::new()),
        ],
        version: VERSION.into(),
        api_version: version::MAX.to_string(),
        min_api_version: version::MIN.to_string(),
        git_commit: String::new(),
        go_version: String::new(),
        os: "linux".into(),
        arch,
        kernel_version: facts.kernel_version.clone(),
        experimental: false,
        build_time: String::new(),
    }
}

/// Reply of `GET /info`.
pub(crate) fn info(facts: Facts, debug: bool) -> Info {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (running, paused, stopped) = facts.containers;
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let runtime = || Runtime { path: "gantry-runtime".into(), ..Runtime::default() };
    let environment = |name: &str| std::env::var(name).unwrap_or_default();
    let controllers = facts.controllers;
    Info {
        id: facts.id,
        containers: count(running + paused + stopped),
        containers_running: count(running),
        containers_paused: count(paused),
        containers_stopped: count(stopped),
        images: count(facts.images),
        driver: facts.driver,
        driver_status: facts.driver_status.into_iter().map(|(key, value)| [key, value]).collect(),
        plugins: Plugins {
            volume: list(&["local"]),
            network: list(&["bridge", "host", "null"]),
            authorization: None,
            log: list(&["json-file", "local", "none"]),
        },
        memory_limit: controllers.memory,
        swap_limit: controllers.swap,
        kernel_memory: facts.cgroup_version == "1",
        kernel_memory_tcp: facts.cgroup_version == "1",
        cpu_cfs_period: controllers.cpu_cfs,
        cpu_cfs_quota: controllers.cpu_cfs,
        cpu_shares: controllers.cpu_shares,
        cpu_set: controllers.cpuset,
        pids_limit: controllers.pids,
        ipv4_forwarding: controllers.ipv4_forwarding,
        debug,
        open_files: count(facts.descriptors_and_threads.0),
        oom_kill_disable: controllers.oom_kill_disable,
        tasks: count(facts.descriptors_and_threads.1),
        system_time: facts.system_time.rfc3339_nano(),
        logging_driver: facts.logging_driver,
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: facts.cgroup_version,
        event_listeners: count(facts.event_listeners),
        kernel_version: facts.kernel_version,
        operating_system: facts.operating_system.0,
        os_version: facts.operating_system.1,
        os_type: "linux".into(),
        architecture: facts.architecture,
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: registry(),
        cpus: count(facts.cpus),
        mem_total: i64::try_from(facts.memory_bytes).unwrap_or(i64::MAX),
        docker_root_dir: facts.data_root,
        http_proxy: environment("HTTP_PROXY"),
        https_proxy: environment("HTTPS_PROXY"),
        no_proxy: environment("NO_PROXY"),
        name: facts.name,
        labels: facts.labels,
        server_version: VERSION.into(),
        runtimes: [("gantry".to_owned(), runtime()), ("runc".to_owned(), runtime())].into(),
        default_runtime: "runc".into(),
        swarm: Swarm { local_node_state: "inactive".into(), ..Swarm::default() },
        live_restore_enabled: true,
        init_binary: "gantry-init".into(),
        containerd_commit: Commit::default(),
        runc_commit: Commit { id: VERSION.into(), expected: VERSION.into() },
        init_commit: Commit { id: VERSION.into(), expected: VERSION.into() },
        security_options: facts.security_options,
        firewall_backend: Some(Firewall { driver: "nftables".into(), info: None }),
        warnings: (!facts.warnings.is_empty()).then_some(facts.warnings),
        ..Info::default()
    }
}

fn registry() -> RegistryConfig {
    let hub = IndexConfig { mirrors: Vec::new(), name: "docker.io".into(), official: true, secure: true };
    RegistryConfig {
        index_configs: [("docker.io".to_owned(), hub)].into(),
        insecure_registry_cidrs: vec!["::1/128".into(), "127.0.0.0/8".into()],
        ..RegistryConfig::default()
    }
}
