//! The data root: opened once, by one process, and put right first.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::{ErrorKind, LayerId};
use gantry_state::Database;
use gantry_state::rusqlite::{OptionalExtension, Transaction};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use crate::image::Cache;
use crate::schema::SCHEMA;
use crate::snapshot::driver::{self, Driver};
use crate::snapshot::mount_points;
use crate::trash::{self, Background, Tombstone};
use crate::{Error, Images, Layers, Leases, Snapshots, content, fsck, gc, reserve};

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
pub struct Store {
    inner: Arc<Inner>,
}

/// What all parts share.
pub(crate) struct Inner {
    /// Absolute, without links.
    pub(crate) root: PathBuf,
    /// The root, locked: the lock goes with the descriptor.
    pub(crate) directory: Arc<OwnedFd>,
    pub(crate) database: Database,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) boot: String,
    pub(crate) images: Cache,
    /// Held while a blob gets its name and row, and while collected blobs lose theirs: a blob written
    /// again just when it was collected must not be taken with the old one. Taken before the database.
    pub(crate) blobs: Mutex<()>,
    pub(crate) background: Background,
}

impl Inner {
    /// A path below the data root.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }
}

/// The directories of a data root that are the store's.
///
/// The layer 0 is no layer, but two empty directories: overlay wants at least one lower directory, and two
/// that differ where there is no upper one. Beside them lie the mount points of
/// [`Snapshots::mount_to_run`].
const DIRECTORIES: [&str; 6] =
    ["content/blobs/sha256", "layers/0/fs", "layers/0/below", "snapshots", "trash", "tmp"];

impl Store {
    /// Opens the data root, makes it if it is not there, and finishes what a crash interrupted.
    ///
    /// On a full disk the reserve is given up, so that what fills it can be removed.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Driver`], or what the file system or database said.
    pub fn open(root: &Path, options: &Options) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::io("make", root))?;
        let root = &root.canonicalize().map_err(Error::io("find", root))?;
        let directory: OwnedFd = fs::File::open(root).map_err(Error::io("open", root))?.into();
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { path: root.clone() }),
            Err(error) => return Err(Error::io("lock", root)(error)),
        }
        let directory = Arc::new(directory);
        match Self::open_locked(root, &directory, options) {
            Err(error) if error.kind() == ErrorKind::Unavailable && reserve::spend(root) => {
                Self::open_locked(root, &directory, options)
            }
            result => result,
        }
    }

    fn open_locked(root: &Path, directory: &Arc<OwnedFd>, options: &Options) -> Result<Self, Error> {
        for relative in DIRECTORIES {
            let path = root.join(relative);
            fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        mount_points::make(root)?;
        let database =
            Database::open_that_records(&root.join("content.db"), &SCHEMA, &fsck::recorded(root)?)?;
        let boot =
            gantry_sys::process::boot_id().map_err(Error::io("read", "/proc/sys/kernel/random/boot_id"))?;
        let driver = choose_driver(&database, root, options.driver)?;
        let inner = trash::start(|background| Inner {
            root: root.into(),
            directory: Arc::clone(directory),
            database,
            driver,
            boot,
            images: Cache::default(),
            blobs: Mutex::new(()),
            background,
        });
        recover(&inner)?;
        Ok(Self { inner })
    }

    /// The data root, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The snapshot driver's name: `overlay2` or `vfs`, as `docker info` shows it.
    #[must_use]
    pub fn driver_name(&self) -> &'static str {
        self.inner.driver.name()
    }

    /// Bytes by digest.
    #[must_use]
    pub fn content(&self) -> content::Content {
        content::Content { store: self.inner.clone() }
    }

    /// Unpacked layers.
    #[must_use]
    pub fn layers(&self) -> Layers {
        Layers { store: self.inner.clone() }
    }

    /// Writable snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { store: self.inner.clone() }
    }

    /// Images and their names.
    #[must_use]
    pub fn images(&self) -> Images {
        Images { store: self.inner.clone() }
    }

    /// What keeps unreferenced things alive.
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases { store: self.inner.clone() }
    }

    /// Removes everything that nothing refers to.
    ///
    /// # Errors
    /// What the file system or database said; what was tombstoned goes later.
    pub fn collect(&self) -> Result<gc::Collected, Error> {
        gc::collect(&self.inner)
    }

    /// Gives up the blocks that are kept for removing things on a full disk. Whether there were some: then it is
    /// worth trying again. They come back when the disk has room.
    #[must_use]
    pub fn spend_reserve(&self) -> bool {
        self.inner.spend_reserve()
    }

    /// Unlinks what lies in `trash/` now instead of in the background.
    ///
    /// # Errors
    /// What the file system said; the rest stays for the next time.
    pub fn empty_trash(&self) -> Result<(), Error> {
        self.inner.empty_trash()
    }

    /// Everything that the store owns below the data root, and what contradicts the records.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn inventory(&self) -> Result<fsck::Inventory, Error> {
        fsck::inventory(&self.inner.database, &self.inner.root)
    }
}

fn choose_driver(database: &Database, root: &Path, choice: DriverChoice) -> Result<Box<dyn Driver>, Error> {
    let recorded: Option<String> = database.read::<_, Error>(|transaction| {
        let sql = "SELECT value FROM setting WHERE key = 'driver'";
        Ok(transaction.query_row(sql, [], |row| row.get(0)).optional()?)
    })?;
    let chosen = match (choice, recorded.as_deref()) {
        (DriverChoice::Auto, Some(name)) => driver::by_name(name),
        (DriverChoice::Auto, None) => Some(driver::detect(root)),
        (DriverChoice::Overlay, _) => driver::by_name(driver::OVERLAY),
        (DriverChoice::Vfs, _) => driver::by_name(driver::VFS),
    };
    let unfit = |driver, reason| Error::Driver { driver, path: root.into(), reason };
    let Some(chosen) = chosen else {
        let name = recorded.unwrap_or_default();
        return Err(unfit("unknown", format!("the data root was made with the driver {name:?}")));
    };
    if let Some(recorded) = recorded {
        if recorded != chosen.name() {
            let reason = format!("the data root was made with {recorded}; use another data root");
            return Err(unfit(chosen.name(), reason));
        }
        return Ok(chosen);
    }
    chosen.probe(root).map_err(|reason| unfit(chosen.name(), reason))?;
    database.write::<_, Error>(|transaction| {
        transaction.execute("INSERT INTO setting VALUES ('driver', ?1)", [chosen.name()])?;
        Ok(())
    })?;
    Ok(chosen)
}

/// Finishes what a crash interrupted, and drops what a power loss may have damaged.
fn recover(inner: &Inner) -> Result<(), Error> {
    let _blobs = inner.blobs.lock();
    let (buried, garbage) = inner.database.write::<_, Error>(|transaction| {
        let ended = transaction.execute("DELETE FROM lease WHERE name IS NULL", [])?;
        let mut doomed = ids(transaction, "SELECT id FROM layer WHERE state = 0", None)?;
        let last: Option<String> = transaction
            .query_row("SELECT value FROM setting WHERE key = 'boot'", [], |row| row.get(0))
            .optional()?;
        if last.as_deref() != Some(&inner.boot) {
            doomed.extend(new_boot(transaction, &inner.boot)?);
        }
        let mut buried = Vec::new();
        for layer in doomed {
            buried.extend(forget_layer(transaction, LayerId(layer.cast_unsigned()))?);
        }
        // What only these leases held: nobody is there any more who would finish it. And blobs that came to the
        // disk with layers that may not have: their rows say more than is known.
        let garbage = if ended > 0 || !buried.is_empty() {
            gc::forget_garbage(transaction)?
        } else {
            gc::Garbage::default()
        };
        Ok((buried, garbage))
    })?;
    reached(Point::RecoverForgotten);
    inner.discard(&buried);
    gc::finish(inner, &garbage);
    for name in trash::names(&inner.path("tmp"))? {
        inner.unlink("tmp", &name)?;
    }
    sweep(inner)?;
    inner.fill_reserve();
    inner.background.wake();
    reached(Point::RecoverStored);
    Ok(())
}

/// Layers that were not known to be on the disk when the machine stopped. No image has them.
fn new_boot(transaction: &Transaction<'_>, boot: &str) -> Result<Vec<i64>, Error> {
    transaction.execute("INSERT OR REPLACE INTO setting VALUES ('boot', ?1)", [boot])?;
    // Ids given out by transactions that a power loss took back are not given out again.
    transaction
        .execute("UPDATE sqlite_sequence SET seq = seq + 1048576 WHERE name IN ('layer', 'trash')", [])?;
    let sql = "SELECT id FROM layer WHERE state = 1 AND boot IS NOT NULL AND boot <> ?1
        AND id NOT IN (SELECT layer FROM image_layer)
        AND id NOT IN (SELECT layer FROM manifest_content WHERE layer IS NOT NULL)";
    ids(transaction, sql, Some(boot))
}

fn ids(transaction: &Transaction<'_>, sql: &str, parameter: Option<&str>) -> Result<Vec<i64>, Error> {
    let mut rows = transaction.prepare(sql)?;
    let rows = rows.query_map(gantry_state::rusqlite::params_from_iter(parameter), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Buries a layer together with leases on it and snapshots over it.
fn forget_layer(transaction: &Transaction<'_>, layer: LayerId) -> Result<Vec<Tombstone>, Error> {
    let id = layer.0.cast_signed();
    let mut buried = Vec::new();
    let snapshots: Vec<String> = transaction
        .prepare("SELECT DISTINCT snapshot FROM snapshot_layer WHERE layer = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for snapshot in snapshots {
        transaction.execute("DELETE FROM snapshot WHERE id = ?1", [&snapshot])?;
        buried.push(trash::bury(transaction, format!("snapshots/{snapshot}"))?);
    }
    transaction.execute("DELETE FROM lease_layer WHERE layer = ?1", [id])?;
    transaction.execute("DELETE FROM layer WHERE id = ?1", [id])?;
    buried.push(trash::bury(transaction, format!("layers/{layer}"))?);
    Ok(buried)
}

/// Buries trees without a row, and rows of snapshots without a tree: what is left of transactions that
/// a power loss took back. Blobs without a row go at once.
fn sweep(inner: &Inner) -> Result<(), Error> {
    let inventory = fsck::contents(&inner.database, &inner.root)?;
    for blob in &inventory.stray_blobs {
        inner.unlink("content/blobs/sha256", blob)?;
    }
    let (trees, snapshots) = (inventory.stray_trees, inventory.lost_snapshots);
    for name in &inventory.stray_trash {
        inner.unlink("trash", name)?;
    }
    if trees.is_empty() && snapshots.is_empty() {
        return Ok(());
    }
    let buried = inner.database.write_relaxed::<_, Error>(|transaction| {
        for snapshot in snapshots {
            transaction.execute("DELETE FROM snapshot WHERE id = ?1", [snapshot])?;
        }
        trees.into_iter().map(|tree| trash::bury(transaction, tree)).collect::<Result<Vec<_>, _>>()
    })?;
    inner.discard(&buried);
    Ok(())
}

/// An I/O error of a file that must be there.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
