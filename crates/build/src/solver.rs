//! The solver: it walks a graph towards an edge and asks the cache before any work.
//!
//! # Keys
//! Every vertex whose inputs are trees has a *definition key*: the operation and, for each input, the
//! identity of its tree (its DiffIDs). So two different ways to equal trees share everything above them.
//! A vertex that reads files of an input (`COPY`) has a *content key* too: the operation and what the files
//! that it selects look like, whatever else the input holds. A result is recorded under all its keys; any of
//! them finds it. Times of context files are in no key, because they are in no result.
//!
//! One vertex is worked on at a time; [`Solver::solve`] may be called for several edges of one graph, and
//! remembers what it solved.

pub mod cache;
pub mod key;

use std::collections::HashMap;
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::{Digest, LayerId};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::BuildError;
use crate::event::{BuildEvent, Outcome, VertexNumber};
use crate::graph::{Edge, Graph, Op, Vertex};
use cache::{Cache, Link, Record};
use key::{Key, KeyMaker};

/// A layer of a tree: where it is, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The store's name for it.
    pub id: LayerId,
    /// The digest of its plain tar.
    pub diff_id: Digest,
}

/// What an output of a vertex is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A file system: its layers, lowest first; none is empty.
    Tree(Arc<[LayerRef]>),
    /// The build context, which has no identity of its own.
    Context,
    /// A file that was fetched, by its number in this build; it has no identity of its own either.
    Fetched(usize),
}

impl Value {
    /// The tree's layers; none for what is no tree.
    #[must_use]
    pub fn layers(&self) -> &[LayerRef] {
        match self {
            Self::Tree(layers) => layers,
            Self::Context | Self::Fetched(_) => &[],
        }
    }

    /// What tells this value from others, if anything does.
    fn identity(&self) -> Option<Key> {
        let Self::Tree(layers) = self else { return None };
        let mut maker = KeyMaker::new("tree");
        for layer in layers.iter() {
            maker.field(layer.diff_id.as_bytes());
        }
        Some(maker.finish())
    }
}

/// What the files that an operation selects look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The inputs that count only by this; the others count as a whole.
    pub reads: Vec<usize>,
    /// Their key.
    pub key: Key,
    /// How the history names them: `file:<hex>`.
    pub note: String,
}

/// What working on a vertex made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its outputs.
    pub outputs: Vec<Value>,
}

/// Does the work of vertices.
pub trait Worker {
    /// Looks at the files that an operation selects from its inputs; `None` where the operation reads none.
    ///
    /// # Errors
    /// [`BuildError`], such as of a file that is not there.
    fn content(&mut self, op: &Op, inputs: &[Value]) -> Result<Option<Content>, BuildError>;

    /// Does the work.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left then.
    fn run(
        &mut self,
        number: VertexNumber,
        vertex: &Vertex,
        inputs: &[Value],
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Made, BuildError>;

    /// Says whether the layers of a cached result are all there still, and keeps them from now on.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the store fails.
    fn revive(&mut self, layers: &[LayerRef]) -> Result<bool, BuildError>;
}

/// A vertex's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// Its outputs.
    pub outputs: Vec<Value>,
    /// How it came about.
    pub outcome: Outcome,
    /// How the history names what was copied; empty where nothing was.
    pub note: String,
}

/// Whether the cache is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse<'a> {
    /// Asked first, told after.
    ReadAndWrite,
    /// The same, but only trees that lie in one of these images are taken: the DiffIDs of each, lowest first.
    Within(&'a [Vec<Digest>]),
    /// Only told.
    WriteOnly,
}

impl CacheUse<'_> {
    /// Whether a tree of these layers may come from the cache.
    fn takes(self, layers: &[LayerRef]) -> bool {
        let lies_in = |image: &Vec<Digest>| {
            image.len() >= layers.len()
                && image.iter().zip(layers).all(|(have, layer)| *have == layer.diff_id)
        };
        match self {
            Self::ReadAndWrite => true,
            Self::Within(images) => images.iter().any(lies_in),
            Self::WriteOnly => false,
        }
    }
}

/// Solves the vertices of one graph.
pub struct Solver<'a> {
    cache: &'a mut dyn Cache,
    worker: &'a mut dyn Worker,
    cache_use: CacheUse<'a>,
    cancel: &'a Cancel,
    solved: HashMap<VertexNumber, Solved>,
    hits: Vec<i64>,
}

impl<'a> Solver<'a> {
    /// Begins with nothing solved.
    pub fn new(
        cache: &'a mut dyn Cache,
        worker: &'a mut dyn Worker,
        cache_use: CacheUse<'a>,
        cancel: &'a Cancel,
    ) -> Self {
        Self { cache, worker, cache_use, cancel, solved: HashMap::new(), hits: Vec::new() }
    }

    /// The numbers of the cached results that served so far.
    #[must_use]
    pub fn hits(&self) -> &[i64] {
        &self.hits
    }

    /// Solves a vertex, after those that it needs.
    ///
    /// # Errors
    /// [`BuildError`] of the first vertex that failed; those solved before stay solved and cached.
    pub fn solve(
        &mut self,
        graph: &Graph,
        edge: Edge,
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Solved, BuildError> {
        let mut open = vec![edge.vertex];
        while let Some(number) = open.last().copied() {
            let vertex = graph.vertex(number);
            let before = open.len();
            if !self.solved.contains_key(&number) {
                let missing = vertex.inputs.iter().map(|input| input.vertex);
                open.extend(missing.filter(|input| !self.solved.contains_key(input)));
            }
            if open.len() > before {
                continue;
            }
            open.pop();
            if !self.solved.contains_key(&number) {
                let solved = self.work(number, vertex, events)?;
                self.solved.insert(number, solved);
            }
        }
        Ok(self.solved[&edge.vertex].clone())
    }

    /// Says whether an image's configuration came about in an earlier build, and remembers that it has now: the
    /// cache of steps that have no vertex.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the cache fails.
    pub fn knows(&mut self, image: &Digest) -> Result<bool, BuildError> {
        let mut maker = KeyMaker::new("image");
        maker.field(image.as_bytes());
        let record = Record::new(maker.finish(), Vec::new());
        if self.cache_use != CacheUse::WriteOnly
            && let Some(found) = self.cache.find(&record.key)?
        {
            self.hits.push(found.id);
            return Ok(true);
        }
        self.cache.record(&[record], &cache::Stored::default())?;
        Ok(false)
    }

    fn work(
        &mut self,
        number: VertexNumber,
        vertex: &Vertex,
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Solved, BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let inputs: Vec<Value> =
            vertex.inputs.iter().map(|edge| self.solved[&edge.vertex].outputs[edge.output].clone()).collect();
        if let Op::Source(_) = vertex.op {
            let made = self.worker.run(number, vertex, &inputs, events)?;
            return Ok(Solved { outputs: made.outputs, outcome: Outcome::Done, note: String::new() });
        }
        let operation = key::operation(&vertex.op);
        let identities: Vec<Option<Key>> = inputs.iter().map(Value::identity).collect();
        let mut keys = Vec::new();
        if let Some(identities) = identities.iter().copied().collect::<Option<Vec<Key>>>() {
            let links =
                (0..).zip(identities).map(|(input, key)| Link { input, selector: None, key }).collect();
            keys.push(Record::new(operation, links));
            if let Some(solved) = self.ask(&keys[0], number, events)? {
                return Ok(solved);
            }
        }
        let content = self.worker.content(&vertex.op, &inputs)?;
        if let Some(content) = &content
            && !content.reads.is_empty()
            && let Some(links) = content_links(content, &identities)
        {
            let record = Record::new(operation, links);
            if let Some(solved) = self.ask(&record, number, events)? {
                return Ok(solved);
            }
            keys.push(record);
        }
        events(BuildEvent::VertexStarted { vertex: number, name: vertex.name.clone() });
        let made = self.worker.run(number, vertex, &inputs, events)?;
        let note = content.map(|content| content.note).unwrap_or_default();
        reached(Point::BuildCommitted);
        let outputs: Vec<&[LayerRef]> = made.outputs.iter().map(Value::layers).collect();
        self.cache.record(
            &keys,
            &cache::Stored {
                outputs: outputs.iter().map(|o| o.to_vec()).collect(),
                note: note.clone(),
                name: vertex.name.clone(),
            },
        )?;
        reached(Point::BuildCached);
        events(BuildEvent::VertexFinished { vertex: number, outcome: Outcome::Done });
        Ok(Solved { outputs: made.outputs, outcome: Outcome::Done, note })
    }

    /// Asks the cache for one key.
    fn ask(
        &mut self,
        record: &Record,
        number: VertexNumber,
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Option<Solved>, BuildError> {
        if self.cache_use == CacheUse::WriteOnly {
            return Ok(None);
        }
        let Some(found) = self.cache.find(&record.key)? else { return Ok(None) };
        if !found.stored.outputs.iter().all(|layers| self.cache_use.takes(layers)) {
            return Ok(None);
        }
        for layers in &found.stored.outputs {
            if !self.worker.revive(layers)? {
                self.cache.forget(found.id)?;
                return Ok(None);
            }
        }
        self.hits.push(found.id);
        events(BuildEvent::VertexFinished { vertex: number, outcome: Outcome::Cached });
        let outputs = found.stored.outputs.into_iter().map(|layers| Value::Tree(layers.into())).collect();
        Ok(Some(Solved { outputs, outcome: Outcome::Cached, note: found.stored.note }))
    }
}

/// The links of a content key: what was selected of the input that is read, the others as a whole.
fn content_links(content: &Content, identities: &[Option<Key>]) -> Option<Vec<Link>> {
    (0..)
        .zip(identities.iter().enumerate())
        .map(|(input, (index, identity))| {
            if content.reads.contains(&index) {
                return Some(Link { input, selector: Some(content.note.clone()), key: content.key });
            }
            identity.map(|key| Link { input, selector: None, key })
        })
        .collect()
}

#[cfg(test)]
mod tests;
