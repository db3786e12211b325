//! Signals.

use gantry_model::container::Status;
use gantry_runtime::shim::protocol::{Kill, Request};

use super::link::Pending;
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error, check};

/// `SIGKILL`.
const KILL: i32 = 9;

impl Containers {
    /// Sends a signal (name or number; empty is `KILL`); for `KILL`, waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), Error> {
        let named = |text: &str| format!("cannot kill container: {container}: {text}");
        let signal = match signal.parse::<i32>() {
            Ok(number) if !(0..=64).contains(&number) => {
                Err(Error::Invalid(format!("the linux daemon does not support signal {number}")))
            }
            _ if signal.is_empty() => Ok(KILL),
            _ => check::signal(signal),
        };
        let signal = signal.map_err(|error| Error::Invalid(named(&error.to_string())))?;
        let killed = self.ask(container, |answer| Message::Kill { signal, answer }).await;
        killed.map_err(|error| match error {
            Error::Conflict(text) => Error::Conflict(named(&text)),
            Error::NoSuchContainer(_) => Error::NotFound(named(&error.to_string())),
            other => other,
        })
    }
}

impl Task {
    pub(super) fn on_kill(&mut self, signal: i32, answer: Answerer<()>) {
        if self.restart_at.is_some() && signal == KILL {
            self.cancel_own_restart();
            return drop(answer.send(Ok(())));
        }
        if self.phase != Phase::Up || self.link.is_none() {
            let id = &self.known.record.id;
            let text = format!("container {id} is not running");
            return drop(answer.send(Err(Error::Conflict(text))));
        }
        // Docker's rule: a signal that may end it is an end by hand, unless the container has another stop signal.
        let own = &self.known.record.config.stop_signal;
        let cancels_restart =
            own.is_empty() || signal == KILL || check::signal(own).is_ok_and(|own| own == signal);
        self.send_kill(signal, cancels_restart);
        // Docker's rule, too: what is frozen must hear of its end.
        let paused = self.known.state.status == Status::Paused;
        if paused && signal != KILL && cancels_restart {
            return self.thaw(answer);
        }
        if signal == KILL {
            self.callers.kills.push(answer);
        } else {
            let _ = answer.send(Ok(()));
        }
    }

    /// Thaws what was sent a signal, and answers when it hears of it; that it has ended of it meanwhile is fine.
    fn thaw(&mut self, answer: Answerer<()>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        if let Some(link) = &mut self.link {
            link.ask(Request::Resume, &[], Pending::Caller(sender));
        }
        tokio::spawn(async move {
            let _ = receiver.await;
            let _ = answer.send(Ok(()));
        });
    }

    /// Sends a signal to the container's process.
    pub(super) fn send_kill(&mut self, signal: i32, cancels_restart: bool) {
        if let Some(link) = &mut self.link {
            let request = Request::Kill(Kill { signal, generation: 0, cancels_restart });
            link.ask(request, &[], Pending::Nobody);
        }
    }
}
