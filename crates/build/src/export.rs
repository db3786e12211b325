//! Export: the image configuration after a step, and at the end, from nothing but what the build decided:
//! no clock, no host name, no random id.

use std::sync::Arc;

use aws_lc_rs::digest;
use gantry_model::Digest;
use gantry_model::image::{History, ImageConfig, RootFs};

use crate::dockerfile::lower::StageState;
use crate::error::BuildError;
use crate::solver::LayerRef;

/// A stage's result so far: what its base had, and a history entry for each step.
#[derive(Debug, Clone, Default)]
pub struct ImageState {
    /// The layers, lowest first.
    pub layers: Arc<[LayerRef]>,
    /// The history, oldest first.
    pub history: Vec<History>,
    /// The image that this still is, as long as no step was made.
    pub unchanged: Option<Digest>,
}

/// An image configuration, written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest: the image's id.
    pub id: Digest,
}

impl ImageState {
    /// Adds a step.
    pub fn step(&mut self, stage: &StageState, created_by: String, layers: Arc<[LayerRef]>) {
        self.history.push(History {
            created: Some(stage.epoch.rfc3339_nano()),
            created_by,
            author: stage.config.author.clone(),
            comment: String::new(),
            empty_layer: layers.len() == self.layers.len(),
        });
        self.layers = layers;
        self.unchanged = None;
    }

    /// Whether an image came about by these steps, and maybe others after them.
    #[must_use]
    pub fn began(&self, image: &ImageConfig) -> bool {
        let layers = &image.rootfs.diff_ids;
        let same_layers = layers.len() >= self.layers.len()
            && layers.iter().zip(self.layers.iter()).all(|(have, layer)| *have == layer.diff_id);
        let same_steps = image.history.len() >= self.history.len()
            && image.history.iter().zip(&self.history).all(|(have, step)| have.created_by == step.created_by);
        same_layers && same_steps
    }

    /// Writes the configuration as it would be if the Dockerfile ended here.
    ///
    /// # Errors
    /// [`BuildError::Internal`]: never, as far as is known.
    pub fn write(&self, stage: &StageState) -> Result<Written, BuildError> {
        let config = ImageConfig {
            created: Some(stage.epoch.rfc3339_nano()),
            comment: String::new(),
            rootfs: RootFs {
                diff_ids: self.layers.iter().map(|layer| layer.diff_id).collect(),
                ..RootFs::default()
            },
            history: self.history.clone(),
            ..stage.config.clone()
        };
        let bytes = serde_json::to_vec(&config)
            .map_err(|error| BuildError::internal("writing the image's configuration failed", error))?;
        let id = sha256(&bytes);
        Ok(Written { bytes, id })
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest::from_sha256(hash)
}
