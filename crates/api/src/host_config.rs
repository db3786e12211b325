//! The part of a container's configuration that depends on the host, and its resources.

use serde::{Deserialize, Serialize};

use crate::{Map, is_default};

/// `HostConfig`: sent at create, echoed by inspect, patched by update. In Docker's order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// A file of the *client's* that the id was written to.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// The log driver.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `none`, `host`, `container:<id>` or a network's name.
    pub network_mode: String,
    /// `port/protocol` to addresses of the host.
    pub port_bindings: Option<PortMap>,
    /// What happens at exit.
    pub restart_policy: RestartPolicy,
    /// Whether the container is removed at exit.
    pub auto_remove: bool,
    /// The driver of volumes made by `binds`.
    pub volume_driver: String,
    /// `container[:mode]`.
    pub volumes_from: Option<Vec<String>>,
    /// Height and width of the client's terminal.
    pub console_size: [u32; 2],
    /// Free notes, passed to the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String>>,
    /// Capabilities beyond the default.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities taken away.
    pub cap_drop: Option<Vec<String>>,
    /// `private` or `host`; empty is the daemon's default.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Resolver options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` for `/etc/hosts`.
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups of the process.
    pub group_add: Option<Vec<String>>,
    /// `private`, `shareable`, `host`, `none` or `container:<id>`.
    pub ipc_mode: String,
    /// A cgroup namespace to join.
    pub cgroup: String,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Empty, `host` or `container:<id>`.
    pub pid_mode: String,
    /// All capabilities, all devices, no seccomp.
    pub privileged: bool,
    /// A random port of the host for every exposed port.
    pub publish_all_ports: bool,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=…`, `apparmor=…`, `label=…`.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opt: Option<Map<String>>,
    /// Path to options of a tmpfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Map<String>>,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty or `host`.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size: i64,
    /// Namespaced sysctls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<Map<String>>,
    /// The OCI runtime's name.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Relative weight of CPU time; 0 is 1024.
    pub cpu_shares: i64,
    /// Bytes; 0 is no limit.
    pub memory: i64,
    /// Billionths of a CPU; 0 is no limit.
    pub nano_cpus: i64,
    /// The cgroup in which the container's is made.
    pub cgroup_parent: String,
    /// 10 to 1000; 0 is the default.
    pub blkio_weight: u16,
    /// Weights per device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Limits per device, bytes per second.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Limits per device, bytes per second.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Limits per device, operations per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Limits per device, operations per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds per period.
    pub cpu_realtime_runtime: i64,
    /// `0-2,5`.
    pub cpuset_cpus: String,
    /// `0-2,5`.
    pub cpuset_mems: String,
    /// Devices of the host.
    pub devices: Option<Vec<DeviceMapping>>,
    /// `c 1:3 rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices that a driver provides.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Bytes; deprecated since 2019, ignored from API 1.42 on.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel_memory: i64,
    /// Bytes; ignored from API 1.52 on.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_default")]
    pub kernel_memory_tcp: i64,
    /// Bytes; a soft limit.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 is no limit, 0 twice the memory.
    pub memory_swap: i64,
    /// 0 to 100; -1 or `null` is the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Whether a process waits instead of being killed.
    pub oom_kill_disable: Option<bool>,
    /// 0, -1 or `null` is no limit.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// Mounts in long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Hidden paths; `null` is the default list, `[]` none.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths; `null` is the default list, `[]` none.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether an init runs as process 1; `null` is the daemon's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// `port/protocol` to addresses of the host; `null` is as `[]`.
pub type PortMap = Map<Option<Vec<PortBinding>>>;

/// One address of the host for a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty is every address.
    pub host_ip: String,
    /// A port, a range (`8000-8010`), or empty for a random one.
    pub host_port: String,
}

/// What happens when the container's program exits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// For `on-failure`; 0 is no limit.
    pub maximum_retry_count: i64,
}

/// The log driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// Empty is the daemon's default.
    #[serde(rename = "Type")]
    pub driver: String,
    /// The driver's options.
    pub config: Option<Map<String>>,
}

/// A resource limit of processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`, without `RLIMIT_`.
    pub name: String,
    /// -1 is no limit.
    pub hard: i64,
    /// -1 is no limit.
    pub soft: i64,
}

/// A device of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// The host's path.
    pub path_on_host: String,
    /// The container's path.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices that a driver provides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// `nvidia`, `cdi`.
    pub driver: String,
    /// -1 is all.
    pub count: i64,
    /// Particular ones.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// Alternatives, each a list of what must all be there.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// The driver's options.
    pub options: Option<Map<String>>,
}

/// A weight of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// The device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// The device.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A mount in long form, as `--mount` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, …
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// The host's path or the volume's name.
    #[serde(skip_serializing_if = "is_default")]
    pub source: String,
    /// The container's path.
    #[serde(skip_serializing_if = "is_default")]
    pub target: String,
    /// Whether the container may not write.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Ignored on Linux.
    #[serde(skip_serializing_if = "is_default")]
    pub consistency: String,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate`, …
    #[serde(skip_serializing_if = "is_default")]
    pub propagation: String,
    /// Without what is mounted below.
    #[serde(skip_serializing_if = "is_default")]
    pub non_recursive: bool,
    /// Whether a missing source is made as a directory.
    #[serde(skip_serializing_if = "is_default")]
    pub create_mountpoint: bool,
    /// Read-only, but not what is mounted below.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_non_recursive: bool,
    /// An error where it cannot be made read-only recursively.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Whether a new volume stays empty.
    #[serde(skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// Labels of a new volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Map<String>>,
    /// A path in the volume.
    #[serde(skip_serializing_if = "is_default")]
    pub subpath: String,
    /// Driver of a new volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// Options of an image mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// A path in the image.
    #[serde(skip_serializing_if = "is_default")]
    pub subpath: String,
}

/// A driver with its options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// Empty is `local`.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// The driver's options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Map<String>>,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub size_bytes: i64,
    /// Permission bits; 0 is 1777.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: u32,
    /// Words, or pairs of name and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Vec<String>>>,
}

/// Body of `POST /containers/{id}/update`: resources that are not their defaults are changed.
pub type UpdateRequest = HostConfig;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gojson;

    /// The `HostConfig` of a container that Docker 28.5 made from a bare `docker create`.
    const DOCKERS: &str = r#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"json-file","Config":{}},"NetworkMode":"bridge","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"host","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"private","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":67108864,"Runtime":"runc","Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,"OomKillDisable":false,"PidsLimit":null,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":["/proc/acpi"],"ReadonlyPaths":["/proc/bus"]}"#;

    #[test]
    fn dockers_own_text_comes_back_byte_for_byte() {
        let read: HostConfig = gojson::from_slice(DOCKERS.as_bytes()).expect("Docker's HostConfig");
        assert_eq!(String::from_utf8(gojson::to_vec(&read)).expect("UTF-8").trim_end(), DOCKERS);
    }
}
