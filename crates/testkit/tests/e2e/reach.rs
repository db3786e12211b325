//! Shims that a daemon cannot reach: because their sockets are gone, or because it has no descriptor left for them.

use std::process::Command;

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::{finish, in_path};
use gantry_testkit::{http, leak, ours, skip, until};
use serde_json::json;

use crate::survival::{records_are_true, shims};

ours! {
    /// The exec root is emptied, as a tidy host may do with `/run`, while containers run: they are lost, and nothing of
    /// them is left.
    fn who_has_no_socket_is_ended(bench) {
        let (plain, always) = (bench.name("plain"), bench.name("always"));
        bench.cli.ok(&["run", "-d", "--name", &plain, BUSYBOX, "sleep", "600"]);
        bench.cli.ok(&["run", "-d", "--restart=always", "-P", "--expose", "80", "--name", &always, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/www"]);
        let run = bench.daemon.root().expect("ours").join("run");
        let id = bench.inspect(&plain, "/Id").as_str().expect("a text").to_owned();
        let socket = run.join("c").join(&id).join("shim.sock");
        std::fs::remove_file(&socket).expect("it is there");
        let said = finish(&mut bench.daemon.command("fsck"));
        assert!(said.stdout.contains(&format!("finding: {} is gone", socket.display())), "{said:?}");
        bench.cli.ok(&["exec", &plain, "true"]);
        let before = shims(bench);
        assert_eq!(before.len(), 2);
        bench.daemon.kill();
        for name in ["b", "c", "net"] {
            let _ = std::fs::remove_dir_all(run.join(name));
        }
        bench.daemon.start_again();
        assert_eq!(bench.inspect(&plain, "/State/Status"), json!("exited"));
        assert_eq!(bench.inspect(&plain, "/State/ExitCode"), json!(137));
        until("its policy was applied", 10, || {
            bench.inspect(&always, "/State/Status") == json!("running")
                && http::get(&bench.address(&always, "80"), "/").is_some()
        });
        let after = shims(bench);
        assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?}, then {after:?}");
        records_are_true(bench);
        bench.cli.ok(&["start", &plain]);
        leak::explained(&bench.daemon);
    }

    /// A daemon that may not open enough files says so and ends; it takes nobody for dead whom it could not ask.
    fn a_daemon_without_descriptors_touches_nothing(bench) {
        if in_path("prlimit").is_none() {
            return skip("no prlimit: apt-get install util-linux");
        }
        let names: Vec<String> = (0..24).map(|number| bench.name(&format!("rests{number}"))).collect();
        for name in &names {
            bench.cli.ok(&["run", "-d", "--network=none", "--restart=always", "--name", name, BUSYBOX, "sleep", "600"]);
        }
        let processes = || -> Vec<_> { names.iter().map(|name| bench.inspect(name, "/State/Pid")).collect() };
        let before = processes();
        bench.daemon.kill();
        let root = bench.daemon.root().expect("ours");
        // Enough to begin with, and not for all of them.
        for limit in [36, 40, 44, 48] {
            let mut starved = Command::new("prlimit");
            starved.arg(format!("--nofile={limit}:{limit}"));
            starved.arg(gantry_testkit::daemon::binary("gantryd").expect("one ran")).args(bench.daemon.places());
            starved.arg("-p").arg(root.join("pid"));
            starved.arg("-H").arg(format!("unix://{}", bench.daemon.socket().display()));
            let refused = finish(&mut starved);
            assert_eq!(refused.code, 1, "{limit}: {refused:?}");
            assert!(refused.stderr.contains("cannot be asked: Too many open files"), "{limit}: {refused:?}");
        }
        bench.daemon.start_again();
        assert_eq!(processes(), before);
        records_are_true(bench);
    }

    /// What the daemon and the shim were given is what a container gets, though they take more for themselves.
    fn a_container_has_the_limit_that_the_daemon_was_given(bench) {
        let given = open_files(bench.daemon.pid().expect("it runs"));
        assert_eq!(given.0, given.1, "the daemon took all that it may have");
        let own = open_files(std::process::id());
        assert_eq!(bench.shell(&[], "ulimit -Sn").trim(), own.0.to_string());
        assert_eq!(bench.shell(&["--ulimit", "nofile=77:78"], "ulimit -Sn; ulimit -Hn"), "77\n78");
    }
}

/// The soft and the hard limit of a process' open files.
fn open_files(pid: u32) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("it has a limit");
    let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number")).take(2);
    (numbers.next().expect("soft"), numbers.next().expect("hard"))
}
