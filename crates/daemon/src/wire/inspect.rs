//! A container's view as `GET /containers/{id}/json` shows it.

use gantry_api::container::{ContainerConfig, MountPoint};
use gantry_api::host_config::{HostConfig, PortBinding, PortMap};
use gantry_api::inspect::{ContainerInspect, ContainerState, GraphDriver, NetworkSettings};
use gantry_api::network::EndpointSettings;
use gantry_api::{Empty, Map, ZERO_TIME, gojson};
use gantry_engine::containers::config::Config;
use gantry_engine::containers::{Record, State, View};
use gantry_engine::sandboxes::{Attached, Endpoint};
use gantry_model::Timestamp;
use gantry_model::container::Status;
use gantry_model::mount::{self, MountKind};

/// What inspect shows that is not in the view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    /// The storage driver.
    pub(crate) graph_driver: GraphDriver,
    /// Bytes written and bytes altogether, where asked for.
    pub(crate) sizes: Option<(u64, u64)>,
    /// The host's own name, which a container on its network has too.
    pub(crate) host_name: String,
}

/// Converts a view.
pub(crate) fn inspect(view: &View, beside: Beside) -> ContainerInspect {
    let record = &view.record;
    // The files exist from the first start on.
    let started = view.state.generation > 0;
    let file = |name: &str| {
        if started { record.directory.join(name).to_string_lossy().into_owned() } else { String::new() }
    };
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    ContainerInspect {
        id: record.id.to_string(),
        created: record.created.rfc3339_nano(),
        path: record.path.clone(),
        args: record.args.clone(),
        state: state(&view.state),
        image: record.image.to_string(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: record
            .log_path()
            .filter(|_| started)
            .map_or(String::new(), |path| path.to_string_lossy().into_owned()),
        name: format!("/{}", record.name),
        restart_count: view.state.restart_count.into(),
        driver: beside.graph_driver.name.clone(),
        platform: "linux".into(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: app_armor(record),
        exec_ids: (!view.execs.is_empty()).then(|| view.execs.iter().map(ToString::to_string).collect()),
        host_config: host_config(record),
        graph_driver: beside.graph_driver,
        size_rw: beside.sizes.map(|(written, _)| signed(written)),
        size_root_fs: beside.sizes.map(|(_, all)| signed(all)),
        mounts: mounts(record),
        config: config(record, &beside.host_name),
        network_settings: network_settings(view),
    }
}

/// The profile that was asked for; without AppArmor nothing comes of it.
fn app_armor(record: &Record) -> String {
    let profile =
        |option: &String| Some(option.strip_prefix("apparmor")?.strip_prefix(['=', ':'])?.to_owned());
    record.host.security.security_opt.iter().rev().find_map(profile).unwrap_or_default()
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or(ZERO_TIME.into(), Timestamp::rfc3339_nano)
}

fn state(state: &State) -> ContainerState {
    ContainerState {
        status: state.status.as_str().into(),
        // Docker counts one that waits to be restarted as running.
        running: matches!(state.status, Status::Running | Status::Paused | Status::Restarting),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid.into(),
        exit_code: state.exit_code.into(),
        error: state.error.clone(),
        started_at: time(state.started),
        finished_at: time(state.finished),
        health: None,
    }
}

/// The client's own words, as they were kept; never fails, because they were written by us.
fn host_config(record: &Record) -> HostConfig {
    gojson::from_value(record.host_config_json.clone()).unwrap_or_default()
}

/// The client's own words with what the image added.
fn config(record: &Record, host_name: &str) -> ContainerConfig {
    let said: ContainerConfig = gojson::from_value(record.config_json.clone()).unwrap_or_default();
    let merged: &Config = &record.config;
    let set = |keys: Vec<String>| -> Option<Map<Empty>> {
        (!keys.is_empty()).then(|| keys.into_iter().map(|key| (key, Empty {})).collect())
    };
    let ports = merged.exposed_ports.iter().map(|port| port.0.clone()).collect();
    let volumes = merged.volumes.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let or = |merged: &String, said: String| if merged.is_empty() { said } else { merged.clone() };
    let hostname = or(&merged.hostname, said.hostname);
    ContainerConfig {
        hostname: match (hostname.is_empty(), record.host.network_mode.as_str()) {
            (false, _) => hostname,
            (true, "host") => host_name.to_owned(),
            (true, _) => record.id.short().to_owned(),
        },
        user: or(&merged.user, said.user),
        exposed_ports: set(ports),
        env: (!merged.env.is_empty()).then(|| merged.env.clone()),
        cmd: merged.cmd.clone(),
        entrypoint: merged.entrypoint.clone(),
        volumes: set(volumes),
        working_dir: or(&merged.working_dir, said.working_dir),
        healthcheck: merged.healthcheck.clone().or(said.healthcheck),
        labels: Some(merged.labels.clone()),
        stop_signal: or(&merged.stop_signal, said.stop_signal),
        shell: (!merged.shell.is_empty()).then(|| merged.shell.clone()),
        mac_address: desired_mac(record),
        ..said
    }
}

/// The hardware address that was asked for on the container's own network, there or for the whole container.
fn desired_mac(record: &Record) -> String {
    let network = |name: &str| if name == "default" { "bridge".to_owned() } else { name.to_owned() };
    let mode = network(&record.host.network_mode);
    let own = record.endpoints.iter().find(|endpoint| network(&endpoint.network) == mode);
    own.map(|endpoint| endpoint.mac_address.clone())
        .filter(|address| !address.is_empty())
        .unwrap_or_else(|| record.config.mac_address.clone())
}

/// The mounts of a container, as lists and inspect show them.
pub(crate) fn mounts(record: &Record) -> Vec<MountPoint> {
    record
        .mounts
        .iter()
        .filter(|point| shown(record, point))
        .map(|point| mount_point(record, point))
        .collect()
}

/// What `--tmpfs` made is not among Docker's mounts; what `--mount type=tmpfs` made is.
fn shown(record: &Record, point: &mount::MountPoint) -> bool {
    point.kind != MountKind::Tmpfs || !record.host.has_tmpfs_at(&point.destination)
}

fn mount_point(record: &Record, point: &mount::MountPoint) -> MountPoint {
    let volume = point.kind == MountKind::Volume;
    // Docker gives a volume that `-v` or `--mount` asks for the mode of a shared label.
    let by_bind = || {
        record
            .host
            .binds
            .iter()
            .any(|bind| bind.split(':').next() == Some(point.name.as_str()) && bind.contains(':'))
    };
    let by_mount = || record.host.mounts.iter().any(|mount| mount.is_at(&point.destination));
    let mode = if volume && point.mode.is_empty() && (by_bind() || by_mount()) { "z" } else { &point.mode };
    let propagation = match point.kind {
        MountKind::Bind if point.propagation.is_empty() => "rprivate",
        MountKind::Bind => &point.propagation,
        MountKind::Volume | MountKind::Tmpfs => "",
    };
    MountPoint {
        kind: match point.kind {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
        }
        .into(),
        name: point.name.clone(),
        source: point.source.to_string_lossy().into_owned(),
        destination: point.destination.to_string_lossy().into_owned(),
        driver: if volume { "local".into() } else { String::new() },
        mode: mode.into(),
        writable: point.writable,
        propagation: propagation.into(),
    }
}

fn network_settings(view: &View) -> NetworkSettings {
    let attached = &view.network;
    let running = view.state.is_running();
    let bridge = attached.endpoints.get("bridge").map(endpoint).unwrap_or_default();
    NetworkSettings {
        sandbox_id: attached.sandbox.as_ref().map_or(String::new(), ToString::to_string),
        sandbox_key: if running && view.state.pid != 0 {
            format!("/proc/{}/ns/net", view.state.pid)
        } else {
            String::new()
        },
        ports: if running { port_map(attached) } else { PortMap::new() },
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        mac_address: bridge.mac_address,
        networks: networks(view),
        ..NetworkSettings::default()
    }
}

/// The networks of a container by name. One without a network has none; before the first start the network
/// has no id yet, as in Docker.
pub(crate) fn networks(view: &View) -> Map<EndpointSettings> {
    if view.record.config.network_disabled {
        return Map::new();
    }
    let started = view.state.started.is_some();
    let shown = |(name, end): (&String, &Endpoint)| {
        let mut settings = endpoint(end);
        if !started {
            settings.network_id.clear();
        }
        (name.clone(), settings)
    };
    view.network.endpoints.iter().map(shown).collect()
}

fn port_map(attached: &Attached) -> PortMap {
    let addresses = |hosts: &Vec<gantry_engine::sandboxes::HostPort>| {
        let binding = |host: &gantry_engine::sandboxes::HostPort| PortBinding {
            host_ip: host.ip.to_string(),
            host_port: host.port.to_string(),
        };
        (!hosts.is_empty()).then(|| hosts.iter().map(binding).collect())
    };
    attached.ports.iter().map(|(port, hosts)| (port.to_string(), addresses(hosts))).collect()
}

fn endpoint(end: &Endpoint) -> EndpointSettings {
    let text =
        |address: Option<std::net::Ipv4Addr>| address.map_or(String::new(), |address| address.to_string());
    EndpointSettings {
        aliases: (!end.aliases.is_empty()).then(|| end.aliases.clone()),
        mac_address: end.mac_address.clone(),
        network_id: end.network.to_string(),
        endpoint_id: end.id.clone(),
        gateway: text(end.gateway),
        ip_address: text(end.address),
        ip_prefix_len: if end.address.is_some() { end.prefix.into() } else { 0 },
        ..EndpointSettings::default()
    }
}
