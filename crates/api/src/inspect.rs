//! Reply of `GET /containers/{id}/json`.

use serde::{Deserialize, Serialize};

use crate::container::{ContainerConfig, MountPoint};
use crate::host_config::{HostConfig, PortMap};
use crate::network::EndpointSettings;
use crate::{Map, is_default};

/// All that is known of one container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// 64 digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it does now, or did last.
    pub state: ContainerState,
    /// `sha256:…`
    pub image: String,
    /// Path of `/etc/resolv.conf`; empty before the first start.
    pub resolv_conf_path: String,
    /// Path of `/etc/hostname`; empty before the first start.
    pub hostname_path: String,
    /// Path of `/etc/hosts`; empty before the first start.
    pub hosts_path: String,
    /// Path of the log; empty before the first start.
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    /// Starts by the restart policy.
    pub restart_count: i64,
    /// The storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// Of SELinux.
    pub mount_label: String,
    /// Of SELinux.
    pub process_label: String,
    /// The profile's name.
    pub app_armor_profile: String,
    /// Running execs; `null` where there are none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// As sent, with defaults filled in.
    pub host_config: HostConfig,
    /// Where the layers are.
    pub graph_driver: GraphDriver,
    /// Bytes in the writable layer; only where `size` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes altogether; only where `size` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
    /// As sent, merged with the image's.
    pub config: ContainerConfig,
    /// Addresses and ports.
    pub network_settings: NetworkSettings,
}

/// What a container does now, or did last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Whether the program runs; true also while paused.
    pub running: bool,
    /// Whether it is frozen.
    pub paused: bool,
    /// Whether it waits to be restarted.
    pub restarting: bool,
    /// Whether the last run ended because memory ran out.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Whether its removal failed midway.
    pub dead: bool,
    /// 0 where it does not run.
    pub pid: i64,
    /// Of the last run.
    pub exit_code: i64,
    /// Why it did not start.
    pub error: String,
    /// RFC 3339; [`crate::ZERO_TIME`] where never.
    pub started_at: String,
    /// RFC 3339; [`crate::ZERO_TIME`] where never.
    pub finished_at: String,
    /// Only with a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// The state of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five results.
    pub log: Option<Vec<HealthResult>>,
}

/// One run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 healthy, 1 unhealthy, others are errors.
    pub exit_code: i64,
    /// At most 4096 bytes.
    pub output: String,
}

/// The storage driver's own words on where something is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// `LowerDir`, `UpperDir`, …
    pub data: Map<String>,
    /// `overlay2`, `vfs`.
    pub name: String,
}

/// Addresses and ports of a container. All but four fields were removed in API 1.52.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Always empty.
    pub bridge: String,
    /// Empty where it does not run.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// A path to the network namespace; empty where it does not run.
    pub sandbox_key: String,
    /// `{}` where it does not run; an exposed port that is not published is `null`.
    pub ports: PortMap,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    /// Always `null`.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<Address>>,
    /// Always `null`.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<Address>>,
    /// Of the default bridge.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Of the default bridge.
    pub gateway: String,
    /// Of the default bridge.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Of the default bridge.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// Of the default bridge.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Of the default bridge.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// Of the default bridge.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Of the default bridge.
    pub mac_address: String,
    /// By network name.
    pub networks: Map<EndpointSettings>,
}

/// An address with the length of its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Address {
    /// The address.
    pub addr: String,
    /// Bits.
    #[serde(skip_serializing_if = "is_default")]
    pub prefix_len: i64,
}
