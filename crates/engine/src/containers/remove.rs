//! Taking down: the sandbox after every final exit, and the whole container when it is removed.
//!
//! The row goes last. A container whose snapshot is gone while its row is there was being removed
//! when the daemon died; recovery goes on with it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::SnapshotId;
use gantry_model::container::Status;
use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::MountKind;

use super::core::{self, Core};
use super::record::Record;
use super::stop::Afterwards;
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error, RemoveOptions, supervise};
use crate::sandboxes::Attached;
use crate::volumes::Mark;

/// A removal that is wanted or under way.
pub(super) struct Removal {
    options: RemoveOptions,
    answers: Vec<Answerer<()>>,
}

impl Removal {
    /// `--rm`: with anonymous volumes.
    pub(super) fn automatic() -> Self {
        Self { options: RemoveOptions { force: false, volumes: true }, answers: Vec::new() }
    }
}

/// What a settling thread reports.
pub(crate) struct Settled {
    /// How the removal went, if there was one.
    removed: Option<Result<(), Error>>,
}

impl Containers {
    /// Removes it. Its name is free when this returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it runs and `force` is not set; after a failure it is `dead` and remove may be tried again.
    pub async fn remove(&self, container: &str, options: RemoveOptions) -> Result<(), Error> {
        let removed = self.ask(container, |answer| Message::Remove { options, answer }).await;
        removed.map_err(|error| match error {
            Error::Conflict(why) => {
                Error::Conflict(format!("cannot remove container \"{container}\": {why}"))
            }
            other => other,
        })
    }
}

impl Task {
    pub(super) fn on_remove(&mut self, options: RemoveOptions, answer: Answerer<()>) {
        let live = match self.known.state.status {
            _ if self.phase != Phase::Up => None,
            Status::Paused => Some("container is paused and must be unpaused first"),
            Status::Restarting => {
                Some("container is restarting: stop the container before removing or force remove")
            }
            _ => Some("container is running: stop the container before removing or force remove"),
        };
        if let (Some(why), false) = (live, options.force) {
            return drop(answer.send(Err(Error::Conflict(why.into()))));
        }
        let begun = self.callers.removal.is_some();
        let removal = self.callers.removal.get_or_insert(Removal { options, answers: Vec::new() });
        removal.options.volumes |= options.volumes;
        removal.answers.push(answer);
        match self.phase {
            Phase::Up if !begun => self.send_kill(9, true),
            Phase::Idle => {
                self.restart_at = None;
                self.settle();
            }
            // It is on its way down and comes to the removal by itself.
            _ => {}
        }
    }

    /// Lets a thread take down what the shim does not.
    pub(super) fn settle_things(&mut self) {
        let goes = self.known.record.host.auto_remove && self.callers.afterwards == Afterwards::Rests;
        if goes && self.callers.removal.is_none() && self.restart_at.is_none() {
            self.callers.removal = Some(Removal::automatic());
        }
        let (core, entry) = (Arc::clone(&self.core), Arc::clone(&self.entry));
        let (record, network) = (Arc::clone(&self.known.record), Arc::clone(&self.known.network));
        let removal = self.callers.removal.as_ref().map(|removal| removal.options);
        tokio::task::spawn_blocking(move || {
            let settled = supervise::guard(|| take_down(&core, &record, &network, removal));
            let removed = settled.unwrap_or_else(|| removal.map(|_| Err(supervise::defect())));
            if entry.tell(Message::Settled(Settled { removed })).is_err() {
                tracing::debug!("container {} was settled after its task", record.id);
            }
        });
    }

    pub(super) fn on_settled(&mut self, settled: Settled) {
        self.known.network = Arc::new(self.core.sandboxes.detached(&self.known.record));
        match settled.removed {
            // Asked for after the thread had begun.
            None if self.callers.removal.is_some() => self.settle_things(),
            None => {
                self.show();
                self.enter(Phase::Idle);
            }
            Some(result) => self.on_removed(result),
        }
    }

    fn on_removed(&mut self, result: Result<(), Error>) {
        let answers = self.callers.removal.take().map(|removal| removal.answers).unwrap_or_default();
        if let Err(error) = &result {
            tracing::error!("{error}");
            self.known.state.status = Status::Dead;
            self.save();
            self.show();
        } else {
            self.core.index.remove(&self.known.record.id);
            self.core.execs.container_removed(&self.known.record.id);
            self.publish("destroy", Vec::new());
            self.on_gone();
        }
        let gone = result.is_ok();
        for answer in answers {
            let _ = answer.send(result.clone());
        }
        self.enter(Phase::Idle);
        if gone {
            self.phase = Phase::Gone;
        }
    }
}

/// What a settling thread does; how the removal went, if there is one.
fn take_down(
    core: &Core,
    record: &Record,
    network: &Attached,
    removal: Option<RemoveOptions>,
) -> Option<Result<(), Error>> {
    let mut failures = release(core, record, network);
    if removal.is_some() && !failures.is_empty() {
        // What the container wrote may be what fills the disk.
        make_room(core, record);
        failures = patiently(|| release(core, record, network));
    }
    let removed = removal.map(|options| {
        failures.append(&mut unmake(core, record, options));
        if failures.is_empty() { Ok(()) } else { Err(failed(record, &failures)) }
    });
    if removed.is_none() {
        for failure in &failures {
            tracing::warn!("after the end of container {}: {failure}", record.id);
        }
    }
    removed
}

fn failed(record: &Record, failures: &[String]) -> Error {
    Error::Internal(format!("container {}: driver failed to remove: {}", record.id, failures.join("; ")))
}

/// Takes down what a run left: sandbox, directory of the shim, cgroup. Goes on where something fails.
pub(crate) fn release(core: &Core, record: &Record, network: &Attached) -> Vec<String> {
    let mut failures = Vec::new();
    if network.sandbox.is_some() {
        failures = leave(core, record, network);
    }
    reached(Point::StopLeft);
    remove_tree(&core.host.shim_directory(&record.id), &mut failures);
    failures
}

/// Takes a container out of its sandbox, on a full disk with the blocks kept for that. Returns what failed.
pub(super) fn leave(core: &Core, record: &Record, network: &Attached) -> Vec<String> {
    let failures = core.sandboxes.leave(&record.id, network);
    if failures.is_empty() || !core.store.spend_reserve() {
        return failures;
    }
    core.sandboxes.leave(&record.id, network)
}

/// Removes everything that a container has; its row last, and only if all else went.
///
/// A full disk may have no room to record that. Then the blocks kept for it are given up; where others have taken
/// those, what the container itself wrote is unlinked at once and not a second later.
pub(crate) fn unmake(core: &Core, record: &Record, options: RemoveOptions) -> Vec<String> {
    let mut failures = unmake_once(core, record, options);
    if !failures.is_empty() && core.store.spend_reserve() {
        failures = unmake_once(core, record, options);
    }
    if !failures.is_empty() {
        make_room(core, record);
        failures = patiently(|| unmake_once(core, record, options));
    }
    failures
}

/// Unlinks at once what a container wrote that is being removed.
fn make_room(core: &Core, record: &Record) {
    let unlinked = core.store.snapshots().unlink(&SnapshotId::from(&record.id));
    if let Err(error) = unlinked.and_then(|()| core.store.empty_trash()) {
        tracing::warn!("what container {} wrote was not unlinked: {}", record.id, crate::chain(&error));
    }
}

/// Tries again for a second: the kernel gives room back when the last mount of what was unlinked is taken down.
fn patiently(mut act: impl FnMut() -> Vec<String>) -> Vec<String> {
    let mut failures = Vec::new();
    for pause_ms in [0, 50, 200, 1000] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        failures = act();
        if failures.is_empty() {
            break;
        }
    }
    failures
}

fn unmake_once(core: &Core, record: &Record, options: RemoveOptions) -> Vec<String> {
    let mut failures = Vec::new();
    reached(Point::RemoveReleased);
    let has_volumes = record.mounts.iter().any(|point| point.kind == MountKind::Volume);
    // Before anything is gone that says that it is being removed: who finishes it must know how.
    if options.volumes
        && has_volumes
        && let Err(error) =
            core.ledger.write(|transaction| crate::volumes::mark(transaction, &record.id, Mark::Fleeting))
    {
        return vec![error.to_string()];
    }
    let snapshot = SnapshotId::from(&record.id);
    let removed = core.store.snapshots().remove(&snapshot);
    reached(Point::RemoveSnapshot);
    remove_tree(&record.directory, &mut failures);
    // On a full disk there was no room to record it; its log may have been what filled it.
    if let Err(error) = removed.or_else(|_| core.store.snapshots().remove(&snapshot)) {
        failures.push(crate::chain(&error));
    }
    reached(Point::RemoveDirectory);
    if !failures.is_empty() {
        return failures;
    }
    if let Err(error) = core.ledger.write(|transaction| core::delete(transaction, &record.id)) {
        failures.push(error.to_string());
    }
    reached(Point::RemoveRow);
    if options.volumes && has_volumes {
        remove_anonymous_volumes(core, record);
    }
    failures
}

/// Those that another container uses too stay.
fn remove_anonymous_volumes(core: &Core, record: &Record) {
    let volumes = record.mounts.iter().filter(|point| point.kind == MountKind::Volume);
    for point in volumes {
        match core.volumes.find(&point.name) {
            Ok(Some(volume)) if volume.anonymous => {
                if let Err(error) = core.volumes.remove_now(&volume) {
                    tracing::debug!("volume {} stays: {error}", volume.name);
                    core.volumes.keep(&volume.name);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("volume {}: {error}", point.name),
        }
    }
}

fn remove_tree(path: &Path, failures: &mut Vec<String>) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            failures.push(format!("cannot remove {}: {error}", path.display()));
        }
        _ => {}
    }
}
