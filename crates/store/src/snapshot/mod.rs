//! Snapshots: writable layers on top of read-only ones.
//!
//! The row comes before the directory and goes after it. A consumed snapshot's directory becomes the
//! layer's by a rename, so a commit costs one walk over what changed, and next to nothing if nothing did.

pub mod conformance;
mod copy;
pub(crate) mod driver;
pub(crate) mod mount_points;
mod overlay;
mod vfs;

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::RootMount;
use gantry_model::{LayerId, SnapshotId, Timestamp};
use gantry_state::rusqlite::Transaction;
use gantry_sys::tree::{self, Names};
use gantry_sys::xattr::{self, Target};
use rustix::fs::{AtFlags, FileType};

use crate::archive::{Packed, Source, is_kept_xattr, is_whiteout, pack, write_layer};
use crate::content::Hasher;
use crate::layer::{self, Finished};
use crate::store::Inner;
use crate::{Error, Layer, Lease, trash};
use driver::{Committed, Difference, Lower};

/// How a path differs from the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// There before, different now. Docker's 0, `C`.
    Modified,
    /// Not there before. Docker's 1, `A`.
    Added,
    /// No longer there. Docker's 2, `D`.
    Deleted,
}

/// One path that differs from the layers below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute within the root file system.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// What a snapshot holds beyond its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The sum of its regular files' sizes, hard links once, and of its symbolic links' lengths.
    pub size_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// What becomes of the snapshot when its changes become a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum After {
    /// It is gone: its directory became the layer (no copy). For build steps.
    #[default]
    Consumed,
    /// It stays as it is; the layer is a copy. For `docker commit`.
    Kept,
}

/// How a snapshot becomes a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitOptions {
    /// Modification times after it become it; `None` keeps all times. Whole seconds.
    pub epoch: Option<Timestamp>,
    /// Mount points that the runtime had to make (`/etc/hosts`, `/proc`, …), absolute in the
    /// root: each that is an empty file or directory of this snapshot alone is removed, and so are directories
    /// above it that hold nothing else and differ from the layers below in nothing but their time.
    pub stubs: Vec<PathBuf>,
    /// What becomes of the snapshot.
    pub after: After,
}

/// Access to snapshots.
#[derive(Clone)]
pub struct Snapshots {
    pub(crate) store: Arc<Inner>,
}

impl Snapshots {
    /// Makes an empty writable snapshot over these layers, lowest first; none is allowed (`scratch`).
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::NoSuchLayer`].
    pub fn prepare(&self, id: &SnapshotId, layers: &[LayerId]) -> Result<(), Error> {
        let lower = self.store.database.write_relaxed(|transaction| {
            let lower = layer::lower(transaction, layers)?;
            let sql = "INSERT OR IGNORE INTO snapshot VALUES (?1)";
            if transaction.prepare_cached(sql)?.execute([id.as_str()])? == 0 {
                return Err(Error::SnapshotExists(id.clone()));
            }
            let sql = "INSERT INTO snapshot_layer VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(sql)?;
            for (position, layer) in (0_i64..).zip(layers) {
                insert.execute((id.as_str(), position, layer.0.cast_signed()))?;
            }
            Ok(lower)
        })?;
        reached(Point::SnapshotRecorded);
        let made = self.store.driver.prepare(&self.store.root, &self.directory(id), &lower);
        if made.is_err()
            && let Err(error) = self.remove(id)
        {
            tracing::warn!(snapshot = %id, %error, "an unfinished snapshot could not be removed yet");
        }
        made
    }

    /// Describes its writable mount.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn mount(&self, id: &SnapshotId) -> Result<RootMount, Error> {
        let lower = self.lower(id)?;
        self.store.driver.mount(&self.store.root, &self.directory(id), &lower)
    }

    /// Describes the mount of a container's snapshot: [`Self::mount`] with the usual mount points (`/proc`,
    /// `/dev`, `/sys`, `/etc/hosts`, …) at the very bottom, so that an image that lacks them need not get them in
    /// each container's own directory. They are neither changes nor part of a layer. A driver without layers
    /// leaves them to whoever mounts.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn mount_to_run(&self, id: &SnapshotId) -> Result<RootMount, Error> {
        let mut mount = self.mount(id)?;
        if let RootMount::Overlay { lower, .. } = &mut mount {
            lower.push(self.store.path(mount_points::DIRECTORY));
        }
        Ok(mount)
    }

    /// The merged tree as a descriptor of its root directory, mounted nowhere: read and write through it
    /// with the `*at` calls (`openat2` with `RESOLVE_IN_ROOT`). Not while a container runs on the
    /// snapshot: overlay allows one user of an upper directory at a time.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn open(&self, id: &SnapshotId) -> Result<OwnedFd, Error> {
        driver::open(&self.mount(id)?)
    }

    /// Mounts the merged tree, with the usual mount points, on a directory of the calling thread's mount
    /// namespace, which should be one that nobody else is in. Not while a container runs on the snapshot.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::Io`].
    pub fn attach(&self, id: &SnapshotId, directory: &Path) -> Result<(), Error> {
        driver::attach(&self.mount_to_run(id)?, directory)
    }

    /// As [`Self::open`], with the usual mount points, to read from and also while a container runs on the
    /// snapshot: what it does meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn view(&self, id: &SnapshotId) -> Result<OwnedFd, Error> {
        let mut mount = self.mount_to_run(id)?;
        if let RootMount::Overlay { lower, upper, work } = &mut mount {
            // One more layer, on top of the others. A mount of its own sees what is there when it is made.
            lower.splice(0..0, upper.take());
            *work = None;
        }
        driver::open_read_only(&mount)
    }

    /// The layers below it, lowest first.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn layers(&self, id: &SnapshotId) -> Result<Vec<LayerId>, Error> {
        self.store.database.read(|transaction| layers_of(transaction, id))
    }

    /// What differs from the layers below, sorted by path.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn changes(&self, id: &SnapshotId) -> Result<Vec<Change>, Error> {
        let lower = self.lower(id)?;
        self.store.driver.changes(&self.store.root, &self.directory(id), &lower)
    }

    /// What it holds beyond its layers.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn usage(&self, id: &SnapshotId) -> Result<Usage, Error> {
        let lower = self.lower(id)?;
        self.store.driver.usage(&self.store.root, &self.directory(id), &lower)
    }

    /// Writes the whole merged tree as a tar, also while a container runs on it (`docker export`).
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::Output`].
    pub fn export(&self, id: &SnapshotId, output: impl io::Write) -> Result<(), Error> {
        let root = self.view(id)?;
        pack(Packed::Contents(root.as_fd()), b"", output).map_err(Error::Output)
    }

    /// Makes a layer, held by the lease, of what differs from the layers below. Nothing may write to it
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`]; [`Error::ReservedName`], after which the snapshot is there still.
    pub fn commit(&self, id: &SnapshotId, options: &CommitOptions, lease: &Lease) -> Result<Layer, Error> {
        let (store, directory, lower) = (&self.store, self.directory(id), self.lower(id)?);
        let difference = store.driver.difference(&Committed {
            root: &store.root,
            directory: &directory,
            lower: &lower,
            stubs: &options.stubs,
            after: options.after,
        })?;
        let made = self.place(id, &difference, options, lease);
        if made.is_err() && options.after == After::Kept {
            // A copy that nobody will use; what is left of it goes at the next open.
            let _ = fs::remove_dir_all(&difference.tree);
        }
        made
    }

    /// Writes the difference's tar to learn its digest, and makes its tree a layer's.
    fn place(
        &self,
        id: &SnapshotId,
        difference: &Difference,
        options: &CommitOptions,
        lease: &Lease,
    ) -> Result<Layer, Error> {
        let store = &self.store;
        let root = fs::File::open(&difference.tree).map_err(Error::io("open", &difference.tree))?;
        let mut hasher = Hasher::new();
        let source = Source {
            root: root.as_fd(),
            whiteouts: store.driver.whiteouts(),
            root_entry: difference.root_changed,
            epoch: options.epoch,
        };
        let written = write_layer(&source, &mut hasher)?;
        let finished = Finished {
            tar_size_bytes: hasher.size_bytes(),
            diff_id: hasher.finish(),
            written,
            root_entry: difference.root_changed,
            root_opaque: false,
            blob: None,
        };
        let layer = store.begin_layer()?;
        let home = store.path(format!("layers/{layer}"));
        let tree = home.join("fs");
        let rename = || -> Result<(), Error> {
            fs::create_dir(&home).map_err(Error::io("make", &home))?;
            fs::rename(&difference.tree, &tree).map_err(Error::io("rename to", &tree))
        };
        let mut tombstone = None;
        let made = rename().and_then(|()| {
            reached(Point::BuildRenamed);
            store.finish_layer(layer, &finished, lease, |transaction| {
                if options.after == After::Consumed {
                    transaction
                        .prepare_cached("DELETE FROM snapshot WHERE id = ?1")?
                        .execute([id.as_str()])?;
                    tombstone = Some(trash::bury(transaction, format!("snapshots/{id}"))?);
                }
                Ok(())
            })
        });
        if made.is_err() {
            // The snapshot keeps its files. If the first rename failed, so does this one.
            let _ = fs::rename(&tree, &difference.tree);
            store.abandon_layer(layer);
        } else {
            store.discard(tombstone.as_slice());
        }
        made
    }

    /// Removes it; its files are unlinked in the background. One that is not there is no error.
    ///
    /// A full disk may have no room to record that. Then the reserve is given up; where others have taken that, its
    /// files are unlinked first.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn remove(&self, id: &SnapshotId) -> Result<(), Error> {
        self.forget(id)
            .or_else(|error| if self.store.spend_reserve() { self.forget(id) } else { Err(error) })
            .or_else(|_| self.unlink(id).and_then(|()| self.forget(id)))
    }

    fn forget(&self, id: &SnapshotId) -> Result<(), Error> {
        let tombstone = self.store.database.write_relaxed::<_, Error>(|transaction| {
            let sql = "DELETE FROM snapshot WHERE id = ?1";
            if transaction.prepare_cached(sql)?.execute([id.as_str()])? == 0 {
                return Ok(None);
            }
            trash::bury(transaction, format!("snapshots/{id}")).map(Some)
        })?;
        reached(Point::RemoveForgotten);
        self.store.discard(tombstone.as_slice());
        Ok(())
    }

    /// Unlinks its files at once and leaves its row, for a disk that is too full to record anything; then there is
    /// room for [`Self::remove`]. After a crash between the two the next open forgets the row.
    ///
    /// # Errors
    /// What the file system said.
    pub fn unlink(&self, id: &SnapshotId) -> Result<(), Error> {
        let from = self.directory(id);
        // Half of its files must not look like all of them.
        match fs::rename(&from, self.store.path("tmp").join(id.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("move away", &from)(error)),
            Ok(()) => self.store.unlink("tmp", id.as_str().as_ref()),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// What the database said.
    pub fn list(&self) -> Result<Vec<SnapshotId>, Error> {
        self.store.database.read::<_, Error>(|transaction| {
            let mut rows = transaction.prepare_cached("SELECT id FROM snapshot ORDER BY id")?;
            let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
            let mut snapshots = Vec::new();
            for row in rows {
                snapshots.extend(row?.parse::<SnapshotId>());
            }
            Ok(snapshots)
        })
    }

    fn directory(&self, id: &SnapshotId) -> PathBuf {
        self.store.path("snapshots").join(id.as_str())
    }

    fn lower(&self, id: &SnapshotId) -> Result<Vec<Lower>, Error> {
        self.store.database.read(|transaction| layer::lower(transaction, &layers_of(transaction, id)?))
    }
}

fn layers_of(transaction: &Transaction<'_>, id: &SnapshotId) -> Result<Vec<LayerId>, Error> {
    let sql = "SELECT layer FROM snapshot_layer WHERE snapshot = ?1 ORDER BY position";
    let mut rows = transaction.prepare_cached(sql)?;
    let rows = rows.query_map([id.as_str()], |row| Ok(LayerId(row.get::<_, i64>(0)?.cast_unsigned())))?;
    let layers: Vec<_> = rows.collect::<Result<_, _>>()?;
    if layers.is_empty()
        && !transaction.prepare_cached("SELECT 1 FROM snapshot WHERE id = ?1")?.exists([id.as_str()])?
    {
        return Err(Error::NoSuchSnapshot(id.clone()));
    }
    Ok(layers)
}

/// Whether two directories differ in owner, mode or attributes that a layer has.
fn attributes_differ(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = |fd| {
        let stat = rustix::fs::fstat(fd)?;
        Ok::<_, io::Error>((stat.st_uid, stat.st_gid, stat.st_mode))
    };
    if stat(one)? != stat(other)? {
        return Ok(true);
    }
    Ok(kept_xattrs(Target::Open(one))? != kept_xattrs(Target::Open(other))?)
}

/// The attributes of a thing that a layer has, by name.
fn kept_xattrs(target: Target<'_>) -> io::Result<Vec<(CString, Option<Vec<u8>>)>> {
    let names = xattr::list(target)?.into_iter().filter(|name| is_kept_xattr(name.to_bytes()));
    names.map(|name| Ok((name.clone(), xattr::get(target, &name)?))).collect()
}

/// The components of a path in a root; the root itself and `..` are no mount points.
fn stub_components(stub: &Path) -> io::Result<Vec<CString>> {
    stub.components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => Ok(CString::new(name.as_bytes())?),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        })
        .collect()
}

/// Refuses a path that is longer than the kernel takes and a layer can have; with it every walk's depth
/// is bounded.
fn check_path(path: &Path) -> io::Result<()> {
    if path.as_os_str().len() > 4096 { Err(io::ErrorKind::InvalidFilename.into()) } else { Ok(()) }
}

/// Runs a recursive walk with room for the deepest path there can be, which a caller's stack may not have.
fn deep<T: Send>(walk: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    const STACK_BYTES: usize = 64 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, walk)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Counts a tree; its own root and whiteouts are not counted.
fn count(path: &Path) -> Result<Usage, Error> {
    let failed = |source| Error::Io { action: "read", path: path.into(), source };
    let level = |directory: OwnedFd| -> io::Result<(OwnedFd, Names, usize)> {
        let names = Names::read(directory.as_fd())?;
        Ok((directory, names, 0))
    };
    let root: OwnedFd = fs::File::open(path).map_err(Error::io("open", path))?.into();
    let (mut usage, mut seen) = (Usage::default(), HashSet::new());
    let mut levels = vec![level(root).map_err(failed)?];
    while let Some((directory, names, next)) = levels.last_mut() {
        let Some((name, _)) = names.get(*next) else {
            levels.pop();
            continue;
        };
        *next += 1;
        let stat = match rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A container may be at work in it.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(failed(error.into())),
        };
        if is_whiteout(&stat) {
            continue;
        }
        usage.entries += 1;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match tree::open_directory(directory.as_fd(), name).and_then(level) {
                Ok(below) => levels.push(below),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            },
            FileType::RegularFile if stat.st_nlink < 2 || seen.insert(stat.st_ino) => {
                usage.size_bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            FileType::Symlink => usage.size_bytes += u64::try_from(stat.st_size).unwrap_or(0),
            _ => {}
        }
    }
    Ok(usage)
}
