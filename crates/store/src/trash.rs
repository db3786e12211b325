//! How trees go away: a tombstone row in the transaction that forgets them, a rename to `trash/`, and
//! unlinking by a background thread, which also collects what a lease left that ended, learns when layers have
//! reached the disk, and puts new blocks into a reserve that was given up.
//!
//! Each step can be repeated: after a crash [`finish`] renames what the rows say is still in its place.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use gantry_model::failpoint::{Point, reached};
use gantry_state::rusqlite::Transaction;
use gantry_sys::tree;
use parking_lot::Mutex;

use crate::store::Inner;
use crate::{Error, gc};

/// How long trash may lie: unlinking competes with what users wait for.
const DELAY: Duration = Duration::from_secs(1);
/// How long after a layer was made it is asked whether it is on the disk.
const PROMOTION_DELAY: Duration = Duration::from_secs(20);

/// A tree that the database has forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Tombstone {
    id: i64,
    source: String,
}

/// Records that a tree (a path relative to the data root) is to go. In the transaction that forgets it.
pub(crate) fn bury(transaction: &Transaction<'_>, source: String) -> Result<Tombstone, Error> {
    transaction.prepare_cached("INSERT INTO trash (source) VALUES (?1)")?.execute([&source])?;
    Ok(Tombstone { id: transaction.last_insert_rowid(), source })
}

impl Inner {
    /// After that transaction: moves the trees to `trash/`. What cannot be moved now is moved at the next open.
    pub(crate) fn discard(&self, tombstones: &[Tombstone]) {
        for tombstone in tombstones {
            if let Err(error) = self.to_trash(tombstone) {
                tracing::warn!(tree = %tombstone.source, %error, "a removed tree could not be moved to the trash");
            }
        }
        if !tombstones.is_empty() {
            self.background.wake();
        }
    }

    fn to_trash(&self, tombstone: &Tombstone) -> Result<(), Error> {
        let (from, to) = (self.path(&tombstone.source), self.path("trash").join(tombstone.id.to_string()));
        match fs::rename(&from, to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Io { action: "move to the trash", path: from, source: error })
            }
            _ => Ok(()),
        }
    }

    /// What the background thread does when it is woken.
    fn tidy(&self) -> Result<(), Error> {
        if self.background.garbage.swap(false, Ordering::Relaxed) {
            gc::collect(self)?;
        }
        self.empty_trash()?;
        self.fill_reserve();
        Ok(())
    }

    /// Unlinks everything in `trash/`, then forgets it.
    pub(crate) fn empty_trash(&self) -> Result<(), Error> {
        // The background thread and a caller who cannot wait would take files from under each other.
        let _emptying = self.background.emptying.lock();
        let tombstones = self.database.read::<_, Error>(|transaction| {
            let mut rows = transaction.prepare_cached("SELECT id, source FROM trash ORDER BY id")?;
            let rows = rows.query_map([], |row| Ok(Tombstone { id: row.get(0)?, source: row.get(1)? }))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        for tombstone in &tombstones {
            self.to_trash(tombstone)?;
            self.unlink("trash", tombstone.id.to_string().as_ref())?;
        }
        if tombstones.is_empty() {
            return Ok(());
        }
        reached(Point::TrashUnlinked);
        self.database.write_relaxed::<_, Error>(|transaction| {
            for tombstone in &tombstones {
                transaction.prepare_cached("DELETE FROM trash WHERE id = ?1")?.execute([tombstone.id])?;
            }
            Ok(())
        })
    }

    /// Unlinks a name in a directory of the data root, and everything below it.
    pub(crate) fn unlink(&self, directory: &str, name: &std::ffi::OsStr) -> Result<(), Error> {
        let path = self.path(directory);
        let parent = fs::File::open(&path).map_err(Error::io("open", &path))?;
        let c_name = CString::new(name.as_bytes()).expect("a name that a directory gave, or a number");
        tree::remove(parent.as_fd(), &c_name).map_err(Error::io("remove", path.join(name)))
    }

    /// Finds out which layers are on the disk, by waiting until everything is.
    pub(crate) fn promote(&self) -> Result<(), Error> {
        let waiting = self.database.read::<_, Error>(|transaction| {
            let sql = "SELECT id FROM layer WHERE state = 1 AND boot IS NOT NULL";
            let mut rows = transaction.prepare_cached(sql)?;
            let rows = rows.query_map([], |row| row.get::<_, i64>(0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        if waiting.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(&self.directory).map_err(Error::io("sync", &self.root))?;
        // Those alone: others may have become ready while the disk was waited for.
        self.database.write_relaxed::<_, Error>(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE layer SET boot = NULL WHERE id = ?1")?;
            for layer in waiting {
                update.execute([layer])?;
            }
            Ok(())
        })
    }
}

/// The background thread, seen from the store. The thread ends when this is dropped.
pub(crate) struct Background {
    waker: Sender<()>,
    /// Whether a lease has ended that alone held something.
    garbage: AtomicBool,
    /// Held while the trash is emptied.
    emptying: Mutex<()>,
}

impl Background {
    /// Tells the thread that there is something to do; without one, it waits for the next open.
    pub(crate) fn wake(&self) {
        let _ = self.waker.send(());
    }

    /// Lets the thread collect garbage, soon.
    pub(crate) fn collect(&self) {
        self.garbage.store(true, Ordering::Relaxed);
        self.wake();
    }
}

/// Starts the background thread.
pub(crate) fn start(build: impl FnOnce(Background) -> Inner) -> Arc<Inner> {
    let (waker, wakes) = channel();
    let inner =
        Arc::new(build(Background { waker, garbage: AtomicBool::new(false), emptying: Mutex::new(()) }));
    let weak: Weak<Inner> = Arc::downgrade(&inner);
    let work = move || {
        let mut promote = false;
        loop {
            let timeout = if promote { PROMOTION_DELAY } else { Duration::from_secs(1 << 30) };
            let woken = match wakes.recv_timeout(timeout) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if woken {
                // The channel closes when the store does: no waiting then.
                if let Err(RecvTimeoutError::Disconnected) = wait(&wakes, DELAY) {
                    return;
                }
            }
            let Some(store) = weak.upgrade() else { return };
            let result = if woken { store.tidy() } else { store.promote() };
            promote = woken;
            if let Err(error) = result {
                tracing::warn!(%error, "background work of the store failed; it will be tried again");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("store-trash".into()).spawn(work) {
        tracing::warn!(%error, "no thread for the trash: it is emptied when asked");
    }
    inner
}

fn wait(wakes: &std::sync::mpsc::Receiver<()>, duration: Duration) -> Result<(), RecvTimeoutError> {
    let until = std::time::Instant::now() + duration;
    loop {
        match wakes.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(disconnected) => return Err(disconnected),
        }
    }
}

/// The names in a directory.
pub(crate) fn names(path: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(Error::io("list", path))
}
