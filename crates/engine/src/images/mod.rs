//! Images: the store, seen with containers in mind.
//!
//! What an image is, the store knows; this facade adds what needs more: whether a container uses
//! it, Docker's texts, and events. Methods may read a database and are async for that reason alone.

use std::io::Read;

use gantry_model::image::ImageConfig;
use gantry_model::{Digest, ErrorKind, Reference, Timestamp};

/// All images. Cheap to clone.
#[derive(Clone)]
pub struct Images {}

/// What a list shows of one image.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its id.
    pub id: Digest,
    /// Its names, familiar form (`debian:bookworm`).
    pub tags: Vec<String>,
    /// Its names with digests, familiar form.
    pub digests: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes of all its layers unpacked.
    pub size_bytes: u64,
    /// Containers that use it.
    pub containers: usize,
    /// The image that it was built on here, if that is known.
    pub parent: Option<Digest>,
    /// Its configuration.
    pub config: std::sync::Arc<ImageConfig>,
}

/// One line of `history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image at this step, if it is here.
    pub id: Option<Digest>,
    /// When.
    pub created: Timestamp,
    /// The instruction.
    pub created_by: String,
    /// Bytes that it added.
    pub size_bytes: u64,
    /// A note.
    pub comment: String,
    /// Names of the image at this step.
    pub tags: Vec<String>,
}

/// One line of what `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name went.
    Untagged(String),
    /// An image or layer went.
    Deleted(Digest),
}

/// How to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Also with several names, or used by a stopped container.
    pub force: bool,
    /// Keeps untagged parents.
    pub no_prune: bool,
}

/// What `import` was asked for.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Dockerfile instructions (`CMD …`, `ENV …`), applied by the caller's parser, as a run configuration.
    pub config: gantry_model::image::RunConfig,
    /// A note.
    pub message: String,
    /// Its name; `None` leaves it without.
    pub reference: Option<Reference>,
    /// `--platform`; `None` is the host's.
    pub platform: Option<gantry_model::Platform>,
}

impl Images {
    /// Finds an image by name, id, prefix of an id, or digest.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn inspect(&self, _image: &str) -> Result<Summary, Error> {
        unimplemented!("filled next")
    }

    /// All images with names (or all, with `all`), newest first. Filters: `reference`, `label`, `dangling`,
    /// `before`, `since`, `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn list(
        &self,
        _all: AllImages,
        _filters: &gantry_model::filter::Filters,
    ) -> Result<Vec<Summary>, Error> {
        unimplemented!("filled next")
    }

    /// The steps that made it.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn history(&self, _image: &str) -> Result<Vec<HistoryEntry>, Error> {
        unimplemented!("filled next")
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn tag(&self, _image: &str, _reference: &Reference) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Removes a name, and the image with its last one.
    ///
    /// # Errors
    /// [`Error::Conflict`] in Docker's words if a container uses it.
    pub async fn remove(&self, _image: &str, _options: RemoveOptions) -> Result<Vec<Removed>, Error> {
        unimplemented!("filled next")
    }

    /// Makes an image of one layer from a tar stream. Blocks a thread of its own while reading.
    ///
    /// # Errors
    /// [`Error::Store`] with the reason, such as a hostile archive; nothing remains.
    pub async fn import(
        &self,
        _reader: impl Read + Send + 'static,
        _options: ImportOptions,
    ) -> Result<Digest, Error> {
        unimplemented!("filled next")
    }

    /// Removes dangling images (or all unused, with filter `dangling=false`); filters also `label`, `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(
        &self,
        _filters: &gantry_model::filter::Filters,
    ) -> Result<(Vec<Removed>, u64), Error> {
        unimplemented!("filled next")
    }

    /// Emits the event of something that another crate did to an image (`build`'s tag).
    pub fn note(&self, _action: &str, _image: &Digest, _name: &str) {
        unimplemented!("filled next")
    }
}

/// Whether intermediate images are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllImages {
    /// Only named and dangling ones.
    #[default]
    No,
    /// All.
    Yes,
}

/// Says why an operation on an image failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// It is in use.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The store failed or refused.
    #[error("{text}")]
    Store {
        /// Why.
        text: String,
        /// Its kind.
        kind: StoreKind,
    },
}

/// Whose fault a store's refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// The input's.
    Input,
    /// The host's.
    Host,
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Invalid(_) | Self::Store { kind: StoreKind::Input, .. } => ErrorKind::InvalidArgument,
            Self::Store { kind: StoreKind::Host, .. } => ErrorKind::Internal,
        }
    }
}
