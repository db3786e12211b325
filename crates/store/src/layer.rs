//! Layers: unpacked once, never changed, mounted many times.
//!
//! A layer's row is made first, in the state "being made", then its tree, then the row becomes ready
//! together with the lease on it. Trees are not synced here: see [`Layers::sync`].

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::RootMount;
use gantry_model::{Digest, LayerId, Timestamp};
use gantry_state::rusqlite::{OptionalExtension, Row, Transaction};

use crate::archive::{
    self, ArchiveError, ExtractOptions, Extracted, Limits, Observers, Onto, Owner, Source, Written,
    write_layer,
};
use crate::content::{self, Content, Hasher, Placed};
use crate::snapshot::driver::{self, Lower};
use crate::store::Inner;
use crate::{Error, Lease, trash};

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Our name for it.
    pub id: LayerId,
    /// The SHA-256 of its plain tar; what image configurations list.
    pub diff_id: Digest,
    /// The sum of its regular files' sizes (hard links once) and its symbolic links' lengths, as Docker counts.
    pub size_bytes: u64,
    /// How many files, directories, links and whiteouts it has.
    pub entries: u64,
    /// The newest modification time of any entry; 1970 if it has none.
    pub newest: Timestamp,
}

/// How a layer that came from outside can be given again byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exact {
    /// The stream is kept as a blob; `diff_id` is the digest of the plain tar in it, and is checked if given.
    Received {
        /// The DiffID that was announced.
        expected: Option<Digest>,
    },
    /// Only the tree is kept; `diff_id` is that of its `layer-format v1` (for imports, whose bytes nobody
    /// else knows).
    Normalised,
}

/// How to unpack a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions {
    /// What `diff_id` stands for.
    pub exact: Exact,
    /// What is too much.
    pub limits: Limits,
}

/// Access to layers.
#[derive(Clone)]
pub struct Layers {
    pub(crate) store: Arc<Inner>,
}

/// What a finished tree is recorded with.
pub(crate) struct Finished {
    pub(crate) diff_id: Digest,
    pub(crate) written: Written,
    pub(crate) root_entry: bool,
    pub(crate) root_opaque: bool,
    /// The bytes of its plain tar.
    pub(crate) tar_size_bytes: u64,
    /// The stream as it came, named and neither recorded nor, for sure, on the disk.
    pub(crate) blob: Option<Placed>,
}

/// A tree that is whole, and what is known of it.
struct Unpacked {
    extracted: Extracted,
    written: Written,
    /// Has seen the plain tar.
    hasher: Hasher,
    /// The stream as it came, and the DiffID that was announced.
    blob: Option<(content::Writer, Option<Digest>)>,
}

impl Unpacked {
    /// Gives the blob its name, if the digest is the one announced.
    fn finish(self) -> Result<Finished, Error> {
        let (tar_size_bytes, diff_id) = (self.hasher.size_bytes(), self.hasher.finish());
        let blob = match self.blob {
            Some((_, Some(expected))) if expected != diff_id => {
                return Err(Error::DigestMismatch { expected, actual: diff_id });
            }
            // The bytes reach the disk with the tree: see [`Layers::sync`].
            Some((blob, _)) => Some(blob.place(None)?),
            None => None,
        };
        let Extracted { root_entry, root_opaque, .. } = self.extracted;
        Ok(Finished { diff_id, written: self.written, root_entry, root_opaque, tar_size_bytes, blob })
    }
}

/// What a layer's tar is made of.
enum TarSource {
    /// It was kept as it came, compressed or not.
    Blob(fs::File),
    /// It is written again from the layer's files.
    Tree { root: fs::File, root_entry: bool },
}

impl Layers {
    /// Unpacks a tar (plain or compressed) to a new layer held by the lease.
    ///
    /// # Errors
    /// [`Error::Archive`] where the archive is refused, [`Error::DigestMismatch`], [`Error::Input`];
    /// nothing of it stays.
    pub fn apply(
        &self,
        reader: impl Read + Send,
        options: &ApplyOptions,
        lease: &Lease,
    ) -> Result<Layer, Error> {
        let id = self.store.begin_layer()?;
        let result = self.unpack(id, reader, options).and_then(|unpacked| {
            reached(Point::LayerUnpacked);
            // What collects blobs must not take one that has its name and no row yet.
            let _blobs = self.store.blobs.lock();
            let finished = unpacked.finish()?;
            let recorded = self.store.finish_layer(id, &finished, lease, |_| Ok(()));
            recorded.inspect_err(|_| {
                finished.blob.iter().for_each(|blob| self.store.forget_unrecorded(&blob.digest));
            })
        });
        if result.is_err() {
            self.store.abandon_layer(id);
        }
        result
    }

    fn unpack(
        &self,
        id: LayerId,
        reader: impl Read + Send,
        options: &ApplyOptions,
    ) -> Result<Unpacked, Error> {
        let path = self.store.path(format!("layers/{id}/fs"));
        fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        let root = fs::File::open(&path).map_err(Error::io("open", &path))?;
        let extract = ExtractOptions {
            limits: options.limits,
            whiteouts: self.store.driver.whiteouts(),
            owner: Owner::Archive,
            epoch: None,
            implied_time: Timestamp::default(),
            onto: Onto::New,
        };
        match options.exact {
            Exact::Normalised => {
                let extracted = archive::extract(reader, root.as_fd(), &extract)?;
                let mut hasher = Hasher::new();
                let source = Source {
                    root: root.as_fd(),
                    whiteouts: extract.whiteouts,
                    root_entry: extracted.root_entry,
                    epoch: None,
                };
                let written = write_layer(&source, &mut hasher)?;
                Ok(Unpacked { extracted, written, hasher, blob: None })
            }
            Exact::Received { expected } => {
                let mut blob = Content { store: self.store.clone() }.writer()?;
                let mut hasher = Hasher::new();
                let observers = Observers {
                    incoming: |bytes: &[u8]| {
                        blob.write_all(bytes).map_err(|source| {
                            io::Error::other(ArchiveError::Write { path: "(the blob)".into(), source })
                        })
                    },
                    plain: Some(|bytes: &[u8]| hasher.update(bytes)),
                };
                let extracted = archive::extract_observed(reader, root.as_fd(), &extract, observers)?;
                let written = Written {
                    entries: extracted.entries,
                    size_bytes: extracted.size_bytes,
                    newest: extracted.newest,
                };
                Ok(Unpacked { extracted, written, hasher, blob: Some((blob, expected)) })
            }
        }
    }

    /// Looks a layer up.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn get(&self, id: LayerId) -> Result<Layer, Error> {
        self.store.database.read(|transaction| get(transaction, id))
    }

    /// A layer with that DiffID, the oldest of several, held by the lease from now on; `None` if there is none.
    ///
    /// # Errors
    /// What the database said.
    pub fn find_by_diff_id(&self, diff_id: &Digest, lease: &Lease) -> Result<Option<Layer>, Error> {
        self.find("diff_id", diff_id, lease)
    }

    /// A layer whose stream as received was this blob, held by the lease from now on; `None` if there is none.
    ///
    /// # Errors
    /// What the database said.
    pub fn find_by_blob(&self, blob: &Digest, lease: &Lease) -> Result<Option<Layer>, Error> {
        self.find("blob", blob, lease)
    }

    fn find(&self, column: &'static str, digest: &Digest, lease: &Lease) -> Result<Option<Layer>, Error> {
        self.store.database.write_relaxed(|transaction| {
            let sql = format!(
                "SELECT id, diff_id, size, entries, newest FROM layer
                WHERE {column} = ?1 AND state = 1 ORDER BY id LIMIT 1"
            );
            let mut statement = transaction.prepare_cached(&sql)?;
            let layer = statement.query_row([digest.as_bytes()], from_row).optional()?;
            if let Some(layer) = &layer {
                lease.hold_layer_in(transaction, layer.id)?;
            }
            Ok(layer)
        })
    }

    /// The blob that the layer is kept as, as it was received; `None` where there is its tree alone.
    pub(crate) fn blob(&self, id: LayerId) -> Result<Option<Digest>, Error> {
        self.store.database.read(|transaction| {
            let mut query = transaction.prepare_cached("SELECT blob FROM layer WHERE id = ?1")?;
            let row = query.query_row([id.0.cast_signed()], |row| row.get::<_, Option<[u8; 32]>>(0));
            Ok(row.optional()?.ok_or(Error::NoSuchLayer(id))?.map(Digest::from_sha256))
        })
    }

    /// The bytes of the layer's plain tar.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], and what writing it says where nobody has counted yet.
    pub fn tar_size_bytes(&self, id: LayerId) -> Result<u64, Error> {
        let known = self.store.database.read(|transaction| {
            let sql = "SELECT tar_size FROM layer WHERE id = ?1 AND state = 1";
            let mut statement = transaction.prepare_cached(sql)?;
            let row = statement.query_row([id.0.cast_signed()], |row| row.get::<_, Option<i64>>(0));
            row.optional()?.ok_or(Error::NoSuchLayer(id))
        })?;
        if let Some(known) = known {
            return Ok(known.cast_unsigned());
        }
        let mut hasher = Hasher::new();
        self.write_tar(id, &mut hasher)?;
        let size_bytes = hasher.size_bytes();
        self.store.database.write_relaxed::<_, Error>(|transaction| {
            let sql = "UPDATE layer SET tar_size = ?2 WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute([id.0.cast_signed(), size_bytes.cast_signed()])?;
            Ok(())
        })?;
        Ok(size_bytes)
    }

    /// Writes the layer's plain tar: exactly the bytes whose digest is its DiffID.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], [`Error::Output`].
    pub fn write_tar(&self, id: LayerId, mut output: impl Write) -> Result<(), Error> {
        match self.tar_source(id)? {
            TarSource::Blob(file) => {
                let mut plain =
                    archive::plain(io::BufReader::with_capacity(1 << 16, file)).map_err(Error::Input)?;
                io::copy(&mut plain, &mut output).map(drop).map_err(Error::Output)
            }
            TarSource::Tree { root, root_entry } => {
                let whiteouts = self.store.driver.whiteouts();
                write_layer(&Source { root: root.as_fd(), whiteouts, root_entry, epoch: None }, output)?;
                Ok(())
            }
        }
    }

    /// Whether what a layer's tar is written from is there.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`]; [`Error::Io`] or [`Error::NoSuchBlob`] where its files are gone.
    pub(crate) fn check(&self, id: LayerId) -> Result<(), Error> {
        self.tar_source(id).map(drop)
    }

    fn tar_source(&self, id: LayerId) -> Result<TarSource, Error> {
        let (blob, root_entry) = self.store.database.read(|transaction| {
            let sql = "SELECT blob, root_entry FROM layer WHERE id = ?1 AND state = 1";
            let mut statement = transaction.prepare_cached(sql)?;
            let row = statement.query_row([id.0.cast_signed()], |row| {
                Ok((row.get::<_, Option<[u8; 32]>>(0)?, row.get::<_, bool>(1)?))
            });
            row.optional()?.ok_or(Error::NoSuchLayer(id))
        })?;
        if let Some(blob) = blob {
            let blob = Digest::from_sha256(blob);
            return Ok(TarSource::Blob(Content { store: self.store.clone() }.open(&blob)?));
        }
        let path = self.store.path(format!("layers/{id}/fs"));
        let root = fs::File::open(&path).map_err(Error::io("open", &path))?;
        Ok(TarSource::Tree { root, root_entry })
    }

    /// Describes a read-only mount of these layers, lowest first.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn mount(&self, layers: &[LayerId]) -> Result<RootMount, Error> {
        let lower = self.store.lower(layers)?;
        self.store.driver.read_only(&self.store.root, &lower)
    }

    /// The merged read-only tree of these layers, lowest first, as a descriptor of its root
    /// directory, mounted nowhere: use the `*at` calls on it (`openat2` with `RESOLVE_IN_ROOT`).
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn open(&self, layers: &[LayerId]) -> Result<OwnedFd, Error> {
        driver::open_read_only(&self.mount(layers)?)
    }

    /// Waits until these layers are on the disk.
    ///
    /// # Errors
    /// What the file system or database said.
    pub fn sync(&self, layers: &[LayerId]) -> Result<(), Error> {
        if !self.store.unsynced(layers)?.is_empty() {
            self.store.promote()?;
        }
        Ok(())
    }
}

impl Inner {
    /// Records a layer that is to be made.
    pub(crate) fn begin_layer(&self) -> Result<LayerId, Error> {
        self.database.write_relaxed(|transaction| {
            let sql = "INSERT INTO layer (state, boot) VALUES (0, ?1)";
            transaction.prepare_cached(sql)?.execute([&self.boot])?;
            Ok(LayerId(transaction.last_insert_rowid().cast_unsigned()))
        })
    }

    /// Makes a layer ready, held by the lease, in one transaction with what the caller adds.
    pub(crate) fn finish_layer(
        &self,
        id: LayerId,
        finished: &Finished,
        lease: &Lease,
        also: impl FnOnce(&Transaction<'_>) -> Result<(), Error>,
    ) -> Result<Layer, Error> {
        let Written { entries, size_bytes, newest } = finished.written;
        self.database.write_relaxed(|transaction| {
            if let Some(blob) = &finished.blob {
                content::record(transaction, &blob.digest, blob.size_bytes)?;
            }
            let sql = "UPDATE layer SET state = 1, diff_id = ?2, size = ?3, entries = ?4, newest = ?5,
                root_entry = ?6, root_opaque = ?7, blob = ?8, tar_size = ?9 WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute((
                id.0.cast_signed(),
                finished.diff_id.as_bytes(),
                size_bytes.cast_signed(),
                entries.cast_signed(),
                newest.nanos(),
                finished.root_entry,
                finished.root_opaque,
                finished.blob.as_ref().map(|blob| blob.digest.as_bytes()),
                finished.tar_size_bytes.cast_signed(),
            ))?;
            lease.hold_layer_in(transaction, id)?;
            also(transaction)
        })?;
        self.background.wake();
        Ok(Layer { id, diff_id: finished.diff_id, size_bytes, entries, newest })
    }

    /// Forgets a layer that could not be made, perhaps because the disk is full: then the reserve is given up, or its
    /// own files are unlinked first. What fails here is done at the next open.
    pub(crate) fn abandon_layer(&self, id: LayerId) {
        let forget = || {
            self.database.write_relaxed::<_, Error>(|transaction| {
                transaction.execute("DELETE FROM layer WHERE id = ?1 AND state = 0", [id.0.cast_signed()])?;
                trash::bury(transaction, format!("layers/{id}"))
            })
        };
        let buried = forget()
            .or_else(|error| if self.spend_reserve() { forget() } else { Err(error) })
            .or_else(|_| self.unlink("layers", id.to_string().as_ref()).and_then(|()| forget()));
        match buried {
            Ok(tombstone) => self.discard(&[tombstone]),
            Err(error) => tracing::warn!(layer = %id, %error, "an unfinished layer could not be removed yet"),
        }
    }

    /// What the driver needs to know about layers, lowest first.
    pub(crate) fn lower(&self, layers: &[LayerId]) -> Result<Vec<Lower>, Error> {
        self.database.read(|transaction| lower(transaction, layers))
    }
}

pub(crate) fn lower(transaction: &Transaction<'_>, layers: &[LayerId]) -> Result<Vec<Lower>, Error> {
    let sql = "SELECT entries, root_entry, root_opaque FROM layer WHERE id = ?1 AND state = 1";
    let mut query = transaction.prepare_cached(sql)?;
    let each = |&id: &LayerId| {
        let row = query.query_row([id.0.cast_signed()], |row| {
            Ok(Lower {
                id,
                empty: row.get::<_, i64>(0)? == 0,
                root_entry: row.get(1)?,
                root_opaque: row.get(2)?,
            })
        });
        row.optional()?.ok_or(Error::NoSuchLayer(id))
    };
    layers.iter().map(each).collect()
}

pub(crate) fn get(transaction: &Transaction<'_>, id: LayerId) -> Result<Layer, Error> {
    let sql = "SELECT id, diff_id, size, entries, newest FROM layer WHERE id = ?1 AND state = 1";
    let mut statement = transaction.prepare_cached(sql)?;
    statement.query_row([id.0.cast_signed()], from_row).optional()?.ok_or(Error::NoSuchLayer(id))
}

fn from_row(row: &Row<'_>) -> Result<Layer, gantry_state::rusqlite::Error> {
    Ok(Layer {
        id: LayerId(row.get::<_, i64>(0)?.cast_unsigned()),
        diff_id: Digest::from_sha256(row.get(1)?),
        size_bytes: row.get::<_, i64>(2)?.cast_unsigned(),
        entries: row.get::<_, i64>(3)?.cast_unsigned(),
        newest: Timestamp::from_nanos(row.get(4)?),
    })
}

/// The chain id of layers by their DiffIDs, as Docker reports it for a removed layer: of one layer its
/// DiffID, of more the digest of the chain below and the DiffID.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => *diff_id,
            Some(below) => content::digest_of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}
