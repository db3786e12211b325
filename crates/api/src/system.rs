//! The daemon itself: version, info, disk usage.

use serde::{Deserialize, Serialize};

use crate::build::BuildCache;
use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::volume::Volume;
use crate::{Map, is_default};

/// Reply of `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// The product.
    pub platform: PlatformName,
    /// The programs that it consists of.
    pub components: Vec<Component>,
    /// The daemon's version.
    pub version: String,
    /// The newest API version.
    pub api_version: String,
    /// The oldest API version.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// The commit that it was built from.
    pub git_commit: String,
    /// The compiler; a name from Docker, which is written in Go.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub arch: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "is_default")]
    pub experimental: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "is_default")]
    pub build_time: String,
}

/// The product's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformName {
    /// In words.
    pub name: String,
}

/// One program of the product.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// `Engine`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whatever it says of itself.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String>,
}

/// Reply of `GET /info`. In Docker's order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Never changes for a data root.
    #[serde(rename = "ID")]
    pub id: String,
    /// All of them.
    pub containers: i64,
    /// Also paused ones are running, but not counted here.
    pub containers_running: i64,
    /// Frozen ones.
    pub containers_paused: i64,
    /// The rest.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// The storage driver.
    pub driver: String,
    /// Pairs of what it says of itself.
    pub driver_status: Vec<[String; 2]>,
    /// Drivers.
    pub plugins: Plugins,
    /// Whether the kernel can.
    pub memory_limit: bool,
    /// Whether the kernel can.
    pub swap_limit: bool,
    /// Whether the kernel can; gone in API 1.42.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel_memory: bool,
    /// Whether the kernel can; gone in API 1.52.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_default")]
    pub kernel_memory_tcp: bool,
    /// Whether the kernel can.
    pub cpu_cfs_period: bool,
    /// Whether the kernel can.
    pub cpu_cfs_quota: bool,
    /// Whether the kernel can.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Whether the kernel can.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Whether the kernel can.
    pub pids_limit: bool,
    /// Whether the host routes.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Always false; gone in API 1.50.
    pub bridge_nf_iptables: bool,
    /// Always false; gone in API 1.50.
    pub bridge_nf_ip6tables: bool,
    /// Whether debug messages are logged.
    pub debug: bool,
    /// Open files of the daemon.
    #[serde(rename = "NFd")]
    pub open_files: i64,
    /// Whether the kernel can.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon; a name from Docker, which is written in Go.
    #[serde(rename = "NGoroutines")]
    pub tasks: i64,
    /// RFC 3339.
    pub system_time: String,
    /// The default.
    pub logging_driver: String,
    /// `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup_version: String,
    /// Clients that listen.
    #[serde(rename = "NEventsListener")]
    pub event_listeners: i64,
    /// The kernel's release.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As `uname -m` says it.
    pub architecture: String,
    /// Where `docker login` goes without a name.
    pub index_server_address: String,
    /// Mirrors and insecure registries.
    pub registry_config: RegistryConfig,
    /// CPUs that the daemon may use.
    #[serde(rename = "NCPU")]
    pub cpus: i64,
    /// Bytes.
    pub mem_total: i64,
    /// Swarm only.
    pub generic_resources: Option<Vec<serde_json::Value>>,
    /// The data root.
    pub docker_root_dir: String,
    /// The daemon's proxy.
    pub http_proxy: String,
    /// The daemon's proxy.
    pub https_proxy: String,
    /// Hosts without proxy.
    pub no_proxy: String,
    /// The host's name.
    pub name: String,
    /// `key=value` of the daemon.
    pub labels: Vec<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// The daemon's version.
    pub server_version: String,
    /// OCI runtimes by name.
    pub runtimes: Map<Runtime>,
    /// The default's name.
    pub default_runtime: String,
    /// Always inactive here.
    pub swarm: Swarm,
    /// Always true here: containers never depend on the daemon.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// The init of `--init`.
    pub init_binary: String,
    /// Version of a part that Docker has.
    pub containerd_commit: Commit,
    /// Version of a part that Docker has.
    pub runc_commit: Commit,
    /// Version of a part that Docker has.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
    /// What the firewall is made with; from API 1.49 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<Firewall>,
    /// From API 1.44 on.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// Subnets for new networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_address_pools: Option<Vec<AddressPool>>,
    /// What an operator should know; `null` where there is nothing.
    pub warnings: Option<Vec<String>>,
}

/// Drivers by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    /// Of volumes.
    pub volume: Vec<String>,
    /// Of networks.
    pub network: Vec<String>,
    /// Of authorization; `null` where there are none.
    pub authorization: Option<Vec<String>>,
    /// Of logs.
    pub log: Vec<String>,
}

/// Mirrors and insecure registries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    /// Always `null`; gone in API 1.49.
    #[serde(rename = "AllowNondistributableArtifactsCIDRs")]
    pub allow_nondistributable_artifacts_cidrs: Option<Vec<String>>,
    /// Always `null`; gone in API 1.49.
    pub allow_nondistributable_artifacts_hostnames: Option<Vec<String>>,
    /// By host.
    pub index_configs: Map<IndexConfig>,
    /// Subnets.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// URLs.
    pub mirrors: Option<Vec<String>>,
}

/// One registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexConfig {
    /// URLs.
    pub mirrors: Vec<String>,
    /// The host.
    pub name: String,
    /// Whether it is Docker's.
    pub official: bool,
    /// Whether TLS is checked.
    pub secure: bool,
}

/// An OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The program.
    pub path: String,
    /// Its first arguments.
    #[serde(rename = "runtimeArgs", skip_serializing_if = "Option::is_none")]
    pub runtime_args: Option<Vec<String>>,
    /// What it says of itself; from API 1.44 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Map<String>>,
}

/// The state of a swarm; always inactive here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// Empty.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Empty.
    pub node_addr: String,
    /// `inactive`.
    pub local_node_state: String,
    /// False.
    pub control_available: bool,
    /// Empty.
    pub error: String,
    /// `null`.
    pub remote_managers: Option<Vec<serde_json::Value>>,
}

/// The version of a part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The commit.
    #[serde(rename = "ID")]
    pub id: String,
    /// Always as `id`; gone in API 1.49.
    #[serde(rename = "Expected", skip_serializing_if = "is_default")]
    pub expected: String,
}

/// What the firewall is made with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Firewall {
    /// `nftables`.
    pub driver: String,
    /// Pairs of what it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Vec<[String; 2]>>,
}

/// Subnets for new networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AddressPool {
    /// `172.17.0.0/12`.
    pub base: String,
    /// Bits of each.
    pub size: i64,
}

/// Reply of `GET /system/df`: the first five fields up to API 1.52, the last four from it on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// Bytes.
    pub layers_size: i64,
    /// Images.
    pub images: Option<Vec<ImageSummary>>,
    /// Containers.
    pub containers: Option<Vec<ContainerSummary>>,
    /// Volumes.
    pub volumes: Option<Vec<Volume>>,
    /// The build cache.
    pub build_cache: Option<Vec<BuildCache>>,
    /// Images in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<Usage>,
    /// Containers in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<Usage>,
    /// Volumes in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<Usage>,
    /// The build cache in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<Usage>,
}

/// The disk space of a sort of things, in short.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Usage {
    /// Those in use.
    pub active_count: i64,
    /// All.
    pub total_count: i64,
    /// Bytes that pruning would give back.
    pub reclaimable: i64,
    /// Bytes.
    pub total_size: i64,
    /// Each thing, where `verbose` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<serde_json::Value>>,
}

/// Body of `POST /auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthRequest {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// The registry.
    pub serveraddress: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_without_details_has_none() {
        let component = Component { name: "n".into(), version: "1".into(), details: Map::new() };
        let json = serde_json::to_string(&component).expect("it is data");
        assert_eq!(json, r#"{"Name":"n","Version":"1"}"#);
    }
}
