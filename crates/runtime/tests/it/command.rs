//! The command line, as containerd calls it. With `GANTRY_TEST_RUNC=/path/to/runc` the same on runc.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::rig::{Rig, skipped, spec};

struct Line {
    rig: Rig,
    program: PathBuf,
    id: String,
    calls: std::cell::Cell<u32>,
}

impl Line {
    fn new(program: PathBuf, args: &[&str]) -> Self {
        let rig = Rig::new();
        let id = rig.base.file_name().expect("name").to_string_lossy().into_owned();
        let config = spec(args, |spec| {
            spec["root"]["path"] = json!("lower");
            spec["linux"]["cgroupsPath"] = json!(format!("/{id}"));
            spec["annotations"] = json!({"org.example.key": "value"});
        });
        std::fs::write(rig.base.join("config.json"), serde_json::to_vec(&config).expect("json"))
            .expect("write");
        Self { rig, program, id, calls: std::cell::Cell::new(0) }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.rig.base.join("state"));
        command.arg("--log").arg(self.rig.base.join("log")).args(["--log-format", "json"]);
        command.args(arguments).stdin(Stdio::null()).current_dir(&self.rig.base);
        // A process that outlives the call holds its streams: files, not pipes, and new ones for every call.
        let number = self.calls.replace(self.calls.get() + 1);
        let path = |name: &str| self.rig.base.join(format!("{name}{number}"));
        let file = |name: &str| std::fs::File::create(path(name)).expect("file");
        let status = command.stdout(file("out")).stderr(file("err")).status().expect("it runs");
        let read = |name: &str| std::fs::read(path(name)).expect("read");
        Output { status, stdout: read("out"), stderr: read("err") }
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}: {error}", self.program.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.good(&["state", &self.id])).expect("json");
        assert_eq!(state["annotations"]["org.example.key"], "value");
        state["status"].as_str().expect("text").to_owned()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.call(&["delete", "--force", &self.id]);
        let path = std::path::Path::new("/").join(&self.id);
        let left = gantry_runtime::cgroup::Cgroup::open(&self.rig.layout, &path).exists();
        assert!(!left || std::thread::panicking(), "the cgroup is left");
    }
}

fn programs() -> Vec<PathBuf> {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_gantry-runtime"));
    std::iter::once(ours).chain(std::env::var_os("GANTRY_TEST_RUNC").map(PathBuf::from)).collect()
}

#[test]
fn a_containers_life_call_by_call() {
    if skipped() {
        return;
    }
    for program in programs() {
        let line = Line::new(program, &["sh", "-c", "echo started; exec sleep 1000"]);
        let id = line.id.as_str();
        line.good(&["create", "--bundle", ".", "--pid-file", "pid", id]);
        let pid = std::fs::read_to_string(line.rig.base.join("pid")).expect("pid");
        assert_eq!(line.status(), "created");
        assert!(!line.call(&["create", "--bundle", ".", id]).status.success(), "the name is taken");
        line.good(&["start", id]);
        assert_eq!(line.status(), "running");
        assert!(!line.call(&["start", id]).status.success(), "it runs already");
        assert!(line.good(&["list"]).contains(id));
        let pids: Vec<i32> = serde_json::from_str(&line.good(&["ps", "--format", "json", id])).expect("json");
        assert_eq!(pids, [pid.parse::<i32>().expect("a number")]);
        line.good(&["pause", id]);
        assert_eq!(line.status(), "paused");
        line.good(&["resume", id]);
        assert_eq!(line.good(&["exec", id, "hostname"]), "bench\n");
        assert_eq!(line.call(&["exec", id, "sh", "-c", "exit 5"]).status.code(), Some(5));
        assert!(!line.call(&["delete", id]).status.success(), "it runs");
        std::fs::write(line.rig.base.join("limits"), r#"{"pids":{"limit":9}}"#).expect("write");
        line.good(&["update", "--resources", "limits", id]);
        assert_eq!(line.good(&["exec", id, "cat", "/sys/fs/cgroup/pids/pids.max"]), "9\n");
        line.good(&["kill", id, "KILL"]);
        for _ in 0..500 {
            if line.status() == "stopped" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        line.good(&["delete", id]);
        assert!(!line.call(&["state", id]).status.success());
    }
}

#[test]
fn run_gives_output_and_exit_code() {
    if skipped() {
        return;
    }
    for program in programs() {
        let line = Line::new(program, &["sh", "-c", "echo out; exit 42"]);
        let output = line.call(&["run", &line.id]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(42), &b"out\n"[..]));
    }
}

#[test]
fn errors_are_in_the_log_as_containerd_reads_it() {
    if skipped() {
        return;
    }
    for program in programs() {
        let line = Line::new(program, &["nosuch"]);
        assert!(!line.call(&["create", &line.id]).status.success());
        let log = std::fs::read_to_string(line.rig.base.join("log")).expect("log");
        let mut last = log.lines().filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let error = last.rfind(|entry| entry["level"] == "error").expect("an error");
        let text = error["msg"].as_str().expect("text");
        assert!(text.starts_with("runc create failed: unable to start container process: "), "{text}");
        assert!(text.ends_with("exec: \"nosuch\": executable file not found in $PATH"), "{text}");
        assert!(!line.rig.base.join("state").join(&line.id).exists());
    }
}

#[test]
fn hooks_are_called_with_the_state() {
    if skipped() {
        return;
    }
    for program in programs() {
        let line = Line::new(program, &["true"]);
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(line.rig.base.join("config.json")).expect("read"))
                .expect("json");
        for (hook, name) in [("createRuntime", "a"), ("poststart", "b"), ("poststop", "c")] {
            let out = line.rig.base.join(name);
            let script = format!("cat > {}", out.display());
            config["hooks"][hook] =
                json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
        }
        std::fs::write(line.rig.base.join("config.json"), config.to_string()).expect("write");
        line.good(&["run", &line.id]);
        for (name, status) in [("a", "creating"), ("b", "running"), ("c", "stopped")] {
            let text = std::fs::read(line.rig.base.join(name)).expect(name);
            let state: Value = serde_json::from_slice(&text).expect("json");
            assert_eq!(
                (state["id"].as_str(), state["ociVersion"].is_string()),
                (Some(line.id.as_str()), true)
            );
            // runc calls `createRuntime` a state of `creating`; the true state may have moved on for the rest.
            assert!(name != "a" || state["status"] == status, "{name}: {state}");
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_clearly() {
    if skipped() {
        return;
    }
    let line = Line::new(env!("CARGO_BIN_EXE_gantry-runtime").into(), &["true"]);
    for (arguments, expected) in [
        (&["--systemd-cgroup", "list"][..], "cgroupfs driver"),
        (&["frobnicate"], "no such command: frobnicate"),
        (&["state", "../x"], "invalid id format"),
        (&["state", "nosuch"], "container does not exist"),
    ] {
        let output = line.call(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
    }
    let features: Value = serde_json::from_str(&line.good(&["features"])).expect("json");
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert!(line.good(&["--version"]).contains("spec: 1.2"));
}
