//! Limits and figures of control groups, as the container's own files show them: one hierarchy (v2) or one for each
//! controller (v1). `cargo xtask vm` runs these on v2.

use std::path::Path;
use std::process::Command;

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::finish;
use gantry_testkit::{Bench, leak, ours, until};
use serde_json::json;

/// Whether the host has one hierarchy alone.
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The word of the two that this host's hierarchy has.
fn by_version<'a>(v1: &'a str, v2: &'a str) -> &'a str {
    if is_unified() { v2 } else { v1 }
}

/// What a running container's file says, in words with one space between.
fn file(bench: &Bench, name: &str, file: &str) -> String {
    let text = bench.cli.ok(&["exec", name, "cat", &format!("/sys/fs/cgroup/{file}")]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check(bench: &Bench, name: &str, expected: &[(&str, &str, &str, &str)]) {
    for (v1, v1_value, v2, v2_value) in expected {
        let path = by_version(v1, v2);
        assert_eq!(file(bench, name, path), *by_version(v1_value, v2_value), "{path}");
    }
}

/// The whole disk that a path's file system is on, as `major:minor` and its node; none where it is on none.
fn disk_of(path: &Path) -> Option<(String, String)> {
    let device = rustix::fs::stat(path).ok()?.st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let name = std::fs::read_link(format!("/sys/dev/block/{number}")).ok()?;
    // A partition has its disk above it, and no limits of its own.
    let is_partition = Path::new(&format!("/sys/dev/block/{number}/partition")).exists();
    let node = Path::new("/dev").join(name.file_name()?);
    (!is_partition && node.exists()).then(|| (number, node.display().to_string()))
}

ours! {
    fn processors_and_processes_are_limited_and_changed(bench) {
        let name = bench.name("limited");
        bench.cli.ok(&["run", "-d", "--name", &name, "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0",
            "--cpuset-mems", "0", "--pids-limit", "50", BUSYBOX, "sleep", "600"]);
        check(bench, &name, &[
            ("cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
            ("cpu/cpu.shares", "512", "cpu.weight", "20"),
            ("cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
            ("cpuset/cpuset.mems", "0", "cpuset.mems", "0"),
            ("pids/pids.max", "50", "pids.max", "50"),
        ]);
        bench.cli.ok(&["update", "--cpus", "0.25", "--cpu-shares", "1024", "--pids-limit", "60", &name]);
        check(bench, &name, &[
            ("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
            ("cpu/cpu.shares", "1024", "cpu.weight", "39"),
            ("pids/pids.max", "60", "pids.max", "60"),
        ]);
        bench.cli.ok(&["update", "--pids-limit", "-1", &name]);
        check(bench, &name, &[("pids/pids.max", "max", "pids.max", "max")]);
        // What was changed holds for the next start too.
        bench.cli.ok(&["restart", "-t", "0", &name]);
        check(bench, &name, &[
            ("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
            ("cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
        ]);
    }

    fn memory_is_limited_and_changed(bench) {
        let name = bench.name("memory");
        bench.cli.ok(&["run", "-d", "--name", &name, "--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m",
            BUSYBOX, "sleep", "600"]);
        check(bench, &name, &[
            ("memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
            ("memory/memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        ]);
        bench.cli.ok(&["update", "--memory", "96m", "--memory-swap", "192m", &name]);
        check(bench, &name, &[("memory/memory.limit_in_bytes", "100663296", "memory.max", "100663296")]);
        if is_unified() {
            assert_eq!(file(bench, &name, "memory.swap.max"), "100663296", "memory and swap, less memory");
        }
        // Below what was the swap's limit, and above: both orders of writing.
        bench.cli.ok(&["update", "--memory", "48m", "--memory-swap", "48m", &name]);
        check(bench, &name, &[("memory/memory.limit_in_bytes", "50331648", "memory.max", "50331648")]);
        bench.cli.ok(&["update", "--memory", "256m", "--memory-swap", "512m", &name]);
        check(bench, &name, &[("memory/memory.limit_in_bytes", "268435456", "memory.max", "268435456")]);
    }

    /// The limit of a disk reaches the kernel; where the weight of one does not, that is said.
    fn disks_are_limited(bench) {
        let Some((number, node)) = disk_of(bench.daemon.root().expect("ours")) else {
            return gantry_testkit::skip("the data are on no whole disk");
        };
        let name = bench.name("disk");
        let rate = format!("{node}:1mb");
        bench.cli.ok(&["run", "-d", "--name", &name, "--device-read-bps", &rate, BUSYBOX, "sleep", "600"]);
        let limits = file(bench, &name, by_version("blkio/blkio.throttle.read_bps_device", "io.max"));
        let wanted = by_version("1048576", "rbps=1048576");
        assert!(limits.contains(&format!("{number} {wanted}")), "{limits}");
    }

    fn a_pause_stops_every_process(bench) {
        let name = bench.name("paused");
        let script = "while :; do n=$((n+1)); echo $n > /count; done";
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", script]);
        let pid = bench.inspect(&name, "/State/Pid").to_string();
        // Its own use of processors, in ticks.
        let used = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
            let after = stat.rsplit_once(") ").expect("a name in parentheses").1.to_owned();
            after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>()
        };
        let begun = used();
        until("it works", 20, || used() > begun + 2);
        bench.cli.ok(&["pause", &name]);
        let paused = used();
        std::thread::sleep(std::time::Duration::from_millis(500)); // in which it would have gone on
        assert_eq!(used(), paused);
        bench.daemon.kill();
        bench.daemon.start_again();
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("paused"));
        bench.cli.ok(&["unpause", &name]);
        until("it works again", 20, || used() > paused + 2);
        // A paused one ends all the same.
        bench.cli.ok(&["pause", &name]);
        bench.cli.ok(&["kill", &name]);
        until("it has ended", 20, || bench.inspect(&name, "/State/Status") == json!("exited"));
    }

    fn figures_come_from_the_kernel(bench) {
        let name = bench.name("figures");
        let script = "a=$(head -c 8000000 /dev/zero | tr '\\0' x); while :; do :; done";
        bench.cli.ok(&["run", "-d", "--name", &name, "--memory", "128m", "--pids-limit", "77", BUSYBOX, "/bin/busybox", "sh", "-c", script]);
        let figure = |pointer: &str| {
            let path = format!("/containers/{name}/stats?stream=0");
            let (_, body) = gantry_testkit::http::ask(bench.daemon.socket(), "GET", &path, "").expect("an answer");
            let stats: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            stats.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0)
        };
        until("it has its memory", 30, || figure("/memory_stats/usage") > 8_000_000);
        assert_eq!(figure("/memory_stats/limit"), 128 << 20);
        assert_eq!(figure("/pids_stats/limit"), 77);
        // The shell is alone once it has read what its pipe was to give it.
        until("the shell is alone", 30, || figure("/pids_stats/current") == 1);
        assert!(figure("/cpu_stats/cpu_usage/total_usage") > 0);
        assert!(figure("/cpu_stats/system_cpu_usage") > 0);
        let line = bench.cli.ok(&["stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", &name]);
        let percent: f64 = line.split_once('%').expect("a percentage").0.parse().expect("a number");
        assert!(percent > 1.0, "{line}");
        assert!(line.contains("/ 128MiB"), "{line}");
    }

    /// What a container may do with devices is the group's to say, whichever version it is.
    fn devices_are_kept_from_containers(bench) {
        let node = "mknod /loop b 7 250 && head -c 1 /loop";
        let tried = bench.cli.run(&["run", "--rm", BUSYBOX, "/bin/busybox", "sh", "-c", node]);
        assert!(tried.stderr.contains("Operation not permitted"), "{tried:?}");
        // With the rule the kernel has no such disk, which is another answer.
        let tried = bench.cli.run(&["run", "--rm", "--device-cgroup-rule", "b 7:250 rwm", BUSYBOX, "/bin/busybox", "sh", "-c", node]);
        assert!(!tried.stderr.contains("not permitted"), "{tried:?}");
        assert_eq!(bench.shell(&["--device", "/dev/null:/dev/nothing"], "echo x > /dev/nothing && echo written"), "written");
    }

    /// With the host's name space of control groups a container sees where it is; with its own it sees a root.
    fn groups_have_name_spaces(bench) {
        let of = |flags: &[&str]| bench.shell(flags, "cat /proc/self/cgroup");
        let own = of(&["--cgroupns", "private"]);
        assert!(own.lines().all(|line| line.ends_with(":/") || !line.contains("gantry-e2e")), "{own}");
        assert!(of(&["--cgroupns", "host"]).contains("gantry-e2e"));
        // A container that may do everything can make groups of its own, and they go with it.
        let make = format!("mkdir /sys/fs/cgroup/{}inner && echo made", by_version("pids/", ""));
        assert_eq!(bench.shell(&["--privileged", "--cgroupns", "private"], &make), "made");
        assert!(leak::cgroups(&bench.daemon).is_empty());
        let mounted = finish(Command::new("cat").arg("/proc/self/mountinfo")).stdout;
        assert!(!mounted.contains("inner"));
    }
}
