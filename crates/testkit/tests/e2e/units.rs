//! A daemon in a systemd unit: what its limits are for, and what not.

use std::fs;
use std::path::{Path, PathBuf};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{Bench, Client, Daemon, leak, skip, until};

/// A unit's groups, made as systemd makes them; removed at the end.
struct Unit {
    groups: Vec<PathBuf>,
}

impl Unit {
    fn new(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let of = |controller: &str| root.join(controller).join(name);
        let groups =
            if root.join("memory").is_dir() { vec![of("memory"), of("pids")] } else { vec![root.join(name)] };
        let unit = Self { groups };
        unit.make();
        unit
    }

    fn make(&self) {
        for group in &self.groups {
            fs::create_dir(group).expect("a group of the test's own");
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Neither a limit of the unit's memory nor the end of the unit may take a container's shim.
#[test]
fn a_shim_is_in_no_group_of_the_daemons_unit() {
    if gantry_testkit::against_dockerd() {
        return skip("shims are gantry's own");
    }
    if !rustix::process::geteuid().is_root() {
        return skip("not root: control groups are made");
    }
    let name = format!("gantry-e2e-{}.service", std::process::id());
    let unit = Unit::new(&name);
    let joins: String =
        unit.groups.iter().map(|group| format!("echo $$ > {}/cgroup.procs; ", group.display())).collect();
    let script = format!("{joins}exec \"$@\"");
    let Some(daemon) = Daemon::start_within(&["sh", "-ec", &script, "sh"], &[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let daemon = bench.daemon.pid().expect("it runs");
    assert_eq!(groups(daemon).matches(&name).count(), unit.groups.len(), "{}", groups(daemon));
    bench.cli.ok(&["run", "-d", "--name", "one", BUSYBOX, "sleep", "1000"]);
    let pid =
        bench.inspect("one", "/State/Pid").as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    let shim = parent.trim().parse().expect("a pid");
    assert!(fs::read_to_string(format!("/proc/{shim}/cmdline")).expect("it runs").starts_with("gantry-shim"));
    assert!(!groups(shim).contains(&name), "{}", groups(shim));
    assert!(!groups(pid).contains(&name), "{}", groups(pid));
    // Nor does anything of it stay behind in them: the unit can go when the daemon has.
    bench.daemon.kill();
    until("the unit's groups can be removed", 5, || {
        unit.groups.iter().all(|group| fs::remove_dir(group).is_ok() || !group.exists())
    });
    unit.make();
    bench.daemon.start_again();
    bench.clear();
    leak::check(&bench.daemon);
}
