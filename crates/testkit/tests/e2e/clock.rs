//! The host's clock is set hours ahead and hours back while containers run: nothing hangs, nothing is lost, and what is
//! asked for by time is answered. Only where the machine is the test's own: `cargo xtask vm`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{Bench, ours, until};
use rustix::time::{ClockId, Timespec, clock_settime};
use serde_json::json;

const HOUR: i64 = 3600;

/// Sets the clock, and back to the true time when it is dropped.
struct Clock {
    true_time: SystemTime,
    since: Instant,
}

impl Clock {
    /// The machine's, if the test may set it.
    fn ours() -> Option<Self> {
        if std::env::var_os("GANTRY_TEST_VM").is_none() {
            gantry_testkit::skip("this machine's clock is not the test's to set: cargo xtask vm");
            return None;
        }
        Some(Self { true_time: SystemTime::now(), since: Instant::now() })
    }

    /// Sets it so far from the true time.
    fn set(&self, seconds_off: i64) {
        let now = (self.true_time + self.since.elapsed()).duration_since(UNIX_EPOCH).expect("after 1970");
        let seconds = i64::try_from(now.as_secs()).expect("a time of today") + seconds_off;
        let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(now.subsec_nanos()) };
        clock_settime(ClockId::Realtime, time).expect("the machine is ours");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What a client prints while it goes on.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it was found");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more have come than there were.
    fn goes_on(&self, what: &str, more: usize) {
        let had = self.lines().len();
        until(what, 60, || self.lines().len() >= had + more);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that has to go on at any time.
fn everything_works(bench: &Bench, beat: &str, again: &str, when: &str) {
    let restarts = || bench.inspect(again, "/RestartCount").as_u64().unwrap_or(0);
    let before = restarts();
    until(&format!("{when}: the policy restarts"), 120, || restarts() > before);
    assert_eq!(bench.cli.ok(&["exec", beat, "echo", "inside"]), "inside", "{when}");
    // What was written in this time is asked for by it, also where earlier lines have later times.
    until(&format!("{when}: the last lines are told"), 60, || {
        let last = bench.cli.ok(&["logs", "--tail", "1", beat]);
        let recent = bench.cli.ok(&["logs", "--since", "20s", beat]);
        !last.is_empty() && recent.lines().any(|line| line == last)
    });
    // A stop waits as long as it was told to, by no clock that can be set.
    let name = bench.name("stubborn");
    bench.cli.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "--stop-timeout",
        "2",
        BUSYBOX,
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.1; done",
    ]);
    let begun = Instant::now();
    bench.cli.ok(&["stop", &name]);
    assert!(begun.elapsed() > Duration::from_secs(1), "{when}: it was not given its time");
    assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(137), "{when}");
    bench.cli.ok(&["rm", &name]);
    // What happened just now is among what happened lately.
    let filter = format!("container={name}");
    until(&format!("{when}: events of this time are told"), 30, || {
        bench
            .cli
            .ok(&["events", "--since", "60s", "--until", "0s", "--filter", &filter])
            .contains("container destroy")
    });
    assert_eq!(bench.shell(&[], "echo new"), "new", "{when}");
    bench.cli.ok(&["stats", "--no-stream", beat]);
    bench.cli.ok(&["ps", "-a"]);
}

ours! {
    fn a_clock_that_jumps_loses_nothing(bench) {
        let Some(clock) = Clock::ours() else { return };
        let (beat, again, waited) = (bench.name("beat"), bench.name("again"), bench.name("waited"));
        bench.cli.ok(&["run", "-d", "--name", &beat, BUSYBOX, "sh", "-c", "while :; do n=$((n+1)); echo $n; sleep 0.1; done"]);
        bench.cli.ok(&["run", "-d", "--name", &again, "--restart=always", BUSYBOX, "sh", "-c", "sleep 0.3; exit 1"]);
        bench.cli.ok(&["run", "-d", "--name", &waited, BUSYBOX, "sleep", "600"]);
        let logs = Following::start(bench.cli.command(&["logs", "-f", &beat]));
        let events = Following::start(bench.cli.command(&["events", "--filter", &format!("container={again}")]));
        let mut waiting = bench.cli.spawn(&["wait", &waited]);
        // A client that follows goes on with the daemon that it follows.
        for hours in [5, -7, 0] {
            let when = format!("{hours} hours off");
            clock.set(hours * HOUR);
            logs.goes_on(&format!("{when}: the log is followed"), 3);
            events.goes_on(&format!("{when}: events are told"), 2);
            everything_works(bench, &beat, &again, &when);
        }
        for hours in [30, -50, 0] {
            clock.set(hours * HOUR);
            bench.daemon.kill();
            bench.daemon.start_again();
            everything_works(bench, &beat, &again, &format!("{hours} hours off, and a new daemon"));
        }
        // Every line, once, in its order: neither the one who followed nor the file lost or doubled one.
        let numbered = |lines: &[String]| lines.iter().zip(1..).all(|(line, number)| *line == number.to_string());
        assert!(numbered(&logs.lines()), "{:?}", logs.lines());
        let all = bench.cli.ok(&["logs", &beat]);
        let all: Vec<String> = all.lines().map(str::to_owned).collect();
        assert!(numbered(&all) && all.len() > logs.lines().len(), "{all:?}");
        assert_eq!(bench.inspect(&waited, "/State/Running"), json!(true));
        assert!(waiting.try_wait().is_ok_and(|ended| ended.is_some()), "its daemon was killed");
        for name in [&beat, &again, &waited] {
            bench.cli.ok(&["stop", "-t", "1", name]);
            assert_eq!(bench.inspect(name, "/State/Running"), json!(false));
        }
    }
}
