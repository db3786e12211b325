//! The build graph: operations and what they take from each other, one to one with BuildKit's LLB, so that
//! graphs from buildx can be served later.
//!
//! A [`Vertex`] is an [`Op`] with its inputs; an [`Edge`] names one output of a vertex. The graph has no
//! image configuration: that is metadata of the result, kept by whoever lowers. An operation's
//! definition (everything in [`Op`], nothing beside it) is serialized into its cache key, so whatever
//! may change its result stands in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::VertexNumber;

/// One output of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexNumber,
    /// Which of its outputs, from 0.
    pub output: usize,
}

/// An operation with its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What is done.
    pub op: Op,
    /// With what, in the order in which the operation counts them.
    pub inputs: Vec<Edge>,
    /// One line for people.
    pub name: String,
}

/// Vertices in an order in which inputs come first.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
}

impl Graph {
    /// Adds a vertex, whose inputs must be in the graph already.
    ///
    /// # Panics
    /// Never on what a Dockerfile says: the parser bounds the number of instructions.
    pub fn add(&mut self, vertex: Vertex) -> VertexNumber {
        let number = VertexNumber(u32::try_from(self.vertices.len()).expect("instructions are bounded"));
        debug_assert!(vertex.inputs.iter().all(|edge| edge.vertex < number));
        self.vertices.push(vertex);
        number
    }

    /// A vertex of this graph.
    ///
    /// # Panics
    /// Where the number is another graph's.
    #[must_use]
    pub fn vertex(&self, number: VertexNumber) -> &Vertex {
        &self.vertices[number.0 as usize]
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Something from outside: no inputs.
    Source(SourceOp),
    /// A process is run.
    Exec(ExecOp),
    /// Files are copied, made, removed.
    File(FileOp),
    /// Trees are laid over each other, lowest first.
    Merge(MergeOp),
    /// What the second input has beyond the first.
    Diff(DiffOp),
    /// Another graph, which an input holds.
    Build(BuildOp),
}

/// Something from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceOp {
    /// `docker-image://<id>`, `local://context`, or the address of a file (`http://…`).
    pub identifier: String,
    /// Further attributes.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

/// A process is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOp {
    /// What is run.
    pub meta: Meta,
    /// Where inputs stand in its file system; the first is the root.
    pub mounts: Vec<Mount>,
    /// `default`, `host`, `none`, or a name.
    pub network: String,
    /// The limits under which it runs, as they may change what it does.
    pub limits: String,
    /// The latest time of any file it writes, in whole seconds since 1970.
    pub epoch_secs: i64,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// `user[:group]`.
    pub user: String,
    /// `name:address` lines of `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Variables that the process sees and the key does not: proxies, which must not change results.
    #[serde(skip)]
    pub proxy_env: Vec<String>,
}

/// Where an input stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Which input; `None` is empty.
    pub input: Option<usize>,
    /// The path in the input.
    pub selector: String,
    /// The path in the process's root.
    pub dest: String,
    /// Which output its changes become; `None` throws them away.
    pub output: Option<usize>,
    /// Whether the process cannot write.
    pub read_only: bool,
    /// What it is.
    pub kind: MountKind,
}

/// What a mount is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// The input itself.
    Bind,
    /// A directory that outlives the build.
    Cache {
        /// Which.
        id: String,
    },
    /// Memory.
    Tmpfs,
}

/// Files are copied and made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOp {
    /// What, in order; each works on the result of the one before, the first on input 0.
    pub actions: Vec<FileAction>,
    /// The time of new files in whole seconds since 1970, and the latest time of any.
    pub epoch_secs: i64,
}

/// One change of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    /// Copies from an input.
    Copy(CopyAction),
    /// Makes a file.
    Mkfile {
        /// Its absolute path; one that ends in `/` is the directory, and `name` the file.
        path: String,
        /// Its name where the path is a directory.
        name: String,
        /// Its bytes.
        data: String,
        /// Its mode.
        mode: u32,
        /// Its owner as written; empty is 0:0.
        owner: String,
    },
    /// Makes a directory and those above it where there are none.
    Mkdir {
        /// Its absolute path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Removes a path.
    Rm {
        /// It.
        path: String,
    },
}

/// Copies from an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyAction {
    /// Which input.
    pub from: usize,
    /// Paths or patterns in it, relative to its root.
    pub sources: Vec<String>,
    /// The absolute path; a final `/` says that it is a directory.
    pub dest: String,
    /// `user[:group]` as written; empty is 0:0, or as in the source where `keep` is set.
    pub owner: String,
    /// The mode of everything copied; `None` keeps it.
    pub mode: Option<u32>,
    /// Whether owner and times are kept: copies between stages.
    pub keep: bool,
    /// Whether the input is the build context, for messages.
    pub from_context: bool,
    /// Whether local archives are unpacked.
    pub unpack: bool,
    /// `COPY` or `ADD`, for messages.
    pub verb: String,
    /// Where a file was fetched from, for messages; empty for all others.
    #[serde(skip)]
    pub address: String,
}

/// Trees are laid over each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeOp {
    /// Which inputs, lowest first.
    pub inputs: Vec<usize>,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffOp {
    /// The lower input; `None` is empty.
    pub lower: Option<usize>,
    /// The upper input; `None` is empty.
    pub upper: Option<usize>,
}

/// Another graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOp {
    /// Which input holds it.
    pub builder: usize,
    /// Its attributes.
    pub attrs: BTreeMap<String, String>,
}
