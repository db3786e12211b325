//! The builder as the daemon holds it: one for each store.

use std::path::PathBuf;
use std::sync::Arc;

use gantry_model::Digest;
use gantry_store::Store;

use crate::cancel::Cancel;
use crate::context::ContextLimits;
use crate::error::BuildError;
use crate::event::BuildEvent;
use crate::executor::Executor;
use crate::request::BuildRequest;

/// What a [`Builder`] is made of.
pub struct BuilderOptions {
    /// Where images and layers are.
    pub store: Store,
    /// The builder's own directory on the store's file system, `<data root>/builds`: contexts while they
    /// are used, and the cache's database. Made if it is not there; leftovers of a crash are removed.
    pub directory: PathBuf,
    /// What runs `RUN` steps.
    pub executor: Arc<dyn Executor>,
    /// What a context may hold.
    pub limits: ContextLimits,
}

/// Builds images. Shared between threads; several builds may run at once.
pub struct Builder {
    _options: BuilderOptions,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The image's id: its configuration's digest.
    pub image: Digest,
}

/// What pruning the cache freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The keys of the removed records.
    pub deleted: Vec<String>,
    /// Bytes that became reclaimable.
    pub reclaimed_bytes: u64,
}

impl Builder {
    /// Opens the cache and removes what a crash left.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where directory or database cannot be used.
    pub fn open(options: BuilderOptions) -> Result<Self, BuildError> {
        Ok(Self { _options: options })
    }

    /// Builds an image: blocks until it is written and tagged, or failed. `events` is called on this
    /// thread. An error before the first event is the request's own (a bad Dockerfile, a bad context) and
    /// is best told as the reply's status; later ones belong at the end of the stream.
    ///
    /// # Errors
    /// [`BuildError`]. What earlier steps made stays in the cache.
    pub fn build(
        &self,
        request: BuildRequest,
        events: &mut dyn FnMut(BuildEvent),
        cancel: &Cancel,
    ) -> Result<BuiltImage, BuildError> {
        let _ = (request, events, cancel);
        unimplemented!()
    }

    /// Forgets the cache: `POST /build/prune`. Layers that no image needs become garbage of the store.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database fails.
    pub fn prune(&self) -> Result<PruneReport, BuildError> {
        unimplemented!()
    }
}
