//! `cargo xtask e2e --compare`: one set of cases with the stock CLI on a real dockerd and on
//! gantryd, what they print compared byte by byte. The cases and the list of the differences that
//! stay are in `crates/testkit/cases`; `testkit::compare` says how they are written.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::bench::daemons::Side;
use crate::host;
use crate::workspace::{self, Profile, cargo};

/// What to compare, and with whom.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Compare what the stock CLI prints against gantryd with what it prints against a dockerd
    #[arg(long)]
    pub(crate) compare: bool,
    /// Compare with the dockerd at this socket instead of Debian's, started for the purpose. The
    /// lists of differences are reviewed against 28.5. With --docker-py its images alpine and busybox are replaced
    #[arg(long)]
    pub(crate) peer_socket: Option<PathBuf>,
    /// Compare `gantry` with the stock CLI instead, each on a gantryd
    #[arg(long, requires = "compare", conflicts_with = "peer_socket")]
    clients: bool,
    /// Only cases whose name contains this
    #[arg(long, requires = "compare")]
    case: Option<String>,
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
    let work = std::env::temp_dir().join(format!("gantry-compare-peer-{}", std::process::id()));
    std::fs::create_dir(&work)?;
    let compared = Side::docker(&work).and_then(|peer| {
        println!(
            "no --peer-socket: comparing with the installed dockerd, {}; what differs from 28.5's texts is listed \
             only for the versions that the list names",
            peer.version()?
        );
        compare(args, &binaries, &peer.socket)
    });
    std::fs::remove_dir_all(&work)?;
    compared
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
