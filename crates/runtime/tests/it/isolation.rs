//! Namespaces, what is hidden, and what is left in the host.

use std::os::fd::AsFd;

use gantry_runtime::launch::{self, Joined, Launch, Supervise};
use gantry_runtime::sandbox::{self, SandboxSpec, UtsNames};
use serde_json::json;

use crate::rig::{Rig, finish, pipes, skipped, spec};

const KINDS: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

#[test]
fn every_listed_namespace_is_new_and_the_rest_is_the_hosts() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; echo $$; hostname";
    let host: Vec<String> = KINDS
        .iter()
        .map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("link").display().to_string())
        .collect();
    let outcome = rig.script(script, |_| {});
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (at, kind) in KINDS.iter().enumerate() {
        assert_ne!(lines[at], host[at], "{kind}");
    }
    assert_eq!(lines[6..], ["1", "bench"]);
    let shared = rig.script(script, |spec| {
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}]);
    });
    let lines: Vec<&str> = shared.stdout.lines().collect();
    for (at, kind) in KINDS.iter().enumerate().skip(2) {
        assert_eq!(lines[at], host[at], "{kind}");
    }
}

#[test]
fn a_sandbox_is_joined() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let uts = UtsNames { hostname: "sandboxed".into(), domainname: String::new() };
    let made = sandbox::create(SandboxSpec { net: true, ipc: true, uts: Some(uts) }).expect("sandbox");
    let spec = spec(&["sh", "-c", "hostname; ip addr show lo | grep -c 'inet 127.0.0.1'"], |_| {});
    let cgroup = rig.cgroup(None);
    for _ in 0..2 {
        let (stdio, outputs) = pipes();
        let created = launch::create(Launch {
            spec: &spec,
            root: &rig.overlay(),
            namespaces: Joined {
                net: made.net.as_ref().map(AsFd::as_fd),
                ipc: made.ipc.as_ref().map(AsFd::as_fd),
                uts: made.uts.as_ref().map(AsFd::as_fd),
                ..Joined::default()
            },
            stdio,
            cgroup: Some(&cgroup),
            supervise: Supervise::Child,
            init: None,
        })
        .expect("created");
        let process = created.start().expect("started");
        assert_eq!(finish(&process, outputs, Vec::new()).stdout, "sandboxed\n1\n");
    }
    cgroup.remove().expect("removed");
}

#[test]
fn another_containers_processes_can_be_shared() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cgroup = rig.cgroup(None);
    let (created, _outputs) =
        rig.create(&spec(&["sleep", "100"], |_| {}), &rig.overlay(), &cgroup).expect("created");
    let first = created.start().expect("started");
    let namespace = std::fs::File::open(format!("/proc/{}/ns/pid", first.pid)).expect("open");
    let own = std::fs::read_link("/proc/thread-self/ns/pid_for_children").expect("link");
    let (stdio, outputs) = pipes();
    let second = Rig::new();
    let created = launch::create(Launch {
        spec: &spec(&["sh", "-c", "ps | grep -c 'sleep 10[0]'; echo $$"], |_| {}),
        root: &second.overlay(),
        namespaces: Joined { pid: Some(namespace.as_fd()), ..Joined::default() },
        stdio,
        cgroup: Some(&cgroup),
        supervise: Supervise::Child,
        init: None,
    })
    .expect("created");
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/pid_for_children").expect("link"), own);
    let process = created.start().expect("started");
    assert_eq!(finish(&process, outputs, Vec::new()).stdout, "1\n2\n");
    first.signal(libc::SIGKILL).expect("kill");
    assert_eq!(first.wait().expect("wait").code(), 137);
    cgroup.remove().expect("removed");
}

#[test]
fn masked_paths_show_nothing_and_read_only_ones_refuse() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v : | grep -c .; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
        (echo x > $f) 2>/dev/null && echo wrote $f; done; true";
    let outcome = rig.script(script, |_| {});
    assert_eq!(outcome.stdout, "0\n0\n", "{outcome:?}");
}

#[test]
fn the_old_root_and_the_makers_descriptors_are_gone() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome =
        rig.script("ls /proc/self/fd | wc -l; cat /proc/self/mountinfo | grep -c /tmp/; ls /", |_| {});
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    // 0, 1, 2 and the directory itself.
    assert_eq!(lines[..2], ["4", "1"], "{outcome:?}");
    assert_eq!(lines[2..], ["bin", "dev", "etc", "proc", "sys", "tmp"], "{outcome:?}");
}

#[test]
fn the_container_dies_with_its_maker() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cgroup = rig.cgroup(None);
    // PR_SET_PDEATHSIG is about the thread that forked.
    let process = std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            let (created, _) =
                rig.create(&spec(&["sleep", "100"], |_| {}), &rig.overlay(), &cgroup).expect("created");
            created.start().expect("started")
        });
        maker.join().expect("the maker")
    });
    assert_eq!(process.wait().expect("wait").code(), 137);
    cgroup.remove().expect("removed");
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read");
    let outcome =
        rig.script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", |spec| {
            spec["linux"]["sysctl"] =
                json!({"net.ipv4.ip_unprivileged_port_start": "7", "kernel.msgmax": "4711"});
        });
    assert_eq!(outcome.stdout, "7\n4711\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read"), before);
    let bad = rig.run(&spec(&["true"], |spec| spec["linux"]["sysctl"] = json!({"../../etc/x": "7"})));
    assert!(bad.is_err());
}
