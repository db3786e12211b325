//! The store as its callers use it. Needs root.

mod archives;
mod format;
mod images;
mod loading;
mod tarball;

use std::path::PathBuf;

use gantry_store::{DriverChoice, snapshot::conformance};

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
    conformance::run(DriverChoice::Overlay, &Scratch::new("overlay").0);
}

#[test]
fn vfs_conforms() {
    conformance::run(DriverChoice::Vfs, &Scratch::new("vfs").0);
}
