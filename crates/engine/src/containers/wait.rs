//! Waiting for a container to stop or to go away.

use tokio::sync::oneshot;

use super::task::{Message, Phase, Task};
use super::{Containers, Error};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run; at once if it does not now.
    #[default]
    NotRunning,
    /// The next exit.
    NextExit,
    /// It is removed.
    Removed,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// Why it ended without having run, or why removal failed; empty otherwise.
    pub error: String,
}

/// A wait that has been registered: nothing that happens from now on is missed.
pub struct Waiter {
    exit: oneshot::Receiver<Exit>,
}

impl Waiter {
    /// Waits. Dropping the future withdraws the wait.
    pub async fn exit(self) -> Exit {
        let closing = || Exit { code: -1, error: Error::Closing.to_string() };
        self.exit.await.unwrap_or_else(|_| closing())
    }
}

impl Containers {
    /// Registers a wait; HTTP headers may be sent when this returns.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub async fn wait(&self, container: &str, condition: WaitCondition) -> Result<Waiter, Error> {
        let entry = self.core.index.find(container)?;
        let (sender, exit) = oneshot::channel();
        let (registered, done) = oneshot::channel();
        entry.tell(Message::Wait { condition, exit: sender, registered })?;
        done.await.map_err(|_| entry.lost())?;
        Ok(Waiter { exit })
    }
}

impl Task {
    fn present_exit(&self) -> Exit {
        let state = &self.known.state;
        Exit { code: state.exit_code, error: String::new() }
    }

    pub(super) fn on_wait(&mut self, condition: WaitCondition, exit: oneshot::Sender<Exit>) {
        let rests = matches!(self.phase, Phase::Idle | Phase::Settling) && self.restart_at.is_none();
        if condition == WaitCondition::NotRunning && rests {
            drop(exit.send(self.present_exit()));
        } else {
            self.callers.waiters.retain(|(_, waiter)| !waiter.is_closed());
            self.callers.waiters.push((condition, exit));
        }
    }

    /// It exited, possibly to be restarted: either way whoever waits for it to stop is told of this exit, as by
    /// Docker. Only a wait that begins while it is to be restarted waits for the next.
    pub(super) fn on_exit(&mut self) {
        self.answer_waiters(|condition| condition != WaitCondition::Removed);
    }

    /// It was removed.
    pub(super) fn on_gone(&mut self) {
        self.answer_waiters(|_| true);
    }

    fn answer_waiters(&mut self, concerned: impl Fn(WaitCondition) -> bool) {
        let present = self.present_exit();
        for (condition, waiter) in std::mem::take(&mut self.callers.waiters) {
            if concerned(condition) {
                let _ = waiter.send(present.clone());
            } else {
                self.callers.waiters.push((condition, waiter));
            }
        }
    }
}
