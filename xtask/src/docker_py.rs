//! `cargo xtask e2e --docker-py DIR`: the integration tests of docker-py's own repository, from a checkout of it, on a
//! real dockerd and on gantryd in one run, and a table of what came of each.
//!
//! Nothing of the checkout is kept here but names: `crates/testkit/docker-py.txt` lists the tests that are set aside,
//! each with the reason. Any other that passes on the dockerd must pass here. A test that does not is tried again twice,
//! alone, because some of them read what a container prints without waiting for it; that is said in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::daemons::Side;
use crate::host::{self, Need};
use crate::workspace::{self, Profile, output, read};

/// The checkout to take the tests from.
#[derive(clap::Args, Debug)]
#[group(id = "docker_py_suite")]
pub(crate) struct Args {
    /// Run docker-py's own integration tests, from this checkout of its repository, on both daemons
    #[arg(long = "docker-py", value_name = "DIR", conflicts_with = "compare")]
    pub(crate) checkout: Option<PathBuf>,
}

/// What the tests are run with.
const NEEDS: &[Need] = &[
    Need { path: "/usr/lib/python3/dist-packages/docker/__init__.py", package: "python3-docker" },
    Need { path: "/usr/lib/python3/dist-packages/pytest/__init__.py", package: "python3-pytest" },
    Need { path: "/usr/lib/python3/dist-packages/pytest_timeout.py", package: "python3-pytest-timeout" },
    Need { path: "/usr/lib/python3/dist-packages/paramiko/__init__.py", package: "python3-paramiko" },
];

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// What came of each test, by `file::class::test`.
type Outcomes = BTreeMap<String, Outcome>;

/// Runs the tests on both daemons; fails where one passes on the dockerd alone and is not set aside, and where the list
/// names a test that is not there or passes here.
pub(crate) fn run(checkout: &Path, peer_socket: Option<&Path>) -> Result<()> {
    if !host::is_root() {
        bail!("both daemons need root");
    }
    let tests = checkout.join("tests/integration");
    if !tests.is_dir() {
        bail!("{} is no checkout of docker-py: it has no tests/integration", checkout.display());
    }
    host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES, host::TO_TEST, host::TO_COMPARE, NEEDS])?;
    let binaries = workspace::build(Profile::Dev)?;
    let list = workspace::root().join("crates/testkit/docker-py.txt");
    let aside = read_list(&fs::read_to_string(&list).with_context(|| list.display().to_string())?)?;
    let work = std::env::temp_dir().join(format!("gantry-docker-py-{}", std::process::id()));
    fs::create_dir(&work)?;
    let done = on_both(checkout, &binaries, peer_socket, &work, &aside);
    fs::remove_dir_all(&work)?;
    done
}

fn on_both(
    checkout: &Path,
    binaries: &Path,
    peer_socket: Option<&Path>,
    work: &Path,
    aside: &BTreeMap<String, String>,
) -> Result<()> {
    let peer = match peer_socket {
        Some(socket) => Side::running(socket, work)?,
        None => Side::docker(work)?,
    };
    let ours = Side::gantry(binaries, work)?;
    let suite =
        Suite { checkout, work, version: peer.stock(&["version", "--format", "{{.Server.APIVersion}}"])? };
    let names = [peer.version()?, ours.version()?];
    println!("{} and {}, API version {}", names[0], names[1], suite.version);
    let mut all = Vec::new();
    for side in [&peer, &ours] {
        make_images(side, work)?;
        let mut outcomes = Outcomes::new();
        for file in suite.files()? {
            outcomes.extend(suite.run(side, &[file])?);
        }
        all.push(outcomes);
    }
    let [on_peer, mut here] = <[Outcomes; 2]>::try_from(all).expect("one for each side");
    let mut again = BTreeSet::new();
    for test in differing(&on_peer, &here) {
        for _ in 0..2 {
            if !is_aside(aside, &test) && here[&test] == Outcome::Failed {
                again.insert(test.clone());
                here.extend(suite.run(&ours, std::slice::from_ref(&test))?);
            }
        }
    }
    report(&names, &on_peer, &here, aside, &again)
}

/// The tests that pass on the dockerd and not here.
fn differing(on_peer: &Outcomes, here: &Outcomes) -> Vec<String> {
    let passed = on_peer.iter().filter(|(_, outcome)| **outcome == Outcome::Passed);
    passed
        .filter(|(test, _)| here.get(*test) != Some(&Outcome::Passed))
        .map(|(test, _)| test.clone())
        .collect()
}

fn report(
    names: &[String; 2],
    on_peer: &Outcomes,
    here: &Outcomes,
    aside: &BTreeMap<String, String>,
    again: &BTreeSet<String>,
) -> Result<()> {
    println!("\n{:<96} {:<16} {:<16}", "test", names[0], names[1]);
    let mut wrong = Vec::new();
    for (test, outcome) in on_peer {
        let ours = here.get(test).copied().unwrap_or(Outcome::Skipped);
        let reason = reason(aside, test);
        let note = match reason {
            Some(reason) => reason,
            None if again.contains(test) && ours == Outcome::Passed => "passed when tried again",
            None => "",
        };
        println!("{test:<96} {:<16} {:<16} {note}", word(*outcome), word(ours));
        match (outcome, ours, reason) {
            (Outcome::Passed, Outcome::Failed | Outcome::Skipped, None) => {
                wrong.push(format!("{test} passes on {} alone", names[0]));
            }
            (Outcome::Passed, Outcome::Passed, Some(_)) if aside.contains_key(test) => {
                wrong.push(format!("{test} passes: take it off the list"));
            }
            _ => {}
        }
    }
    for name in aside.keys().filter(|name| !on_peer.keys().any(|test| names_test(name, test))) {
        wrong.push(format!("{name} is on the list and no test"));
    }
    let count = |all: &Outcomes, wanted: Outcome| all.values().filter(|outcome| **outcome == wanted).count();
    for (name, all) in names.iter().zip([on_peer, here]) {
        let [passed, failed, skipped] =
            [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| count(all, outcome));
        println!("{name}: {passed} passed, {failed} failed, {skipped} skipped");
    }
    let set_aside = on_peer.keys().filter(|test| is_aside(aside, test)).count();
    println!("{set_aside} are set aside; {} passed only when tried again", again.len());
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    }
}

/// A list's lines: a test, a class or a file (`file::class::test` cut short at a `::`), a blank, the reason.
fn read_list(text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) =
                line.split_once(' ').with_context(|| format!("no reason stands behind {line}"))?;
            Ok((name.to_owned(), reason.trim().to_owned()))
        })
        .collect()
}

fn names_test(name: &str, test: &str) -> bool {
    test.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn reason<'a>(aside: &'a BTreeMap<String, String>, test: &str) -> Option<&'a str> {
    aside.iter().find(|(name, _)| names_test(name, test)).map(|(_, reason)| reason.as_str())
}

fn is_aside(aside: &BTreeMap<String, String>, test: &str) -> bool {
    reason(aside, test).is_some()
}

struct Suite<'a> {
    checkout: &'a Path,
    work: &'a Path,
    /// The version that is spoken with both.
    version: String,
}

impl Suite<'_> {
    /// The files of tests, but for those of a swarm and of plug-ins, which nobody here could run.
    fn files(&self) -> Result<Vec<String>> {
        const NOT_HERE: [&str; 9] = [
            "api_config",
            "api_plugin",
            "api_secret",
            "api_service",
            "api_swarm",
            "models_nodes",
            "models_services",
            "models_swarm",
            "context_api",
        ];
        let mut files = Vec::new();
        for entry in fs::read_dir(self.checkout.join("tests/integration"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix("_test.py")
                && !NOT_HERE.contains(&stem)
            {
                files.push(name);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Runs files or single tests; a process of its own, because some tests change the library for those after them.
    fn run(&self, side: &Side, which: &[String]) -> Result<Outcomes> {
        let home = self.work.join("home");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        let mut command = Command::new("timeout");
        command.args([
            "-k",
            "10",
            "1200",
            "/usr/bin/python3",
            "-B",
            "-m",
            "pytest",
            "-c",
            "/dev/null",
            "--rootdir",
        ]);
        command.arg(self.checkout).args([
            "-p",
            "no:cacheprovider",
            "--timeout",
            "60",
            "-v",
            "--tb=short",
            "-rfE",
        ]);
        command.args(which.iter().map(|name| format!("tests/integration/{name}")));
        command
            .current_dir(self.checkout)
            .env("HOME", &home)
            .env("DOCKER_HOST", format!("unix://{}", side.socket.display()))
            .env("DOCKER_TEST_API_VERSION", &self.version);
        let output = output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcomes = read_outcomes(&text);
        if outcomes.is_empty() {
            bail!("pytest ran nothing of {which:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        let log = std::env::temp_dir().join("gantry-docker-py.log");
        let mut file = fs::File::options().create(true).append(true).open(&log)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(outcomes)
    }
}

/// Reads pytest's lines: `tests/integration/a_test.py::A::test_b PASSED [ 5%]`. A test that ended well and could not
/// be cleaned up has two, of which the worse counts.
fn read_outcomes(text: &str) -> Outcomes {
    let mut all = Outcomes::new();
    for line in text.lines() {
        let Some((test, rest)) =
            line.strip_prefix("tests/integration/").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let outcome = match rest.split([' ', '[']).find(|word| !word.is_empty()) {
            Some("PASSED" | "XPASS") => Outcome::Passed,
            Some("FAILED" | "ERROR") => Outcome::Failed,
            Some("SKIPPED" | "XFAIL") => Outcome::Skipped,
            _ => continue,
        };
        let known = all.entry(test.to_owned()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *known = outcome;
        }
    }
    all
}

/// Makes the images that the tests name: BusyBox with the accounts of one.
fn make_images(side: &Side, work: &Path) -> Result<()> {
    for (name, tags) in [("busybox", &["busybox:latest"][..]), ("alpine", &["alpine:3.10", "alpine:latest"])]
    {
        let archive = work.join(format!("{name}-image.tar"));
        if !archive.exists() {
            let root = work.join(format!("{name}-root"));
            for directory in ["bin", "etc", "home", "root", "tmp", "var", "usr"] {
                fs::create_dir_all(root.join(directory))?;
            }
            fs::copy("/bin/busybox", root.join("bin/busybox"))?;
            for applet in read(Command::new("/bin/busybox").arg("--list"))?.lines() {
                if applet != "busybox" {
                    std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
                }
            }
            fs::write(
                root.join("etc/passwd"),
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            )?;
            fs::write(root.join("etc/group"), "root:x:0:root\nbin:x:1:root\nnobody:x:65534:\n")?;
            fs::write(root.join("etc/hostname"), name)?;
            read(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."))?;
        }
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        side.stock(&["import", "-c", path, "-c", "CMD [\"/bin/sh\"]", &archive.to_string_lossy(), tags[0]])?;
        for tag in &tags[1..] {
            side.stock(&["tag", tags[0], tag])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytests_lines_are_read_and_the_worse_counts() {
        let text = "collected 3 items\n\
            tests/integration/a_test.py::A::test_one PASSED [ 33%]\n\
            tests/integration/a_test.py::A::test_one ERROR  [ 33%]\n\
            tests/integration/a_test.py::A::test_two SKIPPED (why) [ 66%]\n\
            tests/integration/a_test.py::A::test_three XPASS [100%]\n\
            tests/integration/a_test.py:5: in test_one\n\
            PASSED tests/integration/a_test.py::A::test_two\n";
        let want = [
            ("a_test.py::A::test_one", Outcome::Failed),
            ("a_test.py::A::test_three", Outcome::Passed),
            ("a_test.py::A::test_two", Outcome::Skipped),
        ];
        assert_eq!(read_outcomes(text), want.map(|(test, outcome)| (test.to_owned(), outcome)).into());
    }

    #[test]
    fn a_difference_fails_unless_it_is_set_aside_and_the_list_must_be_true() {
        let names = ["Docker".to_owned(), "Gantry".to_owned()];
        let outcomes = |all: &[(&str, Outcome)]| -> Outcomes {
            all.iter().map(|(test, outcome)| ((*test).to_owned(), *outcome)).collect()
        };
        let peer = outcomes(&[
            ("a::A::x", Outcome::Passed),
            ("a::A::y", Outcome::Failed),
            ("b::B::z", Outcome::Passed),
        ]);
        let ours = outcomes(&[
            ("a::A::x", Outcome::Passed),
            ("a::A::y", Outcome::Failed),
            ("b::B::z", Outcome::Failed),
        ]);
        let check = |list: &str| {
            let aside = read_list(list).expect("a list");
            report(&names, &peer, &ours, &aside, &BTreeSet::new()).map_err(|error| error.to_string())
        };
        assert_eq!(differing(&peer, &ours), ["b::B::z"]);
        assert_eq!(check(""), Err("b::B::z passes on Docker alone".into()));
        assert_eq!(check("# networks\nb::B needs networks\n"), Ok(()));
        assert_eq!(check("b late\na::A::x late"), Err("a::A::x passes: take it off the list".into()));
        assert_eq!(check("b late\nc::C late"), Err("c::C is on the list and no test".into()));
        assert!(read_list("b::B").is_err(), "no reason");
        assert!(!names_test("a::A::x", "a::A::xy"));
    }
}
