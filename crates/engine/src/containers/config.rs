//! What create was asked for: configuration and host configuration in the model's terms.
//!
//! These are not Docker's wire types: the daemon converts. They are stored in the record as JSON, so
//! fields are only ever added, with defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use gantry_model::container::{Protocol, RestartPolicy};
use gantry_model::image::Healthcheck;
use serde::{Deserialize, Serialize};

use super::merge::clean_path;

/// What the container runs. At create these are the client's values; in a record the image's
/// defaults have been merged in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Empty is the id's first twelve digits, or the host's name with `--net host`.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`; empty is root, or the image's.
    pub user: String,
    /// Standard streams that the client attaches (`-a`); echoed, and `attach_stdin` makes stdin once-only work.
    pub attach: AttachDefaults,
    /// Ports that the image or the user exposes, each as it was written.
    pub exposed_ports: BTreeSet<ExposedPort>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether stdin stays open without a client.
    pub open_stdin: bool,
    /// Whether stdin closes when the first attached client leaves.
    pub stdin_once: bool,
    /// `KEY=value`; `KEY` alone removes a variable of the image.
    pub env: Vec<String>,
    /// The command; `None` is the image's.
    pub cmd: Option<Vec<String>>,
    /// The entry point; `None` is the image's, `[]` or `[""]` removes it.
    pub entrypoint: Option<Vec<String>>,
    /// The image as the client named it.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Paths of anonymous volumes.
    pub volumes: Vec<PathBuf>,
    /// Absolute; empty is the image's, or `/`.
    pub working_dir: String,
    /// The signal that `stop` sends; empty is the image's, or `SIGTERM`.
    pub stop_signal: String,
    /// Seconds that `stop` waits; `None` is 10, negative is forever.
    pub stop_timeout_s: Option<i64>,
    /// How health is checked; kept, not acted on yet.
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions; echoed.
    pub shell: Vec<String>,
    /// `--network none` of old clients (`NetworkDisabled`).
    pub network_disabled: bool,
    /// A fixed MAC address; empty is derived.
    pub mac_address: String,
}

/// Which streams `create` said that the client would attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachDefaults {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Config {
    /// The ports that are exposed, each once, in order.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<Port> {
        self.exposed_ports.iter().flat_map(ExposedPort::ports).collect()
    }
}

/// A key of `ExposedPorts`: `80`, `80/tcp`, `8000-8010/udp`, or anything else. Docker keeps what it cannot read, so
/// that an image with such a key runs all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub struct ExposedPort(pub String);

/// How records have an exposed port; the earliest had only ports that could be read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Text(String),
    Port(Port),
}

impl From<Kept> for ExposedPort {
    fn from(kept: Kept) -> Self {
        Self(match kept {
            Kept::Text(text) => text,
            Kept::Port(port) => port.to_string(),
        })
    }
}

impl ExposedPort {
    /// What is exposed: a port, those of a range, or none.
    #[must_use]
    pub fn ports(&self) -> Vec<Port> {
        let (range, protocol) = self.0.split_once('/').unwrap_or((&self.0, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>(), protocol.parse()) {
            (Ok(first @ 1..), Ok(last), Ok(protocol)) => {
                (first..=last).map(|number| Port { number, protocol }).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A container's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// One request to publish a port (`-p`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub port: Port,
    /// The host's address; `None` is all addresses.
    pub host_ip: Option<IpAddr>,
    /// First and last host port to choose from; equal for one port; (0, 0) is any free port.
    pub host_ports: (u16, u16),
}

/// How the container relates to the host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// `-v` as given: `source:destination[:mode]` or a destination alone.
    pub binds: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<MountRequest>,
    /// `--volume-driver`: of the volumes that `-v` makes; empty is `local`.
    pub volume_driver: String,
    /// `--tmpfs`: destination to options.
    pub tmpfs: BTreeMap<String, String>,
    /// `--volumes-from`: `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// `bridge`, `default`, empty, `host`, `none`, `container:<name|id>`, or a network's name.
    pub network_mode: String,
    /// `-p`.
    pub port_bindings: Vec<PortBinding>,
    /// `-P`.
    pub publish_all: bool,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// Kernel privileges.
    pub security: Security,
    /// `--cgroupns`, `--ipc`, `--pid`, `--uts`, `--userns`.
    pub namespaces: NamespaceModes,
    /// Resolver and hosts file.
    pub names: NameConfig,
    /// `--group-add`.
    pub group_add: Vec<String>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--shm-size` in bytes; 0 is the default.
    pub shm_size_bytes: u64,
    /// Rows and columns that the container's terminal begins with; 0 is the kernel's.
    pub console_size: (u16, u16),
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--init`; `None` is the daemon's default.
    pub init: Option<bool>,
    /// `--runtime`; empty is the default. Only our own is known yet.
    pub runtime: String,
    /// `--log-driver`, `--log-opt`; an empty driver is the daemon's default.
    pub log: LogConfig,
    /// Limits.
    pub resources: Resources,
    /// `--gpus`.
    pub device_requests: Vec<DeviceRequest>,
}

/// Devices of a driver's choice. There is no such driver yet, so that a start is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Empty is any driver with the capabilities.
    pub driver: String,
    /// Alternatives, each a list of what must all be there.
    pub capabilities: Vec<Vec<String>>,
    /// Particular devices.
    pub devices: Vec<String>,
}

/// Kernel privileges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`, as given (the profile's JSON for `seccomp=`).
    pub security_opt: Vec<String>,
    /// `None` is Docker's list; `[]` masks nothing.
    pub masked_paths: Option<Vec<String>>,
    /// `None` is Docker's list; `[]` makes nothing read-only.
    pub readonly_paths: Option<Vec<String>>,
}

/// Modes as given; empty is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceModes {
    /// `host` or `private`.
    pub cgroup: String,
    /// `private`, `shareable`, `host`, `none`, `container:…`.
    pub ipc: String,
    /// `host`, `container:…`.
    pub pid: String,
    /// `host`.
    pub uts: String,
    /// `host`.
    pub user: String,
}

/// Resolver and hosts file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NameConfig {
    /// `--dns`.
    pub servers: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
    /// `--dns-search`.
    pub search: Vec<String>,
    /// `--add-host`: `name:address`; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
}

/// A log driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file` (also when empty), `local`, `none`.
    pub driver: String,
    /// `max-size`, `max-file`, …
    pub options: BTreeMap<String, String>,
}

impl MountRequest {
    /// Whether it mounts at this place; the target may be written with `..`, `.` or slashes too many.
    #[must_use]
    pub fn is_at(&self, destination: &Path) -> bool {
        Path::new(&clean_path(&self.target)) == destination
    }
}

impl HostConfig {
    /// Whether `--tmpfs` mounts something at this place.
    #[must_use]
    pub fn has_tmpfs_at(&self, destination: &Path) -> bool {
        self.tmpfs.keys().any(|path| Path::new(&clean_path(path)) == destination)
    }
}

/// `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: gantry_model::mount::MountKind,
    /// A path, a volume's name, or empty.
    #[serde(default)]
    pub source: String,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Propagation of a bind; empty is `rprivate`.
    #[serde(default)]
    pub propagation: String,
    /// A bind without what is mounted below its source (`bind-recursive=disabled`).
    #[serde(default)]
    pub non_recursive: bool,
    /// A read-only bind below which writable mounts stay writable (`bind-recursive=writable`).
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// Whether a missing bind source is made (`bind-create-src`).
    #[serde(default)]
    pub create_source: bool,
    /// Whether a new volume stays empty (`volume-nocopy`).
    #[serde(default)]
    pub no_copy: bool,
    /// What of the volume is mounted (`volume-subpath`): a path below its root; empty is all of it.
    #[serde(default)]
    pub subpath: String,
    /// Labels and driver options of a new volume.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The driver of a new volume; empty is `local`.
    #[serde(default)]
    pub driver: String,
    /// Driver options of a new volume.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
    /// Size of a tmpfs in bytes; 0 is half of memory.
    #[serde(default)]
    pub tmpfs_size_bytes: u64,
    /// Mode of a tmpfs; 0 is 1777.
    #[serde(default)]
    pub tmpfs_mode: u32,
}

/// Limits. 0 means none unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 is unlimited swap, 0 is twice the memory.
    pub memory_swap: i64,
    /// Soft limit in bytes.
    pub memory_reservation: i64,
    /// Kernel memory; ignored as the kernel ignores it.
    pub kernel_memory: i64,
    /// 0 to 100; `None` is the kernel's default.
    pub memory_swappiness: Option<i64>,
    /// Whether the OOM killer is off.
    pub oom_kill_disable: Option<bool>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Relative weight; 0 is 1024.
    pub cpu_shares: i64,
    /// `--cpus` in billionths of a CPU.
    pub nano_cpus: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds in each period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds in each period.
    pub cpu_realtime_runtime: i64,
    /// `0-3,7`.
    pub cpuset_cpus: String,
    /// `0-3,7`.
    pub cpuset_mems: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// `--blkio-weight-device`, by the host's path of a block device.
    pub blkio_weights: Vec<DeviceWeight>,
    /// `--device-read-bps` and its like, by the host's path of a block device.
    pub blkio_rates: Vec<DeviceRate>,
    /// `None`, 0 and -1 are unlimited.
    pub pids_limit: Option<i64>,
    /// `--device`.
    pub devices: Vec<DeviceMapping>,
    /// `--device-cgroup-rule`: `c 10:200 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// `--ulimit`, by name (`nofile`).
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `--cgroup-parent`; empty is the daemon's.
    pub cgroup_parent: String,
}

/// What of a device's traffic is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateKind {
    /// Bytes read in a second.
    ReadBps,
    /// Bytes written in a second.
    WriteBps,
    /// Read operations in a second.
    ReadIops,
    /// Write operations in a second.
    WriteIops,
}

/// A block device's weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// The device on the host.
    pub path: PathBuf,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit of a block device's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device on the host.
    pub path: PathBuf,
    /// What is limited.
    pub kind: RateKind,
    /// In a second.
    pub rate: u64,
}

/// `--device`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// On the host.
    pub path_on_host: PathBuf,
    /// In the container; empty is the same.
    pub path_in_container: PathBuf,
    /// Of `rwm`; empty is `rwm`.
    pub permissions: String,
}

/// A resource limit; -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ulimit {
    /// What applies.
    pub soft: i64,
    /// What it can be raised to.
    pub hard: i64,
}

/// What create was asked for on a network (`--ip`, `--network-alias`, …).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// The network by name or id.
    pub network: String,
    /// A fixed address.
    pub address: Option<IpAddr>,
    /// The IPv4 address as the client wrote it; empty is none.
    pub ipv4: String,
    /// The IPv6 address as the client wrote it; empty is none.
    pub ipv6: String,
    /// A fixed MAC address; empty is derived.
    pub mac_address: String,
    /// Further names on that network.
    pub aliases: Vec<String>,
    /// `--link`s; kept.
    pub links: Vec<String>,
}

/// A whole create request.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `--name`, with or without a leading slash; empty generates one.
    pub name: String,
    /// What it runs.
    pub config: Config,
    /// How it relates to the host.
    pub host: HostConfig,
    /// Endpoints that were asked for by name; the network of `network_mode` is implied.
    pub endpoints: Vec<EndpointRequest>,
    /// The client's `Config` as it was sent, echoed by inspect.
    pub config_json: serde_json::Value,
    /// The client's `HostConfig` as it was sent, echoed by inspect and patched by update.
    pub host_config_json: serde_json::Value,
    /// `--platform`; empty is the host's.
    pub platform: String,
    /// Whether read-only binds leave what is mounted below them writable, where nothing is said of it.
    pub binds_are_read_only_at_the_top: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports_are_read_with_ranges() {
        for (text, count) in [
            ("80", 1),
            ("080", 1),
            ("80/UDP", 1),
            ("8000-8010/tcp", 11),
            ("0", 0),
            ("9-8", 0),
            ("x/tcp", 0),
            ("1/x", 0),
            ("", 0),
            ("65536", 0),
        ] {
            assert_eq!(ExposedPort(text.into()).ports().len(), count, "{text}");
        }
    }

    #[test]
    fn places_are_compared_cleaned() {
        let request = MountRequest {
            target: "/a/../b//c/".into(),
            ..serde_json::from_str(r#"{"kind":"bind","target":""}"#).expect("a request")
        };
        assert!(request.is_at(Path::new("/b/c")) && !request.is_at(Path::new("/a")));
        let host = HostConfig { tmpfs: [("/t/.".to_owned(), String::new())].into(), ..HostConfig::default() };
        assert!(host.has_tmpfs_at(Path::new("/t")) && !host.has_tmpfs_at(Path::new("/")));
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let kept = r#"{"exposed_ports":[{"number":80,"protocol":"tcp"},"8000-8001/udp","odd"]}"#;
        let config: Config = serde_json::from_str(kept).expect("a record");
        let ports: Vec<String> = config.ports().iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["80/tcp", "8000/udp", "8001/udp"]);
        let again: Config =
            serde_json::from_value(serde_json::to_value(&config).expect("JSON")).expect("itself");
        assert_eq!(again, config);
    }
}
