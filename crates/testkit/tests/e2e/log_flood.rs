//! A container that writes as fast as it can: its log has the room that it was given, who follows it sees the end, it
//! can be killed, and neither its shim nor the daemon grows.
//!
//! The disk is a small one of the test's own. `GANTRY_TEST_FULL=1` floods for a minute, else for three seconds.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::disk::Disk;
use gantry_testkit::{Bench, full, ours, until};

/// Beside the files that the options name: what is being packed, and the ring's last write.
const SLACK_BYTES: u64 = 2 << 20;
/// What a process of ours may have at most, in KiB: the bounds of its buffers, and a debug build's code.
const SHIM_KIB: u64 = 24 << 10;
const DAEMON_KIB: u64 = 160 << 10;

const LAST: &str = "the last line";

fn seconds() -> u64 {
    if full() { 60 } else { 3 }
}

fn log_bytes(log: &Path) -> u64 {
    let files = std::fs::read_dir(log).into_iter().flatten().flatten();
    // A file that is rotated away meanwhile has no size.
    files.map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

/// The most memory that a process has had, in KiB; `None` once it is gone.
fn peak_kib(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The process that started the container's first.
fn shim_of(bench: &Bench, name: &str) -> String {
    let pid = bench.inspect(name, "/State/Pid").to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("every process has one");
    line.trim().to_owned()
}

/// Reads to the end, and keeps the last line alone.
fn follow(mut child: Child) -> JoinHandle<(u64, String)> {
    let output = child.stdout.take().expect("it was piped");
    std::thread::spawn(move || {
        let (mut bytes, mut last, mut line) = (0, String::new(), Vec::new());
        let mut output = BufReader::with_capacity(1 << 20, output);
        while output.read_until(b'\n', &mut line).expect("a pipe can be read") > 0 {
            bytes += line.len() as u64;
            last.clear();
            last.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        child.wait().expect("a child of ours");
        (bytes, last.trim_end().to_owned())
    })
}

/// Where a container's log lies.
fn log_directory(bench: &Bench, name: &str) -> PathBuf {
    let id = bench.inspect(name, "/Id");
    let root = bench.daemon.root().expect("a daemon of our own");
    root.join("data/containers").join(id.as_str().expect("a text")).join("log")
}

fn flood(bench: &Bench, name: &str, flags: &[&str], limit_bytes: u64) {
    let name = &bench.name(name);
    let seconds = seconds();
    // On one pipe: what the shell says of the process that `timeout` ended is not to come last.
    // A log that does not block loses what comes while its buffer is full: the last line comes when it no longer is.
    let script =
        format!("exec 2>&1; timeout {seconds} yes {}; echo; sleep 3; echo {LAST}", "0123456789".repeat(10));
    let mut run = vec!["run", "-d", "--net", "none", "--name", name.as_str()];
    run.extend(flags);
    run.extend([BUSYBOX, "sh", "-c", &script]);
    bench.cli.ok(&run);
    let shim = shim_of(bench, name);
    let daemon = bench.daemon.pid().expect("it runs").to_string();
    let log = log_directory(bench, name);
    let mut following = bench.cli.command(&["logs", "-f", name]);
    let following = follow(following.stdout(Stdio::piped()).spawn().expect("the CLI starts"));
    let mut most = 0;
    // It ends by itself; what is looked at meanwhile is looked at often.
    until("the flood to end", seconds * 4 + 60, || {
        most = most.max(log_bytes(&log));
        let held = peak_kib(&shim).unwrap_or(0);
        assert!(held < SHIM_KIB, "{flags:?}: the shim takes {held} KiB");
        let held = peak_kib(&daemon).expect("it runs");
        assert!(held < DAEMON_KIB, "{flags:?}: the daemon takes {held} KiB");
        bench.inspect(name, "/State/Status") == "exited"
    });
    assert!(most > limit_bytes / 4, "{flags:?}: {most} bytes are no flood");
    assert!(most <= limit_bytes + SLACK_BYTES, "{flags:?}: the log took {most} bytes of {limit_bytes}");
    let (bytes, last) = following.join().expect("it reads on");
    assert_eq!(last, LAST, "{flags:?}: after {bytes} bytes");
    assert!(bytes > limit_bytes / 4, "{flags:?}: only {bytes} bytes were followed");
    assert_eq!(bench.cli.ok(&["logs", "--tail", "1", name]).trim_end(), LAST, "{flags:?}: its last entry");
    bench.cli.ok(&["rm", name]);
}

/// A flood without an end is killed and removed while somebody follows it.
fn is_killed(bench: &Bench, flags: &[&str]) {
    let name = &bench.name("endless");
    let mut run = vec!["run", "-d", "--net", "none", "--name", name.as_str(), "--log-opt", "max-size=1m"];
    run.extend(flags);
    run.extend([BUSYBOX, "yes", "0123456789"]);
    bench.cli.ok(&run);
    let log = log_directory(bench, name);
    until("the flood to begin", 30, || log_bytes(&log) > 1 << 18);
    let mut following = bench.cli.command(&["logs", "-f", "--tail", "1", name]);
    let following = follow(following.stdout(Stdio::piped()).spawn().expect("the CLI starts"));
    bench.cli.ok(&["kill", name]);
    assert_eq!(bench.cli.ok(&["wait", name]).trim(), "137");
    following.join().expect("it ends with the container");
    bench.cli.ok(&["rm", name]);
}

ours! {
    fn a_flood_stays_within_its_bounds(bench) {
        let root = bench.daemon.root().expect("a daemon of our own").join("data/containers");
        let Some(_disk) = Disk::mount(256, &root) else { return };
        let rotated = ["--log-opt", "max-size=4m", "--log-opt", "max-file=3"];
        flood(bench, "rotated", &rotated, 12 << 20);
        flood(bench, "terminal", &[&["-t"], &rotated[..]].concat(), 12 << 20);
        flood(bench, "packed", &[&rotated[..], &["--log-opt", "compress=true"]].concat(), 12 << 20);
        flood(bench, "single", &["--log-opt", "max-size=4m"], 4 << 20);
        let local = ["--log-driver", "local", "--log-opt", "max-size=4m", "--log-opt", "mode=non-blocking"];
        flood(bench, "local", &local, 20 << 20);
        is_killed(bench, &[]);
        is_killed(bench, &["-t"]);
    }
}
