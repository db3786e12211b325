//! `docker commit`: what a container changed becomes a layer, its configuration an image's.
//!
//! | step | undone by |
//! | --- | --- |
//! | a running container is frozen, and a mark of it is left in its shim's directory | thawed, the mark goes |
//! | a lease | it ends |
//! | a copy of its changes becomes a layer held by the lease | collected once nothing holds it |
//! | the image is recorded, and named | – |
//!
//! A daemon that dies amid it leaves a frozen container and the mark; the next one thaws it
//! ([`thaw_left`]). The layer keeps its files' times, and the image's time is now: it is a picture of something that
//! ran, and not what anybody could make again from sources.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_model::container::Status;
use gantry_model::failpoint::{Point, reached};
use gantry_model::image::{Empty, History, ImageConfig, RunConfig};
use gantry_model::{ContainerId, Digest, Reference, SnapshotId};
use gantry_store::archive::EMPTY_LAYER_DIFF_ID;
use gantry_store::image::{ImageError, NewImage};
use gantry_store::snapshot::{After, CommitOptions};

use super::config::Config;
use super::core::Core;
use super::record::{Record, View};
use super::{Containers, Error};
use crate::images::Images;

/// What is left in a shim's directory while its container is frozen for a commit.
const MARK: &str = "frozen-to-commit";

/// Whether a running container is frozen while its files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    /// It is.
    #[default]
    Yes,
    /// It goes on, and the image may have files as they never were together.
    No,
}

/// What commit was asked for.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The new image's configuration; what it leaves out is the container's.
    pub config: RunConfig,
    /// Who.
    pub author: String,
    /// A note.
    pub comment: String,
    /// The name to give it.
    pub reference: Option<Reference>,
    /// Whether it is frozen.
    pub freeze: Freeze,
}

impl Containers {
    /// A container's configuration as an image would have it.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn run_config(&self, container: &str) -> Result<RunConfig, Error> {
        Ok(run_config(&self.core.index.find(container)?.view().record.config))
    }

    /// Makes an image of a container's changes.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NoSuchImage`] where its image is gone, [`Error::Internal`]. Nothing is
    /// left, and the container runs as before.
    pub async fn commit(
        &self,
        images: &Images,
        container: &str,
        request: CommitRequest,
    ) -> Result<Digest, Error> {
        let view = self.core.index.find(container)?.view();
        let (containers, images) = (self.clone(), images.clone());
        // A client that goes away meanwhile must not leave the container frozen.
        let job = tokio::spawn(async move { containers.commit_viewed(&images, &view, request).await });
        match job.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Closing),
        }
    }

    async fn commit_viewed(
        &self,
        images: &Images,
        view: &Arc<View>,
        request: CommitRequest,
    ) -> Result<Digest, Error> {
        let id = view.record.id.clone();
        let asked = request.freeze == Freeze::Yes && view.state.status == Status::Running;
        let freezes = asked && self.freeze(&id).await?;
        let (core, record) = (Arc::clone(&self.core), Arc::clone(&view.record));
        let (name, comment) = (request.reference.clone().map(Reference::or_latest), request.comment.clone());
        let made = crate::blocking(move || make(&core, &record, request)).await;
        if let Ok(image) = &made {
            let name = name.map(|name| name.familiar());
            if let Some(name) = &name {
                images.note("tag", image, name);
            }
            let extra = vec![
                ("comment", comment),
                ("imageID", image.to_string()),
                ("imageRef", name.unwrap_or_default()),
            ];
            super::publish(&self.core, &view.record, "commit", extra);
        }
        if freezes {
            self.thaw(&id).await;
        }
        made
    }

    /// Freezes a container; whether it did. One that ended by itself meanwhile, or that somebody else has frozen, is
    /// read as it is.
    async fn freeze(&self, id: &ContainerId) -> Result<bool, Error> {
        let mark = mark(&self.core, id);
        // Without a mark a crash would leave it frozen.
        match fs::File::create_new(&mark) {
            Ok(_) => reached(Point::CommitMarked),
            // Another commit holds it, and thaws it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::Internal(format!("cannot make {}: {error}", mark.display()))),
        }
        let frozen = self.pause(id.as_str()).await;
        if frozen.is_err() {
            let _ = fs::remove_file(&mark);
        }
        match frozen {
            Ok(()) => {
                reached(Point::CommitPaused);
                Ok(true)
            }
            Err(Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn thaw(&self, id: &ContainerId) {
        match self.unpause(id.as_str()).await {
            // It ended, was removed, or somebody else thawed it.
            Ok(()) | Err(Error::Conflict(_) | Error::NoSuchContainer(_)) => {}
            Err(error) => {
                tracing::error!("container {id} was frozen for a commit and does not thaw: {error}")
            }
        }
        let _ = fs::remove_file(mark(&self.core, id));
    }
}

/// Thaws what a daemon froze for commits and did not live to thaw.
pub(crate) fn thaw_left(core: &Arc<Core>, runtime: &tokio::runtime::Handle) {
    for view in core.index.views() {
        if mark(core, &view.record.id).exists() {
            let containers = Containers::new(Arc::clone(core));
            runtime.spawn(async move { containers.thaw(&view.record.id).await });
        }
    }
}

fn mark(core: &Core, id: &ContainerId) -> PathBuf {
    core.host.shim_directory(id).join(MARK)
}

/// Makes layer and image. Blocks.
fn make(core: &Core, record: &Record, request: CommitRequest) -> Result<Digest, Error> {
    let internal = |error: &dyn std::error::Error| Error::Internal(crate::chain(error));
    let lease = core.store.leases().temporary("commit").map_err(|error| internal(&error))?;
    let parent = core.store.images().resolve_held(&record.image.to_string(), &lease);
    let parent = parent.map_err(|error| match error {
        ImageError::NoSuchImage(_) => Error::NoSuchImage(record.image.to_string()),
        other => internal(&other),
    })?;
    let options = CommitOptions { epoch: None, stubs: Vec::new(), after: After::Kept };
    let layer = core.store.snapshots().commit(&SnapshotId::from(&record.id), &options, &lease);
    let layer = layer.map_err(|error| internal(&error))?;
    reached(Point::CommitLayer);
    let is_empty = layer.diff_id == EMPTY_LAYER_DIFF_ID;
    let mut layers = parent.layers.clone();
    let config = image_config(&parent.config, record, &request, (!is_empty).then_some(layer.diff_id));
    if !is_empty {
        layers.push(layer.id);
    }
    let config_bytes = serde_json::to_vec(&config).map_err(|error| internal(&error))?;
    let image = NewImage { config_bytes: &config_bytes, layers: &layers, parent: Some(parent.id) };
    let references: Vec<Reference> = request.reference.into_iter().map(Reference::or_latest).collect();
    let made = core.store.images().create_tagged(&image, &references).map_err(|error| internal(&error))?;
    reached(Point::CommitImage);
    Ok(made.id)
}

/// The new image's configuration: its parent's with what is new. Pure but for the time.
fn image_config(
    parent: &ImageConfig,
    record: &Record,
    request: &CommitRequest,
    diff_id: Option<Digest>,
) -> ImageConfig {
    let created = crate::events::now().rfc3339_nano();
    let mut config = ImageConfig {
        config: fill(request.config.clone(), &run_config(&record.config)),
        author: request.author.clone(),
        comment: String::new(),
        created: Some(created.clone()),
        ..parent.clone()
    };
    config.rootfs.diff_ids.extend(diff_id);
    config.history.push(History {
        created: Some(created),
        created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
        author: request.author.clone(),
        comment: request.comment.clone(),
        empty_layer: diff_id.is_none(),
    });
    config
}

fn run_config(config: &Config) -> RunConfig {
    RunConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.iter().map(|port| (port.0.clone(), Empty {})).collect(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone(),
        volumes: config.volumes.iter().map(|path| (path.display().to_string(), Empty {})).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        shell: config.shell.clone(),
        ..RunConfig::default()
    }
}

/// Adds what a configuration leaves out, by the rules by which a container's is made of its image's.
fn fill(mut config: RunConfig, from: &RunConfig) -> RunConfig {
    let or = |value: &mut String, other: &String| {
        if value.is_empty() {
            value.clone_from(other);
        }
    };
    or(&mut config.user, &from.user);
    or(&mut config.working_dir, &from.working_dir);
    or(&mut config.stop_signal, &from.stop_signal);
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&from.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&from.entrypoint);
        }
    }
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in &from.env {
        if !config.env.iter().any(|have| key(have) == key(entry)) {
            config.env.push(entry.clone());
        }
    }
    config.exposed_ports.extend(from.exposed_ports.clone());
    config.volumes.extend(from.volumes.clone());
    for (name, value) in &from.labels {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if config.shell.is_empty() {
        config.shell.clone_from(&from.shell);
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&from.healthcheck);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_a_commit_leaves_out_is_the_containers() {
        let container = RunConfig {
            env: list(&["A=1", "B=2"]),
            cmd: Some(list(&["run"])),
            entrypoint: Some(list(&["/e"])),
            user: "u".into(),
            ..RunConfig::default()
        };
        let given = RunConfig { env: list(&["B=3"]), ..RunConfig::default() };
        let filled = fill(given, &container);
        assert_eq!(filled.env, list(&["B=3", "A=1"]));
        assert_eq!((filled.cmd, filled.entrypoint), (container.cmd.clone(), container.entrypoint.clone()));
        // An entry point of its own drops the container's command.
        let given = RunConfig { entrypoint: Some(list(&["/n"])), ..RunConfig::default() };
        let filled = fill(given, &container);
        assert_eq!((filled.cmd, filled.entrypoint, filled.user), (None, Some(list(&["/n"])), "u".into()));
    }
}
