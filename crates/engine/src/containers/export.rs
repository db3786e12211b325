//! What a container's root file system is and how it differs from the image: `export` and `diff`.

use std::io::Write;

use gantry_model::SnapshotId;
use gantry_store::snapshot::Change;

use super::{Containers, Error};

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
        core.store
            .snapshots()
            .export(&self.snapshot, output)
            .map_err(|error| Error::Internal(crate::chain(&error)))?;
        if let Ok(entry) = core.index.find(&self.id) {
            super::publish(core, &entry.view().record, "export", Vec::new());
        }
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
