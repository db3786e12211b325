//! What a crash or a loss of power left half done of volumes, put right at the next start.

use std::fs;
use std::io;

use super::{DOOMED, Volumes, doomed, make_directory, remove_tree};

impl Volumes {
    /// Goes on with removals that a crash interrupted: what has no row any more is deleted, what still has one
    /// gets its name back. Nothing else below `volumes` is ever swept. A row without a directory (it was being made, or
    /// a loss of power took back that it was removed) gets an empty one.
    pub(crate) fn sweep(&self) {
        self.sweep_removed();
        for (volume, _) in self.all().into_iter().flatten() {
            if self.directory.join(&volume.name).exists() {
                continue;
            }
            let made = serde_json::to_string(&volume)
                .map_err(io::Error::other)
                .and_then(|record| make_directory(&volume.mountpoint, &record));
            match made {
                Ok(()) => tracing::info!("volume {} had no directory and has an empty one", volume.name),
                Err(error) => tracing::warn!("volume {} has no directory: {error}", volume.name),
            }
        }
    }

    fn sweep_removed(&self) {
        for entry in fs::read_dir(&*self.directory).into_iter().flatten().flatten() {
            let file = entry.file_name();
            if !file.as_encoded_bytes().starts_with(DOOMED.as_bytes()) {
                continue;
            }
            let named = self.all().map(|all| all.into_iter().find(|(one, _)| *doomed(&one.name) == *file));
            let result = match named {
                Ok(None) => remove_tree(&entry.path()),
                Ok(Some((volume, _))) => fs::rename(entry.path(), self.directory.join(&volume.name)),
                Err(error) => Err(io::Error::other(error)),
            };
            if let Err(error) = result {
                tracing::warn!("{} is left of the removal of a volume: {error}", entry.path().display());
            }
        }
    }
}
