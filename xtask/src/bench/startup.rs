//! How long the daemon takes to be up where there is much to read.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::daemons::Side;
use super::{fixture, stats};
use crate::busybox;

/// As the table shows it, and as `--case` finds it.
pub(crate) const NAME: &str = "start of the daemon, 1,000 stopped containers, 500 images";

const IMAGES: usize = 500;
const GOAL: Duration = Duration::from_secs(1);

/// Measures, with a data root of its own, and prints.
pub(crate) fn measure(binaries: &Path, work: &Path, runs: u32) -> Result<()> {
    let work = work.join("startup");
    std::fs::create_dir(&work)?;
    let mut side = Side::gantry(binaries, &work)?;
    let archive = busybox::archive(&work)?;
    side.stock(&["import", &archive.to_string_lossy(), "busybox:latest"])?;
    fixture::import_many(&side, IMAGES)?;
    fixture::create_many(&side, fixture::MANY)?;
    let mut times = Vec::new();
    for _ in 0..runs.max(1) {
        times.push(side.gantry_anew(binaries, &work)?);
    }
    let images = side.stock(&["images", "-q", "--filter", "reference=bench-image"])?.lines().count();
    let containers = side.stock(&["ps", "-aq"])?.lines().count();
    let median = stats::median(&times);
    let met = if median < GOAL { "" } else { "  missed" };
    println!(
        "\n{NAME} ({containers} and {images}): {:.0} ms (goal below {} ms){met}",
        median.as_secs_f64() * 1e3,
        GOAL.as_millis()
    );
    Ok(())
}
