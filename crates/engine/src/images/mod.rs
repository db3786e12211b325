//! Images: the store, seen with containers in mind.
//!
//! What an image is, the store knows; this facade adds what needs more: whether a container uses
//! it, Docker's texts, and events. Methods may read a database and are async for that reason alone.

mod archive;
mod filter;
mod pattern;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::filter::Filters;
use gantry_model::image::ImageConfig;
use gantry_model::{Digest, ErrorKind, Platform, Reference, Timestamp};
use gantry_store::Store;
use gantry_store::image::{self, ImageError, InUse};

use crate::containers::index::Index;
use crate::events::Events;

pub use archive::{Export, Loading};
pub(crate) use filter::until;
pub use usage::ImageUsage;

/// All images. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    store: Arc<Store>,
    events: Events,
    index: Arc<Index>,
}

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
    pub config: Arc<ImageConfig>,
    /// When the newest of its names was given to it.
    pub last_tagged: Option<Timestamp>,
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
    pub platform: Option<Platform>,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>, events: Events, index: Arc<Index>) -> Self {
        Self { store, events, index }
    }

    /// Finds an image by name, id, prefix of an id, or digest.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn inspect(&self, image: &str) -> Result<Summary, Error> {
        let (images, name) = (self.clone(), image.to_owned());
        crate::blocking(move || {
            let image = images.store.images().resolve(&name)?;
            Ok(images.summary(&image))
        })
        .await
    }

    /// As [`Images::inspect`], of an index the image for this platform if it is here.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn inspect_for(&self, image: &str, platform: &Platform) -> Result<Summary, Error> {
        let (images, name, platform) = (self.clone(), image.to_owned(), platform.clone());
        crate::blocking(move || {
            let image = images.store.images().resolve_for(&name, &platform)?;
            Ok(images.summary(&image))
        })
        .await
    }

    /// Whether a text means this image: by itself, or as one of its platforms.
    pub async fn means(&self, text: &str, id: Digest) -> bool {
        let (images, text) = (self.clone(), text.to_owned());
        let means = crate::blocking(move || -> Result<bool, Error> {
            let images = images.store.images();
            // What it means by itself needs no look at the database.
            Ok(images.resolve(&text)?.id == id || images.resolve_all(&text)?.contains(&id))
        });
        means.await.unwrap_or(false)
    }

    /// The configuration's bytes, verbatim, and the layers, for those who need more than a summary.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn resolve(&self, image: &str) -> Result<Arc<gantry_store::image::Image>, Error> {
        let (images, name) = (self.clone(), image.to_owned());
        crate::blocking(move || Ok(images.store.images().resolve(&name)?)).await
    }

    /// How an image's layers are put together, read-only.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::Store`] where a layer is gone.
    pub async fn root(&self, image: &str) -> Result<gantry_model::mount::RootMount, Error> {
        let (images, name) = (self.clone(), image.to_owned());
        crate::blocking(move || {
            let image = images.store.images().resolve(&name)?;
            let mount = images.store.layers().mount(&image.layers);
            mount.map_err(|error| Error::Store { text: crate::chain(&error), kind: StoreKind::Host })
        })
        .await
    }

    /// All images with names (or all, with `all`), newest first. Filters: `reference`, `label`, `dangling`,
    /// `before`, `since`, `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn list(&self, all: AllImages, filters: &Filters) -> Result<Vec<Summary>, Error> {
        let (images, filters) = (self.clone(), filters.clone());
        crate::blocking(move || images.list_now(all, &filters)).await
    }

    fn list_now(&self, all: AllImages, filters: &Filters) -> Result<Vec<Summary>, Error> {
        let images = self.store.images().list()?;
        let resolve = |name: &str| Ok(self.store.images().resolve(name)?);
        let narrowed = filter::Narrowed::new(filters, &images, &resolve)?;
        let parents: BTreeSet<Digest> = images.iter().filter_map(|image| image.parent).collect();
        let shown = images.iter().enumerate().filter(|(place, image)| {
            // Without a name, but something was made on top of it: an intermediate one.
            let intermediate = image.references.is_empty() && parents.contains(&image.id);
            (all == AllImages::Yes || !intermediate) && narrowed.matches(*place, image)
        });
        Ok(shown.map(|(_, image)| narrowed.names(self.summary(image))).collect())
    }

    /// The steps that made it.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn history(&self, image: &str) -> Result<Vec<HistoryEntry>, Error> {
        let (images, name) = (self.clone(), image.to_owned());
        crate::blocking(move || {
            let entries = images.store.images().history(&name)?;
            Ok(entries
                .into_iter()
                .map(|entry| HistoryEntry {
                    id: entry.id,
                    created: entry.created.unwrap_or_default(),
                    created_by: entry.created_by,
                    size_bytes: entry.size_bytes,
                    comment: entry.comment,
                    tags: entry.tags,
                })
                .collect())
        })
        .await
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub async fn tag(&self, image: &str, reference: &Reference) -> Result<(), Error> {
        let (images, name, reference) = (self.clone(), image.to_owned(), reference.clone().or_latest());
        crate::blocking(move || {
            let image = images.store.images().tag_as(&name, &reference)?;
            images.note("tag", &image.id, &reference.familiar());
            Ok(())
        })
        .await
    }

    /// Removes a name, and the image with its last one.
    ///
    /// # Errors
    /// [`Error::Conflict`] in Docker's words if a container uses it.
    pub async fn remove(&self, image: &str, options: RemoveOptions) -> Result<Vec<Removed>, Error> {
        let (images, name) = (self.clone(), image.to_owned());
        crate::blocking(move || Ok(images.remove_now(&name, options)?.0)).await
    }

    fn remove_now(&self, name: &str, options: RemoveOptions) -> Result<(Vec<Removed>, u64), Error> {
        let options = gantry_store::image::RemoveOptions { force: options.force, no_prune: options.no_prune };
        // Afterwards the labels may be gone, and the events tell them.
        let labels = self.store.images().resolve(name).map(|image| image.config.config.labels.clone());
        let labels = labels.unwrap_or_default();
        let removals = self.store.images().remove(name, options, &Users(&self.index))?;
        let removed = removals.done.into_iter().map(|one| match one {
            image::Removed::Untagged { reference, image } => {
                self.publish("untag", &image, &image.to_string(), labels.clone());
                Removed::Untagged(reference)
            }
            image::Removed::Image(id) => {
                self.publish("delete", &id, &id.to_string(), BTreeMap::new());
                Removed::Deleted(id)
            }
            image::Removed::Layer(id) => Removed::Deleted(id),
        });
        Ok((removed.collect(), removals.layer_bytes))
    }

    /// Makes an image of one layer from a tar stream. Blocks a thread of its own while reading.
    ///
    /// # Errors
    /// [`Error::Store`] with the reason, such as a hostile archive; nothing remains.
    pub async fn import(
        &self,
        reader: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<Digest, Error> {
        let images = self.clone();
        crate::blocking(move || {
            let reference = options.reference.map(Reference::or_latest);
            let options = gantry_store::image::ImportOptions {
                run: options.config,
                message: options.message,
                reference: reference.clone(),
                platform: options.platform,
                created: None,
            };
            let image = images.store.images().import(reader, &options)?;
            if let Some(reference) = reference {
                images.note("tag", &image.id, &reference.familiar());
            }
            images.note("import", &image.id, &image.id.to_string());
            Ok(image.id)
        })
        .await
    }

    /// Removes dangling images (or all unused, with filter `dangling=false`); filters also `label`, `label!`,
    /// `until`. What went, and the bytes of the layers that nothing needs any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<Removed>, u64), Error> {
        let (images, filters) = (self.clone(), filters.clone());
        crate::blocking(move || images.prune_now(&filters)).await
    }

    fn prune_now(&self, filters: &Filters) -> Result<(Vec<Removed>, u64), Error> {
        let unwanted = filter::Unwanted::new(filters)?;
        let used: BTreeSet<Digest> = self.index.views().iter().map(|view| view.record.image).collect();
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for image in self.store.images().list()? {
            if used.contains(&image.id) || !unwanted.matches(&image) {
                continue;
            }
            let names: Vec<String> = match image.references.as_slice() {
                [] => vec![image.id.to_string()],
                references => references.iter().map(Reference::familiar).collect(),
            };
            for name in names {
                match self.remove_now(&name, RemoveOptions::default()) {
                    Ok((mut done, layers)) => {
                        reached(Point::PruneImage);
                        removed.append(&mut done);
                        bytes += layers;
                    }
                    Err(error) => tracing::debug!("image {name} was not pruned: {error}"),
                }
            }
        }
        Ok((removed, bytes))
    }

    /// Emits the event of something that another crate did to an image (`build`'s tag).
    pub fn note(&self, action: &str, image: &Digest, name: &str) {
        let labels = self.store.images().get(image).map(|image| image.config.config.labels.clone());
        self.publish(action, image, name, labels.unwrap_or_default());
    }

    fn publish(&self, action: &str, image: &Digest, name: &str, labels: BTreeMap<String, String>) {
        let mut attributes = labels;
        attributes.insert("name".into(), name.into());
        self.events.publish("image", action, &image.to_string(), attributes);
    }

    /// How many images there are.
    pub(crate) fn count(&self) -> usize {
        self.store.images().list().map_or(0, |images| images.len())
    }

    fn summary(&self, image: &Arc<gantry_store::image::Image>) -> Summary {
        let (digests, tags): (Vec<_>, Vec<_>) =
            image.references.iter().partition(|reference| reference.digest().is_some());
        let created = image.config.created.as_deref().and_then(|text| Timestamp::parse_rfc3339(text).ok());
        Summary {
            id: image.id,
            tags: tags.into_iter().map(Reference::familiar).collect(),
            digests: digests.into_iter().map(Reference::familiar).collect(),
            created: created.unwrap_or_default(),
            size_bytes: image.size_bytes,
            containers: self.index.views().iter().filter(|view| view.record.image == image.id).count(),
            parent: image.parent,
            config: Arc::new(image.config.clone()),
            last_tagged: image.last_tagged,
        }
    }
}

/// Which containers use an image.
struct Users<'a>(&'a Index);

impl Users<'_> {
    fn first(&self, image: &Digest, running: bool) -> Option<String> {
        let views = self.0.views();
        let mut users = views.iter().filter(|view| view.record.image == *image);
        users.find(|view| view.state.is_running() == running).map(|view| view.record.id.to_string())
    }
}

impl InUse for Users<'_> {
    fn running(&self, image: &Digest) -> Option<String> {
        self.first(image, true)
    }

    fn stopped(&self, image: &Digest) -> Option<String> {
        self.first(image, false)
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        let text = crate::chain(&error);
        match (&error, error.kind()) {
            (ImageError::NoSuchImage(name), _) => Self::NoSuchImage(name.clone()),
            (_, ErrorKind::Conflict) => Self::Conflict(text),
            (ImageError::Save(_), ErrorKind::NotFound) => Self::NotFound(text),
            (ImageError::InvalidReference(_), _) => Self::Invalid(text),
            (_, ErrorKind::InvalidArgument) => Self::Store { text, kind: StoreKind::Input },
            _ => Self::Store { text, kind: StoreKind::Host },
        }
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
    /// The same in words of the operation's own.
    #[error("{0}")]
    NotFound(String),
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
            Self::NoSuchImage(_) | Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Invalid(_) | Self::Store { kind: StoreKind::Input, .. } => ErrorKind::InvalidArgument,
            Self::Store { kind: StoreKind::Host, .. } => ErrorKind::Internal,
        }
    }
}
