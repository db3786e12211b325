//! The builder as the daemon holds it: one for each store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::id::to_hex;
use gantry_model::image::ImageConfig;
use gantry_model::{Digest, ErrorKind, Platform, Reference};
use gantry_store::image::{ImageError, NewImage};
use gantry_store::{Lease, Store};
use parking_lot::RwLock;

use crate::cancel::Cancel;
use crate::context::{Context, ContextLimits};
use crate::dockerfile::lower::{Base, BaseImage, CreatedBy, Lowered, Lowering, MetaResolver};
use crate::dockerfile::{self, Dockerfile};
use crate::error::BuildError;
use crate::event::{BuildEvent, Outcome};
use crate::executor::Executor;
use crate::export::ImageState;
use crate::fetch::{Fetcher, is_address, is_repository};
use crate::graph::{FileAction, Op};
use crate::op::{Remotes, StoreWorker};
use crate::request::{BuildRequest, ContextSource};
use crate::solver::cache::CacheDatabase;
use crate::solver::{CacheUse, Solver, Value};
use crate::usage::{self, CacheRecord, Looked, Prune};

/// What a [`Builder`] is made of.
pub struct BuilderOptions {
    /// Where images and layers are.
    pub store: Store,
    /// The builder's own directory on the store's file system, `<data root>/builds`: contexts while they
    /// are used, and the cache's database. Made if it is not there; leftovers of a crash are removed.
    pub directory: PathBuf,
    /// What runs `RUN` steps.
    pub executor: Arc<dyn Executor>,
    /// What fetches the files of `ADD` and contexts that are elsewhere.
    pub fetcher: Arc<dyn Fetcher>,
    /// What a context may hold.
    pub limits: ContextLimits,
}

/// The lease that holds what the cache refers to.
const LEASE: &str = "build-cache";

/// How the snapshots of builds are called.
const SNAPSHOT_PREFIX: &str = "build-";

/// Builds images. Shared between threads; several builds may run at once.
pub struct Builder {
    options: BuilderOptions,
    cache: CacheDatabase,
    /// Builds read, pruning writes: a build's layers must not be let go under it.
    lease: RwLock<Lease>,
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
    /// Bytes that were reclaimed.
    pub reclaimed_bytes: u64,
}

impl Builder {
    /// Opens the cache and removes what a crash left.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where directory or database cannot be used.
    pub fn open(options: BuilderOptions) -> Result<Self, BuildError> {
        let directory = &options.directory;
        sweep_directory(directory).map_err(|error| {
            BuildError::internal(format!("preparing the directory {} failed", directory.display()), error)
        })?;
        let failed = |error| BuildError::internal("preparing the store for builds failed", error);
        let snapshots = options.store.snapshots();
        for id in snapshots.list().map_err(failed)? {
            if id.as_str().starts_with(SNAPSHOT_PREFIX) {
                snapshots.remove(&id).map_err(failed)?;
            }
        }
        let cache = CacheDatabase::open(directory)?;
        let lease = options.store.leases().named(LEASE).map_err(failed)?;
        let named = cache.layers()?;
        let held = lease.layers().map_err(failed)?;
        let unnamed: Vec<_> = held.into_iter().filter(|layer| !named.contains(layer)).collect();
        if !unnamed.is_empty() {
            // Made by steps whose builds were killed before that could be recorded.
            for layer in unnamed {
                lease.release_layer(layer).map_err(failed)?;
            }
            options.store.collect().map_err(failed)?;
        }
        Ok(Self { options, cache, lease: RwLock::new(lease) })
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
        let BuildRequest { context, dockerfile, tags, options } = request;
        let mut named = BTreeSet::new();
        // A name that is given twice is told once.
        let tags: Vec<Reference> =
            tags.into_iter().map(Reference::or_latest).filter(|tag| named.insert(tag.to_string())).collect();
        let name = format!("{SNAPSHOT_PREFIX}{}", random_name()?);
        let context = match context {
            ContextSource::Tar(input) => {
                Context::receive(input, self.options.directory.join(&name), &self.options.limits)?
            }
            ContextSource::Remote(address) => {
                self.fetch_context(&address, self.options.directory.join(&name))?
            }
        };
        let text = context.take_dockerfile(&dockerfile, &self.options.limits)?;
        let file = dockerfile::parse(&text).map_err(|error| BuildError::Invalid(error.to_string()))?;
        let lease = self.lease.read();
        let holding = self
            .options
            .store
            .leases()
            .temporary("build")
            .map_err(|error| BuildError::internal("holding the base images failed", error))?;
        let resolver = StoreResolver { store: &self.options.store, lease: &holding, pull: options.pull };
        let lowering = Lowering::new(&file, &options, &resolver)?;
        let mut worker = StoreWorker {
            store: &self.options.store,
            lease: &lease,
            context: &context,
            remotes: Remotes {
                fetcher: self.options.fetcher.as_ref(),
                directory: self.options.directory.join(format!("{name}-fetched")),
                limits: &self.options.limits,
                fetched: Vec::new(),
            },
            executor: self.options.executor.as_ref(),
            run: &options.run,
            cancel,
            name,
        };
        let sources = cache_sources(&options.cache_from, &resolver)?;
        let within: Vec<Vec<Digest>> =
            sources.iter().flatten().map(|image| image.rootfs.diff_ids.clone()).collect();
        let cache_use = match &sources {
            _ if options.no_cache => CacheUse::WriteOnly,
            Some(_) => CacheUse::Within(&within),
            None => CacheUse::ReadAndWrite,
        };
        let mut cache = &self.cache;
        let solver = Solver::new(&mut cache, &mut worker, cache_use, cancel);
        let mut build = Build { lowering, solver, states: Vec::new(), sources: sources.as_deref(), events };
        let written = build.all(&file).and_then(|()| build.written());
        self.cache.touch(build.solver.hits())?;
        let written = written?;
        let image = match &written {
            Finished::Base(id) => {
                for tag in &tags {
                    self.options.store.images().tag(id, tag).map_err(image_failed)?;
                }
                *id
            }
            Finished::New { bytes, layers, parent } => {
                let image = NewImage { config_bytes: bytes, layers, parent: *parent };
                self.options.store.images().create_tagged(&image, &tags).map_err(image_failed)?.id
            }
        };
        events(BuildEvent::Built { image });
        tags.into_iter().for_each(|reference| events(BuildEvent::Tagged { reference }));
        Ok(BuiltImage { image })
    }

    fn fetch_context(&self, address: &str, directory: PathBuf) -> Result<Context, BuildError> {
        if is_repository(address) {
            return Err(BuildError::Unsupported(format!(
                "building from the repository {address} is not supported yet: clone it, and build from the directory"
            )));
        }
        if !is_address(address) {
            return Err(BuildError::Invalid(format!("remoteURL ({address}) could not be recognized as URL")));
        }
        let fetched = self.options.fetcher.fetch(address).map_err(|error| {
            BuildError::Invalid(format!("error downloading remote context {address}: {error}"))
        })?;
        Context::fetched(fetched.body, directory, &self.options.limits)
    }

    /// What the cache holds, the oldest first.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database or the store fails.
    pub fn cached(&self) -> Result<Vec<CacheRecord>, BuildError> {
        // A build under way may use any of it, and pruning waits for it.
        let in_use = self.lease.is_locked();
        let held = self.lease.read().usage().map_err(LEASE_FAILED)?;
        let looked = usage::looked(self.cache.entries()?, &held);
        Ok(looked.into_iter().filter(Looked::is_listed).map(|one| one.record(in_use)).collect())
    }

    /// Forgets what is asked for: `POST /build/prune`. Waits for builds under way. Layers that nothing else needs
    /// are removed from the store.
    ///
    /// # Errors
    /// [`BuildError::Internal`] where the database or the store fails.
    pub fn prune(&self, wanted: &Prune) -> Result<PruneReport, BuildError> {
        let lease = self.lease.write();
        let looked = usage::looked(self.cache.entries()?, &lease.usage().map_err(LEASE_FAILED)?);
        let doomed = usage::doomed(&looked, wanted);
        self.cache.forget_all(&doomed.iter().map(|one| one.entry.id).collect::<Vec<_>>())?;
        reached(Point::PruneForgotten);
        let deleted =
            doomed.into_iter().filter(|one| one.is_listed()).map(|one| one.entry.key.clone()).collect();
        let named = self.cache.layers()?;
        for layer in lease.layers().map_err(LEASE_FAILED)? {
            if !named.contains(&layer) {
                lease.release_layer(layer).map_err(LEASE_FAILED)?;
            }
        }
        let collected = self.options.store.collect().map_err(LEASE_FAILED)?;
        Ok(PruneReport { deleted, reclaimed_bytes: collected.size_bytes })
    }
}

/// Why the store would not list or let go of the cache's layers.
const LEASE_FAILED: fn(gantry_store::Error) -> BuildError =
    |error| BuildError::internal("the layers of the build cache could not be listed or let go", error);

/// The daemon shares one between its blocking threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Builder>();
};

/// Makes the directory, and removes everything in it but the cache's database.
fn sweep_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(SNAPSHOT_PREFIX.as_bytes()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// 16 hexadecimal digits that no other build has.
fn random_name() -> Result<String, BuildError> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes))
        .map_err(|error| BuildError::internal("drawing random bytes failed", error))?;
    Ok(to_hex(&bytes))
}

fn image_failed(error: ImageError) -> BuildError {
    match error.kind() {
        ErrorKind::NotFound => BuildError::NotFound(error.to_string()),
        ErrorKind::InvalidArgument => BuildError::Invalid(error.to_string()),
        _ => BuildError::internal("writing the image failed", error),
    }
}

/// Finds base images in the store.
struct StoreResolver<'a> {
    store: &'a Store,
    lease: &'a Lease,
    pull: bool,
}

impl MetaResolver for StoreResolver<'_> {
    fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<BaseImage, BuildError> {
        if self.pull {
            return Err(BuildError::Unsupported(format!(
                "cannot pull {name}: registries are not supported yet: build without --pull, with the image that is here"
            )));
        }
        let images = self.store.images();
        let found = match platform {
            None => images.resolve_held(name, self.lease),
            // Of an index it may be another image than the name means by itself.
            Some(wanted) => images
                .resolve_for(name, wanted)
                .and_then(|image| images.resolve_held(&image.id.to_string(), self.lease)),
        };
        let image = found.map_err(|error| match error {
            ImageError::NoSuchImage(_) => BuildError::NotFound(format!(
                "{error}: pulling is not supported yet, so import or build it first"
            )),
            other => image_failed(other),
        })?;
        let have = image.config.platform();
        if let Some(wanted) = platform
            && (&have.os, &have.architecture) != (&wanted.os, &wanted.architecture)
        {
            return Err(BuildError::NotFound(format!(
                "image with reference {name} was found but its platform ({have}) does not match the specified platform ({wanted})"
            )));
        }
        Ok(BaseImage { id: image.id, config: image.config.clone() })
    }
}

/// The images of `--cache-from` that are there; `None` where none was named.
fn cache_sources(
    names: &[String],
    resolver: &StoreResolver<'_>,
) -> Result<Option<Vec<ImageConfig>>, BuildError> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for name in names {
        match resolver.resolve(name, None) {
            Ok(image) => found.push(image.config),
            Err(BuildError::NotFound(_) | BuildError::Invalid(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(found))
}

/// What a build came to.
enum Finished {
    /// Nothing but `FROM`: the image itself.
    Base(Digest),
    /// An image to be recorded.
    New { bytes: Vec<u8>, layers: Vec<gantry_model::LayerId>, parent: Option<Digest> },
}

/// What the end of a step's work is the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// A line of the Dockerfile.
    Step,
    /// A trigger after which others come.
    Trigger,
    /// Nothing yet: triggers come.
    Nothing,
}

/// One build under way: what was lowered and solved, step by step.
struct Build<'a, 'e> {
    lowering: Lowering<'a>,
    solver: Solver<'a>,
    /// The result of each stage.
    states: Vec<ImageState>,
    /// The images whose steps alone the cache may be used for, if it is so.
    sources: Option<&'a [ImageConfig]>,
    events: &'e mut dyn FnMut(BuildEvent),
}

impl Build<'_, '_> {
    fn all(&mut self, file: &Dockerfile) -> Result<(), BuildError> {
        for warning in &file.warnings {
            (self.events)(BuildEvent::Warning(warning.clone()));
        }
        let steps = self.lowering.steps();
        let total = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let mut ended = None;
        for (number, step) in (1..).zip(&steps) {
            self.lowering.check(step)?;
            if let Some(image) = ended.take().filter(|_| step.begins_another_stage()) {
                (self.events)(BuildEvent::StageFinished { image });
            }
            (self.events)(BuildEvent::StepStarted { number, total, text: step.text.clone() });
            let lowered = self.lowering.step(step)?;
            let triggers = lowered.triggers.clone();
            let ends = if triggers.is_empty() { Ends::Step } else { Ends::Nothing };
            ended = self.step(lowered, ends)?;
            match triggers.len() {
                0 => {}
                1 => (self.events)(BuildEvent::Note("# Executing 1 build trigger".into())),
                count => (self.events)(BuildEvent::Note(format!("# Executing {count} build triggers"))),
            }
            for (left, trigger) in (0..triggers.len()).rev().zip(&triggers) {
                let lowered = self.lowering.trigger(trigger)?;
                ended = self.step(lowered, if left == 0 { Ends::Step } else { Ends::Trigger })?;
            }
        }
        let unconsumed: Vec<&str> = self.lowering.unconsumed_args().into_iter().collect();
        if !unconsumed.is_empty() {
            let names = unconsumed.join(" ");
            (self.events)(BuildEvent::Note(format!(
                "[Warning] One or more build-args [{names}] were not consumed"
            )));
        }
        Ok(())
    }

    /// Solves what a step was lowered to, records it, and tells of it. The image as it would be now.
    fn step(&mut self, lowered: Lowered, ends: Ends) -> Result<Option<Digest>, BuildError> {
        let mut outcome = Outcome::Metadata;
        if let Some(note) = lowered.note {
            (self.events)(BuildEvent::Note(note));
        }
        let is_step = lowered.created_by.is_some();
        let mut note = String::new();
        let mut solved_layers = None;
        if let Some(edge) = lowered.solve {
            let solved = self.solver.solve(self.lowering.graph(), edge, self.events)?;
            // The classic builder does not copy to make a directory, it starts a container.
            let makes_directory = match &self.lowering.graph().vertex(edge.vertex).op {
                Op::File(op) => op.actions.iter().all(|action| matches!(action, FileAction::Mkdir { .. })),
                _ => false,
            };
            outcome = match solved.outcome {
                Outcome::Done if makes_directory => Outcome::Metadata,
                outcome => outcome,
            };
            note = solved.note;
            if let Some(Value::Tree(layers)) = solved.outputs.into_iter().nth(edge.output) {
                solved_layers = Some(layers);
            }
        }
        let Some(stage) = self.lowering.stage() else { return Ok(None) };
        if lowered.begins_stage {
            let mut state = match stage.base {
                Base::Stage(number) => self.states[number].clone(),
                Base::Scratch => ImageState::default(),
                Base::Image(id) => ImageState {
                    history: stage.config.history.clone(),
                    unchanged: Some(id),
                    ..ImageState::default()
                },
            };
            if let Some(layers) = solved_layers {
                state.layers = layers;
            }
            self.states.push(state);
        } else if let Some(created_by) = lowered.created_by {
            let created_by = match created_by {
                CreatedBy::Text(text) => text,
                CreatedBy::Copied { before, after } => format!("{before}{note}{after}"),
            };
            let state = self.states.last_mut().expect("FROM pushed one");
            let layers = solved_layers.unwrap_or_else(|| state.layers.clone());
            state.step(stage, created_by, layers);
        }
        let state = self.states.last().expect("FROM pushed one");
        let image = match state.unchanged {
            Some(id) => Some(id),
            None if state.history.is_empty() => None,
            None => Some(state.write(stage)?.id),
        };
        if !is_step {
            outcome = Outcome::Base;
        } else if lowered.solve.is_none()
            && let Some(image) = &image
            && self.sources.is_none_or(|sources| sources.iter().any(|source| state.began(source)))
            && self.solver.knows(image)?
        {
            outcome = Outcome::Cached;
        }
        match ends {
            Ends::Step => (self.events)(BuildEvent::StepFinished { outcome, image }),
            Ends::Trigger => (self.events)(BuildEvent::TriggerFinished { outcome, image }),
            Ends::Nothing => {}
        }
        Ok(image)
    }

    /// The last stage's image.
    fn written(&self) -> Result<Finished, BuildError> {
        let (Some(stage), Some(state)) = (self.lowering.stage(), self.states.last()) else {
            return Err(no_image());
        };
        if let Some(id) = state.unchanged {
            return Ok(Finished::Base(id));
        }
        if state.history.is_empty() {
            return Err(no_image());
        }
        let written = state.write(stage)?;
        let parent = match stage.base {
            Base::Image(id) => Some(id),
            Base::Scratch | Base::Stage(_) => None,
        };
        let layers = state.layers.iter().map(|layer| layer.id).collect();
        Ok(Finished::New { bytes: written.bytes, layers, parent })
    }
}

fn no_image() -> BuildError {
    BuildError::Invalid("No image was generated. Is your Dockerfile empty?".into())
}
