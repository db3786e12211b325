//! Every write of state has a place at which a test can crash it: a file of source that changes the disk has a
//! `model::failpoint::Point` itself, or stands here with the places between which its writes lie.
//!
//! Transactions need no entry: they all go through `state::Database`, which has a place before and after each commit,
//! and no other crate opens a database.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::workspace;

/// Where source that keeps state lies. What the OCI runtime of one call and a container's own file system are is not
/// the daemon's state.
const STATE: [&str; 6] = [
    "crates/build/src/",
    "crates/daemon/src/",
    "crates/engine/src/",
    "crates/logs/src/",
    "crates/runtime/src/shim/",
    "crates/store/src/",
];

/// Calls that change a file system.
const WRITES: [&str; 17] = [
    "fs::write(",
    "fs::rename(",
    "File::create(",
    ".create(true)",
    ".create_new(true)",
    "DirBuilder::new(",
    "create_dir(",
    "create_dir_all(",
    "remove_dir(",
    "remove_dir_all(",
    "remove_file(",
    "symlinkat(",
    "unlinkat(",
    "mkdirat(",
    "fallocate(",
    ".set_len(",
    "tree::remove(",
];

/// Files that write and have no place of their own: the names of places that lie before, amid or after it.
const BETWEEN: &[(&str, &[&str])] = &[
    // The context of a build is unpacked before its first step.
    ("crates/build/src/context.rs", &["daemon.build.files", "daemon.state.committing"]),
    // What COPY and ADD write lies in a snapshot that has its row already.
    ("crates/build/src/op/copy.rs", &["daemon.create.snapshot-recorded", "daemon.build.committed"]),
    ("crates/build/src/op/file.rs", &["daemon.create.snapshot-recorded", "daemon.build.committed"]),
    // A damaged cache is removed before anything else is done.
    ("crates/build/src/solver/cache.rs", &[]),
    // Locks and sockets of the daemon itself, which each start makes anew.
    ("crates/daemon/src/ownership.rs", &[]),
    ("crates/daemon/src/serve.rs", &[]),
    ("crates/engine/src/containers/adopt.rs", &["daemon.stop.recorded", "daemon.stop.left"]),
    (
        "crates/engine/src/containers/start/surroundings.rs",
        &["daemon.start.namespaces", "daemon.start.files"],
    ),
    ("crates/engine/src/sandboxes/ephemeral.rs", &["daemon.build.files", "daemon.build.spawned"]),
    ("crates/engine/src/sandboxes/files.rs", &["daemon.start.namespaces", "daemon.start.files"]),
    ("crates/engine/src/volumes/populate.rs", &["daemon.create.directory", "daemon.create.populated"]),
    // What it does is done again by the next start.
    ("crates/engine/src/volumes/recovery.rs", &["daemon.rm.volume", "daemon.create.volume"]),
    // A log is no record: a crash may cut it, and the reader knows.
    ("crates/logs/src/file.rs", &["shim.stop.reaped", "shim.stop.drained"]),
    // Its socket, which each shim makes anew.
    ("crates/runtime/src/shim/connection.rs", &["daemon.start.directory", "daemon.start.spawned"]),
    (
        "crates/store/src/archive/extract.rs",
        &["daemon.create.snapshot-recorded", "daemon.import.layer-unpacked"],
    ),
    // Blocks without a meaning.
    ("crates/store/src/reserve.rs", &["daemon.rm.tree-forgotten"]),
    // A commit's copy of what was changed lies in tmp until it is a layer.
    ("crates/store/src/snapshot/copy.rs", &["daemon.commit.paused", "daemon.commit.layer"]),
    (
        "crates/store/src/snapshot/mount_points.rs",
        &["daemon.create.snapshot-recorded", "daemon.create.snapshot"],
    ),
    ("crates/store/src/snapshot/overlay.rs", &["daemon.create.snapshot-recorded", "daemon.create.snapshot"]),
    ("crates/store/src/snapshot/vfs.rs", &["daemon.create.snapshot-recorded", "daemon.create.snapshot"]),
];

/// Copies a database's log back, and writes nothing of its own.
const CHECKPOINTS: &str = "crates/engine/src/database.rs";

/// What the tests of a crate do is nobody's state.
const TESTS: [&str; 1] = ["crates/store/src/snapshot/conformance.rs"];

/// What is wrong, one sentence each.
pub(super) fn check(files: &[String]) -> Result<Vec<String>> {
    let points = fs::read_to_string(workspace::root().join("crates/model/src/failpoint.rs"))?;
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| path.starts_with("crates/")) {
        let full = workspace::root().join(path);
        if full.exists() {
            sources.push((path.as_str(), fs::read_to_string(&full).with_context(|| path.clone())?));
        }
    }
    Ok(wrong(&sources, &points, BETWEEN))
}

fn wrong(sources: &[(&str, String)], points: &str, between: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed: BTreeSet<&str> = between.iter().map(|(path, _)| *path).collect();
    for (path, text) in sources {
        // Up to the tests of the file.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let opens = code.contains("rusqlite") && code.contains("Connection::open") && path.contains("/src/");
        if opens && !path.starts_with("crates/state/") && *path != CHECKPOINTS {
            wrong.push(format!(
                "{path} opens a database: only crates/state does, where each commit has its places"
            ));
        }
        let is_listed = listed.remove(path);
        let keeps_state = STATE.iter().any(|state| path.starts_with(state)) && !TESTS.contains(path);
        let writes = code
            .lines()
            .map(str::trim)
            .any(|line| !line.starts_with("//") && WRITES.iter().any(|call| line.contains(call)));
        let has_place = code.contains("reached(Point::");
        if keeps_state && writes && !has_place && !is_listed {
            wrong.push(format!(
                "{path} writes, and has no failpoint: give it a place of model::failpoint::Point, or name those that \
                 its writes lie between in xtask/src/tidy/writes.rs"
            ));
        } else if is_listed && (!writes || has_place) {
            wrong.push(format!("{path} need not be in xtask/src/tidy/writes.rs any more"));
        }
    }
    wrong.extend(
        listed.into_iter().map(|path| format!("xtask/src/tidy/writes.rs names {path}, which is not there")),
    );
    for (path, places) in between {
        for place in places.iter().filter(|place| !points.contains(&format!("= \"{place}\""))) {
            wrong.push(format!(
                "xtask/src/tidy/writes.rs: {path} lies at {place}, and there is no such place"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: &str = "Made = \"daemon.create.made\",";

    #[test]
    fn a_write_without_a_place_is_found() {
        let check = |text: &str, between: &[(&str, &[&str])], expected: usize| {
            let found = wrong(&[("crates/engine/src/new.rs", text.to_owned())], POINTS, between);
            assert_eq!(found.len(), expected, "{text}: {found:?}");
        };
        check("fn f() { fs::write(path, text); }", &[], 1);
        check("fn f() { fs::write(path, text); reached(Point::Made); }", &[], 0);
        check(
            "fn f() { fs::write(path, text); }",
            &[("crates/engine/src/new.rs", &["daemon.create.made"])],
            0,
        );
        check(
            "fn f() { fs::write(path, text); }",
            &[("crates/engine/src/new.rs", &["daemon.create.gone"])],
            1,
        );
        check("fn f() { read(path); }", &[("crates/engine/src/new.rs", &[])], 1);
        check("fn f() {}\n#[cfg(test)]\nmod tests { fs::write(path, text); }", &[], 0);
        check("// fs::write(", &[], 0);
        check("fn f() {}", &[("crates/engine/src/gone.rs", &[])], 1);
        check("rusqlite::Connection::open(path)", &[], 1);
    }
}
