//! The body of `POST /containers/create` from the flags of `run` and `create` ([`super::options`]).

use serde_json::{Map, Value, json};

use super::{env, mounts, network, ports};
use crate::failure::{Failure, Outcome};
use crate::flags::{Parsed, check};

/// Builds the body of `POST /containers/create`. The first argument is the image.
///
/// # Errors
/// Docker's texts for values that contradict one another or cannot be read; to be shown with the
/// verb's name in front.
pub(crate) fn body(flags: &Parsed, detach: bool) -> Outcome<Value> {
    let refuse = |text: String| Failure::plain(text);
    let swappiness = flags.int("memory-swappiness");
    if !(-1..=100).contains(&swappiness) {
        return Err(Failure::plain(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    restart_policy(flags.text("restart"))?;
    if flags.is("rm") && !matches!(flags.text("restart"), "no" | "") {
        return Err(Failure::plain("conflicting options: cannot specify both --restart and --rm"));
    }
    modes(flags)?;
    if flags.text("log-driver") == "none" && flags.given("log-opt") {
        return Err(Failure::plain("invalid logging opts for driver none"));
    }
    if flags.list("storage-opt").iter().any(|option| !option.contains('=')) {
        return Err(Failure::plain("invalid storage option"));
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

/// Refuses namespaces' modes that are none.
fn modes(flags: &Parsed) -> Outcome {
    let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    for (flag, name, allowed) in [
        ("pid", "PID", &["", "host"][..]),
        ("uts", "UTS", &["", "host"]),
        ("userns", "USER", &["", "host"]),
        ("cgroupns", "CGROUP", &["", "host", "private"]),
    ] {
        let mode = flags.text(flag);
        let valid = allowed.contains(&mode) || (flag == "pid" && of_container(mode));
        if !valid {
            return Err(Failure::plain(format!("--{flag}: invalid {name} mode")));
        }
    }
    Ok(())
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
    (has("stdin") || flags.is("interactive"), has("stdout"), has("stderr"))
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
    if let Some(command) = flags.given_text("health-cmd").filter(|command| !command.is_empty()) {
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
    if flags.int("health-retries") < 0 {
        return Err(Failure::plain("--health-retries cannot be negative"));
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
        "ExtraHosts": or_null(hosts(flags)?),
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
    for (flag, field) in [("runtime", "Runtime"), ("isolation", "Isolation")] {
        if let Some(name) = flags.given_text(flag) {
            host.insert(field.into(), json!(name));
        }
    }
    if flags.given("init") {
        host.insert("Init".into(), json!(flags.is("init")));
    }
    Ok(host)
}

/// The limits, as `create` sends them; `update` has its own list.
fn resources(flags: &Parsed) -> Outcome<Map<String, Value>> {
    let refuse = |text: String| Failure::plain(text);
    // The last of a name counts.
    let mut ulimits = std::collections::BTreeMap::new();
    for text in flags.list("ulimit") {
        let (name, soft, hard) = check::ulimit(text).map_err(refuse)?;
        ulimits.insert(name, json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    let ulimits: Vec<Value> = ulimits.into_values().collect();
    let mut devices = Vec::new();
    for text in flags.list("device") {
        devices.push(device(text)?);
    }
    let rates = |flag: &str, sized: bool| -> Outcome<Vec<Value>> {
        let rates = flags.list(flag).into_iter().map(|text| check::rate(text, sized));
        rates
            .map(|rate| Ok(json!({"Path": rate.clone().map_err(refuse)?.0, "Rate": rate.map_err(refuse)?.1})))
            .collect()
    };
    let mut weights = Vec::new();
    for text in flags.list("blkio-weight-device") {
        let (path, weight) = check::weight(text).map_err(refuse)?;
        weights.push(json!({"Path": path, "Weight": weight}));
    }
    Ok(object(json!({
        "CpuShares": flags.int("cpu-shares"),
        "Memory": flags.bytes("memory"),
        "NanoCpus": check::nano_cpus(flags.text("cpus")).unwrap_or(0),
        "CgroupParent": flags.text("cgroup-parent"),
        "BlkioWeight": flags.int("blkio-weight"),
        "BlkioWeightDevice": weights,
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
        "DeviceRequests": device_requests(flags)?,
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

/// `--add-host` values as the API takes them.
fn hosts(flags: &Parsed) -> Outcome<Vec<String>> {
    flags.list("add-host").into_iter().map(|text| check::host_entry(text).map_err(Failure::plain)).collect()
}

/// `--gpus` as device requests; nothing where none was asked for.
fn device_requests(flags: &Parsed) -> Outcome<Value> {
    let mut requests = Vec::new();
    for text in flags.list("gpus") {
        let mut request = object(json!({
            "Driver": "", "Count": 0, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {},
        }));
        for (key, value) in check::gpus(text).map_err(Failure::plain)? {
            let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
            match key.as_str() {
                "driver" => request.insert("Driver".into(), json!(value)),
                "device" => request.insert("DeviceIDs".into(), json!(list())),
                "capabilities" => {
                    let all: Vec<String> = list().into_iter().chain(["gpu".to_owned()]).collect();
                    request.insert("Capabilities".into(), json!([all]))
                }
                "options" => {
                    request.insert("Options".into(), Value::Object(env::key_values(value.split(','))))
                }
                _ => request.insert("Count".into(), json!(value.parse::<i64>().unwrap_or(-1))),
            };
        }
        if !request["DeviceIDs"].is_array() && request["Count"] == 0 {
            request.insert("Count".into(), json!(1));
        }
        requests.push(Value::Object(request));
    }
    Ok(or_null(requests))
}

fn device(text: &str) -> Outcome<Value> {
    let refuse = |why: String| Err(Failure::plain(why));
    let parts: Vec<_> = text.split(':').collect();
    let is_mode = |part: &str| {
        !part.is_empty()
            && part.chars().all(|letter| "rwm".contains(letter) && part.matches(letter).count() == 1)
    };
    let (host, inside, mode) = match parts[..] {
        ["", ..] => return refuse(format!("bad format for path: {text}")),
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [_, _, mode] if !is_mode(mode) => return refuse(format!("bad mode specified: {mode}")),
        [host, inside, mode] => (host, inside, mode),
        _ => return refuse(format!("bad format for path: {text}")),
    };
    if !inside.starts_with('/') {
        return refuse(format!("{inside} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}))
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
        out
    };
    (normal(add), normal(drop))
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
                // Opening a directory works; reading it does not.
                let action = if error.kind() == std::io::ErrorKind::IsADirectory { "read" } else { "open" };
                Failure::plain(format!(
                    "opening seccomp profile ({value}) failed: {action} {value}: {}",
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
    use crate::flags::{Flag, Order, parse};
    use crate::spec::options::CREATE;

    static ALL: [Flag; 100] = CREATE;

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
            (&["--pid", "bogus", "b"], "--pid: invalid PID mode"),
            (&["--device", "nope", "b"], "nope is not an absolute path"),
            (&["--device", "/dev/x:/y:q", "b"], "bad mode specified: q"),
            (&["--storage-opt", "size", "b"], "invalid storage option"),
            (
                &["--memory-swappiness", "101", "b"],
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
            (&["--log-driver", "none", "--log-opt", "a=b", "b"], "invalid logging opts for driver none"),
            (
                &["--network-alias", "x", "b"],
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (&["--env-file", "/", "b"], "invalid env file (/): read /: is a directory"),
            (&["--security-opt", "x", "b"], "Invalid --security-opt: \"x\""),
        ] {
            assert_eq!(body_of(line).unwrap_err(), why);
        }
    }
}
