//! The comparison with a real dockerd (`cargo xtask e2e --compare`), and what makes it one: that
//! every byte counts which no mask names.

#![allow(clippy::print_stdout, reason = "what differs is printed, and the closing line that counts it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use gantry_testkit::compare::{self, Case, Difference, Known, Observed, Side, case, difference, side};
use gantry_testkit::{Daemon, skip};

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the cases are in the checkout")
        .map(|entry| entry.expect("a directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cases"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("a case file can be read");
            case::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .collect()
}

fn known(list: &str) -> Vec<Known> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(list);
    let text = fs::read_to_string(&file).expect("the list is in the checkout");
    difference::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn cases_and_the_list_of_differences_are_well_formed() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    for case in &cases {
        assert!(case.steps.iter().any(|step| step.call().is_some()), "{} compares nothing", case.name);
    }
    for known in known("differences.txt").into_iter().chain(known("clients.txt")) {
        let Difference { case: name, call, .. } = &known.difference;
        let case = cases.iter().find(|case| case.name == *name);
        let case = case.unwrap_or_else(|| panic!("a difference names the case {name}, which does not exist"));
        let has = case.steps.iter().filter_map(case::Step::call).any(|have| have.text == *call);
        assert!(has, "a difference names a call that case {name} does not have: {call}");
    }
}

/// Changes each byte of what a side printed, one after the other: a byte that no mask covers must
/// be a difference, in the output, the error output and the exit code.
#[test]
fn a_change_of_any_byte_that_no_mask_names_is_a_difference() {
    let text = "case a\n$ ps\n  mask id12 age\n  mask stderr id\n";
    let case = &case::parse(text).expect("a case")[0];
    let id = "0123456789abcdef".repeat(4);
    let stdout = "CONTAINER ID   STATUS\n0123456789ab   Up 2 seconds (healthy)   0.0.0.0:80->80/tcp\n";
    let base = Observed { code: 1, stdout: stdout.to_owned(), stderr: format!("no such container: {id}\n") };
    let masked_out = [stdout.find("0123").map(|at| at..at + 12), stdout.find("2 sec").map(|at| at..at + 9)];
    let masked_err = base.stderr.find(&id).map(|at| at..at + 64);
    assert!(compare::compare(case, std::slice::from_ref(&base), std::slice::from_ref(&base)).is_empty());
    let changed = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'~' { b'!' } else { b'~' };
        String::from_utf8(bytes).expect("the text is ASCII")
    };
    let mut compared = 0;
    for at in 0..stdout.len() {
        let other = Observed { stdout: changed(stdout, at), ..base.clone() };
        // A byte within what is masked changes its shape, so it differs as well.
        assert!(
            !compare::compare(case, std::slice::from_ref(&base), std::slice::from_ref(&other)).is_empty(),
            "byte {at} of stdout"
        );
        compared += 1;
    }
    for at in 0..base.stderr.len() {
        let other = Observed { stderr: changed(&base.stderr, at), ..base.clone() };
        assert!(
            !compare::compare(case, std::slice::from_ref(&base), std::slice::from_ref(&other)).is_empty(),
            "byte {at} of stderr"
        );
        compared += 1;
    }
    assert_eq!(compared, stdout.len() + base.stderr.len());
    // What a mask names may have another value of its shape, and only that.
    let [Some(short), Some(age)] = masked_out else { panic!("the text has both") };
    let mut other = stdout.to_owned();
    other.replace_range(age, "3 minutes");
    other.replace_range(short, "ba9876543210");
    let mut stderr = base.stderr.clone();
    stderr
        .replace_range(masked_err.expect("the text has it"), &("ba9876543210".to_owned() + &"0".repeat(52)));
    let other = Observed { code: 1, stdout: other, stderr };
    assert!(compare::compare(case, std::slice::from_ref(&base), std::slice::from_ref(&other)).is_empty());
    // The id on standard error is another container's than the one in the list.
    let wrong = Observed { stderr: format!("no such container: {}\n", "f".repeat(64)), ..other.clone() };
    assert!(!compare::compare(case, std::slice::from_ref(&base), &[wrong]).is_empty());
    assert!(!compare::compare(case, &[base], &[Observed { code: 0, ..other }]).is_empty());
}

#[test]
#[ignore = "needs a dockerd: cargo xtask e2e --compare"]
fn compare_with_a_dockerd() {
    let Some(socket) = std::env::var_os("GANTRY_COMPARE_SOCKET") else {
        skip("GANTRY_COMPARE_SOCKET does not name a dockerd's socket");
        return;
    };
    let Some(daemon) = Daemon::start(&[]) else { return };
    let work =
        tempfile::Builder::new().prefix("gantry-compare-").tempdir_in("/tmp").expect("/tmp is writable");
    let host = format!("unix://{}", socket.to_string_lossy());
    let peer = Side::new(&host, &work.path().join("peer"), 21_000).expect("the peer can be set up");
    let ours = Side::new(&daemon.host(), &work.path().join("ours"), 25_000).expect("ours can be set up");
    let version = peer.version().expect("the peer answers");
    println!("Gantry beside Docker {version}");
    let known = known("differences.txt")
        .into_iter()
        .filter(|known| version.starts_with(known.peer.as_str()))
        .collect();
    compare_all(&peer, &ours, known, None);
}

/// The same cases with the stock CLI and with `gantry`, each on a gantryd of its own.
#[test]
#[ignore = "takes minutes: cargo xtask e2e --compare --clients"]
fn compare_the_clients() {
    let (Some(first), Some(second)) = (Daemon::start(&[]), Daemon::start(&[])) else { return };
    let Some(program) = gantry_testkit::daemon::binary("gantry") else { return };
    let work =
        tempfile::Builder::new().prefix("gantry-compare-").tempdir_in("/tmp").expect("/tmp is writable");
    let stock = Side::new(&first.host(), &work.path().join("peer"), 21_000).expect("the peer can be set up");
    let ours = Side::with(program, &second.host(), &work.path().join("ours"), 25_000);
    let ours = ours.expect("ours can be set up");
    println!("gantry beside docker");
    compare_all(&stock, &ours, known("clients.txt"), Some(in_one_voice));
}

/// What each client adds in its own name: how it calls itself, the stock one's remark on its builder, and what to
/// do next, which `gantry` says in a line at the end.
fn in_one_voice(observed: &mut Observed) {
    const ADVICE: [&str; 4] =
        ["List what there is: ", "List the users: ", "See who has it: ", "Start one with: "];
    let remark = observed.stderr.find("DEPRECATED: The legacy builder").map(|from| {
        let end = observed.stderr[from..].find("\n\n").map_or(observed.stderr.len(), |at| from + at + 2);
        from..end
    });
    if let Some(remark) = remark {
        observed.stderr.replace_range(remark, "");
    }
    let last = observed.stderr.trim_end().rfind('\n').map_or(0, |at| at + 1);
    if ADVICE.iter().any(|advice| observed.stderr[last..].starts_with(advice)) {
        observed.stderr.truncate(last);
    }
    observed.stderr = observed.stderr.replace("gantry", "docker");
    // The stock client returns the carriage twice before it ends the line of a context's size.
    observed.stdout = observed.stdout.replace("\r", "");
}

/// What a case printed on both sides, and how long the slower of them took.
struct Ran {
    peer: Result<Vec<Observed>, String>,
    ours: Result<Vec<Observed>, String>,
    took: Duration,
}

/// Runs cases on both sides, [`side::AT_ONCE`] at a time: a case mostly waits. Two cases of which one's name begins
/// with the other's would list and remove each other's containers, so they take turns; some run alone.
fn run_all(cases: &[Case], peer: &Side, ours: &Side) -> Vec<Ran> {
    struct Queue {
        /// Places in `cases`.
        waiting: Vec<usize>,
        under_way: Vec<usize>,
        ran: Vec<Option<Ran>>,
    }
    let queue = Mutex::new(Queue {
        waiting: (0..cases.len()).collect(),
        under_way: Vec::new(),
        ran: cases.iter().map(|_| None).collect(),
    });
    let changed = Condvar::new();
    let clash = |a: usize, b: usize| {
        let (a, b) = (&cases[a], &cases[b]);
        a.alone || b.alone || a.name.starts_with(&b.name) || b.name.starts_with(&a.name)
    };
    std::thread::scope(|scope| {
        for worker in 0..side::AT_ONCE {
            let (queue, changed) = (&queue, &changed);
            scope.spawn(move || {
                let mut held = queue.lock().expect("no worker panics");
                while !held.waiting.is_empty() {
                    let free = |&at: &usize| !held.under_way.iter().any(|&other| clash(at, other));
                    let Some(place) = held.waiting.iter().position(free) else {
                        held = changed.wait(held).expect("no worker panics");
                        continue;
                    };
                    let at = held.waiting.remove(place);
                    held.under_way.push(at);
                    drop(held);
                    let ran = run_one(&cases[at], peer, ours, worker);
                    held = queue.lock().expect("no worker panics");
                    held.ran[at] = Some(ran);
                    held.under_way.retain(|&other| other != at);
                    changed.notify_all();
                }
            });
        }
    });
    let ran = queue.into_inner().expect("no worker panics").ran;
    ran.into_iter().map(|ran| ran.expect("every case was taken from the queue")).collect()
}

fn run_one(case: &Case, peer: &Side, ours: &Side, worker: usize) -> Ran {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| peer.run(case, worker));
        let ours = ours.run(case, worker);
        Ran { peer: theirs.join().expect("a side does not panic"), ours, took: begun.elapsed() }
    })
}

/// Runs all cases on both sides; fails where they differ in what is not known, or no longer in what is.
fn compare_all(peer: &Side, ours: &Side, mut known: Vec<Known>, adapt: Option<fn(&mut Observed)>) {
    let filter = std::env::var("GANTRY_COMPARE_CASE").unwrap_or_default();
    let (mut equal, mut with_known, mut new) = (0, 0, 0);
    let mut stale = 0;
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&filter)).collect();
    let all = run_all(&cases, peer, ours);
    let mut slowest: Vec<_> = cases.iter().zip(&all).map(|(case, ran)| (ran.took, &case.name)).collect();
    slowest.sort();
    for (case, ran) in cases.iter().zip(all) {
        let (theirs, mine) = match (ran.peer, ran.ours) {
            (Ok(mut theirs), Ok(mut mine)) => {
                if let Some(adapt) = adapt {
                    theirs.iter_mut().chain(&mut mine).for_each(adapt);
                }
                (theirs, mine)
            }
            (theirs, mine) => {
                for (side, failed) in [("the peer", theirs.err()), ("ours", mine.err())] {
                    if let Some(error) = failed {
                        println!("case {} cannot be prepared on {side}: {error}\n", case.name);
                    }
                }
                new += 1;
                continue;
            }
        };
        // What the peer's own daemon would print is not asked here where both are ours.
        let mut unlisted = if adapt.is_none() { idle_masks(case, &theirs) } else { Vec::new() };
        let differences = compare::compare(case, &theirs, &mine);
        let here = |known: &Known| known.difference.case == case.name;
        for difference in &differences {
            match known.iter().position(|known| known.difference == *difference) {
                Some(at) => drop(known.remove(at)),
                None => unlisted.push(difference.to_string()),
            }
        }
        for gone in known.iter().filter(|known| here(known)) {
            unlisted.push(format!("listed, and no longer so:\n{}", gone.difference));
            stale += 1;
        }
        known.retain(|known| !here(known));
        match (differences.is_empty(), unlisted.is_empty()) {
            (true, true) => equal += 1,
            (false, true) => with_known += 1,
            (_, false) => {
                new += 1;
                unlisted.iter().for_each(|text| println!("{text}"));
            }
        }
    }
    peer.leave();
    let slowest = slowest.iter().rev().take(5).map(|(took, name)| format!("{name} {} s", took.as_secs()));
    println!("slowest: {}", slowest.collect::<Vec<_>>().join(", "));
    let compared = cases.len();
    println!("compared {compared} cases: {equal} equal, {with_known} known differences, {new} new");
    assert!(new == 0, "{new} cases differ in what the list does not have ({stale} entries of it are stale)");
}

/// Masks that mask nothing on the peer: they would hide what they were not meant for.
fn idle_masks(case: &Case, peer: &[Observed]) -> Vec<String> {
    let calls = case.steps.iter().filter_map(case::Step::call);
    calls
        .zip(compare::show(case, peer))
        .flat_map(|(call, shown)| {
            shown
                .idle_masks
                .into_iter()
                .map(|mask| {
                    format!("case {}\n$ {}\n`{mask}` masks nothing on the peer\n", case.name, call.text)
                })
                .collect::<Vec<_>>()
        })
        .collect()
}
