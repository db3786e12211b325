//! What a container's root file system is and how it differs from the image: `export` and `diff`.

use std::io::Write;
use std::os::fd::AsFd as _;

use gantry_model::SnapshotId;
use gantry_store::archive::{Packed, pack};
use gantry_store::snapshot::Change;

use super::{Containers, Error, archive};

/// A container's root file system that is about to be written.
pub struct RootExport {
    containers: Containers,
    id: String,
    snapshot: SnapshotId,
}

impl RootExport {
    /// Writes it as a tar. Blocks a thread of its own.
    ///
    /// # Errors
    /// [`Error::Internal`]; what was written is no whole archive then.
    pub fn write(&self, output: impl Write) -> Result<(), Error> {
        let core = &self.containers.core;
        let view = core.index.find(&self.id)?.view();
        let written = match archive::root_alone(&view)? {
            Some(root) => {
                pack(Packed::Contents(root.as_fd()), b"", output).map_err(gantry_store::Error::Output)
            }
            None => core.store.snapshots().export(&self.snapshot, output),
        };
        written.map_err(|error| Error::Internal(crate::chain(&error)))?;
        super::publish(core, &view.record, "export", Vec::new());
        Ok(())
    }
}

impl Containers {
    /// Prepares the export of a container's root file system: what it sees, without what is mounted in it.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn export(&self, container: &str) -> Result<RootExport, Error> {
        let view = self.core.index.find(container)?.view();
        let id = view.record.id.to_string();
        Ok(RootExport { containers: self.clone(), id, snapshot: SnapshotId::from(&view.record.id) })
    }

    /// What a container changed in its root file system, sorted by path.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn changes(&self, container: &str) -> Result<Vec<Change>, Error> {
        let view = self.core.index.find(container)?.view();
        let core = std::sync::Arc::clone(&self.core);
        crate::blocking(move || {
            let changes = core.store.snapshots().changes(&SnapshotId::from(&view.record.id));
            changes.map_err(|error| Error::Internal(crate::chain(&error)))
        })
        .await
    }
}
