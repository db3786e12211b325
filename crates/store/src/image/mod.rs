//! Images: a configuration, the layers that it lists, and the names that point to it.

use std::io::Read;
use std::sync::Arc;

use crate::{Error, Lease};
use gantry_model::image::{Descriptor, ImageConfig, RunConfig};
use gantry_model::reference::InvalidReference;
use gantry_model::{Digest, ErrorKind, LayerId, Platform, Reference, Timestamp};

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
            Self::Store(error) => error.kind(),
        }
    }
}

/// Access to images.
#[derive(Clone)]
pub struct Images {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Images {
    /// Finds an image by what a user typed: a name, an id, the beginning of one, or a digest.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::InvalidReference`].
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        unimplemented!()
    }
    /// As [`Self::resolve`], and the lease holds the image before anybody can remove it.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_held(&self, text: &str, lease: &Lease) -> Result<Arc<Image>, ImageError> {
        unimplemented!()
    }
    /// The image with exactly this id.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn get(&self, id: &Digest) -> Result<Arc<Image>, ImageError> {
        unimplemented!()
    }
    /// All images, newest first.
    ///
    /// # Errors
    /// What the database said.
    pub fn list(&self) -> Result<Vec<Arc<Image>>, ImageError> {
        unimplemented!()
    }
    /// Records an image, after its layers are on the disk. One that is there already stays as it is.
    ///
    /// # Errors
    /// [`ImageError::InvalidConfig`] where it is no configuration of these layers.
    pub fn create(&self, image: &NewImage<'_>) -> Result<Arc<Image>, ImageError> {
        unimplemented!()
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
        unimplemented!()
    }
    /// Gives an image a name; one that pointed elsewhere moves. Without tag or digest it is `latest`.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<(), ImageError> {
        unimplemented!()
    }
    /// Takes a name away and nothing else; the image it pointed to.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn untag(&self, reference: &Reference) -> Result<Digest, ImageError> {
        unimplemented!()
    }
    /// What a name points to, as it was pushed or pulled, or the configuration for what never was.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn target(&self, reference: &Reference) -> Result<Descriptor, ImageError> {
        unimplemented!()
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
    ) -> Result<Vec<Removed>, ImageError> {
        unimplemented!()
    }
    /// The images that were recorded as made on top of this one.
    ///
    /// # Errors
    /// What the database said.
    pub fn children(&self, id: &Digest) -> Result<Vec<Digest>, ImageError> {
        unimplemented!()
    }
    /// `docker history`, newest step first.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`].
    pub fn history(&self, text: &str) -> Result<Vec<HistoryEntry>, ImageError> {
        unimplemented!()
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
        unimplemented!()
    }
}
