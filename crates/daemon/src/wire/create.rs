//! A create request: Docker's `Config` and `HostConfig` in the engine's terms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_api::Map;
use gantry_api::container::{ContainerConfig, CreateRequest as WireRequest, NetworkingConfig};
use gantry_api::host_config::{self as wire, PortMap};
use gantry_engine::containers::config::{
    AttachDefaults, Config, CreateRequest, DeviceMapping, DeviceRate, DeviceRequest, DeviceWeight,
    EndpointRequest, ExposedPort, HostConfig, LogConfig, MountRequest, NameConfig, NamespaceModes, Port,
    PortBinding, RateKind, Resources, Security, Ulimit,
};
use gantry_model::container::RestartPolicy;
use gantry_model::image::{Empty, RunConfig};
use gantry_model::mount::MountKind;

use super::defaults::{self, HostDefaults};
use crate::refusal::Refusal;

/// Converts a whole request.
///
/// # Errors
/// A 400 in Docker's words.
pub(crate) fn request(
    name: &str,
    platform: &str,
    wire: WireRequest,
    defaults: &HostDefaults,
) -> Result<CreateRequest, Refusal> {
    let WireRequest { config, host_config, networking_config } = wire;
    if config == ContainerConfig::default() {
        return Err(Refusal::invalid("config cannot be empty in order to create a container"));
    }
    let mut host = host_config.unwrap_or_default();
    if host.kernel_memory < 0 {
        return Err(Refusal::invalid("kernel memory cannot be negative"));
    }
    let converted = host_config_of(&host)?;
    let config_json = tree(&config);
    defaults::fill(&mut host, defaults);
    Ok(CreateRequest {
        name: name.to_owned(),
        host: converted,
        endpoints: endpoints(networking_config),
        config: config_of(config),
        config_json,
        host_config_json: tree(&host),
        platform: platform.to_owned(),
        binds_are_read_only_at_the_top: false,
    })
}

/// Refuses settings of one interface (`net.ipv4.conf.eth0.forwarding`): since 1.48 they are options of the endpoint.
///
/// # Errors
/// A 400 in Docker's words.
pub(crate) fn check_interface_sysctls(wire: &WireRequest) -> Result<(), Refusal> {
    let Some(host) = &wire.host_config else { return Ok(()) };
    // A container that shares the host's or another's network has no interfaces of its own.
    if host.network_mode == "host" || host.network_mode.starts_with("container:") {
        return Ok(());
    }
    let of_interface = |key: &&String| {
        let mut parts = key.splitn(5, '.');
        parts.next() == Some("net")
            && parts.nth(2).is_some_and(|name| name.starts_with("eth"))
            && parts.next().is_some()
    };
    match host.sysctls.iter().flat_map(|sysctls| sysctls.keys()).find(of_interface) {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(format!(
            "interface specific sysctl setting {key:?} must be supplied using driver option 'com.docker.network.endpoint.sysctls'"
        ))),
    }
}

/// A wire type as a tree of JSON, to be kept beside the engine's own.
pub(crate) fn tree<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("wire types have string keys and finite numbers")
}

/// A configuration that comes with a commit, in an image's terms.
pub(crate) fn run_config(wire: ContainerConfig) -> RunConfig {
    RunConfig {
        user: wire.user,
        exposed_ports: wire
            .exposed_ports
            .unwrap_or_default()
            .into_keys()
            .map(|port| (port, Empty {}))
            .collect(),
        env: wire.env.unwrap_or_default(),
        entrypoint: wire.entrypoint,
        cmd: wire.cmd,
        healthcheck: wire.healthcheck,
        args_escaped: wire.args_escaped,
        volumes: wire.volumes.unwrap_or_default().into_keys().map(|path| (path, Empty {})).collect(),
        working_dir: wire.working_dir,
        on_build: wire.on_build.unwrap_or_default(),
        labels: wire.labels.unwrap_or_default(),
        stop_signal: wire.stop_signal,
        shell: wire.shell.unwrap_or_default(),
    }
}

fn config_of(wire: ContainerConfig) -> Config {
    Config {
        hostname: wire.hostname,
        domainname: wire.domainname,
        user: wire.user,
        attach: AttachDefaults {
            stdin: wire.attach_stdin,
            stdout: wire.attach_stdout,
            stderr: wire.attach_stderr,
        },
        exposed_ports: wire.exposed_ports.unwrap_or_default().into_keys().map(ExposedPort).collect(),
        tty: wire.tty,
        open_stdin: wire.open_stdin,
        stdin_once: wire.stdin_once,
        env: wire.env.unwrap_or_default(),
        cmd: wire.cmd,
        entrypoint: wire.entrypoint,
        image: wire.image,
        labels: wire.labels.unwrap_or_default(),
        volumes: wire.volumes.unwrap_or_default().into_keys().map(Into::into).collect(),
        working_dir: wire.working_dir,
        stop_signal: wire.stop_signal,
        stop_timeout_s: wire.stop_timeout,
        healthcheck: wire.healthcheck,
        shell: wire.shell.unwrap_or_default(),
        network_disabled: wire.network_disabled,
        mac_address: wire.mac_address,
    }
}

/// A port that is to be published: `80`, `80/tcp`. Docker's own client resolves ranges, and its daemon takes none.
fn published(text: &str) -> Result<Port, Refusal> {
    let invalid = |what: &str| Refusal::invalid(format!("invalid port specification: {what:?}"));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse().map_err(|_| invalid(text))?;
    match number.parse() {
        Ok(number @ 1..) => Ok(Port { number, protocol }),
        _ => Err(invalid(number)),
    }
}

/// `80` or `8000-8010`.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first <= last).then_some((first, last))
}

fn port_bindings(map: &PortMap) -> Result<Vec<PortBinding>, Refusal> {
    let mut all = Vec::new();
    for (text, addresses) in map {
        let port = published(text)?;
        // A port without an address gets a random one on all addresses, as an empty binding does.
        let none = [wire::PortBinding::default()];
        let addresses = addresses.as_deref().filter(|list| !list.is_empty()).unwrap_or(&none);
        for address in addresses {
            all.push(port_binding(port, address)?);
        }
    }
    Ok(all)
}

fn port_binding(port: Port, wire: &wire::PortBinding) -> Result<PortBinding, Refusal> {
    let host_ip = match wire.host_ip.as_str() {
        "" => None,
        text => {
            let text = text.trim_start_matches('[').trim_end_matches(']');
            let parsed = text.parse::<IpAddr>();
            Some(parsed.map_err(|_| Refusal::invalid(format!("invalid IP address: {text}")))?)
        }
    };
    let host_ports = match wire.host_port.as_str() {
        "" => (0, 0),
        text => port_range(text)
            .ok_or_else(|| Refusal::invalid(format!("invalid port specification: {text:?}")))?,
    };
    Ok(PortBinding { port, host_ip, host_ports })
}

/// Converts a restart policy.
///
/// # Errors
/// A 400 in Docker's words.
pub(crate) fn restart_policy(wire: &wire::RestartPolicy) -> Result<RestartPolicy, Refusal> {
    let retries = wire.maximum_retry_count;
    let counts = wire.name == "on-failure";
    if retries != 0 && !counts {
        let text = "invalid restart policy: maximum retry count can only be used with 'on-failure'";
        let text = if retries < 0 { format!("{text} and cannot be negative") } else { text.to_owned() };
        return Err(Refusal::invalid(text));
    }
    Ok(match wire.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure {
            max_retries: u32::try_from(retries).map_err(|_| {
                Refusal::invalid("invalid restart policy: maximum retry count cannot be negative")
            })?,
        },
        other => {
            return Err(Refusal::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    })
}

fn host_config_of(wire: &wire::HostConfig) -> Result<HostConfig, Refusal> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    if wire.auto_remove && !matches!(wire.restart_policy.name.as_str(), "" | "no") {
        return Err(Refusal::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    // Docker goes through them in no order; what it does not know is told before what it cannot do.
    if let Some(options) = wire.storage_opt.as_ref().filter(|options| !options.is_empty()) {
        let unknown = options.keys().find(|key| !key.eq_ignore_ascii_case("size"));
        let text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
        return Err(Refusal::invalid(match unknown {
            Some(key) => format!("Unknown option {key}"),
            None => text.to_owned(),
        }));
    }
    if wire.annotations.as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return Err(Refusal::invalid(text));
    }
    if !matches!(wire.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        let asked = &wire.isolation;
        return Err(Refusal::invalid(format!("invalid isolation ({asked}): linux only supports 'default'")));
    }
    if wire.links.as_ref().is_some_and(|links| !links.is_empty()) {
        let without = match wire.network_mode.split(':').next() {
            Some("host") => Some("host type networking"),
            Some("container") => Some("container type network"),
            _ => None,
        };
        if let Some(mode) = without {
            return Err(Refusal::invalid(format!(
                "conflicting options: {mode} can't be used with links. This would result in undefined behavior"
            )));
        }
        return Err(Refusal::not_implemented("links (--link) are not supported yet"));
    }
    Ok(HostConfig {
        binds: list(&wire.binds),
        mounts: wire.mounts.iter().flatten().map(mount).collect::<Result<_, _>>()?,
        volume_driver: wire.volume_driver.clone(),
        tmpfs: wire.tmpfs.clone().unwrap_or_default(),
        volumes_from: list(&wire.volumes_from),
        network_mode: wire.network_mode.clone(),
        port_bindings: wire.port_bindings.as_ref().map_or_else(|| Ok(Vec::new()), port_bindings)?,
        publish_all: wire.publish_all_ports,
        restart: restart_policy(&wire.restart_policy)?,
        auto_remove: wire.auto_remove,
        security: Security {
            privileged: wire.privileged,
            cap_add: list(&wire.cap_add),
            cap_drop: list(&wire.cap_drop),
            security_opt: list(&wire.security_opt),
            masked_paths: wire.masked_paths.clone(),
            readonly_paths: wire.readonly_paths.clone(),
        },
        namespaces: NamespaceModes {
            cgroup: wire.cgroupns_mode.clone(),
            ipc: wire.ipc_mode.clone(),
            pid: wire.pid_mode.clone(),
            uts: wire.uts_mode.clone(),
            user: wire.userns_mode.clone(),
        },
        names: NameConfig {
            servers: list(&wire.dns),
            options: list(&wire.dns_options),
            search: list(&wire.dns_search),
            extra_hosts: list(&wire.extra_hosts),
        },
        group_add: list(&wire.group_add),
        read_only: wire.readonly_rootfs,
        shm_size_bytes: u64::try_from(wire.shm_size)
            .map_err(|_| Refusal::invalid("SHM size can not be less than 0"))?,
        console_size: (
            u16::try_from(wire.console_size[0]).unwrap_or(0),
            u16::try_from(wire.console_size[1]).unwrap_or(0),
        ),
        sysctls: wire.sysctls.clone().unwrap_or_default(),
        init: wire.init,
        runtime: wire.runtime.clone(),
        log: LogConfig {
            driver: wire.log_config.driver.clone(),
            options: wire.log_config.config.clone().unwrap_or_default(),
        },
        resources: resources(wire),
        device_requests: wire.device_requests.iter().flatten().map(device_request).collect(),
    })
}

fn device_request(wire: &wire::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: wire.driver.clone(),
        capabilities: wire.capabilities.clone().unwrap_or_default(),
        devices: wire.device_ids.clone().unwrap_or_default(),
    }
}

/// The limits of a `HostConfig`, at create or update.
pub(crate) fn resources(wire: &wire::HostConfig) -> Resources {
    let device = |device: &wire::DeviceMapping| DeviceMapping {
        path_on_host: device.path_on_host.clone().into(),
        path_in_container: device.path_in_container.clone().into(),
        permissions: device.cgroup_permissions.clone(),
    };
    let limit = |limit: &wire::Ulimit| (limit.name.clone(), Ulimit { soft: limit.soft, hard: limit.hard });
    Resources {
        memory: wire.memory,
        memory_swap: wire.memory_swap,
        memory_reservation: wire.memory_reservation,
        kernel_memory: wire.kernel_memory,
        memory_swappiness: wire.memory_swappiness.filter(|swappiness| *swappiness != -1),
        oom_kill_disable: wire.oom_kill_disable,
        oom_score_adj: wire.oom_score_adj,
        cpu_shares: wire.cpu_shares,
        nano_cpus: wire.nano_cpus,
        cpu_period: wire.cpu_period,
        cpu_quota: wire.cpu_quota,
        cpu_realtime_period: wire.cpu_realtime_period,
        cpu_realtime_runtime: wire.cpu_realtime_runtime,
        cpuset_cpus: wire.cpuset_cpus.clone(),
        cpuset_mems: wire.cpuset_mems.clone(),
        blkio_weight: wire.blkio_weight,
        blkio_weights: wire.blkio_weight_device.iter().flatten().map(weight).collect(),
        blkio_rates: rates(wire),
        pids_limit: wire.pids_limit,
        devices: wire.devices.iter().flatten().map(device).collect(),
        device_cgroup_rules: wire.device_cgroup_rules.clone().unwrap_or_default(),
        ulimits: wire.ulimits.iter().flatten().map(limit).collect::<BTreeMap<_, _>>(),
        cgroup_parent: wire.cgroup_parent.clone(),
    }
}

fn weight(wire: &wire::WeightDevice) -> DeviceWeight {
    DeviceWeight { path: wire.path.clone().into(), weight: wire.weight }
}

/// The limits of block devices' traffic.
fn rates(wire: &wire::HostConfig) -> Vec<DeviceRate> {
    let of = |kind: RateKind, list: &Option<Vec<wire::ThrottleDevice>>| -> Vec<DeviceRate> {
        let rate =
            |one: &wire::ThrottleDevice| DeviceRate { path: one.path.clone().into(), kind, rate: one.rate };
        list.iter().flatten().map(rate).collect()
    };
    [
        of(RateKind::ReadBps, &wire.blkio_device_read_bps),
        of(RateKind::WriteBps, &wire.blkio_device_write_bps),
        of(RateKind::ReadIops, &wire.blkio_device_read_iops),
        of(RateKind::WriteIops, &wire.blkio_device_write_iops),
    ]
    .concat()
}

fn mount(wire: &wire::Mount) -> Result<MountRequest, Refusal> {
    let kind = match wire.kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        other => {
            return Err(Refusal::invalid(format!(
                "invalid mount config for type {other:?}: mount type unknown"
            )));
        }
    };
    let foreign = [
        (wire.bind_options.is_some(), MountKind::Bind, "BindOptions"),
        (wire.volume_options.is_some(), MountKind::Volume, "VolumeOptions"),
        (wire.tmpfs_options.is_some(), MountKind::Tmpfs, "TmpfsOptions"),
    ];
    if let Some((.., name)) = foreign.iter().find(|(given, of, _)| *given && *of != kind) {
        let text =
            format!("invalid mount config for type {:?}: field {name} must not be specified", wire.kind);
        return Err(Refusal::invalid(text));
    }
    let bind = wire.bind_options.clone().unwrap_or_default();
    let volume = wire.volume_options.clone().unwrap_or_default();
    let driver = volume.driver_config.unwrap_or_default();
    let tmpfs = wire.tmpfs_options.clone().unwrap_or_default();
    Ok(MountRequest {
        kind,
        source: wire.source.clone(),
        target: wire.target.clone(),
        read_only: wire.read_only,
        propagation: bind.propagation,
        non_recursive: bind.non_recursive,
        read_only_non_recursive: bind.read_only_non_recursive,
        create_source: bind.create_mountpoint,
        no_copy: volume.no_copy,
        subpath: volume.subpath,
        labels: volume.labels.unwrap_or_default(),
        driver: driver.name,
        driver_options: driver.options.unwrap_or_default(),
        tmpfs_size_bytes: u64::try_from(tmpfs.size_bytes).map_err(|_| {
            Refusal::invalid("invalid mount config for type \"tmpfs\": size cannot be negative")
        })?,
        tmpfs_mode: tmpfs.mode,
    })
}

fn endpoints(wire: Option<NetworkingConfig>) -> Vec<EndpointRequest> {
    let given: Map<_> = wire.and_then(|wire| wire.endpoints_config).unwrap_or_default();
    let convert = |(network, settings): (String, Option<gantry_api::network::EndpointSettings>)| {
        let settings = settings.unwrap_or_default();
        let wanted = settings.ipam_config.unwrap_or_default();
        // What is no address is refused together with the rest of what is wrong.
        let address =
            [&wanted.ipv4_address, &wanted.ipv6_address].into_iter().find_map(|text| text.parse().ok());
        EndpointRequest {
            network,
            address,
            ipv4: wanted.ipv4_address,
            ipv6: wanted.ipv6_address,
            mac_address: settings.mac_address,
            aliases: settings.aliases.unwrap_or_default(),
            links: settings.links.unwrap_or_default(),
        }
    };
    given.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::container::Protocol;

    fn convert(body: &str) -> Result<CreateRequest, String> {
        let wire = WireRequest::parse(body.as_bytes()).expect("JSON");
        let defaults = HostDefaults {
            cgroup_version: 1,
            shm_size_bytes: 64 << 20,
            log_driver: "json-file".into(),
            log_options: Map::new(),
        };
        request("n", "", wire, &defaults).map_err(|refusal| refusal.0.message)
    }

    #[test]
    fn ports_are_read_with_addresses_and_ranges() {
        let made = convert(
            r#"{"Image":"a","ExposedPorts":{"80/tcp":{},"90-91/udp":{}},"HostConfig":{"PortBindings":{
                "80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostPort":"9000-9010"}],"81":null}}}"#,
        )
        .expect("a request");
        assert_eq!(made.config.ports().len(), 3);
        let port = |number| Port { number, protocol: Protocol::Tcp };
        assert_eq!(
            made.host.port_bindings,
            [
                PortBinding {
                    port: port(80),
                    host_ip: Some([127, 0, 0, 1].into()),
                    host_ports: (8080, 8080)
                },
                PortBinding { port: port(80), host_ip: None, host_ports: (9000, 9010) },
                PortBinding { port: port(81), host_ip: None, host_ports: (0, 0) },
            ]
        );
    }

    #[test]
    fn wrong_requests_are_refused_in_dockers_words() {
        for (body, want) in [
            ("{}", "config cannot be empty in order to create a container"),
            (
                r#"{"Image":"a","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (
                r#"{"Image":"a","HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}"#,
                "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                r#"{"Image":"a","HostConfig":{"StorageOpt":{"size":"1g"}}}"#,
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ),
            (
                r#"{"Image":"a","HostConfig":{"Isolation":"hyperv"}}"#,
                "invalid isolation (hyperv): linux only supports 'default'",
            ),
            (
                r#"{"Image":"a","HostConfig":{"Mounts":[{"Type":"nonsense","Target":"/a"}]}}"#,
                "invalid mount config for type \"nonsense\": mount type unknown",
            ),
            (r#"{"Image":"a","HostConfig":{"ShmSize":-1}}"#, "SHM size can not be less than 0"),
            (
                r#"{"Image":"a","HostConfig":{"PortBindings":{"x/tcp":null}}}"#,
                "invalid port specification: \"x\"",
            ),
            (
                r#"{"Image":"a","HostConfig":{"PortBindings":{"80-81/tcp":null}}}"#,
                "invalid port specification: \"80-81\"",
            ),
            (
                r#"{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Target":"/a","TmpfsOptions":{}}]}}"#,
                "invalid mount config for type \"bind\": field TmpfsOptions must not be specified",
            ),
        ] {
            assert_eq!(convert(body).err().as_deref(), Some(want), "{body}");
        }
    }
}
