//! Blocks for a full disk: the file `reserve` of the data root has some that nobody uses, until something is to be
//! removed and the disk has none left to record that. Then the file gives them up, the removal is tried once more,
//! and what it frees fills the file again.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::FallocateFlags;

use crate::store::Inner;

/// Its name in the data root.
const NAME: &str = "reserve";
/// Its size: more than the databases and directories take for many removals in a row.
const BYTES: u64 = 1 << 20;

impl Inner {
    /// Gives the blocks up. Whether there were some.
    pub(crate) fn spend_reserve(&self) -> bool {
        let spent = spend(&self.root);
        if spent {
            self.background.wake();
        }
        spent
    }

    /// Puts blocks into the file if it has none. Where the disk has too few left, or the file system cannot, there is
    /// no reserve.
    pub(crate) fn fill_reserve(&self) {
        let filled =
            File::options().create(true).truncate(false).write(true).open(self.path(NAME)).and_then(|file| {
                if file.metadata()?.len() < BYTES {
                    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES).inspect_err(|_| {
                        // A part of it is better left to those who need it now.
                        let _ = file.set_len(0);
                    })?;
                }
                Ok::<_, io::Error>(())
            });
        if let Err(error) = filled {
            tracing::debug!(%error, "no reserve");
        }
    }
}

/// Gives up the blocks of the data root's reserve. Whether there were some.
pub(crate) fn spend(root: &Path) -> bool {
    let spent = File::options().write(true).open(root.join(NAME)).and_then(|file| {
        let had_blocks = file.metadata()?.blocks() > 0;
        file.set_len(0)?;
        Ok(had_blocks)
    });
    let spent = spent.unwrap_or(false);
    if spent {
        tracing::warn!("the disk is full: the reserve is given up, so that something can be removed");
    }
    spent
}
