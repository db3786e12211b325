//! Further processes in a running container.

use std::collections::HashMap;
use std::io::Read;

use gantry_runtime::cgroup::Cgroup;
use gantry_runtime::exec::{self, Exec};
use gantry_runtime::launch::{Stdio, Supervise};
use gantry_runtime::{LaunchError, Process, Reason};
use serde_json::{Value, json};

use crate::rig::{Outcome, Rig, finish, pipes, skipped, spec};

struct Running<'a> {
    rig: &'a Rig,
    cgroup: Cgroup,
    process: Process,
}

impl<'a> Running<'a> {
    fn new(rig: &'a Rig, change: impl FnOnce(&mut Value)) -> Self {
        let cgroup = rig.cgroup(None);
        let (created, _) =
            rig.create(&spec(&["sleep", "1000"], change), &rig.overlay(), &cgroup).expect("created");
        Self { rig, cgroup, process: created.start().expect("started") }
    }

    fn exec(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> Result<Outcome, LaunchError> {
        let base = spec(args, |value| change(&mut value["process"]));
        let annotations: HashMap<String, String> = base.annotations().clone().unwrap_or_default();
        let (stdio, outputs) = pipes();
        let created = exec::exec(Exec {
            target: &self.process,
            process: base.process().as_ref().expect("process"),
            annotations: &annotations,
            stdio,
            cgroup: Some(&self.cgroup),
            seccomp: None,
            supervise: Supervise::Child,
        })?;
        let warnings = created.warnings.clone();
        Ok(finish(&created.start()?, outputs, warnings))
    }

    fn end(self) {
        self.process.signal(libc::SIGKILL).expect("kill");
        self.process.wait().expect("wait");
        self.cgroup.remove().expect("removed");
        let _ = self.rig;
    }
}

#[test]
fn an_exec_is_in_the_container() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let running = Running::new(&rig, |_| {});
    let link = |kind: &str| {
        std::fs::read_link(format!("/proc/{}/ns/{kind}", running.process.pid))
            .expect("link")
            .display()
            .to_string()
    };
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname; \
        readlink /proc/1/exe; grep -c /gantry-rt /proc/self/cgroup; grep Seccomp: /proc/self/status";
    let outcome = running.exec(&["sh", "-c", script], |_| {}).expect("runs");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (at, kind) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"].iter().enumerate() {
        assert_eq!(lines[at], link(kind), "{kind}");
    }
    // Its paths are shown from the container's cgroup namespace on.
    assert_eq!(lines[6..], ["bench", "/bin/busybox", "0", "Seccomp:\t2"], "{outcome:?}");
    assert_eq!(running.exec(&["sh", "-c", "exit 3"], |_| {}).expect("runs").code, 3);
    running.end();
}

#[test]
fn an_exec_is_in_the_cgroup_and_a_child_of_ours() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let running = Running::new(&rig, |_| {});
    let base = spec(&["sleep", "1000"], |_| {});
    let (stdio, outputs) = pipes();
    let created = exec::exec(Exec {
        target: &running.process,
        process: base.process().as_ref().expect("process"),
        annotations: &HashMap::new(),
        stdio,
        cgroup: Some(&running.cgroup),
        seccomp: None,
        supervise: Supervise::Unbound,
    })
    .expect("created");
    let mut procs = running.cgroup.procs().expect("procs");
    procs.sort_unstable();
    let mut expected = [running.process.pid, created.process.pid];
    expected.sort_unstable();
    assert_eq!(procs, expected);
    let process = created.start().expect("started");
    process.signal(libc::SIGTERM).expect("signal");
    assert_eq!(finish(&process, outputs, Vec::new()).code, 143);
    running.end();
}

#[test]
fn execs_fail_as_containers_do() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let running = Running::new(&rig, |_| {});
    for (program, reason) in
        [("nosuch", Reason::NotFound), ("/etc", Reason::NotExecutable), ("/etc/plain", Reason::NotExecutable)]
    {
        assert_eq!(running.exec(&[program], |_| {}).expect_err(program).reason, reason);
    }
    let error =
        running.exec(&["pwd"], |process| process["cwd"] = json!("/nonexistent")).expect_err("no directory");
    assert_eq!(
        error.text,
        "chdir to cwd (\"/nonexistent\") set in config.json failed: no such file or directory"
    );
    running.end();
}

#[test]
fn an_exec_can_have_a_terminal() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let running = Running::new(&rig, |_| {});
    let base = spec(&["sh", "-c", "tty; stty size"], |spec| spec["process"]["terminal"] = json!(true));
    let mut created = exec::exec(Exec {
        target: &running.process,
        process: base.process().as_ref().expect("process"),
        annotations: base.annotations().as_ref().expect("annotations"),
        stdio: Stdio::Terminal { rows: 5, cols: 6 },
        cgroup: Some(&running.cgroup),
        seccomp: None,
        supervise: Supervise::Child,
    })
    .expect("created");
    let mut master: std::fs::File = created.terminal.take().expect("terminal").into();
    let process = created.start().expect("started");
    let mut text = Vec::new();
    let _ = master.read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text).replace('\r', ""), "/dev/pts/0\n5 6\n");
    process.wait().expect("wait");
    running.end();
}

#[test]
fn a_container_that_is_gone_cannot_be_entered() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let running = Running::new(&rig, |_| {});
    running.process.signal(libc::SIGKILL).expect("kill");
    running.process.wait().expect("wait");
    assert!(running.exec(&["true"], |_| {}).is_err());
    running.cgroup.remove().expect("removed");
}
