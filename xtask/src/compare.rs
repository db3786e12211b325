//! `cargo xtask e2e --compare`: one set of cases with the stock CLI on a real dockerd and on
//! gantryd, what they print compared byte by byte. The cases and the list of the differences that
//! stay are in `crates/testkit/cases`; `testkit::compare` says how they are written.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::daemons::Side;
use crate::host;
use crate::workspace::{self, Profile, cargo};

/// What to compare, and with whom.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Compare what the stock CLI prints against gantryd with what it prints against a dockerd
    #[arg(long)]
    pub(crate) compare: bool,
    /// Compare with the dockerd at this socket instead of the installed one, started for the purpose, which must be
    /// of the version that the list of differences was reviewed for. With --docker-py its images alpine and busybox
    /// are replaced
    #[arg(long)]
    pub(crate) peer_socket: Option<PathBuf>,
    /// Compare `gantry` with the stock CLI instead, each on a gantryd
    #[arg(long, requires = "compare", conflicts_with = "peer_socket")]
    pub(crate) clients: bool,
    /// Only cases whose name contains this
    #[arg(long, requires = "compare")]
    pub(crate) case: Option<String>,
}

/// Runs the comparison; fails if a difference is not on the list, or one on the list is gone.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !host::is_root() {
        bail!("both daemons need root");
    }
    host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES, host::TO_TEST, host::TO_COMPARE])?;
    let binaries = workspace::build(Profile::Dev)?;
    if args.clients {
        return run_test("compare_the_clients", args, &binaries, None);
    }
    if let Some(socket) = &args.peer_socket {
        return compare(args, &binaries, socket);
    }
    if let Some(missing) = missing()? {
        bail!("{missing}");
    }
    let work = std::env::temp_dir().join(format!("gantry-compare-peer-{}", std::process::id()));
    std::fs::create_dir(&work)?;
    let compared = Side::docker(&work).and_then(|peer| compare(args, &binaries, &peer.socket));
    std::fs::remove_dir_all(&work)?;
    compared
}

/// What the installed dockerd lacks, if it does. Versions differ in most of their texts, so that one of another version
/// than the list of differences was reviewed for shows nothing but that it is another.
pub(crate) fn missing() -> Result<Option<String>> {
    let list = workspace::root().join("crates/testkit/cases/differences.txt");
    let list = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let reviewed: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("peer ")).collect();
    let said = workspace::read(Command::new("dockerd").arg("--version"))?;
    let version = said.strip_prefix("Docker version ").unwrap_or(&said);
    let fits = reviewed.iter().any(|reviewed| version.starts_with(reviewed));
    Ok((!fits).then(|| {
        format!(
            "the installed dockerd says {version:?}, and its texts are not those that are followed here: put a dockerd {}x \
             first in PATH, or start one and name its socket with --peer-socket",
            reviewed.join("x or ")
        )
    }))
}

fn compare(args: &Args, binaries: &Path, socket: &Path) -> Result<()> {
    run_test("compare_with_a_dockerd", args, binaries, Some(socket))
}

fn run_test(test: &str, args: &Args, binaries: &Path, socket: Option<&Path>) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--package", "gantry-testkit", "--test", "compare", "--"])
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env("GANTRY_BIN_DIR", binaries);
    if let Some(socket) = socket {
        command.env("GANTRY_COMPARE_SOCKET", socket);
    }
    if let Some(case) = &args.case {
        command.env("GANTRY_COMPARE_CASE", case);
    }
    workspace::run(&mut command)
}
