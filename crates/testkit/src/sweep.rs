//! Taking away what tests left, so that the next ones find the machine as it was: those that failed, and those of a run
//! that was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Daemon;
use crate::command::finish;
use crate::leak::{endpoints, entries, mounts, processes, tag};

/// How the names of all that is a test run's begin; its process id follows.
const PREFIX: &str = "gantry-e2e-";

/// A directory of this run below `/tmp`; `what` says what for.
///
/// # Panics
/// `/tmp` cannot be written.
pub(crate) fn directory(what: &str) -> TempDir {
    let prefix = format!("{PREFIX}{}-{what}", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").expect("/tmp can be written")
}

/// The name of a group of this run for the containers of one of its daemons.
pub(crate) fn group(number: u32) -> String {
    format!("/{PREFIX}{}-{number}", std::process::id())
}

/// Sweeps what a daemon of ours, which has ended, left.
pub(crate) fn after(daemon: &Daemon) {
    if let (Some(root), Some(parent)) = (daemon.root(), daemon.cgroup_parent()) {
        let parent = parent.trim_start_matches('/');
        sweep(root, || groups(|name| name == parent));
    }
}

/// Sweeps what earlier runs left that were killed, once in a run.
pub(crate) fn after_killed_runs() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        for name in entries(Path::new("/tmp")) {
            let Some(run) = name.strip_prefix(PREFIX).and_then(run_of) else { continue };
            // Also one whose number another process has got by now stays, until that has ended.
            if Path::new(&format!("/proc/{run}")).exists() {
                continue;
            }
            let root = Path::new("/tmp").join(&name);
            let prefix = format!("{PREFIX}{run}-");
            sweep(&root, || groups(|name| name.starts_with(&prefix)));
            for name in entries(Path::new("/run/netns")).iter().filter(|name| name.starts_with(&prefix)) {
                finish(Command::new("ip").args(["netns", "delete", name]));
            }
            let _ = fs::remove_dir_all(&root);
        }
    });
}

/// The process of a name's rest such as `4711-disk-Xy3`. Other names are of nobody that is known.
fn run_of(rest: &str) -> Option<u32> {
    rest.split_once('-')?.0.parse().ok()
}

/// The groups at the top of each hierarchy whose name is wanted.
fn groups(is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let hierarchies = entries(base).into_iter().map(|name| base.join(name)).chain([base.to_owned()]);
    hierarchies
        .flat_map(|hierarchy| entries(&hierarchy).into_iter().map(move |name| (hierarchy.join(&name), name)))
        .filter(|(path, name)| is_wanted(name) && path.is_dir())
        .map(|(path, _)| path)
        .collect()
}

fn sweep(root: &Path, groups: impl Fn() -> Vec<PathBuf>) {
    for (pid, _) in processes(root) {
        kill(&pid.to_string());
    }
    let mounted: BTreeSet<String> =
        mounts(root).iter().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect();
    for path in mounted.iter().rev() {
        let _ = unmount(path.as_str(), UnmountFlags::DETACH);
    }
    if let Some(tag) = tag(root) {
        for link in endpoints(&tag).into_iter().chain([format!("gt{tag}b0")]) {
            let _ = Command::new("ip").args(["link", "delete", &link]).output();
        }
        let _ = Command::new("nft").args(["delete", "table", "inet", &format!("gantry-{tag}")]).output();
        remove_accepts(&tag);
    }
    // Again and again while the kernel still empties them.
    for _ in 0..50 {
        let left = groups();
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|group| empty(group));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills what is in a group and below it, and removes what is empty by then.
fn empty(group: &Path) {
    for name in entries(group) {
        let below = group.join(name);
        if below.is_dir() {
            empty(&below);
        }
    }
    // A frozen process of v1 does not die; neither file is where the version has the other.
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    let _ = fs::write(group.join("cgroup.freeze"), "0");
    fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().for_each(kill);
    let _ = fs::remove_dir(group);
}

fn kill(pid: &str) {
    if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Removes what the daemon had put into the chain of Docker's that is for others, where there is a dockerd.
fn remove_accepts(tag: &str) {
    let chain = ["ip", "filter", "DOCKER-USER"];
    let listed = Command::new("nft").args(["--handle", "list", "chain"]).args(chain).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    let owner = format!("\"gantry:{tag}:");
    for line in text.lines().filter(|line| line.contains(&owner)) {
        if let Some((_, handle)) = line.rsplit_once("# handle ") {
            let _ =
                Command::new("nft").args(["delete", "rule"]).args(chain).args(["handle", handle]).output();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_run_they_are_of() {
        let own = directory("disk-");
        let name = own.path().file_name().and_then(|name| name.to_str()).expect("ASCII");
        assert_eq!(name.strip_prefix(PREFIX).and_then(run_of), Some(std::process::id()));
        for other in ["Xy3", "files-Xy3", ""] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }
}
