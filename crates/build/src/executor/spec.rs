//! The OCI specification of a build step: pure. The same surroundings as a container's by default:
//! Docker's capabilities, seccomp profile, masked paths and mounts.

use gantry_runtime::defaults::{CAPABILITIES, MASKED_PATHS, READONLY_PATHS};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::Process;
use crate::request::{RunOptions, Ulimit};

/// The host name of every step: a random one could get into an image.
pub(super) const HOSTNAME: &str = "build";

const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// Where the network namespace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkNamespace {
    /// The host's.
    Host,
    /// One that is joined by descriptor.
    Joined,
}

/// The host's files that stand in `/etc`.
#[derive(Debug, Clone)]
pub(super) struct EtcFiles {
    /// `/etc/hosts`.
    pub(super) hosts: String,
    /// `/etc/hostname`.
    pub(super) hostname: String,
    /// `/etc/resolv.conf`.
    pub(super) resolv_conf: String,
}

/// Makes the specification of a step.
///
/// # Errors
/// That of JSON, where the OCI crate does not take what is written here: never, as the test below shows.
pub(super) fn specification(
    process: &Process,
    options: &RunOptions,
    network: NetworkNamespace,
    etc: &EtcFiles,
) -> Result<Spec, serde_json::Error> {
    let mut namespaces = vec![
        json!({"type": "mount"}),
        json!({"type": "pid"}),
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
        json!({"type": "cgroup"}),
    ];
    if network == NetworkNamespace::Joined {
        namespaces.push(json!({"type": "network"}));
    }
    let cwd = if process.cwd.is_empty() { "/" } else { process.cwd.as_str() };
    serde_json::from_value(json!({
        "ociVersion": "1.2.0",
        "hostname": HOSTNAME,
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": process.args,
            "env": process.env,
            "cwd": cwd,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "rlimits": options.ulimits.iter().map(rlimit).collect::<Vec<Value>>(),
            "oomScoreAdj": 0,
        },
        "mounts": mounts(options, etc),
        "annotations": {"gantry.user": process.user, "gantry.seccomp": "default"},
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
            "resources": resources(options),
            "sysctl": if network == NetworkNamespace::Joined {
                json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"})
            } else {
                json!({})
            },
        },
    }))
}

fn mounts(options: &RunOptions, etc: &EtcFiles) -> Vec<Value> {
    let shm = if options.shm_size_bytes == 0 { DEFAULT_SHM_BYTES } else { options.shm_size_bytes };
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let shm = format!("size={shm}");
    let bind = |destination: &str, source: &str| mount(destination, "bind", source, &["rbind", "rprivate"]);
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        bind("/etc/resolv.conf", &etc.resolv_conf),
        bind("/etc/hostname", &etc.hostname),
        bind("/etc/hosts", &etc.hosts),
    ]
}

fn rlimit(limit: &Ulimit) -> Value {
    // -1 is without limit, which is the largest number.
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    json!({
        "type": format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        "soft": value(limit.soft),
        "hard": value(limit.hard),
    })
}

fn resources(options: &RunOptions) -> Value {
    let mut devices = vec![json!({"allow": false, "access": "rwm"})];
    let allow = |kind: &str, major: i64, minor: Option<i64>, access: &str| {
        let mut rule = json!({"allow": true, "type": kind, "major": major, "access": access});
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rule
    };
    devices.push(json!({"allow": true, "type": "c", "access": "m"}));
    devices.push(json!({"allow": true, "type": "b", "access": "m"}));
    devices.extend([3, 5, 7, 8, 9].map(|minor| allow("c", 1, Some(minor), "rwm")));
    devices.extend([0, 1, 2].map(|minor| allow("c", 5, Some(minor), "rwm")));
    devices.push(allow("c", 136, None, "rwm"));
    let mut resources = json!({"devices": devices});
    let mut memory = json!({});
    if options.memory_bytes != 0 {
        memory["limit"] = options.memory_bytes.into();
    }
    if options.memory_swap_bytes != 0 {
        memory["swap"] = options.memory_swap_bytes.into();
    }
    if memory != json!({}) {
        resources["memory"] = memory;
    }
    let mut cpu = json!({});
    if options.cpu_shares != 0 {
        cpu["shares"] = options.cpu_shares.into();
    }
    if options.cpu_quota_us != 0 {
        cpu["quota"] = options.cpu_quota_us.into();
    }
    if options.cpu_period_us != 0 {
        cpu["period"] = options.cpu_period_us.into();
    }
    if !options.cpuset_cpus.is_empty() {
        cpu["cpus"] = options.cpuset_cpus.clone().into();
    }
    if !options.cpuset_mems.is_empty() {
        cpu["mems"] = options.cpuset_mems.clone().into();
    }
    if cpu != json!({}) {
        resources["cpu"] = cpu;
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_containers_surroundings() {
        let process = Process {
            args: vec!["true".into()],
            env: vec!["A=b".into()],
            cwd: String::new(),
            user: "app".into(),
        };
        let options = RunOptions {
            memory_bytes: 1 << 20,
            cpu_quota_us: 1000,
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 10, hard: -1 }],
            ..RunOptions::default()
        };
        let etc = EtcFiles { hosts: "/h".into(), hostname: "/n".into(), resolv_conf: "/r".into() };
        let spec =
            specification(&process, &options, NetworkNamespace::Joined, &etc).expect("a specification");
        let json = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(json["process"]["cwd"], "/");
        assert_eq!(json["process"]["rlimits"][0]["hard"], u64::MAX);
        assert_eq!(json["annotations"]["gantry.user"], "app");
        assert_eq!(json["process"]["capabilities"]["bounding"].as_array().map(Vec::len), Some(14));
        assert_eq!(json["linux"]["maskedPaths"][0], "/proc/asound");
        assert_eq!(json["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(json["linux"]["namespaces"].as_array().map(Vec::len), Some(6));
        let host = specification(&process, &options, NetworkNamespace::Host, &etc).expect("a specification");
        assert_eq!(
            host.linux().as_ref().and_then(|linux| linux.namespaces().as_ref()).map(Vec::len),
            Some(5)
        );
    }
}
