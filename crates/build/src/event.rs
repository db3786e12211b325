//! What happens in a build, as it happens. Renderers and, later, BuildKit's status stream read this.

use gantry_model::{Digest, Reference};

/// A vertex of this build's graph: its number, in the order of lowering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexNumber(pub u32);

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output of a step.
    Stdout,
    /// Standard error of a step.
    Stderr,
}

/// How a step came to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The work was done.
    Done,
    /// The cache had it.
    Cached,
    /// Only the image's configuration was changed, or a directory made, and no build had done that before.
    Metadata,
    /// It is the base of what follows: `FROM`.
    Base,
}

/// One thing that happened. Steps are the instructions of the Dockerfile in order; vertices are the
/// operations behind those that touch files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// An instruction begins.
    StepStarted {
        /// From 1.
        number: u32,
        /// How many there are.
        total: u32,
        /// The instruction as the classic builder shows it: `FROM busybox`.
        text: String,
    },
    /// An `ONBUILD` trigger of the base image begins, or how many there are is told.
    Note(String),
    /// A vertex begins to be worked on (never sent for a cached one).
    VertexStarted {
        /// Which.
        vertex: VertexNumber,
        /// What it does, in one line.
        name: String,
    },
    /// A file of `ADD` was fetched.
    Fetched {
        /// Its size.
        size_bytes: u64,
    },
    /// A `RUN` step's container exists and starts.
    Running {
        /// Which vertex.
        vertex: VertexNumber,
        /// The container's id, 64 digits.
        container: String,
    },
    /// Output of a step, in the chunks in which it came.
    Log {
        /// Which vertex.
        vertex: VertexNumber,
        /// Which stream.
        stream: LogStream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A `RUN` step's container is gone.
    Removed {
        /// Which vertex.
        vertex: VertexNumber,
        /// The container's id, 64 digits.
        container: String,
    },
    /// A vertex has its result.
    VertexFinished {
        /// Which.
        vertex: VertexNumber,
        /// Whether the cache had it.
        outcome: Outcome,
    },
    /// An `ONBUILD` trigger of the base image is done, and not the last.
    TriggerFinished {
        /// How.
        outcome: Outcome,
        /// As in [`Self::StepFinished`].
        image: Option<Digest>,
    },
    /// An instruction is done.
    StepFinished {
        /// How.
        outcome: Outcome,
        /// The digest of the image configuration as it would be if the Dockerfile ended here; `None` where
        /// there is nothing yet, after `FROM scratch`.
        image: Option<Digest>,
    },
    /// A stage ended, and another follows.
    StageFinished {
        /// As of a step.
        image: Digest,
    },
    /// Something that the user should know.
    Warning(String),
    /// The image is written.
    Built {
        /// Its id.
        image: Digest,
    },
    /// The image has a name.
    Tagged {
        /// The name.
        reference: Reference,
    },
}
