//! What the API says when a request is wrong, in Docker's words: the same table is asked of a real dockerd with
//! `GANTRY_TEST_DOCKERD=1`. And a tour of what only the API shows.

use gantry_testkit::bench::{self, BUSYBOX};
use gantry_testkit::{Bench, Client, http};
use serde_json::{Value, json};

/// A platform that no test runs on, as a parameter.
const S390X: &str = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";

/// Sends a body and returns the status and the reply.
fn send(bench: &Bench, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/v1.51{path}");
    let (status, reply) =
        http::send(bench.daemon.socket(), method, &path, &text).expect("the daemon answers");
    (status, serde_json::from_str(&reply).unwrap_or(Value::String(reply)))
}

/// Whether the daemon is too old for this table, which has the words of Docker 28.
fn is_old(bench: &Bench) -> bool {
    let (_, reply) = http::ask(bench.daemon.socket(), "GET", "/version", "").expect("the daemon answers");
    let reply: Value = serde_json::from_str(&reply).unwrap_or_default();
    let version = reply["ApiVersion"].as_str().and_then(|text| text.strip_prefix("1.")?.parse::<u32>().ok());
    let old = version.is_none_or(|minor| minor < 51);
    if old {
        gantry_testkit::skip("the daemon does not speak version 1.51");
    }
    old
}

fn refusals(bench: &Bench) {
    if is_old(bench) {
        return;
    }
    let (name, joined) = (bench.name("plain"), bench.name("refused"));
    bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    let create = format!("/containers/create?name={joined}");
    let with = |key: &str, value: Value| json!({"Image": BUSYBOX, "Cmd": ["true"], key: value});
    let host = |value: Value| with("HostConfig", value);
    let of = |path: &str| path.replace("NAME", &name);
    let mut wrong = Vec::new();
    for (method, path, body, status, message) in [
        ("POST", create.clone(), with("Env", json!(["=x"])), 400, "invalid environment variable: =x"),
        ("POST", create.clone(), with("StopSignal", json!("BAD")), 400, "invalid signal: BAD"),
        (
            "POST",
            create.clone(),
            with("Healthcheck", json!({"Interval": 1})),
            400,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ("POST", create.clone(), host(json!({"PidMode": "x"})), 400, "invalid PID mode: x"),
        ("POST", create.clone(), host(json!({"UTSMode": "x"})), 400, "invalid UTS mode: x"),
        (
            "POST",
            create.clone(),
            host(json!({"CpusetCpus": "x"})),
            400,
            "Invalid value x for cpuset cpus: invalid format: x",
        ),
        (
            "POST",
            create.clone(),
            host(json!({"CpuPeriod": 1})),
            400,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            "POST",
            create.clone(),
            host(json!({"ExtraHosts": ["a:x"]})),
            400,
            "invalid IP address in add-host: \"x\"",
        ),
        (
            "POST",
            create.clone(),
            host(json!({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/x"}]})),
            400,
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        (
            "POST",
            format!("{create}&platform=linux/s390x"),
            with("Tty", json!(false)),
            404,
            "does not match the specified platform (linux/s390x)",
        ),
        (
            "POST",
            of("/containers/NAME/resize"),
            Value::Null,
            400,
            "invalid resize height \"\": invalid syntax",
        ),
        ("POST", of("/containers/NAME/kill?signal=BAD"), Value::Null, 400, ": invalid signal: BAD"),
        (
            "POST",
            of("/containers/NAME/rename?name=b%20c"),
            Value::Null,
            400,
            "Error when allocating new name: Invalid container name (/b c), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            "POST",
            "/containers/nosuch/rename?name=b%20c".into(),
            Value::Null,
            404,
            "No such container: nosuch",
        ),
        (
            "GET",
            "/containers/json?filters=%7B%22health%22%3A%5B%22x%22%5D%7D".into(),
            Value::Null,
            400,
            "invalid filter 'health=x': invalid value for health (x): must be one of none, starting, healthy, unhealthy",
        ),
        ("GET", "/networks/bridge?scope=swarm".into(), Value::Null, 404, "network bridge not found"),
        (
            "DELETE",
            "/networks/host".into(),
            Value::Null,
            403,
            "host is a pre-defined network and cannot be removed",
        ),
        ("POST", "/networks/create".into(), json!({"Name": ""}), 400, "invalid name: name is empty"),
        ("GET", "/nodes".into(), Value::Null, 503, "This node is not a swarm manager."),
        (
            "POST",
            "/volumes/create".into(),
            json!({"Name": "x"}),
            400,
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
        ("POST", of("/containers/NAME/start"), json!({"Binds": []}), 400, "non-empty request body"),
        (
            "POST",
            create.clone(),
            host(json!({"VolumeDriver": "nosuch", "Binds": ["some:/x"]})),
            404,
            "create some: error looking up volume plugin nosuch: plugin \"nosuch\" not found",
        ),
        (
            "POST",
            create.clone(),
            host(json!({"PortBindings": {"80-81/tcp": [{}]}})),
            400,
            "invalid port specification: \"80-81\"",
        ),
        (
            "POST",
            format!("{create}&platform=nonsense"),
            with("Tty", json!(false)),
            400,
            "\"nonsense\": unknown operating system or architecture: invalid argument",
        ),
        ("POST", "/containers/nosuch/update".into(), Value::Null, 404, "No such container: nosuch"),
        (
            "GET",
            of("/containers/NAME/stats?one-shot=1"),
            Value::Null,
            400,
            "cannot have stream=true and one-shot=true",
        ),
        (
            "GET",
            format!("/images/get?names={BUSYBOX}&platform={S390X}&platform={S390X}"),
            Value::Null,
            400,
            "multiple platform parameters not supported",
        ),
        (
            "POST",
            format!("/images/load?platform={S390X}&platform={S390X}"),
            Value::Null,
            400,
            "multiple platform parameters not supported",
        ),
        (
            "GET",
            format!("/images/{BUSYBOX}/get?platform=x"),
            Value::Null,
            400,
            "failed to parse platform: invalid character 'x' looking for beginning of value",
        ),
        (
            "GET",
            format!("/images/{BUSYBOX}/json?manifests=1&platform={S390X}"),
            Value::Null,
            400,
            "conflicting options: manifests and platform options cannot both be set",
        ),
        (
            "DELETE",
            format!("/images/{BUSYBOX}?platforms={S390X}"),
            Value::Null,
            404,
            "does not match the specified platform (linux/s390x)",
        ),
        (
            "DELETE",
            format!("/images/{BUSYBOX}?platforms={S390X}&platforms={S390X}"),
            Value::Null,
            400,
            "multiple platforms are not supported",
        ),
        ("POST", "/images/create?fromImage=UPPER".into(), Value::Null, 400, "must be lowercase"),
        ("POST", "/networks/create".into(), json!([]), 400, "invalid JSON: json: cannot unmarshal array"),
        (
            "POST",
            "/networks/bridge/connect".into(),
            json!({"Container": "nosuch"}),
            404,
            "No such container: nosuch",
        ),
        (
            "PUT",
            "/volumes/nosuch".into(),
            Value::Null,
            503,
            "volume update only valid for cluster volumes, but swarm is unavailable",
        ),
        ("DELETE", "/plugins/nosuch".into(), Value::Null, 404, "plugin \"nosuch\" not found"),
        (
            "POST",
            "/build?version=1&labels=x".into(),
            Value::Null,
            400,
            "error reading labels: invalid character 'x' looking for beginning of value",
        ),
        ("POST", "/build?version=3".into(), Value::Null, 400, "invalid version \"3\""),
    ] {
        let (got, reply) = send(bench, method, &path, &body);
        let text = reply["message"].as_str().unwrap_or_default();
        if got != status || !text.contains(message) {
            wrong.push(format!("{method} {path} {body}: {got} {reply}, not {status} {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bench.cli.ok(&["rm", "-f", &name]);
}

#[test]
fn wrong_requests_are_refused_in_dockers_words() {
    bench::run(Client::Docker, refusals);
}

/// A client reads the exit code as soon as the stream of an exec has ended.
fn exec_codes(bench: &Bench) {
    if is_old(bench) {
        return;
    }
    let name = bench.name("execs");
    bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    for _ in 0..40 {
        let wanted = json!({"AttachStdout": true, "Cmd": ["sh", "-c", "exit 7"]});
        let (status, made) = send(bench, "POST", &format!("/containers/{name}/exec"), &wanted);
        assert_eq!(status, 201, "{made}");
        let id = made["Id"].as_str().expect("an id");
        // The connection is closed by the daemon when the stream ends.
        send(bench, "POST", &format!("/exec/{id}/start"), &json!({"Detach": false}));
        let (_, seen) = send(bench, "GET", &format!("/exec/{id}/json"), &Value::Null);
        assert_eq!((&seen["Running"], &seen["ExitCode"]), (&json!(false), &json!(7)), "{seen}");
    }
    bench.cli.ok(&["rm", "-f", &name]);
}

#[test]
fn an_execs_exit_code_is_known_when_its_stream_ends() {
    bench::run(Client::Docker, exec_codes);
}

/// What a client writes below `ExposedPorts` is kept; what can be read of it is exposed.
fn odd_ports(bench: &Bench) {
    if is_old(bench) {
        return;
    }
    let name = bench.name("ports");
    let odd = json!({"80": {}, "81/TCP": {}, "nonsense": {}});
    let wanted = json!({"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "ExposedPorts": odd,
        "Volumes": {"relative": {}}, "HostConfig": {"PublishAllPorts": true}});
    let (status, made) = send(bench, "POST", &format!("/containers/create?name={name}"), &wanted);
    assert_eq!(status, 201, "{made}");
    bench.cli.ok(&["start", &name]);
    let (_, seen) = send(bench, "GET", &format!("/containers/{name}/json"), &Value::Null);
    assert_eq!(seen["Config"]["ExposedPorts"], odd);
    for port in ["80/tcp", "81/tcp"] {
        assert!(seen["NetworkSettings"]["Ports"][port][0]["HostPort"].is_string(), "{seen}");
    }
    assert_eq!(bench.cli.ok(&["exec", &name, "sh", "-c", "grep -c ' /relative ' /proc/mounts"]), "1");
    // An image has them too, and runs.
    let image = bench.name("image");
    bench.cli.ok(&["commit", &name, &image]);
    assert_eq!(bench.inspect(&image, "/Config/ExposedPorts"), odd);
    bench.cli.ok(&["rm", "-f", "-v", &name]);
    bench.cli.ok(&["run", "--rm", &image, "true"]);
    bench.cli.ok(&["rmi", &image]);
}

#[test]
fn ports_in_odd_forms_are_kept_and_exposed_where_they_can_be_read() {
    bench::run(Client::Docker, odd_ports);
}

/// What inspect tells of layers and of another's network.
fn inspected(bench: &Bench) {
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("a dockerd's paths are its own");
    }
    let (owner, guest) = (bench.name("owner"), bench.name("guest"));
    let id = bench.cli.ok(&["run", "-d", "--name", &owner, BUSYBOX, "sleep", "1000"]);
    let mode = format!("container:{owner}");
    bench.cli.ok(&["create", "--name", &guest, "--net", &mode, BUSYBOX, "true"]);
    let (_, seen) = send(bench, "GET", &format!("/containers/{guest}/json"), &Value::Null);
    assert_eq!(seen["HostConfig"]["NetworkMode"], json!(format!("container:{}", id.trim())));
    let (_, seen) = send(bench, "GET", &format!("/containers/{owner}/json"), &Value::Null);
    let data = &seen["GraphDriver"]["Data"];
    if seen["GraphDriver"]["Name"] == json!("overlay2") {
        for key in ["UpperDir", "WorkDir", "MergedDir"] {
            let path = data[key].as_str().unwrap_or_default();
            assert!(std::path::Path::new(path).is_dir(), "{key} is {path:?}");
        }
        let merged = data["MergedDir"].as_str().unwrap_or_default();
        assert!(std::path::Path::new(merged).join("bin").is_dir(), "{merged}");
    }
    bench.cli.ok(&["rm", "-f", &owner, &guest]);
}

#[test]
fn inspect_shows_where_layers_are_and_whose_network_is_joined() {
    bench::run(Client::Docker, inspected);
}
