//! What must not be left once all containers are gone: mounts, processes, links, nft elements,
//! control groups, directories. The kernel is given some seconds, for its own teardown is not at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Daemon;
use crate::command::finish;

/// How long the kernel and the daemon's background work may take.
const PATIENCE_SECONDS: u64 = 20;

/// Asserts that a daemon without containers has left nothing in the kernel and on the disk. A
/// daemon that is not ours is not looked at.
///
/// # Panics
/// Something is left.
#[track_caller]
pub fn check(daemon: &Daemon) {
    if daemon.root().is_none() {
        return;
    }
    let mut left = found(daemon);
    let begun = std::time::Instant::now();
    while !left.is_empty() && begun.elapsed().as_secs() < PATIENCE_SECONDS {
        std::thread::sleep(std::time::Duration::from_millis(100));
        left = found(daemon);
    }
    assert!(left.is_empty(), "left behind after the last container:\n{}\n{}", left.join("\n"), daemon.log());
    explained(daemon);
}

/// Asserts that `gantryd fsck` can explain everything of a daemon's, whether it runs or not.
///
/// # Panics
/// It has findings.
#[track_caller]
pub fn explained(daemon: &Daemon) {
    let done = finish(daemon.command("fsck").arg("--verbose"));
    assert_eq!(done.code, 0, "fsck:\n{}{}\n{}", done.stdout, done.stderr, daemon.log());
}

/// Everything that is there although no container is, one line each.
fn found(daemon: &Daemon) -> Vec<String> {
    let Some(root) = daemon.root() else { return Vec::new() };
    let mut left = Vec::new();
    // A disk of a test's own is where the data lie.
    let disk = root.join("data");
    let is_disk = |mount: &String| mount.split(' ').nth(4).is_some_and(|place| Path::new(place) == disk);
    left.extend(
        mounts(root).into_iter().filter(|mount| !is_disk(mount)).map(|mount| format!("mount {mount}")),
    );
    let own = daemon.pid();
    let others = processes(root).into_iter().filter(|(pid, _)| Some(*pid) != own);
    left.extend(others.map(|(pid, command)| format!("process {pid}: {command}")));
    left.extend(cgroups(daemon).into_iter().map(|path| format!("cgroup {}", path.display())));
    for directory in [
        "run/c",
        "run/b",
        "run/net",
        "data/containers",
        "data/snapshots",
        "data/trash",
        "data/tmp",
        "data/builds",
    ] {
        // The builder's cache is a record as the other databases are, and lies in its own directory.
        let names = entries(&root.join(directory)).into_iter().filter(|name| !name.starts_with("cache.db"));
        left.extend(names.map(|name| format!("file {directory}/{name}")));
    }
    if let Some(tag) = tag(root) {
        left.extend(endpoints(&tag).into_iter().map(|link| format!("link {link}")));
        left.extend(elements(&tag).into_iter().map(|element| format!("nft element {element}")));
    }
    left
}

pub(crate) fn mounts(root: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = root.to_string_lossy();
    table.lines().filter(|line| line.contains(&*root)).map(str::to_owned).collect()
}

/// Processes that hold something of this root: in their command line, or as working directory or
/// root.
pub(crate) fn processes(root: &Path) -> Vec<(u32, String)> {
    let text = root.to_string_lossy().into_owned();
    let mut all = Vec::new();
    for name in entries(Path::new("/proc")) {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let linked = ["cwd", "root"].iter().any(|link| {
            fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|target| target.starts_with(root))
        });
        let holds = || {
            command.contains("gantry-shim")
                && entries(Path::new(&format!("/proc/{pid}/fd"))).iter().any(|fd| {
                    fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|target| target.starts_with(root))
                })
        };
        // A test's own client programs name the socket in their environment, not here.
        if command.contains(&text) || linked || holds() {
            all.push((pid, command));
        }
    }
    all
}

/// Processes of ours that are left when the daemon has ended.
#[must_use]
pub fn left_of_processes(daemon: &Daemon) -> Vec<(u32, String)> {
    daemon.root().map(processes).unwrap_or_default()
}

/// Control groups of containers, of any controller.
#[must_use]
pub fn cgroups(daemon: &Daemon) -> Vec<PathBuf> {
    let Some(parent) = daemon.cgroup_parent() else { return Vec::new() };
    let parent = parent.trim_start_matches('/');
    let base = Path::new("/sys/fs/cgroup");
    let mut places: Vec<PathBuf> = entries(base).into_iter().map(|name| base.join(name)).collect();
    places.push(base.to_owned());
    places
        .into_iter()
        .map(|place| place.join(parent))
        .flat_map(|place| entries(&place).into_iter().map(move |name| place.join(name)).collect::<Vec<_>>())
        .filter(|path| path.is_dir())
        .collect()
}

pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let Ok(read) = fs::read_dir(directory) else { return Vec::new() };
    read.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The eight digits that all names of a daemon's links and tables have in common: those of the bridge
/// whose alias they stand in. A daemon without a bridge has none.
pub(crate) fn tag(root: &Path) -> Option<String> {
    let bridge = fs::read_to_string(root.join("bridge")).ok()?;
    bridge.strip_prefix("gt")?.strip_suffix("b0").map(str::to_owned)
}

/// Remembers the name of a daemon's bridge for the checks to come.
pub fn remember_bridge(daemon: &Daemon, name: &str) {
    if let Some(root) = daemon.root() {
        let _ = fs::write(root.join("bridge"), name);
    }
}

fn json(program: &str, args: &[&str]) -> Value {
    if crate::command::in_path(program).is_none() {
        return Value::Null;
    }
    let done = finish(Command::new(program).args(args));
    serde_json::from_str(&done.stdout).unwrap_or(Value::Null)
}

/// Links of a daemon but its bridge.
pub(crate) fn endpoints(tag: &str) -> Vec<String> {
    let links = json("ip", &["-j", "link", "show"]);
    let prefix = format!("gantry:{tag}:");
    let mine = links.as_array().into_iter().flatten().filter(|link| {
        let alias = link["ifalias"].as_str().unwrap_or("");
        alias.starts_with(&prefix) && link["ifname"].as_str() != Some(&format!("gt{tag}b0"))
    });
    mine.map(|link| link["ifname"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Elements of a daemon's maps of published ports, as `nft` prints them. Not as JSON: some versions of `nft`
/// print the flags of a table that outlives its owner as something that is none.
fn elements(tag: &str) -> Vec<String> {
    if crate::command::in_path("nft").is_none() {
        return Vec::new();
    }
    let listed = Command::new("nft").args(["list", "table", "inet", &format!("gantry-{tag}")]).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    let maps = text.split("\tmap ").filter(|map| map.starts_with("published"));
    let inside =
        maps.filter_map(|map| map.split_once("\n\t}")?.0.split_once("elements = {")?.1.split_once('}'));
    inside.flat_map(|(elements, _)| elements.split(',')).map(|element| element.trim().to_owned()).collect()
}

/// Asserts that a daemon which ended in good order, with no container, has left nothing in the host's network.
///
/// # Panics
/// Its bridge or its table is there.
#[track_caller]
pub fn check_stopped(daemon: &Daemon) {
    let Some(tag) = daemon.root().and_then(tag) else { return };
    let bridge = format!("gt{tag}b0");
    let links = json("ip", &["-j", "link", "show"]);
    let is_there =
        links.as_array().into_iter().flatten().any(|link| link["ifname"].as_str() == Some(&bridge));
    assert!(!is_there, "the bridge {bridge} is left\n{}", daemon.log());
    let table = format!("gantry-{tag}");
    let listed = Command::new("nft").args(["list", "tables"]).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    assert!(!text.contains(&table), "the table {table} is left\n{}", daemon.log());
}

/// Takes away what a machine that is started again has no more of: a daemon's processes, mounts, links, rules and
/// control groups, and what lies in `/run`. The daemon has ended.
pub fn reboot(daemon: &Daemon) {
    crate::sweep::after(daemon);
    if let Some(root) = daemon.root() {
        let _ = fs::remove_dir_all(root.join("run"));
    }
}
