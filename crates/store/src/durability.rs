//! What must be on the disk before a row says that it is there.
//!
//! Layers are unpacked without waiting for the disk, and a layer's `boot` says so until somebody has waited. Before an
//! image becomes visible its layers, their blobs and its configuration are brought there: each by itself where they are
//! few, because `syncfs` also waits for what everybody else on the file system has written, and by `syncfs` where they
//! are many.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

use gantry_model::{Digest, LayerId};
use gantry_state::rusqlite::{OptionalExtension, Transaction};
use gantry_sys::tree;

use crate::Error;
use crate::store::Inner;

/// Up to so many files and directories are synced by themselves; each may cost the disk a flush.
const FEW_ENTRIES: usize = 32;
/// Up to so many bytes are.
const FEW_BYTES: u64 = 16 << 20;
/// How many wait for the disk at once: the kernel makes one flush of those that wait together.
const AT_ONCE: usize = 8;

/// A layer that may not be on the disk.
#[derive(Debug)]
pub(crate) struct Unsynced {
    id: LayerId,
    /// Of its files.
    pub(crate) size_bytes: u64,
    blob: Option<Digest>,
}

impl Unsynced {
    pub(crate) fn id(&self) -> LayerId {
        self.id
    }
}

impl Inner {
    /// Those of the layers that may not be on the disk.
    pub(crate) fn unsynced(&self, layers: &[LayerId]) -> Result<Vec<Unsynced>, Error> {
        self.database.read(|transaction| {
            let sql = "SELECT size, blob FROM layer WHERE id = ?1 AND boot IS NOT NULL";
            let mut query = transaction.prepare_cached(sql)?;
            let mut found = Vec::new();
            for &id in layers {
                let layer = query.query_row([id.0.cast_signed()], |row| {
                    Ok(Unsynced {
                        id,
                        size_bytes: row.get::<_, i64>(0)?.cast_unsigned(),
                        blob: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest::from_sha256),
                    })
                });
                found.extend(layer.optional()?);
            }
            Ok(found)
        })
    }

    /// Those of the layers that may not be on the disk and that keep one of these, as a blob or as their plain tar.
    pub(crate) fn unsynced_content(&self, digests: &[Digest]) -> Result<Vec<Unsynced>, Error> {
        let ids = self.database.read::<_, Error>(|transaction| {
            let sql = "SELECT id FROM layer WHERE (blob = ?1 OR diff_id = ?1) AND boot IS NOT NULL";
            let mut query = transaction.prepare_cached(sql)?;
            let mut found = BTreeSet::new();
            for digest in digests {
                for id in query.query_map([digest.as_bytes()], |row| row.get::<_, i64>(0))? {
                    found.insert(id?.cast_unsigned());
                }
            }
            Ok(found)
        })?;
        self.unsynced(&ids.into_iter().map(LayerId).collect::<Vec<_>>())
    }

    /// Brings layers, with the blobs that they are kept as, and further blobs that have their names to the disk.
    pub(crate) fn sync_made(&self, layers: &[Unsynced], blobs: &[&Digest]) -> Result<(), Error> {
        let bytes: u64 = layers.iter().map(|layer| layer.size_bytes).sum();
        let few = if bytes > FEW_BYTES { None } else { self.few(layers, blobs)? };
        let synced = match few {
            Some(few) => sync_each(&few),
            None => rustix::fs::syncfs(&self.directory).map_err(io::Error::from),
        };
        synced.map_err(Error::io("sync", &self.root))
    }

    /// Opens everything that must be synced; `None` where that is much.
    fn few(&self, layers: &[Unsynced], blobs: &[&Digest]) -> Result<Option<Vec<OwnedFd>>, Error> {
        let open = |path: PathBuf| -> Result<OwnedFd, Error> {
            fs::File::open(&path).map(OwnedFd::from).map_err(Error::io("open", path))
        };
        if layers.len() + blobs.len() > FEW_ENTRIES {
            return Ok(None);
        }
        let mut opened = vec![open(self.path("layers"))?, open(self.path("content/blobs/sha256"))?];
        for layer in layers {
            opened.push(open(self.path(format!("layers/{}", layer.id)))?);
            let tree = self.path(format!("layers/{}/fs", layer.id));
            let room = FEW_ENTRIES.saturating_sub(opened.len());
            match tree::open_small(open(tree.clone())?, room).map_err(Error::io("read", tree))? {
                Some(tree) => opened.extend(tree),
                None => return Ok(None),
            }
        }
        let kept = layers.iter().filter_map(|layer| layer.blob.as_ref());
        for blob in kept.chain(blobs.iter().copied()) {
            opened.push(open(self.blob_path(blob))?);
        }
        Ok((opened.len() <= FEW_ENTRIES).then_some(opened))
    }
}

/// Waits until files, and directories' names, are on the disk. The order does not matter: nothing refers to them yet.
fn sync_each(opened: &[OwnedFd]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        while let Some(one) = opened.get(next.fetch_add(1, Ordering::Relaxed)) {
            rustix::fs::fsync(one)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("sync".into()).spawn_scoped(scope, work);
        // Where no thread can be had, this one does it all.
        let threads: Vec<_> = (1..AT_ONCE.min(opened.len())).map_while(|n| spawn(n).ok()).collect();
        let own = work();
        threads.into_iter().fold(own, |result, thread| result.and(thread.join().expect("it cannot panic")))
    })
}

/// Records that layers are on the disk.
pub(crate) fn record_synced(transaction: &Transaction<'_>, layers: &[Unsynced]) -> Result<(), Error> {
    let mut update = transaction.prepare_cached("UPDATE layer SET boot = NULL WHERE id = ?1")?;
    for layer in layers {
        update.execute([layer.id.0.cast_signed()])?;
    }
    Ok(())
}
