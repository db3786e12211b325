//! Instructions to graph and image configuration.
//!
//! Lowering goes step by step, as the classic builder reports errors at the step that has them: the caller
//! announces a step, lowers it, solves the edge that it got, and goes on. Everything here is pure but
//! for the [`MetaResolver`], which says what a base image is. [`run`] and [`files`] lower the
//! instructions that make vertices, [`config`] those that do not.

mod config;
mod files;
mod run;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::image::{ImageConfig, RunConfig};
use gantry_model::{Digest, Platform, Timestamp};

use super::instruction::{Instruction, Stage, Statement};
use super::parse::{Dockerfile, parse_statement};
use super::words::Expander;
use crate::error::BuildError;
use crate::graph::{Edge, Graph, Op, SourceOp, Vertex};
use crate::request::BuildOptions;
use variables::Arguments;

pub(crate) use files::needs_directory;

/// The search path of a process whose image sets none: Docker's.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Says what a base image is.
pub trait MetaResolver {
    /// Finds an image by what the Dockerfile says; `None` is any platform, the host's before others.
    ///
    /// # Errors
    /// [`BuildError::NotFound`] with Docker's text, also where the image is not there for the platform.
    fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<BaseImage, BuildError>;
}

/// A base image.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Its id.
    pub id: Digest,
    /// Its configuration.
    pub config: ImageConfig,
}

/// One step to announce and to lower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is announced: the instruction as written.
    pub text: String,
    kind: StepKind,
}

impl Step {
    /// Whether a stage that is not the first begins here.
    #[must_use]
    pub fn begins_another_stage(&self) -> bool {
        matches!(self.kind, StepKind::From(1..))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum StepKind {
    MetaArg(usize),
    From(usize),
    Statement { stage: usize, index: usize },
    Label { key: String, value: String },
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The file system after the step, if the step may have changed it.
    pub solve: Option<Edge>,
    /// What the history says of it; `None` where it is no step of the image (`FROM`, `ARG` before it).
    pub created_by: Option<CreatedBy>,
    /// Instructions of the base image to lower next, with [`Lowering::trigger`], as the image has them.
    pub triggers: Vec<String>,
    /// What the user should know of the step.
    pub note: Option<String>,
    /// Whether this was `FROM`: the image's state begins anew.
    pub begins_stage: bool,
}

impl Lowered {
    fn metadata(created_by: String) -> Self {
        Self { solve: None, created_by: Some(CreatedBy::Text(created_by)), ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self { solve: None, created_by: None, triggers: Vec::new(), note: None, begins_stage: false }
    }
}

/// The history's text of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatedBy {
    /// Known.
    Text(String),
    /// Known but for what was copied (`file:<hex>`), which solving says.
    Copied {
        /// Before it.
        before: String,
        /// After it.
        after: String,
    },
}

/// Where a stage begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image.
    Image(Digest),
    /// An earlier stage, by number.
    Stage(usize),
}

/// A stage as far as it is lowered.
#[derive(Debug, Clone)]
pub struct StageState {
    /// Its name, or empty.
    pub name: String,
    /// What it began with.
    pub base: Base,
    /// The image configuration but for layers and history, which the result has.
    pub config: ImageConfig,
    /// The time of everything in it.
    pub epoch: Timestamp,
    /// Its file system; `None` is empty.
    pub tree: Option<Edge>,
    /// The `ARG`s declared in it.
    args: BTreeMap<String, Option<String>>,
    /// Whether `CMD` was set in this stage: then `ENTRYPOINT` leaves it alone.
    cmd_set: bool,
}

impl StageState {
    fn run_config(&mut self) -> &mut RunConfig {
        &mut self.config.config
    }

    /// The shell of shell-form instructions.
    fn shell(&self) -> Vec<String> {
        match self.config.config.shell.as_slice() {
            [] => vec!["/bin/sh".into(), "-c".into()],
            shell => shell.to_vec(),
        }
    }

    /// The history's text of an instruction that runs nothing.
    fn nop(&self, text: &str) -> String {
        format!("{} #(nop) {text}", self.shell().join(" "))
    }
}

/// A Dockerfile being lowered.
pub struct Lowering<'a> {
    file: &'a Dockerfile,
    options: &'a BuildOptions,
    resolver: &'a dyn MetaResolver,
    last_stage: usize,
    graph: Graph,
    stages: Vec<StageState>,
    arguments: Arguments<'a>,
    context: Option<Edge>,
    images: BTreeMap<Digest, Edge>,
}

impl<'a> Lowering<'a> {
    /// Begins.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] where the target is no stage or `SOURCE_DATE_EPOCH` no number,
    /// [`BuildError::Unsupported`] for another system than Linux.
    pub fn new(
        file: &'a Dockerfile,
        options: &'a BuildOptions,
        resolver: &'a dyn MetaResolver,
    ) -> Result<Self, BuildError> {
        options.platform.as_ref().map_or(Ok(()), check_system)?;
        let last_stage = find_target(&file.stages, &options.target)?;
        let arguments = Arguments::new(&options.args, options.platform.as_ref());
        arguments.epoch()?;
        Ok(Self {
            file,
            options,
            resolver,
            last_stage,
            graph: Graph::default(),
            stages: Vec::new(),
            arguments,
            context: None,
            images: BTreeMap::new(),
        })
    }

    /// The steps, in order. Triggers of base images come on top.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let meta =
            self.file.meta_args.iter().enumerate().map(|(index, statement)| Step {
                text: statement.text.clone(),
                kind: StepKind::MetaArg(index),
            });
        let stages = self.file.stages[..=self.last_stage].iter().enumerate().flat_map(|(stage, from)| {
            let statements = from.statements.iter().enumerate().map(move |(index, statement)| Step {
                text: statement.text.clone(),
                kind: StepKind::Statement { stage, index },
            });
            std::iter::once(Step { text: from.text.clone(), kind: StepKind::From(stage) }).chain(statements)
        });
        let labels = self.options.labels.iter().map(|(key, value)| Step {
            text: format!("LABEL {key}={value}"),
            kind: StepKind::Label { key: key.clone(), value: value.clone() },
        });
        meta.chain(stages).chain(labels).collect()
    }

    /// Lowers the next step.
    ///
    /// # Errors
    /// [`BuildError`] with the classic builder's text.
    pub fn step(&mut self, step: &Step) -> Result<Lowered, BuildError> {
        let file = self.file;
        match &step.kind {
            StepKind::MetaArg(index) => {
                if let Instruction::Arg(args) = &file.meta_args[*index].instruction {
                    self.arguments.declare_meta(args, file.escape).map_err(BuildError::Invalid)?;
                }
                Ok(Lowered::nothing())
            }
            StepKind::From(stage) => self.from(&file.stages[*stage]),
            StepKind::Statement { stage, index } => self.statement(&file.stages[*stage].statements[*index]),
            StepKind::Label { key, value } => {
                let stage = self.current();
                stage.run_config().labels.insert(key.clone(), value.clone());
                let text = stage.nop(&format!(" LABEL {key}={value}"));
                Ok(Lowered::metadata(text))
            }
        }
    }

    /// Refuses a step that Docker refuses before it announces it: a stage's name that was used.
    ///
    /// # Errors
    /// [`BuildError::Invalid`].
    pub fn check(&self, step: &Step) -> Result<(), BuildError> {
        let StepKind::From(stage) = &step.kind else { return Ok(()) };
        let name = &self.file.stages[*stage].name;
        if !name.is_empty() && self.stages.iter().any(|stage| stage.name == *name) {
            return Err(BuildError::Invalid(format!("{name} stage name already used")));
        }
        Ok(())
    }

    /// Reads and lowers an instruction of the base image.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn trigger(&mut self, text: &str) -> Result<Lowered, BuildError> {
        let statement =
            parse_statement(text, '\\').map_err(|error| BuildError::Invalid(error.to_string()))?;
        self.statement(&statement)
    }

    /// The graph so far.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The stage being lowered; `None` before the first `FROM`.
    #[must_use]
    pub fn stage(&self) -> Option<&StageState> {
        self.stages.last()
    }

    /// The stages so far.
    #[must_use]
    pub fn stages(&self) -> &[StageState] {
        &self.stages
    }

    /// The build arguments that no `ARG` took, sorted.
    #[must_use]
    pub fn unconsumed_args(&self) -> BTreeSet<&str> {
        self.arguments.unconsumed()
    }

    fn current(&mut self) -> &mut StageState {
        self.stages.last_mut().expect("the parser refuses instructions before FROM")
    }

    fn from(&mut self, from: &Stage) -> Result<Lowered, BuildError> {
        let expand = |text: &str| {
            let lookup = |name: &str| self.arguments.meta(name);
            Expander { escape: self.file.escape, lookup: &lookup }.word(text).map_err(BuildError::Invalid)
        };
        let (base, platform) = (expand(&from.base)?, expand(&from.platform)?);
        if base.is_empty() {
            return Err(BuildError::Invalid(format!("base name ({}) should not be blank", from.base)));
        }
        let platform = match platform.as_str() {
            "" => self.options.platform.clone(),
            text => Some(platform_of(text)?),
        };
        let mut state = self.base(&base, platform.as_ref())?;
        state.name.clone_from(&from.name);
        state.epoch = match self.arguments.epoch()? {
            Some(epoch) => epoch,
            None => base_epoch(&state.config),
        };
        let config = state.run_config();
        if !config.env.iter().any(|variable| variable.starts_with("PATH=")) {
            config.env.push(DEFAULT_PATH.into());
        }
        let triggers = std::mem::take(&mut config.on_build);
        let solve = state.tree;
        self.stages.push(state);
        Ok(Lowered { solve, triggers, begins_stage: true, ..Lowered::nothing() })
    }

    fn base(&mut self, name: &str, platform: Option<&Platform>) -> Result<StageState, BuildError> {
        let earlier = self
            .stages
            .iter()
            .position(|stage| !stage.name.is_empty() && stage.name.eq_ignore_ascii_case(name));
        let fresh = |base, config, tree| StageState {
            name: String::new(),
            base,
            config,
            epoch: Timestamp::default(),
            tree,
            args: BTreeMap::new(),
            cmd_set: false,
        };
        if let Some(index) = earlier {
            let stage = &self.stages[index];
            return Ok(fresh(Base::Stage(index), stage.config.clone(), stage.tree));
        }
        if name == "scratch" {
            let Platform { architecture, os, variant } = platform.cloned().unwrap_or_else(Platform::host);
            let config = ImageConfig { architecture, os, variant, ..ImageConfig::default() };
            return Ok(fresh(Base::Scratch, config, None));
        }
        if name.starts_with("scratch:") || name.starts_with("scratch@") {
            return Err(BuildError::Invalid("'scratch' is a reserved name".into()));
        }
        let image = self.resolver.resolve(name, platform)?;
        let edge = self.image_source(&image.id);
        Ok(fresh(Base::Image(image.id), image.config, Some(edge)))
    }

    fn image_source(&mut self, id: &Digest) -> Edge {
        if let Some(edge) = self.images.get(id) {
            return *edge;
        }
        let op = Op::Source(SourceOp { identifier: format!("docker-image://{id}"), attrs: BTreeMap::new() });
        let vertex = self.graph.add(Vertex { op, inputs: Vec::new(), name: format!("image {id}") });
        let edge = Edge { vertex, output: 0 };
        self.images.insert(*id, edge);
        edge
    }

    fn context_source(&mut self) -> Edge {
        if let Some(edge) = self.context {
            return edge;
        }
        let op = Op::Source(SourceOp { identifier: "local://context".into(), attrs: BTreeMap::new() });
        let vertex = self.graph.add(Vertex { op, inputs: Vec::new(), name: "build context".into() });
        *self.context.insert(Edge { vertex, output: 0 })
    }

    fn statement(&mut self, statement: &Statement) -> Result<Lowered, BuildError> {
        match &statement.instruction {
            Instruction::Run(run) => self.run(run, &statement.text),
            Instruction::Copy(copy) => self.copy(copy, &statement.text),
            Instruction::Workdir(path) => self.workdir(path, &statement.text),
            other => self.configure(other),
        }
    }

    /// Expands with what the stage knows.
    fn expand<T>(&self, run: impl FnOnce(&Expander<'_>) -> Result<T, String>) -> Result<T, BuildError> {
        let stage = self.stages.last().expect("the parser refuses instructions before FROM");
        let lookup = |name: &str| variables::lookup(&stage.config.config.env, &stage.args, name);
        run(&Expander { escape: self.file.escape, lookup: &lookup }).map_err(BuildError::Invalid)
    }

    fn word(&self, text: &str) -> Result<String, BuildError> {
        self.expand(|expander| expander.word(text))
    }
}

/// The time of a stage: its base's, or 0.
fn base_epoch(config: &ImageConfig) -> Timestamp {
    let variable = config.config.env.iter().find_map(|variable| variable.strip_prefix("SOURCE_DATE_EPOCH="));
    if let Some(secs) = variable.and_then(|secs| secs.parse().ok()) {
        return Timestamp::from_secs(secs);
    }
    let created = config.created.as_deref().and_then(|created| Timestamp::parse_rfc3339(created).ok());
    // Whole seconds, as tar headers have them; Go's zero time, long before 1970, means that nobody knows.
    Timestamp::from_secs(created.map_or(0, |created| created.secs().max(0)))
}

/// `--platform` of a `FROM`.
fn platform_of(text: &str) -> Result<Platform, BuildError> {
    let platform = text
        .parse()
        .map_err(|error| BuildError::Invalid(format!("failed to parse platform {text}: {error}")))?;
    check_system(&platform)?;
    Ok(platform)
}

/// Files can be put together for any machine; what `RUN` needs, the kernel says when it comes to that.
fn check_system(platform: &Platform) -> Result<(), BuildError> {
    if platform.os == Platform::host().os {
        return Ok(());
    }
    let host = Platform::host().os;
    Err(BuildError::Unsupported(format!(
        "cannot build for platform {platform}: this host builds for {host} only"
    )))
}

/// The number of the stage to stop at.
fn find_target(stages: &[Stage], target: &str) -> Result<usize, BuildError> {
    if target.is_empty() {
        return Ok(stages.len() - 1);
    }
    stages
        .iter()
        .rposition(|stage| stage.name.eq_ignore_ascii_case(target))
        .ok_or_else(|| BuildError::Invalid(format!("target stage {target:?} could not be found")))
}
