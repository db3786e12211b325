//! `cargo xtask dist`: the whole set of release binaries in `target/dist`, each beside the others.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::workspace::{self, BINARIES, Profile};

/// Builds the release binaries, copies them into `target/dist` and returns that directory.
pub(crate) fn run() -> Result<PathBuf> {
    let built = workspace::build(Profile::Release)?;
    let dist = workspace::target_dir().join("dist");
    fs::create_dir_all(&dist)?;
    for (name, _) in BINARIES {
        // A running program's file cannot be written to, but its name can be given to another.
        let staged = dist.join(format!(".{name}.new"));
        fs::copy(built.join(name), &staged).with_context(|| format!("cannot copy {name}"))?;
        fs::rename(&staged, dist.join(name))?;
        let bytes = fs::metadata(dist.join(name))?.len();
        eprintln!("target/dist/{name}: {:.1} MB", bytes as f64 / 1e6);
    }
    Ok(dist)
}
