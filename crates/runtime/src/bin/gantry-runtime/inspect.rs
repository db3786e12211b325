//! `state`, `list`, `ps`, `spec`, `features`.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::options::{Globals, Options};
use crate::output::{Failure, line};
use crate::state::{Container, all};

/// The version of the runtime specification that we follow.
pub(crate) const SPEC_VERSION: &str = "1.2.1";

/// `state ID`
pub(crate) fn state(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    let document = container.document(container.status().as_str());
    line(&serde_json::to_string_pretty(&document)?)
}

/// `list`
pub(crate) fn list(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let containers = all(globals)?;
    if options.value(&["format", "f"]) == Some("json") {
        let documents: Vec<Value> =
            containers.iter().map(|container| container.document(container.status().as_str())).collect();
        return line(&Value::from(documents).to_string());
    }
    let mut text = String::new();
    if options.has(&["quiet", "q"]) {
        containers.iter().for_each(|container| text.push_str(&format!("{}\n", container.record.id)));
        return line(text.trim_end());
    }
    write!(text, "{:<40} {:>8} {:<9} {:<31} BUNDLE", "ID", "PID", "STATUS", "CREATED")?;
    for container in &containers {
        let status = container.status().as_str();
        let record = &container.record;
        let pid = if status == "stopped" { 0 } else { record.pid };
        write!(
            text,
            "\n{:<40} {pid:>8} {status:<9} {:<31} {}",
            record.id,
            record.created,
            record.bundle.display()
        )?;
    }
    line(&text)
}

/// `ps ID`
pub(crate) fn ps(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    let mut pids = container.cgroup()?.procs()?;
    pids.sort_unstable();
    if options.value(&["format", "f"]) == Some("json") {
        return line(&Value::from(pids).to_string());
    }
    let mut text = format!("{:>8} COMMAND", "PID");
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        write!(text, "\n{pid:>8} {}", command.trim_end())?;
    }
    line(&text)
}

/// `spec`: a specification to start from.
pub(crate) fn spec(options: &Options) -> Result<i32, Failure> {
    if options.has(&["rootless"]) {
        return Err("spec --rootless is not supported: there are no user namespaces yet".into());
    }
    let path = Path::new(options.value(&["bundle", "b"]).unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(format!("File {} exists. Remove it first", path.display()).into());
    }
    std::fs::write(&path, serde_json::to_vec_pretty(&template())?)?;
    Ok(0)
}

fn template() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "gantry",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// `features`: what we can, in the specification's form.
pub(crate) fn features() -> Result<i32, Failure> {
    let options = [
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "exec",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "rexec",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnosuid",
        "ro",
        "rprivate",
        "rro",
        "rshared",
        "rslave",
        "rsuid",
        "runbindable",
        "rw",
        "shared",
        "slave",
        "strictatime",
        "suid",
        "unbindable",
    ];
    let actions = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP"];
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"];
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": options.to_vec(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": gantry_sys::caps::NAMES.to_vec(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": actions.map(|name| format!("SCMP_ACT_{name}")),
                "operators": operators.map(|name| format!("SCMP_CMP_{name}")),
                "archs": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } }
        },
        "annotations": { "io.gantry.runtime.version": crate::VERSION }
    });
    line(&serde_json::to_string_pretty(&document)?)
}
