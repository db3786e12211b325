//! The daemon is killed and comes back; a shim is killed; nothing is lost, nothing is left.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::command::{finish, in_path};
use gantry_testkit::{Bench, Client, Daemon, full, http, leak, ours, until};
use serde_json::{Value, json};

/// The shims of a bench: process and command line.
pub(crate) fn shims(bench: &Bench) -> Vec<u32> {
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

pub(crate) fn kill_shims(bench: &Bench) {
    shims(bench).into_iter().for_each(kill_process);
}

/// The shims that the running daemon started.
fn children(bench: &Bench) -> Vec<u32> {
    let daemon = format!("PPid:\t{}\n", bench.daemon.pid().expect("it runs"));
    let is_shim = |pid: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("status").contains(&daemon) && read("cmdline").starts_with("gantry-shim")
    };
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(is_shim).collect()
}

/// A build step's shim may have ended with its daemon already.
fn kill_if_there(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
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
        // It was killed before; init may take a moment to reap it.
        until("its process is gone", 10, || !Path::new(&format!("/proc/{pid}")).exists());
        bench.cli.ok(&["start", &name]);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
    }

    /// A kill for want of memory that the container outlives is told at once, also by a shim of an earlier daemon.
    fn a_kill_for_want_of_memory_is_told_at_once(bench) {
        let name = bench.name("hungry");
        bench.cli.ok(&["run", "-d", "--memory", "64m", "--name", &name, BUSYBOX, "sleep", "600"]);
        bench.daemon.kill();
        bench.daemon.start_again();
        assert_eq!(bench.inspect(&name, "/State/OOMKilled"), json!(false));
        bench.cli.fails(137, &["exec", &name, "sh", "-c", "a=x; while :; do a=$a$a; done"]);
        until("it is told", 10, || bench.inspect(&name, "/State/OOMKilled") == json!(true));
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
        let told = bench.cli.ok(&["events", "--since", "5m", "--until", "0s", "--filter", &format!("container={name}"), "--filter", "event=oom"]);
        assert_eq!(told.lines().count(), 1, "{told}");
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

    /// The shim of a build step is killed, with its daemon and without it: the step is over, and nothing is left.
    fn a_killed_shim_of_a_build(bench) {
        for with_daemon in [false, true] {
            let mut child = bench.cli.spawn(&["build", "--no-cache", "-"]);
            let text = format!("FROM {BUSYBOX}\nRUN sleep 600\n");
            let mut stdin = child.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("it reads");
            drop(stdin);
            // The step's own process, not only its shim.
            let running = || leak::cgroups(&bench.daemon).iter().any(|path| {
                std::fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
            });
            until("the step runs", 20, running);
            let shims = children(bench);
            assert_eq!(shims.len(), 1, "one shim for one step");
            if with_daemon {
                bench.daemon.kill();
            }
            shims.into_iter().for_each(kill_if_there);
            let done = gantry_testkit::command::wait(child);
            assert_ne!(done.code, 0, "{done:?}");
            if with_daemon {
                bench.daemon.start_again();
            }
            leak::check(&bench.daemon);
        }
    }

    /// A restart that policy wants is not forgotten when the daemon is killed again before it could do it.
    fn policies_outlive_kills_in_a_row(bench) {
        let names: Vec<String> = ["always", "unless-stopped", "on-failure:2"]
            .iter()
            .enumerate()
            .map(|(number, policy)| {
                let name = bench.name(&format!("policy{number}"));
                bench.cli.ok(&["run", "-d", "--name", &name, "--restart", policy, BUSYBOX, "sleep", "600"]);
                name
            })
            .collect();
        bench.daemon.kill();
        kill_shims(bench);
        for milliseconds in [20, 40, 60, 80, 100] {
            bench.daemon.start_in_vain(Duration::from_millis(milliseconds));
        }
        bench.daemon.start_again();
        for name in &names {
            until(&format!("{name} runs again"), 10, || bench.inspect(name, "/State/Running") == json!(true));
        }
        records_are_true(bench);
    }

    /// A second daemon on either root says whose it is and touches nothing; a killed one leaves the roots free.
    fn a_root_has_one_daemon(bench) {
        let name = bench.name("rests");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        let root = bench.daemon.root().expect("ours");
        let owner = bench.daemon.pid().expect("it runs").to_string();
        let elsewhere = bench.directory();
        for (data, exec) in [(root, elsewhere.path()), (elsewhere.path(), root)] {
            let mut second = Command::new(gantry_testkit::daemon::binary("gantryd").expect("one runs"));
            second.arg("--data-root").arg(data.join("data")).arg("--exec-root").arg(exec.join("run"));
            second.arg("-p").arg(elsewhere.path().join("pid"));
            second.arg("-H").arg(format!("unix://{}", elsewhere.path().join("gantry.sock").display()));
            let refused = finish(&mut second);
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(refused.stderr.contains(&format!("(process {owner})")), "{refused:?}");
        }
        assert_eq!(bench.inspect(&name, "/State/Status"), "running");
        bench.daemon.kill();
        bench.daemon.start_again();
        assert_eq!(bench.inspect(&name, "/State/Status"), "running");
    }

    /// What fsck says while nobody cares for containers that run, and when somebody does again.
    fn everything_is_explained_without_a_daemon(bench) {
        for (number, flags) in [&["-P", "--expose", "80"][..], &["-v", "/www"], &["--restart=always"]].into_iter().enumerate() {
            let name = bench.name(&format!("runs{number}"));
            bench.cli.ok(&[&["run", "-d", "--name", &name][..], flags, &[BUSYBOX, "sleep", "600"]].concat());
        }
        leak::explained(&bench.daemon);
        bench.daemon.kill();
        leak::explained(&bench.daemon);
        bench.daemon.start_again();
        leak::explained(&bench.daemon);
    }

    /// Kills at random times amid everything; after each, records and reality agree, and in the end nothing is left.
    fn kills_at_random_times(bench) {
        let kills = match std::env::var("GANTRY_TEST_KILLS").ok().and_then(|text| text.parse().ok()) {
            Some(kills) => kills,
            None if full() => 200,
            None => 8,
        };
        let workers: Vec<Worker> = (0..3).map(Worker::new).collect();
        let layers = files(bench, "data/layers");
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        std::thread::scope(|scope| {
            // Ends the workers also where an assertion fails.
            let _ending = Ending(&workers);
            for worker in &workers {
                scope.spawn(|| worker.work(bench));
            }
            for kill in 0..kills {
                std::thread::sleep(Duration::from_millis(random.below(if kill % 3 == 1 { 1400 } else { 200 })));
                bench.daemon.kill();
                while random.below(3) == 0 {
                    bench.daemon.start_in_vain(Duration::from_millis(random.below(200)));
                }
                bench.daemon.start_again();
                if kill % 4 == 0 {
                    workers.iter().for_each(Worker::pause);
                    records_are_true(bench);
                    workers.iter().for_each(Worker::resume);
                }
            }
        });
        records_are_true(bench);
        assert_eq!(bench.cli.ok(&["run", "--rm", BUSYBOX, "echo", "works"]), "works");
        bench.clear();
        let images = bench.cli.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        for image in images.lines().filter(|image| image.starts_with("made")) {
            bench.cli.ok(&["rmi", image]);
        }
        for path in ["/build/prune?all=1", "/images/prune", "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D"] {
            let answer = http::ask(bench.daemon.socket(), "POST", path, "");
            assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "{path}: {answer:?}");
        }
        until("layers and volumes are gone", 20, || files(bench, "data/layers") == layers && volumes(bench) == 0);
    }
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One client that does everything over and over. What fails because the daemon was killed is tried no further.
struct Worker {
    number: u32,
    wish: AtomicU32,
    is_idle: AtomicBool,
}

const WORK: u32 = 0;
const PAUSE: u32 = 1;
const END: u32 = 2;

/// Ends workers when it is dropped.
struct Ending<'a>(&'a [Worker]);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        for worker in self.0 {
            worker.wish.store(END, Ordering::Relaxed);
        }
    }
}

impl Worker {
    fn new(number: u32) -> Self {
        Self { number, wish: AtomicU32::new(WORK), is_idle: AtomicBool::new(false) }
    }

    /// Lets it finish what it does, and waits for that.
    fn pause(&self) {
        self.wish.store(PAUSE, Ordering::Relaxed);
        until("a worker pauses", 60, || self.is_idle.load(Ordering::Relaxed));
    }

    fn resume(&self) {
        self.is_idle.store(false, Ordering::Relaxed);
        self.wish.store(WORK, Ordering::Relaxed);
    }

    fn work(&self, bench: &Bench) {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + u64::from(self.number));
        let mut names = Vec::new();
        let mut round = 0;
        loop {
            match self.wish.load(Ordering::Relaxed) {
                END => return,
                PAUSE => {
                    self.is_idle.store(true, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                _ => {}
            }
            round += 1;
            let name = bench.name(&format!("w{}r{round}", self.number));
            let at = usize::try_from(random.below(8)).unwrap_or(0);
            match (random.below(12), names.get(at).cloned()) {
                (0..=3, _) | (_, None) => {
                    self.run(bench, &mut random, &name);
                    names.push(name);
                }
                (kind, Some(one)) => self.carry_on(bench, kind, round, &one, &mut names),
            }
            if names.len() > 10 {
                let done = bench.cli.run(&["rm", "-fv", &names[0]]);
                // A daemon that was killed meanwhile is asked again, or they would become more and more.
                if done.code == 0 || done.stderr.contains("No such container") {
                    names.remove(0);
                }
            }
        }
    }

    fn run(&self, bench: &Bench, random: &mut Random, name: &str) {
        let flags: &[&str] = match random.below(5) {
            0 => &["-P", "--expose", "80"],
            1 => &["--restart=always"],
            2 => &["--restart=on-failure:2", "-v", "/volume"],
            3 => &["--network=host"],
            _ => &[],
        };
        let script = match random.below(3) {
            0 => "sleep 600",
            1 => "sleep 0.05; exit 3",
            _ => "trap 'exit 4' TERM; while :; do sleep 0.02; done",
        };
        let verb: &[&str] = if random.below(6) == 0 { &["create"] } else { &["run", "-d"] };
        let args = [verb, flags, &["--name", name, BUSYBOX, "sh", "-c", script]].concat();
        bench.cli.run(&args);
    }

    fn carry_on(&self, bench: &Bench, kind: u64, round: u32, name: &str, names: &mut Vec<String>) {
        let tag = format!("made{}:{}", self.number, round % 2);
        let args: &[&str] = match kind {
            4 => &["exec", name, "sleep", "0.05"],
            5 => &["stop", "-t", "0", name],
            6 => {
                if bench.cli.run(&["rm", "-fv", name]).code == 0 {
                    names.retain(|known| known != name);
                }
                return;
            }
            7 => &["run", "--rm", "-P", "--expose", "82", "-v", "/volume", BUSYBOX, "sleep", "0.02"],
            8 => {
                let text = format!("FROM {BUSYBOX}\nRUN echo {} {round} > /x\nRUN sleep 0.05\n", self.number);
                bench.cli.with_input(&["build", "-q", "-"], text.as_bytes());
                return;
            }
            9 => {
                if let Some(tar) = gantry_testkit::image::busybox_tar() {
                    bench.cli.with_input(&["import", "-", &tag], tar);
                }
                return;
            }
            10 => {
                bench.cli.run(&["tag", BUSYBOX, &tag]);
                &["rmi", &tag]
            }
            _ => &["restart", "-t", "0", name],
        };
        bench.cli.run(args);
    }
}

pub(crate) fn files(bench: &Bench, directory: &str) -> Vec<std::ffi::OsString> {
    let root = bench.daemon.root().expect("a daemon of our own");
    let mut names: Vec<_> = std::fs::read_dir(root.join(directory))
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    names.sort();
    names
}

pub(crate) fn volumes(bench: &Bench) -> usize {
    files(bench, "data/volumes").len()
}

/// Each container that is said to run has its process and its shim, and no other has one. Policies may be restarting
/// some, so that is waited for.
pub(crate) fn records_are_true(bench: &Bench) {
    let mut wrong = Vec::new();
    for _ in 0..200 {
        wrong = differences(bench);
        if wrong.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("records and reality differ:\n{}\n{}", wrong.join("\n"), bench.daemon.log());
}

fn differences(bench: &Bench) -> Vec<String> {
    let mut wrong = Vec::new();
    let listed = bench.cli.ok(&["ps", "-aq", "--no-trunc"]);
    let ids: Vec<&str> = listed.lines().collect();
    let mut alive = 0;
    for id in &ids {
        let done = bench.cli.run(&["inspect", id]);
        let all: Value = serde_json::from_str(&done.stdout).unwrap_or(Value::Null);
        let (name, state) = (&all[0]["Name"], &all[0]["State"]);
        let directory = bench.daemon.root().expect("ours").join("run/c").join(id);
        let pid = state["Pid"].as_u64().unwrap_or(0);
        let is_live = state["Running"] == json!(true);
        alive += usize::from(is_live);
        if state["Status"] == json!("running") {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if !groups.contains(id) {
                wrong.push(format!("{name} runs as {pid}, which is in {groups:?}"));
            }
        } else if pid != 0 && !is_live {
            wrong.push(format!("{name} does not run and has a process: {state}"));
        }
        if directory.join("shim.sock").exists() != is_live {
            wrong.push(format!("whether {name} has a shim: {state}"));
        }
        let ended = state["Status"] == json!("exited") && all[0]["HostConfig"]["AutoRemove"] == json!(true);
        if ended || state["Status"] == json!("dead") {
            wrong.push(format!("{name} should be gone: {state}"));
        }
    }
    let shims = shims(bench).len();
    if shims != alive {
        wrong.push(format!("{shims} shims for {alive} containers"));
    }
    for directory in files(bench, "run/c") {
        if !ids.iter().any(|id| directory.to_str() == Some(*id)) {
            wrong.push(format!("the shim's directory {} is nobody's", directory.to_string_lossy()));
        }
    }
    wrong
}

/// Firewalls that start or change after us, in a network namespace of the test's own.
#[test]
fn firewalls_may_come_later() {
    if gantry_testkit::against_dockerd()
        || ["ip", "nft", "nsenter"].iter().any(|name| in_path(name).is_none())
    {
        gantry_testkit::skip("needs gantryd, ip, nft and nsenter");
        return;
    }
    let Some(namespace) = Namespace::make("firewalls") else { return };
    let enter = namespace.enter();
    let Some(daemon) = Daemon::start_within(&["nsenter", &enter], &[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let nft = |text: &str| finish(Command::new("nsenter").args([&enter, "nft", text])).stdout;
    nft("add table ip filter; add chain ip filter DOCKER-USER");
    let accepts = || nft("list chain ip filter DOCKER-USER").matches("accept").count();
    until("Docker's chain lets our traffic pass", 10, || accepts() == 2);
    nft("flush chain ip filter DOCKER-USER");
    until("it does so again", 10, || accepts() == 2);
    nft("delete table ip filter");
    nft(
        "add table inet wall; add chain inet wall forward { type filter hook forward priority 0; policy drop; }",
    );
    let warned = || bench.cli.ok(&["info", "-f", "{{json .Warnings}}"]).contains("inet wall forward");
    until("info warns of what drops our traffic", 10, warned);
    nft("delete table inet wall");
    until("and no longer than that", 10, || !warned());
}

/// A network namespace with a name, removed when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Says why not and gives `None` where the machine cannot.
    pub(crate) fn make(what: &str) -> Option<Self> {
        let name = format!("gantry-e2e-{}-{what}", std::process::id());
        if finish(Command::new("ip").args(["netns", "add", &name])).code != 0 {
            gantry_testkit::skip("no network namespace can be made");
            return None;
        }
        Some(Self(name))
    }

    /// The argument with which `nsenter` enters it.
    pub(crate) fn enter(&self) -> String {
        format!("--net=/run/netns/{}", self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        finish(Command::new("ip").args(["netns", "delete", &self.0]));
    }
}
