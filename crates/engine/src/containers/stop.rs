//! Stopping: the intent goes to the shim, which journals it, signals, and kills after the timeout, also
//! without the daemon.

use gantry_model::container::Status;
use gantry_model::failpoint::{Point, reached};
use gantry_runtime::shim::protocol::{Request, Stop};

use super::link::Pending;
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error, StopOptions, check};

impl Containers {
    /// Sends the stop signal, then `SIGKILL` after the timeout; returns when it is stopped.
    ///
    /// # Errors
    /// [`Error::AlreadyStopped`] if it does not run.
    pub async fn stop(&self, container: &str, options: StopOptions) -> Result<(), Error> {
        self.stop_and(container, options, Afterwards::Rests).await
    }

    async fn stop_and(
        &self,
        container: &str,
        options: StopOptions,
        afterwards: Afterwards,
    ) -> Result<(), Error> {
        let signal = match options.signal.as_str() {
            "" => None,
            text => {
                let view = self.core.index.find(container)?.view();
                if !view.state.is_running() && view.state.status != Status::Restarting {
                    return Err(Error::AlreadyStopped);
                }
                let refused = |error| {
                    let what = match afterwards {
                        Afterwards::Rests => "cannot stop container:",
                        Afterwards::Starts => "Cannot restart container",
                    };
                    Error::Invalid(format!("{what} {container}: {error}"))
                };
                Some(check::signal(text).map_err(refused)?)
            }
        };
        let timeout_s = options.timeout_s.map(|seconds| seconds.max(-1));
        self.ask(container, |answer| Message::Stop { signal, timeout_s, afterwards, answer }).await
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Containers::stop`] and [`Containers::start`].
    pub async fn restart(&self, container: &str, options: StopOptions) -> Result<(), Error> {
        let entry = self.core.index.find(container)?;
        match self.stop_and(container, options, Afterwards::Starts).await {
            Ok(()) | Err(Error::AlreadyStopped) => {}
            Err(error) => return Err(error),
        }
        match self.start(entry.id.as_str()).await {
            Ok(()) | Err(Error::AlreadyStarted) => {}
            Err(error) => return Err(error),
        }
        super::publish(&self.core, &entry.view().record, "restart", Vec::new());
        Ok(())
    }
}

/// What becomes of a container that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Afterwards {
    /// It rests, or goes if it was made to go (`--rm`).
    #[default]
    Rests,
    /// It is started again: also one that was made to go stays.
    Starts,
}

impl Task {
    pub(super) fn on_stop(
        &mut self,
        signal: Option<i32>,
        timeout_s: Option<i64>,
        afterwards: Afterwards,
        answer: Answerer<()>,
    ) {
        if self.cancel_own_restart() {
            return drop(answer.send(Ok(())));
        }
        match &mut self.link {
            Some(link) if self.phase == Phase::Up => {
                let request = Request::Stop(Stop { signal, timeout_s, generation: 0 });
                link.ask(request, &[], Pending::Nobody);
                reached(Point::StopAsked);
                self.callers.afterwards = afterwards;
                self.callers.stops.push(answer);
            }
            _ => drop(answer.send(Err(Error::AlreadyStopped))),
        }
    }

    /// A restart that the task itself waits for (its shim died) is cancelled; whether there was one.
    pub(super) fn cancel_own_restart(&mut self) -> bool {
        let waiting = self.restart_at.take().is_some();
        if waiting {
            self.known.state.status = Status::Exited;
            self.known.state.desired = gantry_model::container::Desired::Stopped;
            self.save();
            self.show();
        }
        waiting
    }
}
