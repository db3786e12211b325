//! The flags that `run` and `create` share, and the body of `POST /containers/create` from them.

use serde_json::{Map, Value, json};

use super::{env, mounts, network, ports};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Parsed, both, check, long};

/// The flags that `run` and `create` share.
pub(crate) const FLAGS: [Flag; 85] = [
    long("add-host", Kind::List, "Add a name to /etc/hosts (host:ip)"),
    long("annotation", Kind::Map, "Add an annotation (passed on to the OCI runtime)"),
    both('a', "attach", Kind::Stream, "Attach to STDIN, STDOUT or STDERR"),
    long("blkio-weight", Kind::Uint16, "Block I/O weight, 10 to 1000; 0 leaves it alone").or("0"),
    long("cap-add", Kind::List, "Add Linux capabilities"),
    long("cap-drop", Kind::List, "Drop Linux capabilities"),
    long("cgroup-parent", Kind::Text, "Parent cgroup of the container"),
    long("cgroupns", Kind::Text, "Cgroup namespace (host|private)"),
    long("cidfile", Kind::Text, "Write the container's ID to a file"),
    long("cpu-period", Kind::Int, "CPU period in microseconds"),
    long("cpu-quota", Kind::Int, "CPU time per period in microseconds"),
    long("cpu-rt-period", Kind::Int, "Real-time CPU period in microseconds"),
    long("cpu-rt-runtime", Kind::Int, "Real-time CPU time per period in microseconds"),
    both('c', "cpu-shares", Kind::Int, "CPU shares (relative weight)"),
    long("cpus", Kind::Cpus, "Number of CPUs"),
    long("cpuset-cpus", Kind::Text, "CPUs to run on (0-3, 0,1)"),
    long("cpuset-mems", Kind::Text, "Memory nodes to use (0-3, 0,1)"),
    long("device", Kind::List, "Add a device of the host"),
    long("device-cgroup-rule", Kind::List, "Add a rule to the allowed devices"),
    long("device-read-bps", Kind::List, "Limit the bytes read per second from a device"),
    long("device-read-iops", Kind::List, "Limit the reads per second from a device"),
    long("device-write-bps", Kind::List, "Limit the bytes written per second to a device"),
    long("device-write-iops", Kind::List, "Limit the writes per second to a device"),
    long("disable-content-trust", Kind::Bool, "").or("true"),
    long("dns", Kind::List, "DNS servers of the container"),
    long("dns-option", Kind::List, "Resolver options of the container"),
    long("dns-search", Kind::List, "DNS search domains of the container"),
    long("domainname", Kind::Text, "NIS domain name of the container"),
    long("entrypoint", Kind::Text, "Use this entrypoint instead of the image's"),
    both('e', "env", Kind::Env, "Set environment variables"),
    long("env-file", Kind::List, "Read environment variables from a file"),
    long("expose", Kind::List, "Expose a port or a range of ports"),
    long("group-add", Kind::List, "Join additional groups"),
    long("health-cmd", Kind::Text, "Command that checks health"),
    long("health-interval", Kind::Duration, "Time between two checks").or("0s"),
    long("health-retries", Kind::Int, "Failures in a row that make it unhealthy"),
    long("health-start-interval", Kind::Duration, "Time between two checks while it starts").or("0s"),
    long("health-start-period", Kind::Duration, "Time that it may take to start").or("0s"),
    long("health-timeout", Kind::Duration, "Time that one check may take").or("0s"),
    both('h', "hostname", Kind::Text, "Host name of the container"),
    long("init", Kind::Bool, "Run an init inside that forwards signals and reaps processes"),
    both('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached"),
    long("ip", Kind::Text, "IPv4 address (172.30.100.104)"),
    long("ip6", Kind::Text, "IPv6 address (2001:db8::33)"),
    long("ipc", Kind::Text, "IPC namespace to use"),
    both('l', "label", Kind::List, "Set labels"),
    long("label-file", Kind::List, "Read labels from a file"),
    long("link", Kind::List, "Add a link to another container"),
    long("log-driver", Kind::Text, "Logging driver"),
    long("log-opt", Kind::List, "Options of the logging driver"),
    long("mac-address", Kind::Text, "MAC address (92:d0:c6:0a:29:33)"),
    both('m', "memory", Kind::Bytes, "Memory limit"),
    long("memory-reservation", Kind::Bytes, "Soft memory limit"),
    long("memory-swap", Kind::SwapBytes, "Limit of memory and swap together; -1 for unlimited swap"),
    long("memory-swappiness", Kind::Int, "How readily to swap, 0 to 100").or("-1"),
    long("mount", Kind::Mount, "Attach a file system"),
    long("name", Kind::Text, "Name of the container"),
    long("network", Kind::Network, "Connect to a network"),
    long("network-alias", Kind::List, "Another name on the network"),
    long("no-healthcheck", Kind::Bool, "Do not run the image's health check"),
    long("oom-kill-disable", Kind::Bool, "Do not kill when memory is short"),
    long("oom-score-adj", Kind::Int, "Preference to be killed when memory is short (-1000 to 1000)"),
    long("pid", Kind::Text, "PID namespace to use"),
    long("pids-limit", Kind::Int, "Limit of processes; -1 for none"),
    long("platform", Kind::Text, "Platform of the image"),
    long("privileged", Kind::Bool, "Give all rights to the container"),
    both('p', "publish", Kind::List, "Publish ports of the container on the host"),
    both('P', "publish-all", Kind::Bool, "Publish all exposed ports on random ports"),
    long("pull", Kind::Text, "Fetch the image first (always, missing, never)").or("missing"),
    both('q', "quiet", Kind::Bool, "Do not show the progress of a fetch"),
    long("read-only", Kind::Bool, "Mount the root file system read-only"),
    long("restart", Kind::Text, "What to do when the container exits").or("no"),
    long("rm", Kind::Bool, "Remove the container and its anonymous volumes when it exits"),
    long("runtime", Kind::Text, "Runtime to use"),
    long("security-opt", Kind::List, "Security options"),
    long("shm-size", Kind::Bytes, "Size of /dev/shm"),
    long("stop-signal", Kind::Text, "Signal that stops the container"),
    long("stop-timeout", Kind::Int, "Seconds to wait before killing"),
    long("storage-opt", Kind::Map, "Options of the storage driver"),
    long("sysctl", Kind::Sysctl, "Kernel settings of the container"),
    long("tmpfs", Kind::List, "Mount a tmpfs"),
    both('t', "tty", Kind::Bool, "Allocate a terminal"),
    long("ulimit", Kind::Ulimit, "Resource limits"),
    both('u', "user", Kind::Text, "User (name|uid[:group|gid])"),
    long("userns", Kind::Text, "User namespace to use"),
];

/// The flags of [`FLAGS`] that there was no room for in one list: those of mounts and places.
pub(crate) const MORE: [Flag; 5] = [
    long("uts", Kind::Text, "UTS namespace to use"),
    both('v', "volume", Kind::List, "Mount a volume or a path of the host"),
    long("volume-driver", Kind::Text, "Volume driver"),
    long("volumes-from", Kind::List, "Mount the volumes of another container"),
    both('w', "workdir", Kind::Text, "Working directory inside"),
];

/// Builds the body of `POST /containers/create`. The first argument is the image.
///
/// # Errors
/// Docker's texts for values that contradict one another or cannot be read; to be shown with the
/// verb's name in front.
pub(crate) fn body(flags: &Parsed, detach: bool) -> Outcome<Value> {
    let refuse = |text: String| Failure::plain(text);
    if flags.is("rm") && !matches!(flags.text("restart"), "no" | "") {
        return Err(Failure::plain("conflicting options: cannot specify both --restart and --rm"));
    }
    let mut ports = ports::Ports::default();
    flags.list("publish").into_iter().try_for_each(|spec| ports.publish(spec)).map_err(refuse)?;
    flags.list("expose").into_iter().try_for_each(|spec| ports.expose(spec)).map_err(refuse)?;
    let (mut binds, mut volumes) = (Vec::new(), Map::new());
    for spec in flags.list("volume") {
        match mounts::parse_volume(spec).map_err(refuse)? {
            mounts::Volume::Bind(bind) => binds.push(bind),
            mounts::Volume::Anonymous(path) => drop(volumes.insert(path, json!({}))),
        }
    }
    let (mode, networking) = network::config(flags).map_err(refuse)?;
    let mut config = config(flags, detach)?;
    config.insert("Volumes".into(), Value::Object(volumes));
    if !ports.exposed.is_empty() {
        config.insert("ExposedPorts".into(), Value::Object(ports.exposed));
    }
    let mut host = host_config(flags)?;
    host.insert("Binds".into(), or_null(binds));
    host.insert("NetworkMode".into(), json!(mode));
    host.insert("PortBindings".into(), Value::Object(ports.bindings));
    config.insert("HostConfig".into(), Value::Object(host));
    config.insert("NetworkingConfig".into(), networking);
    Ok(Value::Object(config))
}

fn or_null<T: Into<Value>>(list: Vec<T>) -> Value {
    if list.is_empty() { Value::Null } else { Value::Array(list.into_iter().map(Into::into).collect()) }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Which streams are attached: (stdin, stdout, stderr).
pub(crate) fn attached(flags: &Parsed, detach: bool) -> (bool, bool, bool) {
    if detach {
        return (false, false, false);
    }
    let wanted = flags.list("attach");
    if wanted.is_empty() {
        return (flags.is("interactive"), true, true);
    }
    let has = |name: &str| wanted.iter().any(|stream| stream.eq_ignore_ascii_case(name));
    (has("stdin"), has("stdout"), has("stderr"))
}

fn config(flags: &Parsed, detach: bool) -> Outcome<Map<String, Value>> {
    let (stdin, stdout, stderr) = attached(flags, detach);
    let entrypoint = match flags.given_text("entrypoint") {
        Some(program) => json!([program]),
        None => Value::Null,
    };
    let mut config = object(json!({
        "Hostname": flags.text("hostname"),
        "Domainname": flags.text("domainname"),
        "User": flags.text("user"),
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "Tty": flags.is("tty"),
        "OpenStdin": flags.is("interactive"),
        "StdinOnce": flags.is("interactive") && stdin,
        "Env": or_null(env::variables(&flags.list("env-file"), &flags.list("env"))?),
        "Cmd": or_null(flags.args[1..].to_vec()),
        "Image": flags.args[0],
        "WorkingDir": flags.text("workdir"),
        "Entrypoint": entrypoint,
        "Labels": env::labels(&flags.list("label-file"), &flags.list("label"))?,
    }));
    if let Some(signal) = flags.given_text("stop-signal") {
        config.insert("StopSignal".into(), json!(signal));
    }
    if flags.given("stop-timeout") {
        config.insert("StopTimeout".into(), json!(flags.int("stop-timeout")));
    }
    if let Some(check) = health(flags)? {
        config.insert("Healthcheck".into(), check);
    }
    Ok(config)
}

fn health(flags: &Parsed) -> Outcome<Option<Value>> {
    const OTHERS: [&str; 6] = [
        "health-cmd",
        "health-interval",
        "health-retries",
        "health-start-interval",
        "health-start-period",
        "health-timeout",
    ];
    let any = OTHERS.iter().any(|name| flags.given(name));
    if flags.is("no-healthcheck") {
        return if any {
            Err(Failure::plain("--no-healthcheck conflicts with --health-* options"))
        } else {
            Ok(Some(json!({"Test": ["NONE"]})))
        };
    }
    if !any {
        return Ok(None);
    }
    let mut check = Map::new();
    if let Some(command) = flags.given_text("health-cmd") {
        check.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    for (flag, field) in [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ] {
        if flags.nanos(flag) < 0 {
            return Err(Failure::plain(format!("--{flag} cannot be negative")));
        }
        if flags.nanos(flag) > 0 {
            check.insert(field.into(), json!(flags.nanos(flag)));
        }
    }
    if flags.int("health-retries") > 0 {
        check.insert("Retries".into(), json!(flags.int("health-retries")));
    }
    Ok(Some(Value::Object(check)))
}

fn host_config(flags: &Parsed) -> Outcome<Map<String, Value>> {
    let (cap_add, cap_drop) = capabilities(&flags.list("cap-add"), &flags.list("cap-drop"));
    let mut mounts = Vec::new();
    for text in flags.list("mount") {
        mounts.push(mounts::parse_mount(text).map_err(Failure::plain)?);
    }
    let mut host = object(json!({
        "ContainerIDFile": flags.text("cidfile"),
        "LogConfig": {"Type": flags.text("log-driver"), "Config": env::key_values(flags.list("log-opt"))},
        "RestartPolicy": restart_policy(flags.text("restart"))?,
        "AutoRemove": flags.is("rm"),
        "VolumeDriver": flags.text("volume-driver"),
        "VolumesFrom": or_null(flags.list("volumes-from")),
        "ConsoleSize": [0, 0],
        "CapAdd": or_null(cap_add),
        "CapDrop": or_null(cap_drop),
        "CgroupnsMode": flags.text("cgroupns"),
        "Dns": flags.list("dns"),
        "DnsOptions": flags.list("dns-option"),
        "DnsSearch": flags.list("dns-search"),
        "ExtraHosts": or_null(flags.list("add-host")),
        "GroupAdd": or_null(flags.list("group-add")),
        "IpcMode": flags.text("ipc"),
        "Links": or_null(flags.list("link")),
        "OomScoreAdj": flags.int("oom-score-adj"),
        "PidMode": flags.text("pid"),
        "Privileged": flags.is("privileged"),
        "PublishAllPorts": flags.is("publish-all"),
        "ReadonlyRootfs": flags.is("read-only"),
        "UTSMode": flags.text("uts"),
        "UsernsMode": flags.text("userns"),
        "ShmSize": flags.bytes("shm-size"),
    }));
    let (security, unconfined_paths) = security_options(&flags.list("security-opt"))?;
    host.insert("SecurityOpt".into(), or_null(security));
    let paths = if unconfined_paths { json!([]) } else { Value::Null };
    host.insert("MaskedPaths".into(), paths.clone());
    host.insert("ReadonlyPaths".into(), paths);
    host.extend(resources(flags)?);
    if !mounts.is_empty() {
        host.insert("Mounts".into(), Value::Array(mounts));
    }
    for (flag, field) in [("storage-opt", "StorageOpt"), ("sysctl", "Sysctls"), ("annotation", "Annotations")]
    {
        if flags.given(flag) {
            host.insert(field.into(), Value::Object(env::key_values(flags.list(flag))));
        }
    }
    if flags.given("tmpfs") {
        let pairs = flags.list("tmpfs").into_iter().map(|text| text.split_once(':').unwrap_or((text, "")));
        host.insert("Tmpfs".into(), pairs.map(|(path, options)| (path.to_owned(), json!(options))).collect());
    }
    if flags.given("init") {
        host.insert("Init".into(), json!(flags.is("init")));
    }
    if let Some(runtime) = flags.given_text("runtime") {
        host.insert("Runtime".into(), json!(runtime));
    }
    Ok(host)
}

/// The limits, as `create` sends them; `update` has its own list.
fn resources(flags: &Parsed) -> Outcome<Map<String, Value>> {
    let refuse = |text: String| Failure::plain(text);
    let mut ulimits = Vec::new();
    for text in flags.list("ulimit") {
        let (name, soft, hard) = check::ulimit(text).map_err(refuse)?;
        ulimits.push(json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    let mut devices = Vec::new();
    for text in flags.list("device") {
        devices.push(device(text)?);
    }
    let rates = |flag: &str, sized: bool| {
        flags
            .list(flag)
            .into_iter()
            .map(|text| rate(text, sized))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)
    };
    Ok(object(json!({
        "CpuShares": flags.int("cpu-shares"),
        "Memory": flags.bytes("memory"),
        "NanoCpus": check::nano_cpus(flags.text("cpus")).unwrap_or(0),
        "CgroupParent": flags.text("cgroup-parent"),
        "BlkioWeight": flags.int("blkio-weight"),
        "BlkioDeviceReadBps": rates("device-read-bps", true)?,
        "BlkioDeviceWriteBps": rates("device-write-bps", true)?,
        "BlkioDeviceReadIOps": rates("device-read-iops", false)?,
        "BlkioDeviceWriteIOps": rates("device-write-iops", false)?,
        "CpuPeriod": flags.int("cpu-period"),
        "CpuQuota": flags.int("cpu-quota"),
        "CpuRealtimePeriod": flags.int("cpu-rt-period"),
        "CpuRealtimeRuntime": flags.int("cpu-rt-runtime"),
        "CpusetCpus": flags.text("cpuset-cpus"),
        "CpusetMems": flags.text("cpuset-mems"),
        "Devices": devices,
        "DeviceCgroupRules": or_null(flags.list("device-cgroup-rule")),
        "MemoryReservation": flags.bytes("memory-reservation"),
        "MemorySwap": flags.bytes("memory-swap"),
        "MemorySwappiness": flags.int("memory-swappiness"),
        "OomKillDisable": flags.is("oom-kill-disable"),
        "PidsLimit": flags.int("pids-limit"),
        "Ulimits": ulimits,
    })))
}

/// A restart policy: name and, for `on-failure`, how often.
///
/// # Errors
/// Docker's text for a count that is none.
pub(crate) fn restart_policy(text: &str) -> Outcome<Value> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && !text.is_empty() {
        return Err(Failure::plain("invalid restart policy format: no policy provided before colon"));
    }
    let maximum = match count {
        "" => 0,
        digits => digits.parse::<i64>().map_err(|_| {
            Failure::plain("invalid restart policy format: maximum retry count must be an integer")
        })?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": maximum}))
}

fn device(text: &str) -> Outcome<Value> {
    let parts: Vec<_> = text.split(':').collect();
    let is_mode = |part: &str| !part.is_empty() && part.chars().all(|letter| "rwm".contains(letter));
    let (host, inside, mode) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (host, inside, mode),
        _ => return Err(Failure::plain(format!("invalid device specification: {text}"))),
    };
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}))
}

fn rate(text: &str, sized: bool) -> Result<Value, String> {
    let invalid = || format!("bad format: {text}. Correct format is <device-path>:<number>[<unit>]");
    let (path, number) = text.split_once(':').ok_or_else(invalid)?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let value =
        if sized { check::bytes(number).ok() } else { number.parse().ok().filter(|rate: &i64| *rate >= 0) };
    Ok(json!({"Path": path, "Rate": value.ok_or_else(invalid)?}))
}

/// Capability names in the kernel's form, without repetitions; what is added is not dropped.
fn capabilities(add: &[&str], drop: &[&str]) -> (Vec<String>, Vec<String>) {
    let normal = |names: &[&str]| {
        let mut out: Vec<String> = Vec::new();
        for name in names {
            let upper = name.trim().to_ascii_uppercase();
            let full =
                if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if !out.contains(&full) {
                out.push(full);
            }
        }
        if out.iter().any(|name| name == "ALL") { vec!["ALL".to_owned()] } else { out }
    };
    let (add, mut drop) = (normal(add), normal(drop));
    drop.retain(|name| !add.contains(name) || name == "ALL");
    (add, drop)
}

/// Security options with a seccomp profile's file read in, and whether `systempaths=unconfined`.
fn security_options(options: &[&str]) -> Outcome<(Vec<String>, bool)> {
    let (mut out, mut unconfined) = (Vec::new(), false);
    for option in options {
        if *option == "systempaths=unconfined" {
            unconfined = true;
            continue;
        }
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        if value.is_empty() && key != "no-new-privileges" {
            return Err(Failure::plain(format!("Invalid --security-opt: {option:?}")));
        }
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let profile = std::fs::read_to_string(value).map_err(|error| {
                Failure::plain(format!(
                    "opening seccomp profile ({value}) failed: open {value}: {}",
                    env::describe(&error)
                ))
            })?;
            let compact: Value = serde_json::from_str(&profile).map_err(|error| {
                Failure::plain(format!("compacting json for seccomp profile ({value}) failed: {error}"))
            })?;
            out.push(format!("seccomp={compact}"));
        } else {
            out.push((*option).to_owned());
        }
    }
    Ok((out, unconfined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Order, parse};

    static ALL: [Flag; 90] = crate::commands::join(FLAGS, MORE);

    fn body_of(line: &[&str]) -> Result<Value, String> {
        let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let parsed = parse(&ALL, Order::FlagsFirst, &words).map_err(|failure| failure.text)?;
        body(&parsed, false).map_err(|failure| failure.text)
    }

    #[test]
    fn flags_reach_their_fields() {
        let body = body_of(&[
            "-it",
            "-p",
            "80:8080",
            "--cpus",
            "1.5",
            "-m",
            "64m",
            "--restart",
            "on-failure:3",
            "--entrypoint",
            "",
            "--cap-add",
            "sys_admin",
            "--cap-drop",
            "all",
            "--tmpfs",
            "/y:size=1m",
            "--device",
            "/dev/null:r",
            "-v",
            "/tmp:/x:ro",
            "--init",
            "-e",
            "A=b",
            "busybox",
            "sleep",
            "-1",
        ])
        .unwrap();
        for (pointer, want) in [
            ("/Cmd", json!(["sleep", "-1"])),
            ("/Entrypoint", json!([""])),
            ("/StdinOnce", json!(true)),
            ("/Env", json!(["A=b"])),
            ("/ExposedPorts", json!({"8080/tcp": {}})),
            ("/HostConfig/NanoCpus", json!(1_500_000_000)),
            ("/HostConfig/Memory", json!(64 << 20)),
            ("/HostConfig/RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
            ("/HostConfig/CapAdd", json!(["CAP_SYS_ADMIN"])),
            ("/HostConfig/CapDrop", json!(["ALL"])),
            ("/HostConfig/Tmpfs", json!({"/y": "size=1m"})),
            ("/HostConfig/Devices/0/CgroupPermissions", json!("r")),
            ("/HostConfig/Binds", json!(["/tmp:/x:ro"])),
            ("/HostConfig/Init", json!(true)),
            ("/HostConfig/NetworkMode", json!("default")),
        ] {
            assert_eq!(body.pointer(pointer), Some(&want), "{pointer}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, why) in [
            (
                &["--rm", "--restart", "always", "b"][..],
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                &["--restart", "on-failure:x", "b"],
                "invalid restart policy format: maximum retry count must be an integer",
            ),
            (
                &["--no-healthcheck", "--health-cmd", "x", "b"],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (&["--security-opt", "x", "b"], "Invalid --security-opt: \"x\""),
        ] {
            assert_eq!(body_of(line).unwrap_err(), why);
        }
    }
}
