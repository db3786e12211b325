//! A defect in one step of a container's task ends that step, not the task: a container that has no task
//! could not be stopped or removed any more, though its processes go on.
//!
//! A panic is caught and told to the log. What threads and the shim are working for goes on, and their word
//! still comes. Where the panic took that word, the container is taken up anew as after a restart of the
//! daemon: from its record and from what its shim says. Callers that waited are told that something failed;
//! who waits for the container's exit goes on waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Error;
use super::adopt::{CannotAsk, living};
use super::core;
use super::task::{Callers, Known, Phase, Task};

/// Runs something; `None` if a defect ended it, which the panic's hook has told.
pub(super) fn guard<T>(run: impl FnOnce() -> T) -> Option<T> {
    // What it left half done is thrown away by whoever gets `None`.
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// The same for what has errors of its own.
pub(super) fn guard_result<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    guard(run).unwrap_or_else(|| Err(defect()))
}

/// What callers are told.
pub(super) fn defect() -> Error {
    Error::Internal("a defect in the daemon ended this; its log says more".into())
}

impl Task {
    /// After a step that a defect ended. `took_word` says that the step was the word of a thread or of the shim.
    pub(super) fn mend(&mut self, took_word: bool) {
        let id = &self.known.record.id;
        if !took_word && matches!(self.phase, Phase::Starting | Phase::Settling) {
            return tracing::error!("container {id}: one step failed, the next are taken");
        }
        if self.phase == Phase::Gone {
            return;
        }
        tracing::error!("container {id}: one step failed; it is taken up anew from its record");
        if guard(|| self.take_up_anew()).is_none() {
            // Nothing is known of a shim: remove kills by control group.
            (self.link, self.phase) = (None, Phase::Idle);
        }
    }

    fn take_up_anew(&mut self) {
        if let Err(error) = self.look_again() {
            // As where nothing is known of a shim: remove kills by control group.
            tracing::error!("{}", crate::chain(&error));
        }
    }

    fn look_again(&mut self) -> Result<(), CannotAsk> {
        (self.link, self.heard, self.restart_at) = (None, None, None);
        let waiters = std::mem::take(&mut self.callers.waiters);
        self.callers = Callers { waiters, ..Callers::default() };
        self.forget_deferred();
        self.phase = Phase::Idle;
        let id = self.known.record.id.clone();
        let row = self.core.ledger.read(|transaction| core::one(transaction, &id));
        let shim = living(&self.core.host.settings.exec_root).remove(&id);
        match row {
            Ok(Some(mut row)) => {
                row.record.locate(&self.core.host.settings.data_root);
                let network = std::sync::Arc::clone(&self.known.network);
                self.known = Known { record: row.record.into(), state: row.state, network, seq: row.seq };
                self.resume(&row.boot, shim.as_ref())
            }
            // Its removal was all but done.
            Ok(None) => {
                self.core.index.remove(&id);
                self.on_gone();
                self.phase = Phase::Gone;
                Ok(())
            }
            Err(error) => {
                tracing::error!("the record of container {id} cannot be read: {error}");
                let boot = self.core.host.boot_id.clone();
                self.resume(&boot, shim.as_ref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_model::container::Status;

    use super::super::task::Message;
    use super::super::{Error, RemoveOptions, WaitCondition};
    use crate::world::World;

    /// A step of the task that a defect ends.
    fn hit(world: &World, id: &str) {
        let entry = world.engine().containers.core.index.find(id).expect("it is there");
        entry.tell(Message::Defect).expect("its task runs");
    }

    #[test]
    fn a_defect_in_a_step_leaves_the_container_within_reach() {
        let Some(world) = World::open() else { return };
        let containers = world.engine().containers.clone();
        world.block_on(async {
            let request = World::command(&["sleep", "1000"]);
            let id = containers.create(request).await.expect("created").id.to_string();
            hit(&world, &id);
            containers.start(&id).await.expect("one that rests can be started");
            let pid = containers.inspect(&id).expect("seen").state.pid;
            let waiter = containers.wait(&id, WaitCondition::NotRunning).await.expect("registered");
            hit(&world, &id);
            hit(&world, &id);
            containers.pause(&id).await.expect("the shim is talked to again");
            containers.unpause(&id).await.expect("and again");
            let view = containers.inspect(&id).expect("seen");
            assert_eq!((view.state.status, view.state.pid), (Status::Running, pid));
            containers.kill(&id, "9").await.expect("killed");
            assert_eq!(waiter.exit().await.code, 137, "who waited before is told");
            hit(&world, &id);
            containers.remove(&id, RemoveOptions { force: true, volumes: true }).await.expect("removed");
            assert_eq!(containers.start(&id).await, Err(Error::NoSuchContainer(id.clone())));
        });
    }
}
