//! What is measured. A case does the same on both sides; its goal is the ratio that
//! `SPECIFICATION.md` promises.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::daemons::Side;
use super::fixture::{self, Fixture, LOGGED};
use super::floor;
use super::http;
use super::stats::Samples;

/// How many containers the batch cases start and remove.
const BATCH: usize = 40;
/// What a list of 1,000 containers may take.
const LIST_MS: f64 = 20.0;

/// The container that is committed.
const BENCH_COMMIT: &str = "bench-commit";
/// The image that is made of it.
const COMMITTED: &str = "bench-committed";

/// One thing to measure.
pub(crate) struct Case {
    /// As the table shows it.
    pub(crate) name: String,
    /// What is promised.
    pub(crate) goal: Goal,
    weight: Weight,
    act: Act,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At most this part of the peer's time.
    Ratio(f64),
    /// At most so many milliseconds; the peer's time is there to compare.
    Millis(f64),
}

/// How long it takes on the peer, and so how often it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Milliseconds: as often as asked for, and with pauses, too.
    Light,
    /// Seconds: a quarter as often.
    Heavy,
    /// A minute: once, without a run that is not counted.
    Huge,
}

#[derive(Clone)]
enum Act {
    Run { through: Through, network: &'static str },
    Exec { through: Through },
    StartBatch { through: Through },
    RemoveBatch { through: Through },
    Build { through: Through, cached: bool },
    AgainstBuildKit,
    Load,
    Save,
    Commit { through: Through },
    List,
    Logs { through: Through },
    Stats,
    Copy { through: Through, into: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    Stock,
    Own,
    Api,
}

impl Case {
    /// Whether the peer must build with BuildKit.
    pub(crate) fn needs_buildkit(&self) -> bool {
        matches!(self.act, Act::AgainstBuildKit)
    }

    /// What must be there.
    pub(crate) fn fixture(&self) -> Fixture {
        match self.act {
            Act::Load | Act::Save | Act::Commit { .. } => Fixture::Debian,
            Act::List => Fixture::Many,
            Act::Logs { .. } => Fixture::Logged,
            Act::Stats => Fixture::Watched,
            _ => Fixture::None,
        }
    }

    /// Whether the pass with pauses between the runs says anything of it.
    pub(crate) fn is_worth_a_pause(&self) -> bool {
        self.weight == Weight::Light && !matches!(self.act, Act::List | Act::Commit { .. })
    }

    /// The CLI's own part, where that decides what a ratio can be at all: its time against a server that answers
    /// at once.
    pub(crate) fn client_alone(&self, work: &Path, side: &Side, runs: u32) -> Result<Option<Duration>> {
        let socket = work.join("floor.sock");
        match self.act {
            Act::Build { through: Through::Stock, cached: true } => {
                let context = side.ten_steps();
                let build = ["build", "-q", &context.to_string_lossy()];
                floor::against_nobody(&socket, &build, runs).map(Some)
            }
            Act::Commit { through: Through::Stock } => {
                floor::against_nobody(&socket, &["commit", BENCH_COMMIT, COMMITTED], runs).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// All cases, in the order in which they are run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, goal: f64, heavy: bool, act: Act| {
        let weight = if heavy { Weight::Heavy } else { Weight::Light };
        cases.push(Case { name, goal: Goal::Ratio(goal), weight, act });
    };
    // First, before the other cases have removed anything: for minutes, ext4 looks at each inode that was freed before it
    // takes another, which costs either side seconds for 10,000 files, and by chance more to the one or the other.
    for (through, label) in [(Through::Stock, "stock CLI"), (Through::Own, "gantry against docker")] {
        for (into, direction) in [(true, "into a container"), (false, "out of a container")] {
            let name = format!("{label}: cp of 10,000 small files {direction}");
            add(name, 0.6, true, Act::Copy { through, into });
        }
    }
    for (through, label, run, exec) in [
        (Through::Stock, "stock CLI", 0.2, 0.45),
        (Through::Api, "API", 0.1, 0.15),
        (Through::Own, "gantry against docker", 0.12, 0.25),
    ] {
        for network in ["bridge", "none", "host"] {
            let name = format!("{label}: run --rm --net {network} busybox true");
            add(name, run, false, Act::Run { through, network });
        }
        add(format!("{label}: exec true"), exec, false, Act::Exec { through });
    }
    for (through, label, start, remove) in
        [(Through::Stock, "stock CLI", 0.15, 0.2), (Through::Api, "API", 0.1, 0.1)]
    {
        add(format!("{label}: {BATCH} x run -d -P"), start, true, Act::StartBatch { through });
        add(format!("{label}: rm -f of those {BATCH}"), remove, true, Act::RemoveBatch { through });
    }
    let against_buildkit = "stock CLI: ten RUN true, no cache, against BuildKit";
    add(against_buildkit.into(), 0.25, true, Act::AgainstBuildKit);
    for (through, label, cached, goal) in [
        (Through::Stock, "stock CLI: ten RUN true, no cache", false, 0.2),
        (Through::Stock, "stock CLI: ten RUN true, all cached", true, 0.5),
        (Through::Own, "gantry against docker: ten RUN true, all cached", true, 0.2),
    ] {
        add(label.into(), goal, !cached, Act::Build { through, cached });
    }
    add("stock CLI: load of a Debian image".into(), 0.6, true, Act::Load);
    add("stock CLI: save of a Debian image".into(), 0.6, true, Act::Save);
    for (through, label) in [(Through::Stock, "stock CLI"), (Through::Api, "API")] {
        add(format!("{label}: commit of 1 MB on a Debian image"), 0.2, false, Act::Commit { through });
    }
    add("stock CLI: stats --no-stream of 50 containers".into(), 0.6, true, Act::Stats);
    let (name, goal) = ("API: ps -a of 1,000 containers".into(), Goal::Millis(LIST_MS));
    cases.push(Case { name, goal, weight: Weight::Light, act: Act::List });
    for (through, label) in [(Through::Stock, "stock CLI"), (Through::Api, "API")] {
        let (name, goal) = (format!("{label}: logs of 1 GB"), Goal::Ratio(0.5));
        cases.push(Case { name, goal, weight: Weight::Huge, act: Act::Logs { through } });
    }
    cases
}

/// Runs a case on both sides in turn; a warm-up run of each is not counted.
pub(crate) fn measure(case: &Case, gantry: &Side, peer: &Side, runs: u32, gap: Duration) -> Result<Samples> {
    let mut samples = Samples::default();
    let archive = match case.act {
        Act::Load => Some(peer.debian_archive()?),
        _ => None,
    };
    let counted = match case.weight {
        Weight::Light => 1..runs + 1,
        Weight::Heavy => 1..runs.div_ceil(4) + 1,
        Weight::Huge => 0..1,
    };
    for run in 0..counted.end {
        for (side, times) in [(gantry, &mut samples.gantry), (peer, &mut samples.peer)] {
            std::thread::sleep(gap);
            let time = once(&case.act, side, archive.as_deref())
                .with_context(|| format!("{} on {}", case.name, side.socket.display()))?;
            if counted.contains(&run) {
                times.push(time);
            }
        }
    }
    Ok(samples)
}

/// Does it once; `archive` is where the Debian image is loaded from.
fn once(act: &Act, side: &Side, archive: Option<&Path>) -> Result<Duration> {
    match act {
        Act::Run { through, network } => timed(|| run_and_remove(*through, side, network)),
        Act::Exec { through } => timed(|| exec_true(*through, side)),
        Act::StartBatch { through } => {
            let started = timed(|| start_batch(*through, side));
            remove_batch(*through, side)?;
            started
        }
        Act::RemoveBatch { through } => {
            start_batch(*through, side)?;
            timed(|| remove_batch(*through, side))
        }
        Act::Build { through, cached } => timed(|| build(*through, side, *cached)),
        Act::Load => {
            side.stock(&["rmi", "-f", Side::DEBIAN])?;
            let archive = archive.context("the Debian image is there")?;
            timed(|| side.stock(&["load", "-q", "-i", &archive.to_string_lossy()]).map(drop))
        }
        Act::Save => {
            let archive = side.saved();
            let saved =
                timed(|| side.stock(&["save", "-o", &archive.to_string_lossy(), Side::DEBIAN]).map(drop));
            std::fs::remove_file(&archive)?;
            saved
        }
        Act::Commit { through } => commit(*through, side),
        Act::List => {
            let listed = timed(|| http::call(&side.socket, "GET", "/containers/json?all=1", None).map(drop));
            if side.stock(&["ps", "-aq"])?.lines().count() < fixture::MANY {
                bail!("the list is not whole");
            }
            listed
        }
        Act::Logs { through } => timed(|| {
            let read = match through {
                Through::Api => {
                    let path = format!("/containers/{LOGGED}/logs?stdout=1&stderr=1");
                    http::send(&side.socket, "GET", &path, None, false)?.drain()?
                }
                _ => side.stock_bytes(&["logs", LOGGED])?,
            };
            if read < fixture::LOGGED_BYTES { Err(anyhow!("only {read} bytes were read")) } else { Ok(()) }
        }),
        Act::Stats => timed(|| {
            let lines = side.stock(&["stats", "--no-stream"])?.lines().count();
            if lines <= fixture::WATCHED { Err(anyhow!("{lines} lines")) } else { Ok(()) }
        }),
        Act::Copy { through, into } => copy(*through, side, *into),
        Act::AgainstBuildKit => timed(|| {
            let context = side.ten_steps();
            side.buildkit(&["build", "-q", "--no-cache", &context.to_string_lossy()]).map(|_| ())
        }),
    }
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    act()?;
    Ok(started.elapsed())
}

fn cli(through: Through, side: &Side, arguments: &[&str]) -> Result<String> {
    if through == Through::Own { side.own(arguments) } else { side.stock(arguments) }
}

fn run_and_remove(through: Through, side: &Side, network: &str) -> Result<()> {
    if through != Through::Api {
        cli(through, side, &["run", "--rm", "--net", network, "busybox", "true"])?;
        return Ok(());
    }
    // What the stock CLI does: create, attach, wait for removal, start, read to the end.
    let id = create(
        side,
        "",
        &json!({"Image": "busybox", "Cmd": ["true"], "AttachStdout": true, "AttachStderr": true,
            "HostConfig": {"AutoRemove": true, "NetworkMode": network}}),
    )?;
    let path = format!("/containers/{id}");
    let attached =
        http::send(&side.socket, "POST", &format!("{path}/attach?stream=1&stdout=1&stderr=1"), None, true)?;
    let wait = http::send(&side.socket, "POST", &format!("{path}/wait?condition=removed"), None, false)?;
    http::call(&side.socket, "POST", &format!("{path}/start"), None)?;
    attached.body()?;
    wait.body()?;
    Ok(())
}

fn create(side: &Side, query: &str, body: &Value) -> Result<String> {
    let reply =
        http::call(&side.socket, "POST", &format!("/containers/create{query}"), Some(&body.to_string()))?;
    let reply: Value = serde_json::from_str(&reply)?;
    Ok(reply["Id"].as_str().context("create answered no Id")?.to_owned())
}

fn exec_true(through: Through, side: &Side) -> Result<()> {
    if through != Through::Api {
        cli(through, side, &["exec", "bench-exec", "true"])?;
        return Ok(());
    }
    let body = json!({"Cmd": ["true"], "AttachStdout": true, "AttachStderr": true}).to_string();
    let reply = http::call(&side.socket, "POST", "/containers/bench-exec/exec", Some(&body))?;
    let reply: Value = serde_json::from_str(&reply)?;
    let path = format!("/exec/{}", reply["Id"].as_str().context("exec answered no Id")?);
    let start = json!({"Detach": false, "Tty": false}).to_string();
    http::send(&side.socket, "POST", &format!("{path}/start"), Some(&start), true)?.body()?;
    http::call(&side.socket, "GET", &format!("{path}/json"), None)?;
    Ok(())
}

/// Copies the files to where nothing is and nothing was: ext4 does not give away the inodes of files that were removed
/// within the last minutes and looks at all of them for each new one, which is a measure of the bench alone. What else
/// there is to do is not timed.
fn copy(through: Through, side: &Side, into: bool) -> Result<Duration> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let files = side.many_files();
    let files = files.to_string_lossy();
    if into {
        let place = format!("bench-exec:/files-{number}");
        return timed(|| cli(through, side, &["cp", &files, &place]).map(drop));
    }
    if cli(through, side, &["exec", "bench-exec", "ls", "/files"]).is_err() {
        cli(through, side, &["cp", &files, "bench-exec:/files"])?;
    }
    let copied = side.copied_files(number);
    timed(|| cli(through, side, &["cp", "bench-exec:/files", &copied.to_string_lossy()]).map(drop))
}

/// Commits a megabyte that nobody has seen before. What else there is to do is not timed.
fn commit(through: Through, side: &Side) -> Result<Duration> {
    let script = "dd if=/dev/urandom of=/changed bs=1M count=1 2>/dev/null; echo written; exec sleep 100000";
    let run = ["run", "-d", "--net", "none", "--name", BENCH_COMMIT, Side::DEBIAN, "sh", "-c", script];
    side.stock(&run)?;
    while side.stock(&["logs", BENCH_COMMIT])?.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let committed = timed(|| match through {
        Through::Api => {
            let path = format!("/commit?container={BENCH_COMMIT}&repo={COMMITTED}");
            http::call(&side.socket, "POST", &path, None).map(drop)
        }
        _ => cli(through, side, &["commit", BENCH_COMMIT, COMMITTED]).map(drop),
    });
    side.stock(&["rm", "-f", BENCH_COMMIT])?;
    side.stock(&["rmi", COMMITTED])?;
    committed
}

fn batch_name(number: usize) -> String {
    format!("bench-{number}")
}

fn start_batch(through: Through, side: &Side) -> Result<()> {
    for number in 0..BATCH {
        let name = batch_name(number);
        if through == Through::Api {
            let body = json!({"Image": "web", "HostConfig": {"PublishAllPorts": true}});
            let id = create(side, &format!("?name={name}"), &body)?;
            http::call(&side.socket, "POST", &format!("/containers/{id}/start"), None)?;
        } else {
            cli(through, side, &["run", "-d", "-P", "--name", &name, "web"])?;
        }
    }
    Ok(())
}

fn remove_batch(through: Through, side: &Side) -> Result<()> {
    let names: Vec<String> = (0..BATCH).map(batch_name).collect();
    if through == Through::Api {
        for name in &names {
            http::call(&side.socket, "DELETE", &format!("/containers/{name}?force=1"), None)?;
        }
    } else {
        let mut arguments = vec!["rm", "-f"];
        arguments.extend(names.iter().map(String::as_str));
        cli(through, side, &arguments)?;
    }
    Ok(())
}

fn build(through: Through, side: &Side, cached: bool) -> Result<()> {
    let context = side.ten_steps();
    let context = context.to_string_lossy();
    let mut arguments = vec!["build", "-q"];
    if !cached {
        arguments.push("--no-cache");
    }
    arguments.push(&context);
    cli(through, side, &arguments)?;
    Ok(())
}
