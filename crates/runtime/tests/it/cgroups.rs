//! Control groups: limits that hold, what is counted, and nothing left.

use std::path::Path;

use gantry_runtime::cgroup::{self, Cgroup};
use oci_spec::runtime::LinuxResources;
use serde_json::json;

use crate::rig::{Rig, finish, skipped, spec};

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).expect("resources")
}

#[test]
fn a_process_without_memory_is_killed_and_that_is_counted() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cgroup = rig.cgroup(Some(&resources(json!({"memory": {"limit": 8 << 20, "swap": 8 << 20}}))));
    assert_eq!(cgroup.oom_kill_count().expect("count"), 0);
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?";
    let outcome = rig.run_in(&spec(&["sh", "-c", script], |_| {}), &rig.overlay(), &cgroup).expect("runs");
    assert_eq!(outcome.stdout, "137\n", "{outcome:?}");
    assert_eq!(cgroup.oom_kill_count().expect("count"), 1);
    let stats = cgroup.stats().expect("stats");
    assert_eq!(stats.memory_limit_bytes, 8 << 20);
    assert!(stats.cpu_total_ns > 0 && stats.memory_max_usage_bytes == 8 << 20, "{stats:?}");
    cgroup.remove().expect("removed");
}

#[test]
fn processes_are_limited() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all", |spec| {
        spec["linux"]["resources"]["pids"]["limit"] = json!(4);
    });
    assert!(outcome.stderr.contains("can't fork") && !outcome.stdout.contains("all"), "{outcome:?}");
}

#[test]
fn limits_are_written_and_updated() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let mut cgroup = rig.cgroup(Some(&resources(json!({
        "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 20}
    }))));
    assert_eq!(cgroup.warnings(), Vec::<String>::new());
    for (limit, swap) in [(256_u64 << 20, 512_u64 << 20), (16 << 20, 16 << 20), (32 << 20, 64 << 20)] {
        cgroup.update(&resources(json!({"memory": {"limit": limit, "swap": swap}}))).expect("update");
        let stats = cgroup.stats().expect("stats");
        assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (limit, 20));
    }
    // A quota and a period that fit only together.
    for (quota, period) in [(400_000, 1_000_000), (5_000, 10_000), (-1, 100_000)] {
        cgroup.update(&resources(json!({"cpu": {"quota": quota, "period": period}}))).expect("update");
    }
    let bad = cgroup.update(&resources(json!({"cpu": {"cpus": "4095"}})));
    assert!(bad.is_err());
    cgroup.remove().expect("removed");
    cgroup.remove().expect("removing what is gone is fine");
    assert!(!cgroup.exists());
}

#[test]
fn all_are_frozen_and_killed() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cgroup = rig.cgroup(None);
    let script = "(while :; do sleep 0.01; done) & (while :; do sleep 0.01; done) & sleep 100";
    let (created, outputs) =
        rig.create(&spec(&["sh", "-c", script], |_| {}), &rig.overlay(), &cgroup).expect("created");
    assert_eq!(cgroup.procs().expect("procs"), [created.process.pid]);
    let process = created.start().expect("started");
    cgroup.freeze().expect("frozen");
    let frozen = cgroup.procs().expect("procs");
    assert!(!frozen.is_empty());
    // A frozen one dies all the same.
    cgroup.kill_all().expect("killed");
    assert_eq!(finish(&process, outputs, Vec::new()).code, 137);
    cgroup.thaw().ok();
    cgroup.remove().expect("removed");
    assert_eq!(cgroup.procs().expect("none"), Vec::<i32>::new());
    cgroup.kill_all().expect("nobody to kill");
}

#[test]
fn the_container_sees_its_own_cgroup_alone() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "ls /sys/fs/cgroup; cat /proc/self/cgroup | cut -d: -f3 | sort -u; cat /sys/fs/cgroup/pids/pids.max; \
        mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo refused";
    let script = script.replace("cut -d: -f3 | sort -u", "grep -vc ':/$'");
    let private = rig.script(&script, |spec| spec["linux"]["resources"]["pids"]["limit"] = json!(77));
    if rig.layout.hierarchies.is_empty() {
        eprintln!("skipped: the host has no cgroup v1");
        return;
    }
    let names: Vec<String> = rig
        .layout
        .hierarchies
        .iter()
        .map(|hierarchy| hierarchy.mount.file_name().expect("name").to_string_lossy().into_owned())
        .collect();
    let lines: Vec<&str> = private.stdout.lines().collect();
    for name in &names {
        assert!(lines.contains(&name.as_str()), "{name}: {private:?}");
    }
    // The unified one of a hybrid host, which we leave alone, is the only one not at its root.
    assert!(private.stdout.ends_with("77\nrefused\n"), "{private:?}");
    let shared = rig.script(&script, |spec| {
        spec["linux"]["resources"]["pids"]["limit"] = json!(77);
        spec["linux"]["namespaces"].as_array_mut().expect("list").retain(|kind| kind["type"] != "cgroup");
    });
    assert!(shared.stdout.ends_with("77\nrefused\n"), "{shared:?}");
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    if skipped() {
        return;
    }
    let layout = cgroup::detect().expect("cgroups");
    let path = format!("/gantry-rt-bad-{}", std::process::id());
    let result =
        Cgroup::create(&layout, Path::new(&path), Some(&resources(json!({"cpu": {"cpus": "9999"}}))));
    assert!(result.is_err());
    assert!(!Cgroup::open(&layout, Path::new(&path)).exists());
}

#[test]
fn cgroups_made_inside_go_with_it() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cgroup = rig.cgroup(None);
    let nested = format!("{}/a/b", cgroup.path().display());
    let inner = Cgroup::create(&rig.layout, Path::new(&nested), None).expect("nested");
    cgroup.remove().expect("removed");
    assert!(!inner.exists() && !cgroup.exists());
}
