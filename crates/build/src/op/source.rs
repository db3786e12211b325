//! Sources: images of the store, and the context.

use gantry_model::Digest;

use super::StoreWorker;
use crate::error::BuildError;
use crate::graph::SourceOp;
use crate::solver::{LayerRef, Value};

impl StoreWorker<'_> {
    pub(super) fn source(&self, op: &SourceOp) -> Result<Value, BuildError> {
        if op.identifier == "local://context" {
            return Ok(Value::Context);
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
