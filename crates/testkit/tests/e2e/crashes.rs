//! The daemon and the shims crash at every place that `gantryd --list-failpoints` names, and at each state
//! write of each operation. After each: the daemon comes back, records and reality agree, fsck explains
//! everything, the operation can be repeated, and when what it made is removed nothing is left.
//!
//! The second word of a place's name is the operation that must come by there; one that it does not come
//! by fails the test. Needs binaries with the feature `failpoints`: `cargo xtask test --all` makes them.

use std::process::Command;
use std::time::{Duration, Instant};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::finish;
use gantry_testkit::{Bench, Client, Daemon, Done, daemon, full, http, leak, until};

use crate::survival::{files, kill_shims, records_are_true, volumes};

/// What is crashed.
pub(crate) struct Operation {
    /// The second word of its places' names.
    pub(crate) word: &'static str,
    /// Makes what it works on.
    pub(crate) prepare: fn(&Bench),
    /// Does it; also once more after a crash, when it may have been done already.
    pub(crate) act: fn(&Bench) -> Done,
    /// What it then may say.
    pub(crate) done_already: &'static str,
}

/// The one container.
pub(crate) const NAME: &str = "crash";
/// The one image.
pub(crate) const IMAGE: &str = "made:1";
const NOBODY_SAYS_THIS: &str = "\0";
const RUN: [&str; 11] = ["run", "-d", "-P", "--expose", "80", "-v", "/www", "--name", NAME, BUSYBOX, "sleep"];

fn nothing(_: &Bench) {}

fn import(bench: &Bench) -> Done {
    bench.cli.with_input(&["import", "-", IMAGE], gantry_testkit::image::busybox_tar().expect("it was there"))
}

fn run(bench: &Bench) {
    bench.cli.ok(&[&RUN[..], &["600"]].concat());
}

/// An archive with a layer that nobody has.
fn archive(bench: &Bench) -> String {
    let path = bench.daemon.root().expect("ours").join("load.tar");
    path.to_str().expect("a plain path").to_owned()
}

pub(crate) const OPERATIONS: [Operation; 18] = [
    Operation { word: "import", prepare: nothing, act: import, done_already: NOBODY_SAYS_THIS },
    Operation {
        word: "rmi",
        prepare: |bench| assert_eq!(import(bench).code, 0),
        act: |bench| bench.cli.run(&["rmi", IMAGE]),
        done_already: "No such image",
    },
    Operation {
        word: "tag",
        prepare: nothing,
        act: |bench| bench.cli.run(&["tag", BUSYBOX, IMAGE]),
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "create",
        prepare: nothing,
        act: |bench| bench.cli.run(&["create", "-v", "/www", "--name", NAME, BUSYBOX, "sleep", "600"]),
        done_already: "is already in use",
    },
    Operation {
        word: "start",
        prepare: |bench| {
            bench.cli.ok(&["create", "-P", "--expose", "80", "--name", NAME, BUSYBOX, "sleep", "600"]);
        },
        act: |bench| bench.cli.run(&["start", NAME]),
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "stop",
        prepare: run,
        act: |bench| bench.cli.run(&["stop", "-t", "0", NAME]),
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "rm",
        prepare: run,
        act: |bench| bench.cli.run(&["rm", "-fv", NAME]),
        done_already: "No such container",
    },
    Operation {
        word: "exec",
        prepare: run,
        act: |bench| bench.cli.run(&["exec", NAME, "true"]),
        // The shim's end is the container's.
        done_already: "is not running",
    },
    Operation {
        word: "build",
        prepare: nothing,
        act: |bench| {
            let text = format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n");
            bench.cli.with_input(&["build", "--no-cache", "-q", "-t", IMAGE, "-"], text.as_bytes())
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "load",
        prepare: |bench| {
            let text = format!("FROM {BUSYBOX}\nRUN echo 1 > /loaded\n");
            let done = bench.cli.with_input(&["build", "-q", "-t", IMAGE, "-"], text.as_bytes());
            assert_eq!(done.code, 0, "{done:?}");
            bench.cli.ok(&["save", "-o", &archive(bench), IMAGE]);
            bench.cli.ok(&["rmi", IMAGE]);
            let answer = http::ask(bench.daemon.socket(), "POST", "/build/prune?all=1", "");
            assert_eq!(answer.map(|(status, _)| status), Some(200));
        },
        act: |bench| bench.cli.run(&["load", "-q", "-i", &archive(bench)]),
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "commit",
        prepare: |bench| {
            bench.cli.ok(&["run", "-d", "--name", NAME, BUSYBOX, "sleep", "600"]);
            bench.cli.ok(&["exec", NAME, "sh", "-c", "echo 1 > /changed"]);
        },
        act: |bench| {
            let done = bench.cli.run(&["commit", NAME, IMAGE]);
            // Also after a crash it goes on; a daemon that died amid it thaws it when it comes again.
            if bench.daemon.has_ended_within(Duration::from_millis(1)) {
                return done;
            }
            let status = || bench.cli.run(&["inspect", "-f", "{{.State.Status}}", NAME]).stdout;
            until("the container is not frozen", 10, || {
                bench.daemon.has_ended_within(Duration::from_millis(1)) || status().trim() != "paused"
            });
            done
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "restart",
        prepare: nothing,
        act: |bench| {
            bench.cli.run(&["run", "-d", "--restart=on-failure:2", "--name", NAME, BUSYBOX, "false"])
        },
        done_already: "is already in use",
    },
    Operation {
        word: "update",
        prepare: run,
        act: |bench| {
            bench.cli.run(&["update", "--memory", "64m", "--memory-swap", "-1", "--restart", "always", NAME])
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "rename",
        prepare: run,
        act: |bench| {
            // Whichever of the two was done already.
            let there = bench.cli.run(&["rename", NAME, "elsewhere"]);
            if there.code != 0 && !there.stderr.contains("No such container") {
                return there;
            }
            bench.cli.run(&["rename", "elsewhere", NAME])
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "pause",
        prepare: run,
        act: |bench| {
            bench.cli.run(&["pause", NAME]);
            bench.cli.run(&["unpause", NAME])
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "cp",
        prepare: |bench| {
            bench.cli.ok(&["create", "--name", NAME, BUSYBOX, "true"]);
            bench.cli.ok(&["cp", "/etc/hostname", &format!("{NAME}:/before")]);
        },
        act: |bench| bench.cli.run(&["cp", "/etc/hostname", &format!("{NAME}:/copied")]),
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "volume",
        prepare: nothing,
        act: |bench| {
            let made = bench.cli.run(&["volume", "create", "--label", "a=b", "passing"]);
            if made.code == 0 { bench.cli.run(&["volume", "rm", "passing"]) } else { made }
        },
        done_already: NOBODY_SAYS_THIS,
    },
    Operation {
        word: "prune",
        prepare: |bench| {
            bench.cli.ok(&["run", "-v", "/www", "--name", NAME, BUSYBOX, "true"]);
            let text = format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n");
            let tar = gantry_testkit::image::busybox_tar().expect("it was there");
            for (args, input) in [(&["build", "-q", "-"][..], text.as_bytes()), (&["import", "-"], tar)] {
                let done = bench.cli.with_input(args, input);
                assert_eq!(done.code, 0, "{done:?}");
            }
        },
        act: |bench| bench.cli.run(&["system", "prune", "-f", "--volumes"]),
        done_already: NOBODY_SAYS_THIS,
    },
];

/// The names of all places; `None` where the binaries have none.
pub(crate) fn places() -> Option<Vec<String>> {
    if gantry_testkit::against_dockerd() {
        gantry_testkit::skip("only gantryd can be crashed at a place");
        return None;
    }
    let listed = finish(Command::new(daemon::binary("gantryd")?).arg("--list-failpoints"));
    if listed.code != 0 {
        gantry_testkit::skip("gantryd has no failpoints: cargo xtask test --all builds one that has");
        return None;
    }
    Some(listed.stdout.lines().map(str::to_owned).collect())
}

pub(crate) fn operation_of(place: &str) -> &str {
    place.split('.').nth(1).expect("process.operation.what")
}

#[test]
fn every_place_has_an_operation() {
    for place in places().into_iter().flatten() {
        let word = operation_of(&place);
        assert!(
            ["state", "recover"].contains(&word) || OPERATIONS.iter().any(|operation| operation.word == word),
            "no operation comes by {place}"
        );
    }
}

/// What a daemon without any container has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Base {
    layers: Vec<std::ffi::OsString>,
    blobs: Vec<std::ffi::OsString>,
    volumes: usize,
}

impl Base {
    pub(crate) fn of(bench: &Bench) -> Self {
        Self {
            layers: files(bench, "data/layers"),
            blobs: files(bench, "data/content/blobs/sha256"),
            volumes: volumes(bench),
        }
    }

    /// Asserts that nothing else is there.
    pub(crate) fn check(&self, bench: &Bench, what: &str) {
        leak::check(&bench.daemon);
        // Trees leave their places a second after their rows.
        let begun = Instant::now();
        while Self::of(bench) != *self && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(Self::of(bench), *self, "{what}\n{}", bench.daemon.log());
    }
}

/// Crashes one operation everywhere.
fn crash(word: &str) {
    let Some(places) = places() else { return };
    let operation = OPERATIONS.iter().find(|operation| operation.word == word).expect("it is listed");
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let base = Base::of(&bench);
    walk(&places, word, |place, action| once(&bench, operation, place, action, &base));
}

/// Does something at each place of an operation and at each state write. `act` is given the place and the action for
/// it, and returns whether the operation came by there.
pub(crate) fn walk(places: &[String], word: &str, mut act: impl FnMut(&str, &str) -> bool) {
    for place in places.iter().filter(|place| operation_of(place) == word) {
        assert!(act(place, "1*return"), "{word} does not come by {place}");
    }
    for place in ["daemon.state.committing", "daemon.state.committed"] {
        // A handful shows the way; all of them are for the long run.
        let limit = if full() { 100 } else { 3 };
        let mut fired = 0;
        while fired < limit {
            let action = if fired == 0 { "1*return".to_owned() } else { format!("{fired}*off->1*return") };
            if !act(place, &action) {
                break;
            }
            fired += 1;
        }
        let writes_nothing = ["exec", "cp"].contains(&word);
        assert!((1..100).contains(&fired) || writes_nothing, "{word}: {fired} writes at {place}");
    }
}

/// Crashes it at one place, and looks. Returns whether it came by there.
fn once(bench: &Bench, operation: &Operation, place: &str, action: &str, base: &Base) -> bool {
    let what = format!("{} at {place} ({action})", operation.word);
    let (root, in_daemon) = (bench.daemon.root().expect("ours"), place.starts_with("daemon."));
    let witness = root.join("witness");
    if in_daemon {
        (operation.prepare)(bench);
    }
    bench.daemon.kill();
    let armed = format!("{place}={action}");
    bench
        .daemon
        .start_with(&[("FAILPOINTS_WHEN_READY", &armed), ("FAILPOINTS_WITNESS", &witness.to_string_lossy())]);
    // A shim is armed as the daemon that started it.
    if !in_daemon {
        (operation.prepare)(bench);
    }
    let done = (operation.act)(bench);
    // What is done in the background comes a second later.
    let patience = Duration::from_millis(if place.starts_with("daemon.state.") { 200 } else { 5000 });
    let begun = Instant::now();
    while !witness.exists() && begun.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    let fired = std::fs::remove_file(&witness).is_ok();
    if fired && in_daemon {
        assert!(bench.daemon.has_ended_within(Duration::from_secs(10)), "{what}: gantryd did not end");
    } else if fired {
        records_are_true(bench);
    } else {
        assert_eq!(done.code, 0, "{what}: {done:?}\n{}", bench.daemon.log());
    }
    bench.daemon.kill();
    bench.daemon.start_again();
    holds_and_repeats(bench, operation, &what);
    clean(bench);
    base.check(bench, &what);
    fired
}

/// What is recorded is so, everything that is there is explained, and the operation can be done again.
pub(crate) fn holds_and_repeats(bench: &Bench, operation: &Operation, what: &str) {
    records_are_true(bench);
    leak::explained(&bench.daemon);
    let again = (operation.act)(bench);
    assert!(
        again.code == 0 || again.stderr.contains(operation.done_already),
        "{what}, once more: {again:?}\n{}",
        bench.daemon.log()
    );
    records_are_true(bench);
}

/// Removes what operations make.
pub(crate) fn clean(bench: &Bench) {
    for args in [&["rm", "-fv", NAME][..], &["rmi", "-f", IMAGE]] {
        let done = bench.cli.run(args);
        assert!(done.code == 0 || done.stderr.contains("No such"), "{args:?}: {done:?}");
    }
    for path in ["/build/prune?all=1", "/images/prune"] {
        let answer = http::ask(bench.daemon.socket(), "POST", path, "");
        assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "{path}: {answer:?}");
    }
}

/// The start after a crash crashes too, everywhere, and the one after that finds everything as it must be.
#[test]
fn the_start_crashes() {
    let Some(places) = places() else { return };
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let base = Base::of(&bench);
    walk(&places, "recover", |place, action| start_once(&bench, place, action, &base));
}

/// Crashes a start that has something to do for each of its parts: a container that lost its shim, others that were being
/// made, and an image that was. Returns whether it came by the place.
fn start_once(bench: &Bench, place: &str, action: &str, base: &Base) -> bool {
    let what = format!("the start at {place} ({action})");
    run(bench);
    for (armed, half_done) in [
        ("daemon.create.snapshot=1*return", &["create", "--name", "half", BUSYBOX, "true"][..]),
        ("daemon.create.reserved=1*return", &["create", "--name", "less", BUSYBOX, "true"]),
        ("daemon.create.volume-described=1*return", &["volume", "create", "half"]),
    ] {
        bench.daemon.kill();
        bench.daemon.start_with(&[("FAILPOINTS_WHEN_READY", armed)]);
        bench.cli.run(half_done);
        assert!(bench.daemon.has_ended_within(Duration::from_secs(10)), "{what}: not after {half_done:?}");
    }
    bench.daemon.start_with(&[("FAILPOINTS_WHEN_READY", "daemon.import.image-synced=1*return")]);
    import(bench);
    assert!(bench.daemon.has_ended_within(Duration::from_secs(10)), "{what}: not after an import");
    kill_shims(bench);
    let crashed = bench.daemon.try_start(&[("FAILPOINTS", &format!("{place}={action}"))]).is_err();
    bench.daemon.kill();
    bench.daemon.start_again();
    records_are_true(bench);
    leak::explained(&bench.daemon);
    assert_eq!(
        bench.cli.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]),
        format!("{NAME} exited"),
        "{what}"
    );
    bench.cli.ok(&["start", NAME]);
    assert!(bench.cli.ok(&["volume", "ls", "-q"]).lines().any(|name| name == "half"), "{what}");
    bench.cli.ok(&["volume", "rm", "half"]);
    clean(bench);
    base.check(bench, &what);
    crashed
}

macro_rules! crashes {
    ($($(#[$meta:meta])* $name:ident,)*) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            crash(stringify!($name));
        }
    )* };
}

mod everywhere {
    use super::crash;

    crashes! {
        import,
        rmi,
        tag,
        create,
        start,
        stop,
        rm,
        exec,
        build,
        load,
        commit,
        restart,
        update,
        rename,
        pause,
        cp,
        volume,
        prune,
    }
}
