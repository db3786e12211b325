//! The store as its callers use it. Needs root: what it unpacks is owned by whom the archive names.

mod archives;
mod damage;
mod format;
mod hostile_targets;
mod images;
mod loading;
mod tarball;
mod targets;

use std::path::PathBuf;

use gantry_store::{DriverChoice, snapshot::conformance};

/// Says that a test is skipped, where it is.
pub(crate) fn skipped() -> bool {
    let skipped = !rustix::process::geteuid().is_root();
    if skipped {
        eprintln!("skipped: not root: owners and trusted attributes are set");
    }
    skipped
}

/// A directory that goes away with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gantry-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn overlay_conforms() {
    if skipped() {
        return;
    }
    conformance::run(DriverChoice::Overlay, &Scratch::new("overlay").0);
}

#[test]
fn vfs_conforms() {
    if skipped() {
        return;
    }
    conformance::run(DriverChoice::Vfs, &Scratch::new("vfs").0);
}
