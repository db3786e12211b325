//! The data root: opened once, by one process.

use crate::*;
use std::path::Path;

/// Which snapshot driver to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// What the data root was made with; for a new one `overlay` if it works there, else `vfs`.
    #[default]
    Auto,
    /// Overlayfs.
    Overlay,
    /// Copies: works on any file system (such as another overlay), slow and large.
    Vfs,
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The snapshot driver. A data root keeps the driver it was made with: asking for the other is an error.
    pub driver: DriverChoice,
}

/// An open data root. A handle: clones are cheap and mean the same store, which closes with the last.
#[derive(Clone)]
pub struct Store {}

#[expect(unused_variables)]
impl Store {
    /// Opens the data root, makes it if it is not there, and finishes what a crash interrupted.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Driver`], or what the file system or database said.
    pub fn open(root: &Path, options: &Options) -> Result<Self, Error> {
        unimplemented!()
    }
    /// The data root, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        unimplemented!()
    }
    /// The snapshot driver's name: `overlay2` or `vfs`, as `docker info` shows it.
    #[must_use]
    pub fn driver_name(&self) -> &'static str {
        unimplemented!()
    }
    /// Bytes by digest.
    #[must_use]
    pub fn content(&self) -> content::Content {
        unimplemented!()
    }
    /// Unpacked layers.
    #[must_use]
    pub fn layers(&self) -> Layers {
        unimplemented!()
    }
    /// Writable snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        unimplemented!()
    }
    /// Images and their names.
    #[must_use]
    pub fn images(&self) -> Images {
        unimplemented!()
    }
    /// What keeps unreferenced things alive.
    #[must_use]
    pub fn leases(&self) -> Leases {
        unimplemented!()
    }
    /// Removes everything that nothing refers to.
    ///
    /// # Errors
    /// What the file system or database said; what was tombstoned goes later.
    pub fn collect(&self) -> Result<gc::Collected, Error> {
        unimplemented!()
    }
    /// Unlinks what lies in `trash/` now instead of in the background.
    ///
    /// # Errors
    /// What the file system said; the rest stays for the next time.
    pub fn empty_trash(&self) -> Result<(), Error> {
        unimplemented!()
    }
    /// Everything that the store owns below the data root, and what contradicts the records.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn inventory(&self) -> Result<gc::Inventory, Error> {
        unimplemented!()
    }
}
