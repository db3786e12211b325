//! The work of operations, in the store's snapshots: [`source`], [`file`], [`exec`].
//!
//! Nothing is mounted in the host's namespace: trees are reached through descriptors ([`tree`]), and what
//! `RUN` sees is mounted in the step's own namespace.

mod copy;
mod entry;
mod exec;
mod file;
mod owner;
mod select;
mod source;
pub mod tree;

use std::sync::Arc;

use gantry_model::{LayerId, SnapshotId, Timestamp};
use gantry_store::snapshot::{After, CommitOptions};
use gantry_store::{Layer, Lease, Store};

use crate::cancel::Cancel;
use crate::context::Context;
use crate::error::BuildError;
use crate::event::{BuildEvent, VertexNumber};
use crate::executor::Executor;
use crate::graph::{Op, Vertex};
use crate::request::RunOptions;
use crate::solver::{Content, LayerRef, Made, Value, Worker};
pub use source::Remotes;

/// Docker's limit of layers, and overlay's.
const MAX_LAYERS: usize = 127;

/// Does the work of one build in a store.
pub struct StoreWorker<'a> {
    /// Where everything is.
    pub store: &'a Store,
    /// Holds what the build makes and uses: that of the cache, which outlives the build.
    pub lease: &'a Lease,
    /// The files that the client sent.
    pub context: &'a Context,
    /// What comes from elsewhere.
    pub remotes: Remotes<'a>,
    /// Runs processes.
    pub executor: &'a dyn Executor,
    /// How processes are run.
    pub run: &'a RunOptions,
    /// Withdraws the build.
    pub cancel: &'a Cancel,
    /// Names the build's snapshots, unique on this store: `build-<random>`.
    pub name: String,
}

impl Worker for StoreWorker<'_> {
    fn content(&mut self, op: &Op, inputs: &[Value]) -> Result<Option<Content>, BuildError> {
        match op {
            Op::File(op) => self.file_content(op, inputs),
            _ => Ok(None),
        }
    }

    fn run(
        &mut self,
        number: VertexNumber,
        vertex: &Vertex,
        inputs: &[Value],
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Made, BuildError> {
        let output = match &vertex.op {
            Op::Source(op) => self.source(op, events)?,
            Op::File(op) => self.file(number, op, inputs)?,
            Op::Exec(op) => self.exec(number, op, inputs, events)?,
            Op::Merge(_) | Op::Diff(_) | Op::Build(_) => {
                return Err(BuildError::Unsupported(format!(
                    "the operation {:?} is not supported yet",
                    vertex.name
                )));
            }
        };
        Ok(Made { outputs: vec![output] })
    }

    fn revive(&mut self, layers: &[LayerRef]) -> Result<bool, BuildError> {
        for layer in layers {
            match self.store.layers().get(layer.id) {
                Ok(found) if found.diff_id == layer.diff_id => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == gantry_model::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(store_failed("looking a cached layer up failed")(error)),
            }
        }
        Ok(true)
    }
}

impl StoreWorker<'_> {
    /// A snapshot for one vertex, over the layers of its first input.
    fn prepare(&self, number: VertexNumber, layers: &[LayerRef]) -> Result<Workspace<'_>, BuildError> {
        if layers.len() >= MAX_LAYERS {
            return Err(BuildError::Invalid("max depth exceeded".into()));
        }
        let id: SnapshotId = format!("{}-{}", self.name, number.0)
            .parse()
            .map_err(|error| BuildError::internal("naming a snapshot failed", error))?;
        let ids: Vec<LayerId> = layers.iter().map(|layer| layer.id).collect();
        self.store
            .snapshots()
            .prepare(&id, &ids)
            .map_err(store_failed("preparing a step's snapshot failed"))?;
        Ok(Workspace { store: self.store, id: Some(id) })
    }

    /// Makes a layer of what a workspace holds, and puts it on top; nothing, where it holds nothing.
    fn commit(
        &self,
        mut workspace: Workspace<'_>,
        layers: &[LayerRef],
        epoch_secs: i64,
        stubs: &[&str],
    ) -> Result<Value, BuildError> {
        let options = CommitOptions {
            epoch: Some(Timestamp::from_secs(epoch_secs)),
            stubs: stubs.iter().map(std::path::PathBuf::from).collect(),
            after: After::Consumed,
        };
        let snapshots = self.store.snapshots();
        let committed = snapshots.commit(workspace.id(), &options, self.lease);
        let layer: Layer = committed.map_err(store_failed("making a layer of a step failed"))?;
        workspace.id = None;
        if layer.entries == 0 {
            // As in Docker, a step that changed nothing adds no layer.
            let _ = self.lease.release_layer(layer.id);
            return Ok(Value::Tree(layers.into()));
        }
        let top = LayerRef { id: layer.id, diff_id: layer.diff_id };
        Ok(Value::Tree(layers.iter().copied().chain([top]).collect::<Arc<[LayerRef]>>()))
    }
}

/// A snapshot that goes away unless it was committed.
struct Workspace<'a> {
    store: &'a Store,
    id: Option<SnapshotId>,
}

impl Workspace<'_> {
    fn id(&self) -> &SnapshotId {
        self.id.as_ref().expect("only a commit takes it, and consumes the workspace")
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id
            && let Err(error) = self.store.snapshots().remove(id)
        {
            tracing::warn!(%id, %error, "a step's snapshot could not be removed");
        }
    }
}

/// Wraps the store's failures; a full disk and the like keep their text through the chain.
fn store_failed(what: &'static str) -> impl Fn(gantry_store::Error) -> BuildError {
    move |error| BuildError::internal(what, error)
}
