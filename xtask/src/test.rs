//! `cargo xtask test`: unit and integration tests of every crate, then the end-to-end tests, and
//! one closing line that adds them up.
//!
//! A test that needs what the machine lacks prints a line that begins with `skipped:` and returns;
//! those lines are counted here and shown, so that a skip is never mistaken for a pass.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::compare;
use crate::docker_py;
use crate::fuzz;
use crate::host;
use crate::vm;
use crate::workspace::{self, Profile, cargo};

/// What to run.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Also the full-size hostile archives, the 200 kills, the crashes, losses of power and full disks at every place,
    /// the other long tests, the end-to-end tests in a virtual machine with cgroup v2, both comparisons, and fuzzing
    #[arg(long)]
    all: bool,
}

/// Which end-to-end tests to run.
#[derive(clap::Args, Debug)]
pub(crate) struct E2eArgs {
    /// Only tests whose name contains this
    filter: Option<String>,
    #[command(flatten)]
    compare: compare::Args,
    #[command(flatten)]
    docker_py: docker_py::Args,
}

/// The tests that need binaries which can be told to crash, to lose power and to fill the disk.
const CRASHES: [&str; 2] = ["crashes::", "bad_disks::"];

/// What test runs said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Signed, because a skip is taken off before its runner's closing line is added.
    passed: i32,
    pub(crate) failed: i32,
    skipped: i32,
    /// What the tests that failed said, without the backtraces; repeated at the end, where it is looked for.
    failures: Vec<String>,
    /// What the lines that come now belong to.
    within: Within,
}

/// Where in a runner's output a line stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Within {
    #[default]
    Tests,
    Failure,
    Backtrace,
}

impl Tally {
    /// Runs something that is one test on its own, unless the machine lacks something for it.
    fn add(&mut self, name: &str, missing: Option<String>, run: impl FnOnce() -> Result<()>) {
        if let Some(missing) = missing {
            println!("skipped: {name}: {missing}");
            self.skipped += 1;
            return;
        }
        match run() {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs everything and fails if any test failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    prepare()?;
    let binaries = workspace::build(Profile::Dev)?;
    let mut tally = Tally::default();
    let mut all_ran = true;
    for scope in [
        &["--workspace", "--lib", "--bins", "--exclude", "gantry-testkit"][..],
        &["--workspace", "--test", "*"][..],
    ] {
        let mut command = cargo();
        command.args(["test", "--no-fail-fast"]).args(scope).env("GANTRY_BIN_DIR", &binaries);
        if args.all {
            command.env("GANTRY_TEST_FULL", "1");
        }
        command.args(["--", "--show-output", "--test-threads", "2"]);
        if args.all {
            // They come last, with binaries of their own.
            command.args(CRASHES.iter().flat_map(|tests| ["--skip", tests]));
        }
        all_ran &= watch(&mut command, &mut tally, |_| ())?;
    }
    if args.all {
        host::install(&[vm::TO_RUN_A_VM])?;
        let that_crash = workspace::build_with_failpoints()?;
        let mut command = cargo();
        command.args(["test", "--package", "gantry-testkit", "--test", "e2e", "--"]);
        command.args(CRASHES);
        command.args(["--show-output", "--test-threads", "2"]);
        command.env("GANTRY_BIN_DIR", &that_crash).env("GANTRY_TEST_FULL", "1");
        all_ran &= watch(&mut command, &mut tally, |_| ())?;
        all_ran &= vm::tests(&binaries, &[], &mut tally)?;
        beside_docker(&mut tally)?;
        tally.add("fuzzing", fuzz::missing(), || fuzz::run(&fuzz::Args { target: None, seconds: 20 }));
    }
    tally.failures.iter().for_each(|line| println!("{line}"));
    println!("{tally}");
    if tally.failed > 0 || !all_ran {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Both comparisons: of the daemon with a dockerd, and of `gantry` with the stock CLI.
fn beside_docker(tally: &mut Tally) -> Result<()> {
    let comparison = |clients| compare::Args { compare: true, clients, ..compare::Args::default() };
    let without_root = || (!host::is_root()).then(|| "both daemons need root".to_owned());
    let missing = compare::missing()?;
    tally.add("the comparison with Docker", without_root().or(missing), || compare::run(&comparison(false)));
    tally.add("the comparison of the clients", without_root(), || compare::run(&comparison(true)));
    Ok(())
}

/// Runs the end-to-end tests alone.
pub(crate) fn e2e(args: &E2eArgs) -> Result<()> {
    if args.compare.compare {
        return compare::run(&args.compare);
    }
    if let Some(checkout) = &args.docker_py.checkout {
        return docker_py::run(checkout, args.compare.peer_socket.as_deref());
    }
    prepare()?;
    let binaries = workspace::build(Profile::Dev)?;
    let mut command = cargo();
    command.args(["test", "--package", "gantry-testkit", "--test", "*", "--"]);
    command
        .args(&args.filter)
        .args(["--show-output", "--test-threads", "2"])
        .env("GANTRY_BIN_DIR", &binaries);
    let mut tally = Tally::default();
    let passed = watch(&mut command, &mut tally, |_| ())?;
    println!("{tally}");
    if passed { Ok(()) } else { bail!("{} tests failed", tally.failed) }
}

fn prepare() -> Result<()> {
    if host::is_root() {
        host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES, host::TO_TEST])?;
    } else {
        eprintln!("not root: tests that make namespaces, mounts or control groups say that they are skipped");
    }
    Ok(())
}

/// Passes a test run's output on, adds up what it says, shows each line to `look`, and returns whether it succeeded.
pub(crate) fn watch(command: &mut Command, tally: &mut Tally, mut look: impl FnMut(&str)) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run the tests")?;
    let output = child.stdout.take().expect("stdout was asked for as a pipe");
    for line in BufReader::new(output).split(b'\n') {
        // A console's lines may have anything in them.
        let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
        count(&line, tally);
        keep(&line, tally);
        look(&line);
        println!("{line}");
    }
    Ok(child.wait()?.success())
}

/// Adds what one line of a test run says. A skipped test was counted as passed by its runner.
fn count(line: &str, tally: &mut Tally) {
    if line.starts_with("skipped:") {
        tally.skipped += 1;
        tally.passed -= 1;
        return;
    }
    let Some(rest) = line.strip_prefix("test result: ") else { return };
    let number_before = |word: &str| -> i32 {
        let words: Vec<&str> = rest.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
    };
    tally.passed += number_before("passed");
    tally.failed += number_before("failed");
    tally.skipped += number_before("ignored");
}

/// Keeps what a line says of a test that failed.
fn keep(line: &str, tally: &mut Tally) {
    tally.within = match tally.within {
        _ if line == "failures:" => Within::Failure,
        _ if line.starts_with("test result: ") => Within::Tests,
        Within::Backtrace if line.starts_with("---- ") => Within::Failure,
        Within::Failure if line == "stack backtrace:" => Within::Backtrace,
        within => within,
    };
    if tally.within == Within::Failure && !line.is_empty() && line != "failures:" {
        tally.failures.push(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_and_skips_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test a ... ok",
            "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "---- a stdout ----",
            "skipped: not root",
        ] {
            count(line, &mut tally);
        }
        // The skip line comes before its runner's closing line in a real run; the sum is the same.
        assert_eq!(tally, Tally { passed: 6, failed: 2, skipped: 2, ..Tally::default() });
    }

    #[test]
    fn what_failed_tests_said_is_kept() {
        let mut tally = Tally::default();
        for line in [
            "test a ... FAILED",
            "successes:",
            "---- b stdout ----",
            "fine",
            "failures:",
            "",
            "---- a stdout ----",
            "thread 'a' panicked at a.rs:1:2:",
            "it is broken",
            "stack backtrace:",
            "   0: rust_begin_unwind",
            "---- c stdout ----",
            "this too",
            "failures:",
            "    a",
            "test result: FAILED. 1 passed; 2 failed",
            "later",
        ] {
            keep(line, &mut tally);
        }
        let want = ["---- a stdout ----", "thread 'a' panicked at a.rs:1:2:", "it is broken"];
        assert_eq!(tally.failures[..3], want);
        assert_eq!(tally.failures[3..], ["---- c stdout ----", "this too", "    a"]);
    }
}
