//! Images: a configuration, the layers that it lists, and the names that point to it.
//!
//! An image is its configuration's bytes, kept verbatim as a blob; its id is their digest. It becomes
//! visible in one transaction, after its layers and its configuration are on the disk.

mod history;
mod import;
mod load;
mod names;
mod record;
mod remove;
mod resolve;
mod save;
mod target;

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use gantry_model::image::{Descriptor, ImageConfig, RunConfig};
use gantry_model::reference::InvalidReference;
use gantry_model::{Digest, ErrorKind, LayerId, Platform, Reference, Timestamp};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use self::names::{full_name, no_such, set_reference, take_reference};
use self::record::{Keep, Recorded, exists};
use crate::content::digest_of;
use crate::store::Inner;
use crate::{Error, Lease};
pub use load::{LoadError, LoadEvent, LoadOptions, Loaded};
pub(crate) use resolve::Cache;
pub use save::{SaveError, SaveOptions, Saved};

/// The largest configuration that is read, in bytes.
const CONFIG_LIMIT_BYTES: u64 = 8 << 20;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the configuration: Docker's image id.
    pub id: Digest,
    /// The configuration, read.
    pub config: ImageConfig,
    /// The configuration, verbatim.
    pub config_bytes: Vec<u8>,
    /// Its layers, lowest first; as many as `config.rootfs.diff_ids`.
    pub layers: Vec<LayerId>,
    /// The sum of its layers' sizes.
    pub size_bytes: u64,
    /// The image that it was made on top of, if that was recorded.
    pub parent: Option<Digest>,
    /// When the newest of its names was given to it; `None` if it has none.
    pub last_tagged: Option<Timestamp>,
    /// The names that point to it, sorted: those with a tag and those with a digest.
    pub references: Vec<Reference>,
}

/// An image to be recorded.
#[derive(Debug, Clone)]
pub struct NewImage<'a> {
    /// The configuration's bytes; its digest becomes the id. Kept verbatim.
    pub config_bytes: &'a [u8],
    /// Its layers, lowest first, whose DiffIDs must be those that the configuration lists.
    pub layers: &'a [LayerId],
    /// The image that it was made on top of, if `history` and `rmi` shall know.
    pub parent: Option<Digest>,
}

/// How an archive becomes an image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// What containers of it run (`-c` changes, applied by the caller).
    pub run: RunConfig,
    /// The history's comment; Docker's default is `Imported from -`.
    pub message: String,
    /// The name to give it.
    pub reference: Option<Reference>,
    /// Its platform; `None` is the host's.
    pub platform: Option<Platform>,
    /// When it was made; `None` is the newest modification time in the archive, so that importing the
    /// same archive again gives the same image.
    pub created: Option<Timestamp>,
}

/// One line of `history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image after this step, if it is one that we have; Docker shows `<missing>` for `None`.
    pub id: Option<Digest>,
    /// When.
    pub created: Option<Timestamp>,
    /// The instruction.
    pub created_by: String,
    /// The note.
    pub comment: String,
    /// What the step added.
    pub size_bytes: u64,
    /// The familiar names of that image.
    pub tags: Vec<String>,
}

/// One thing that a removal did, in Docker's words and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone: its familiar form.
    Untagged {
        /// The familiar name.
        reference: String,
        /// The image that it pointed to.
        image: Digest,
    },
    /// An image is gone.
    Image(Digest),
    /// A layer is gone: its chain id, as Docker reports it.
    Layer(Digest),
}

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removals {
    /// In order.
    pub done: Vec<Removed>,
    /// The sizes of the layers that nothing needs any more.
    pub layer_bytes: u64,
}

/// How to remove an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Also if several repositories name it, or stopped containers use it.
    pub force: bool,
    /// Keep untagged parents.
    pub no_prune: bool,
}

/// Who uses images; asked by [`Images::remove`] inside its transaction, so it must not call the store.
pub trait InUse {
    /// The full id of a running container of this image, if there is one.
    fn running(&self, image: &Digest) -> Option<String>;
    /// The full id of a container of this image that does not run, if there is one.
    fn stopped(&self, image: &Digest) -> Option<String>;
}

/// Says why an operation on images failed. `Display` gives Docker's texts.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image has that name, id or prefix, or several have that prefix. Holds the familiar reference
    /// with its tag.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// It is no reference.
    #[error(transparent)]
    InvalidReference(#[from] InvalidReference),
    /// A name cannot be removed because a container uses the image. Docker's whole text.
    #[error(
        "conflict: unable to remove repository reference {reference:?} (must force) - container {container} is using its referenced image {image}"
    )]
    ReferenceInUse {
        /// What the user typed.
        reference: String,
        /// The container's short id.
        container: String,
        /// The image's short id.
        image: String,
    },
    /// The image cannot be removed.
    #[error("conflict: unable to delete {image} ({}) - {reason}", if *.hard { "cannot be forced" } else { "must be forced" })]
    Conflict {
        /// The image's short id.
        image: String,
        /// Whether force does not help.
        hard: bool,
        /// Why.
        reason: String,
    },
    /// The configuration is not one, or does not fit the layers.
    #[error("invalid image configuration: {0}")]
    InvalidConfig(String),
    /// What its id is the digest of is not there any more, or not as it was.
    #[error(
        "the image {} is damaged ({reason}): remove it (rmi {}) and make it again",
        .image, .image.hex().get(..12).unwrap_or_default()
    )]
    Damaged {
        /// Its id.
        image: Digest,
        /// What is wrong.
        reason: String,
    },
    /// An archive was not loaded.
    #[error(transparent)]
    Load(LoadError),
    /// An image cannot be saved as asked.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ImageError {
    /// The sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) => ErrorKind::NotFound,
            Self::InvalidReference(_) | Self::InvalidConfig(_) => ErrorKind::InvalidArgument,
            Self::ReferenceInUse { .. } | Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Load(error) => error.kind(),
            Self::Save(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Damaged { .. } => ErrorKind::Internal,
        }
    }
}

impl From<gantry_state::Error> for ImageError {
    fn from(error: gantry_state::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<gantry_state::rusqlite::Error> for ImageError {
    fn from(error: gantry_state::rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Access to images.
#[derive(Clone)]
pub struct Images {
    pub(crate) store: Arc<Inner>,
}

impl Images {
    /// Finds an image by what a user typed: a name, an id, the beginning of one, or a digest.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::InvalidReference`].
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        resolve::resolve(&self.store, text)
    }

    /// As [`Self::resolve`], of what was found the image for a platform if that is here: of an index one that it
    /// lists. Where there is none, the image that the text means by itself.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_for(&self, text: &str, platform: &Platform) -> Result<Arc<Image>, ImageError> {
        resolve::resolve_for(&self.store, text, platform)
    }

    /// What a text means: the image that it means by itself, then those of the other platforms of an index.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_all(&self, text: &str) -> Result<Vec<Digest>, ImageError> {
        resolve::resolve_all(&self.store, text)
    }

    /// The layers of all images with their sizes in bytes, those of platforms that are not listed as well.
    ///
    /// # Errors
    /// What the database said.
    pub fn layer_sizes(&self) -> Result<HashMap<LayerId, u64>, ImageError> {
        resolve::layer_sizes(&self.store)
    }

    /// The bytes of what images keep beside their layers' files: layers as they came, packed or not, so that they go out
    /// again with the same digests.
    ///
    /// # Errors
    /// What the database said.
    pub fn content_bytes(&self) -> Result<u64, ImageError> {
        resolve::content_bytes(&self.store)
    }

    /// As [`Self::resolve`], and the lease holds the image before anybody can remove it.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_held(&self, text: &str, lease: &Lease) -> Result<Arc<Image>, ImageError> {
        loop {
            let image = self.resolve(text)?;
            match lease.hold_image(&image.id) {
                Ok(()) => return Ok(image),
                // Removed in between: whoever has the name now, or nobody.
                Err(Error::NoSuchBlob(_)) => self.store.images.clear(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The image with exactly this id.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn get(&self, id: &Digest) -> Result<Arc<Image>, ImageError> {
        self.resolve(&id.to_string())
    }

    /// All images that are there for themselves, newest first; of those made at the same time, the one that came here last.
    ///
    /// # Errors
    /// What the database said.
    pub fn list(&self) -> Result<Vec<Arc<Image>>, ImageError> {
        resolve::list(&self.store)
    }

    /// Records an image, after its layers are on the disk. One that is there already stays as it is.
    ///
    /// # Errors
    /// [`ImageError::InvalidConfig`] where it is no configuration of these layers.
    pub fn create(&self, image: &NewImage<'_>) -> Result<Arc<Image>, ImageError> {
        self.create_tagged(image, &[])
    }

    /// As [`Self::create`], and names it (see [`Self::tag`]) in the same transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_tagged(
        &self,
        image: &NewImage<'_>,
        references: &[Reference],
    ) -> Result<Arc<Image>, ImageError> {
        let id = digest_of(image.config_bytes);
        let config: ImageConfig = serde_json::from_slice(image.config_bytes)
            .map_err(|error| ImageError::InvalidConfig(error.to_string()))?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(ImageError::InvalidConfig(format!(
                "it lists {} layers, but there are {}",
                config.rootfs.diff_ids.len(),
                image.layers.len()
            )));
        }
        if !self.name_existing(&id, references)? {
            let names = references.iter().map(|name| (name, None)).collect();
            let (image, config) = (image.clone(), &config);
            let recorded = Recorded { id, image, config, names, target: None, listed: true };
            self.record(&[recorded], &Keep::default())?;
        }
        self.store.images.clear();
        self.get(&id)
    }

    /// Gives an image a name; one that pointed elsewhere moves. Without tag or digest it is `latest`.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<(), ImageError> {
        self.store.database.write(|transaction| {
            if !exists(transaction, id)? {
                return Err(ImageError::NoSuchImage(id.to_string()));
            }
            set_reference(transaction, reference, id, None)
        })?;
        self.store.images.clear();
        Ok(())
    }

    /// As [`Self::tag`], for what a user typed, and the new name points to what that one means: the same manifest or
    /// index, also if it is told by its digest.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn tag_as(&self, text: &str, reference: &Reference) -> Result<Arc<Image>, ImageError> {
        let image = self.resolve(text)?;
        let left = self.store.database.write(|transaction| {
            if !exists(transaction, &image.id)? {
                return Err(ImageError::NoSuchImage(image.id.to_string()));
            }
            let left = names::target_of(transaction, reference)?;
            let target = resolve::target(transaction, text, &image.id)?;
            set_reference(transaction, reference, &image.id, target.as_ref())?;
            Ok(left)
        })?;
        self.store.images.clear();
        if left.is_some() {
            // Nothing else may have pointed to it.
            self.store.background.collect();
        }
        Ok(image)
    }

    /// Takes a name away and nothing else; the image it pointed to.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn untag(&self, reference: &Reference) -> Result<Digest, ImageError> {
        let id = self.store.database.write(|transaction| take_reference(transaction, reference))?;
        self.store.images.clear();
        Ok(id)
    }

    /// What a name points to, as it was pushed or pulled, or the configuration for what never was.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn target(&self, reference: &Reference) -> Result<Descriptor, ImageError> {
        let sql =
            "SELECT media_type, target, size FROM reference JOIN blob ON digest = target WHERE name = ?1";
        let found = self.store.database.read::<_, ImageError>(|transaction| {
            let mut query = transaction.prepare_cached(sql)?;
            let row = query.query_row([full_name(reference)], |row| {
                Ok(Descriptor {
                    media_type: row.get(0)?,
                    digest: Digest::from_sha256(row.get(1)?),
                    size: row.get::<_, i64>(2)?.cast_unsigned(),
                    platform: None,
                    annotations: std::collections::BTreeMap::new(),
                })
            });
            Ok(row.optional()?)
        })?;
        found.ok_or_else(|| no_such(reference))
    }

    /// `docker rmi`: removes a name, and the image if that was its last; or an image by id.
    ///
    /// # Errors
    /// The conflicts, [`ImageError::NoSuchImage`].
    pub fn remove(
        &self,
        text: &str,
        options: RemoveOptions,
        in_use: &dyn InUse,
    ) -> Result<Removals, ImageError> {
        remove::remove(&self.store, text, options, in_use)
    }

    /// The images that were recorded as made on top of this one.
    ///
    /// # Errors
    /// What the database said.
    pub fn children(&self, id: &Digest) -> Result<Vec<Digest>, ImageError> {
        self.store.database.read(|transaction| children(transaction, id))
    }

    /// `docker history`, newest step first.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn history(&self, text: &str) -> Result<Vec<HistoryEntry>, ImageError> {
        history::history(self, text)
    }

    /// `docker load`: images out of an archive, all of them or none.
    ///
    /// # Errors
    /// [`LoadError`] where the archive is refused; nothing of it stays.
    pub fn load(
        &self,
        archive: impl Read + Send,
        options: &LoadOptions,
        events: &mut (dyn FnMut(LoadEvent<'_>) + Send),
    ) -> Result<Vec<Loaded>, ImageError> {
        load::load(self, archive, options, events)
    }

    /// `docker save`: what is to be written for these names, held until it is dropped.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::Save`].
    pub fn save(&self, names: &[String], options: &SaveOptions) -> Result<Saved, ImageError> {
        save::plan(self, names, options)
    }

    /// `docker import`: makes an image of one layer from a tar, plain or compressed.
    ///
    /// # Errors
    /// Where the archive is refused; nothing of it stays.
    pub fn import(
        &self,
        archive: impl Read + Send,
        options: &ImportOptions,
    ) -> Result<Arc<Image>, ImageError> {
        import::import(self, archive, options)
    }
}

fn children(transaction: &Transaction<'_>, id: &Digest) -> Result<Vec<Digest>, ImageError> {
    let mut query = transaction.prepare_cached("SELECT id FROM image WHERE parent = ?1 ORDER BY id")?;
    let rows = query.query_map([id.as_bytes()], |row| row.get(0))?;
    Ok(rows.map(|row| row.map(Digest::from_sha256)).collect::<Result<_, _>>()?)
}

fn created(config: &ImageConfig) -> Option<Timestamp> {
    config.created.as_deref().and_then(|text| Timestamp::parse_rfc3339(text).ok())
}
