//! The daemon is killed and comes back; a shim is killed; nothing is lost, nothing is left.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::{Bench, full, http, ours, until};
use serde_json::{Value, json};

/// The shims of a bench: process and command line.
fn shims(bench: &Bench) -> Vec<u32> {
    let root = bench.daemon.root().expect("a daemon of our own");
    let holds = |pid: u32| {
        let dir = format!("/proc/{pid}");
        let command = std::fs::read(format!("{dir}/cmdline")).unwrap_or_default();
        let named = String::from_utf8_lossy(&command).contains("gantry-shim");
        let links = std::fs::read_dir(format!("{dir}/fd")).into_iter().flatten().flatten();
        let mut all = links.map(|entry| entry.path()).chain([Path::new(&dir).join("cwd")]);
        named
            && (String::from_utf8_lossy(&command).contains(&*root.to_string_lossy())
                || all.any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(root))))
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| holds(*pid))
        .collect()
}

fn kill_process(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
}

ours! {
    fn containers_live_on_without_the_daemon(bench) {
        let count = if full() { 100 } else { 5 };
        let names: Vec<String> = (0..count).map(|number| bench.name(&format!("serve{number}"))).collect();
        for name in &names {
            bench.cli.ok(&["run", "-d", "-P", "--expose", "80", "--name", name, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/www"]);
        }
        let addresses: Vec<String> = names.iter().map(|name| bench.address(name, "80")).collect();
        let all_answer = || {
            for address in &addresses {
                until(&format!("{address} answers"), 10, || http::get(address, "/").is_some());
            }
        };
        all_answer();
        bench.daemon.kill();
        all_answer();
        bench.daemon.start_again();
        all_answer();
        assert_eq!(bench.cli.ok(&["ps", "-q"]).lines().count(), count);
        for (name, address) in names.iter().zip(&addresses) {
            assert_eq!(bench.inspect(name, "/State/Running"), json!(true));
            assert_eq!(bench.address(name, "80"), *address);
        }
        assert_eq!(bench.cli.ok(&["exec", &names[0], "echo", "inside"]), "inside");
        bench.cli.ok(&["stop", "-t", "0", &names[0]]);
        assert_eq!(bench.inspect(&names[0], "/State/ExitCode"), json!(137));
        bench.cli.ok(&["start", &names[0]]);
        until("it serves again", 10, || http::get(&bench.address(&names[0], "80"), "/").is_some());
    }

    fn what_happened_meanwhile_is_known(bench) {
        let directory = bench.directory();
        let bind = format!("{}:/host", directory.path().display());
        let wait = "while [ ! -e /host/go ]; do sleep 0.05; done; ";
        let (ends, loops, logs) = (bench.name("ends"), bench.name("loops"), bench.name("logs"));
        let start = |name: &str, flags: &[&str], script: &str| {
            let mut args = vec!["run", "-d", "--name", name, "-v", &bind];
            args.extend(flags);
            let script = format!("{wait}{script}");
            args.extend([BUSYBOX, "sh", "-c", &script]);
            bench.cli.ok(&args);
        };
        start(&ends, &[], "exit 23");
        start(&loops, &["--restart=always"], "echo again; touch /host/looped$(ls /host | grep -c looped); sleep 0.2; exit 1");
        start(&logs, &[], "for i in $(seq 1 500); do echo line $i; done; touch /host/logged; sleep 600");
        bench.daemon.kill();
        write(&directory.path().join("go"), "");
        until("the containers have done their part", 30, || {
            directory.path().join("logged").exists() && directory.path().join("looped2").exists()
        });
        bench.daemon.start_again();
        until("the exit is known", 10, || bench.inspect(&ends, "/State/Status") == json!("exited"));
        assert_eq!(bench.inspect(&ends, "/State/ExitCode"), json!(23));
        assert!(bench.inspect(&loops, "/RestartCount").as_i64() >= Some(2));
        let lines = bench.cli.run(&["logs", &logs]).stdout;
        assert_eq!(lines.lines().count(), 500);
        assert_eq!(lines.lines().last(), Some("line 500"));
        let died = bench.cli.ok(&["events", "--since", "5m", "--until", "0s", "--filter", &format!("container={ends}"), "--filter", "event=die"]);
        assert!(died.contains("exitCode=23"), "{died}");
        assert_eq!(died.lines().count(), 1, "exactly once: {died}");
    }

    fn a_stop_under_way_is_finished(bench) {
        let name = bench.name("slow");
        bench.cli.ok(&["run", "-d", "--name", &name, "--restart=always", BUSYBOX, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]);
        let child = bench.cli.spawn(&["stop", "-t", "2", &name]);
        until("the stop is under way", 10, || {
            std::thread::sleep(Duration::from_millis(500)); // its record has no other sign outside
            true
        });
        bench.daemon.kill();
        let _ = gantry_testkit::command::wait(child);
        std::thread::sleep(Duration::from_secs(3)); // longer than the stop's timeout, with no daemon there
        bench.daemon.start_again();
        until("it stays stopped", 10, || bench.inspect(&name, "/State/Running") == json!(false));
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(137));
    }

    fn an_attached_client_goes_on(bench) {
        let name = bench.name("attached");
        let mut child = bench.cli.spawn(&["run", "-i", "--name", &name, BUSYBOX, "cat"]);
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut echo = |text: &[u8]| {
            use std::io::{Read as _, Write as _};
            stdin.write_all(text).expect("the container reads");
            let mut got = vec![0; text.len()];
            stdout.read_exact(&mut got).expect("it comes back");
            assert_eq!(got, text);
        };
        echo(b"before\n");
        bench.daemon.kill();
        echo(b"without a daemon\n");
        bench.daemon.start_again();
        echo(b"after\n");
        let _ = child.kill();
        let _ = child.wait();
    }

    fn a_killed_shim_is_reported(bench) {
        let name = bench.name("shimless");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        let found = shims(bench);
        assert_eq!(found.len(), 1, "one shim for one container");
        let pid = bench.inspect(&name, "/State/Pid").as_u64().expect("a process");
        kill_process(found[0]);
        until("the daemon noticed", 10, || bench.inspect(&name, "/State/Running") == json!(false));
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(137));
        assert!(bench.inspect(&name, "/State/Error").as_str().is_some_and(|text| !text.is_empty()), "it says why");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "its process went with it");
        bench.cli.ok(&["start", &name]);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
    }

    fn a_shim_killed_while_no_daemon_runs(bench) {
        let (gone, kept) = (bench.name("gone"), bench.name("kept"));
        bench.cli.ok(&["run", "-d", "--name", &gone, "--restart=always", BUSYBOX, "sleep", "600"]);
        let first = shims(bench);
        bench.cli.ok(&["run", "-d", "--name", &kept, BUSYBOX, "sleep", "600"]);
        bench.daemon.kill();
        kill_process(first[0]);
        bench.daemon.start_again();
        assert_eq!(bench.inspect(&kept, "/State/Running"), json!(true));
        until("its policy was applied", 10, || bench.inspect(&gone, "/State/Running") == json!(true));
    }

    /// Kills at random times amid everything; afterwards each container is as its record says.
    fn kills_at_random_times(bench) {
        let kills = match std::env::var("GANTRY_TEST_KILLS").ok().and_then(|text| text.parse().ok()) {
            Some(kills) => kills,
            None if full() => 200,
            None => 8,
        };
        let ended = AtomicBool::new(false);
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let ended = &ended;
                scope.spawn(move || work(bench, worker, ended));
            }
            for _ in 0..kills {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                std::thread::sleep(Duration::from_millis(random % 700));
                bench.daemon.kill();
                bench.daemon.start_again();
            }
            ended.store(true, Ordering::Relaxed);
        });
        records_are_true(bench);
        assert_eq!(bench.cli.ok(&["run", "--rm", BUSYBOX, "echo", "works"]), "works");
    }
}

/// Creates, starts, stops, removes and builds; what fails because the daemon was killed is tried no
/// further.
fn work(bench: &Bench, worker: u32, ended: &AtomicBool) {
    let mut round = 0;
    while !ended.load(Ordering::Relaxed) {
        round += 1;
        let name = bench.name(&format!("w{worker}r{round}"));
        bench.cli.run(&["run", "-d", "-P", "--expose", "80", "--name", &name, BUSYBOX, "sleep", "600"]);
        match round % 4 {
            0 => {
                bench.cli.run(&["stop", "-t", "0", &name]);
            }
            1 => {
                bench.cli.run(&["rm", "-f", &name]);
            }
            2 => {
                let text = format!("FROM busybox\nRUN echo {worker} {round} > /x\n");
                bench.cli.with_input(&["build", "-q", "-"], text.as_bytes());
            }
            _ => {
                bench.cli.run(&["restart", "-t", "0", &name]);
            }
        }
    }
}

/// Each container that is said to run has its process, and no other has one.
fn records_are_true(bench: &Bench) {
    let ids = bench.cli.ok(&["ps", "-aq", "--no-trunc"]);
    let mut running = 0;
    for id in ids.lines() {
        let all: Value = serde_json::from_str(&bench.cli.ok(&["inspect", id])).expect("JSON");
        let state = &all[0]["State"];
        let pid = state["Pid"].as_u64().unwrap_or(0);
        if state["Running"] == json!(true) {
            running += 1;
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            assert!(groups.contains(id), "{id} runs as {pid}, which is in {groups:?}");
        } else {
            assert_eq!(pid, 0, "{state}");
        }
    }
    until("as many shims as running containers", 20, || shims(bench).len() == running);
}
