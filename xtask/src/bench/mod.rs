//! `cargo xtask bench`: Gantry beside Docker, each case interleaved, medians and their ratio.
//!
//! Times drift on any machine, so a number alone says little: each case runs once on Gantry, once
//! on the peer, again and again, and what counts is the ratio of the medians. Both daemons keep
//! their data on one file system, with the settings that they ship with.
//!
//! [`stats`] is the arithmetic, [`http`] a client thin enough not to be measured, [`daemons`] the
//! two sides, [`cases`] what is measured, [`fixture`] what they need for it, [`floor`] what of it is the CLI's alone,
//! [`startup`] how soon the daemon is up, [`memory`] what is weighed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use self::fixture::Fixture;
use crate::{dist, host};

mod cases;
pub(crate) mod daemons;
mod fixture;
mod floor;
mod http;
mod memory;
mod startup;
mod stats;

/// A running bench keeps everything in a directory of this name and its process id.
const WORK_PREFIX: &str = "gantry-bench-";

/// What to measure, and against whom.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Compare with the dockerd at this socket (a path, or `unix://` and a path) instead of Debian's, started for
    /// the purpose
    #[arg(long)]
    peer_socket: Option<String>,
    /// The buildx plug-in to compare with BuildKit by; without it, the CLI's plug-in directories are searched
    #[arg(long)]
    buildx: Option<PathBuf>,
    /// Measure the programs in this directory instead of building them
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Interleaved runs of each case
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Only cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Leave out the second pass with 300 ms between the runs
    #[arg(long)]
    busy_only: bool,
    /// Leave out the memory of 100 containers and of the daemon at rest, as `--case` does
    #[arg(long)]
    no_memory: bool,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.case.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

/// Measures, and prints the table as it goes.
pub(crate) fn run(args: &Args) -> Result<()> {
    host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES, host::TO_COMPARE])?;
    let binaries = args.bin_dir.clone().map_or_else(dist::run, Ok)?;
    let temporary = std::env::temp_dir();
    daemons::clear_interrupted(&binaries, &temporary)?;
    let work = temporary.join(format!("{WORK_PREFIX}{}", std::process::id()));
    std::fs::create_dir(&work)?;
    let measured = measure(args, &binaries, &work);
    // The daemons are stopped by now; what they kept goes.
    std::fs::remove_dir_all(&work)?;
    measured
}

/// Where the docker CLI looks for its plug-ins.
fn buildx() -> Option<PathBuf> {
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/cli-plugins"));
    let system = ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"]
        .map(|prefix| PathBuf::from(prefix).join("docker/cli-plugins"));
    own.into_iter().chain(system).map(|directory| directory.join("docker-buildx")).find(|path| path.is_file())
}

fn measure(args: &Args, binaries: &std::path::Path, work: &std::path::Path) -> Result<()> {
    let gantry = daemons::Side::gantry(binaries, work)?;
    let mut peer = match &args.peer_socket {
        Some(socket) => {
            let socket = socket.strip_prefix("unix://").unwrap_or(socket);
            daemons::Side::running(std::path::Path::new(socket), work)?
        }
        None => daemons::Side::docker(work)?,
    };
    peer.buildx = args.buildx.clone().or_else(buildx);
    if peer.buildx.is_none() {
        println!("No buildx plug-in here: the case against BuildKit is left out (--buildx PATH names one)");
    }
    println!("Gantry beside {}", peer.version()?);
    for side in [&gantry, &peer] {
        side.prepare(work)?;
    }
    for (name, gap) in [("in a busy loop", Duration::ZERO), ("300 ms apart", Duration::from_millis(300))] {
        if args.busy_only && !gap.is_zero() {
            continue;
        }
        println!("\n{}", stats::heading(name));
        let mut there = Fixture::None;
        for case in cases::all() {
            let possible = peer.buildx.is_some() || !case.needs_buildkit();
            if args.wants(&case.name) && possible && (gap.is_zero() || case.is_worth_a_pause()) {
                if case.fixture() != there {
                    there.remove(&gantry, &peer)?;
                    there = case.fixture();
                    there.make(&gantry, &peer)?;
                }
                let samples = cases::measure(&case, &gantry, &peer, args.runs, gap)?;
                println!("{}", stats::row(&case, &samples));
                if let Some(alone) = case.client_alone(work, &gantry, args.runs)? {
                    println!("{}", stats::client_row(alone, &samples));
                }
            }
        }
        there.remove(&gantry, &peer)?;
    }
    if args.wants(startup::NAME) {
        startup::measure(binaries, work, args.runs)?;
    }
    gantry.print_steps_of_a_start()?;
    if !args.no_memory && args.case.is_none() {
        memory::weigh(&gantry)?;
    }
    Ok(())
}
