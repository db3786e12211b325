//! `cargo xtask ci`: everything that must hold before a change lands, in the order of their cost.

use anyhow::Result;

use crate::workspace::{cargo, run};
use crate::{host, test, tidy};

/// Installs, then runs tidy, fmt, clippy and the tests.
pub(crate) fn all() -> Result<()> {
    host::install(&[host::TO_BUILD])?;
    tidy::run()?;
    format()?;
    run_clippy()?;
    test::run(&test::Args::default())
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn run_clippy() -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
}
