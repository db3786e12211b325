//! Sources: images of the store, the context, and files from elsewhere.

use std::path::PathBuf;

use gantry_model::Digest;

use super::StoreWorker;
use crate::context::{Context, ContextLimits};
use crate::error::BuildError;
use crate::event::BuildEvent;
use crate::fetch::{self, Fetcher};
use crate::graph::SourceOp;
use crate::solver::{LayerRef, Value};

/// What a fetched file is called whose address has no name for it.
pub(super) const NAMELESS: &str = "\u{1}";

/// What a build fetches.
pub struct Remotes<'a> {
    /// How.
    pub fetcher: &'a dyn Fetcher,
    /// Where to: directories of this name and a number.
    pub directory: PathBuf,
    /// How much.
    pub limits: &'a ContextLimits,
    /// What is here: directories of one file each.
    pub fetched: Vec<Context>,
}

impl Remotes<'_> {
    /// Fetches a file.
    fn fetch(&mut self, address: &str) -> Result<(Value, u64), BuildError> {
        let refused = |why: &dyn std::fmt::Display| BuildError::Invalid(format!("ADD failed: {why}"));
        let fetched = self.fetcher.fetch(address).map_err(|error| refused(&error))?;
        let name = fetch::file_name(address);
        let name = if name.is_empty() { NAMELESS.to_owned() } else { name };
        let number = self.fetched.len();
        let mut directory = self.directory.clone().into_os_string();
        directory.push(format!("-{number}"));
        let (context, size_bytes) = Context::of_file(fetched.body, directory.into(), &name, self.limits)
            .map_err(|error| match error {
                BuildError::Invalid(why) => refused(&why),
                error => error,
            })?;
        self.fetched.push(context);
        Ok((Value::Fetched(number), size_bytes))
    }
}

impl StoreWorker<'_> {
    pub(super) fn source(
        &mut self,
        op: &SourceOp,
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Value, BuildError> {
        if op.identifier == "local://context" {
            return Ok(Value::Context);
        }
        if fetch::is_address(&op.identifier) {
            let (value, size_bytes) = self.remotes.fetch(&op.identifier)?;
            events(BuildEvent::Fetched { size_bytes });
            return Ok(value);
        }
        let unknown = || BuildError::Unsupported(format!("the source {} is not supported", op.identifier));
        let id = op.identifier.strip_prefix("docker-image://").ok_or_else(unknown)?;
        let id: Digest = id.parse().map_err(|_| unknown())?;
        let image = self
            .store
            .images()
            .get(&id)
            .map_err(|error| BuildError::internal(format!("reading the image {id} failed"), error))?;
        let diff_ids = image.config.rootfs.diff_ids.iter();
        let layers =
            image.layers.iter().zip(diff_ids).map(|(id, diff_id)| LayerRef { id: *id, diff_id: *diff_id });
        Ok(Value::Tree(layers.collect()))
    }
}
