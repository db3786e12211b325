//! What is weighed: memory per idle published container, and of the daemon at rest.
//!
//! A container's price is the proportional set size (PSS) of all our processes with 100 containers
//! less that with none, divided by 100: what the application itself takes is its own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::daemons::Side;

const CONTAINERS: u64 = 100;

/// Weighs and prints.
pub(crate) fn weigh(side: &Side) -> Result<()> {
    let daemon = side.pid().context("only a daemon that the bench started is weighed")?;
    side.stock(&["rm", "-f", "bench-exec"])?;
    std::thread::sleep(Duration::from_secs(60));
    let rss = field(daemon, "status", "VmRSS:")?;
    println!("\ndaemon at rest, a minute after the bench: {:.1} MB RSS (goal 20)", kib_as_mb(rss));

    let before = ours(daemon)?;
    for number in 0..CONTAINERS {
        side.stock(&["run", "-d", "-P", "--name", &format!("weigh-{number}"), "web"])?;
    }
    std::thread::sleep(Duration::from_secs(5));
    let each = ours(daemon)?.saturating_sub(before) / CONTAINERS;
    println!("memory per idle published container, of {CONTAINERS}: {:.2} MB PSS (goal 1)", kib_as_mb(each));
    for number in 0..CONTAINERS {
        side.stock(&["rm", "-f", &format!("weigh-{number}")])?;
    }
    Ok(())
}

fn kib_as_mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// The PSS of the daemon and of every shim beside it, in KiB.
fn ours(daemon: u32) -> Result<u64> {
    let directory =
        fs::read_link(format!("/proc/{daemon}/exe"))?.parent().context("the daemon lies in /")?.to_owned();
    let mut sum = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { continue };
        let is_ours =
            program.parent() == Some(&directory) && program.file_name().is_some_and(|name| name != "gantry");
        // A shim that runs from a sealed memory file has its name alone.
        if is_ours || program.to_string_lossy().starts_with("/memfd:gantry-shim") {
            sum += field(pid, "smaps_rollup", "Pss:").unwrap_or(0);
        }
    }
    Ok(sum)
}

/// A field of a `/proc/PID` file that is given in KiB.
fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no {name} in {file}"))?;
    let number = line.trim().trim_end_matches("kB").trim();
    number.parse().with_context(|| format!("{name} {number:?}"))
}
