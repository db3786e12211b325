//! Freezing, thawing, and the size of the terminal.

use gantry_model::container::Status;
use gantry_model::failpoint::{Point, reached};
use gantry_runtime::shim::protocol::{RefusalKind, Request, ResizeTty, TerminalSize};
use std::os::fd::{AsFd, OwnedFd};
use tokio::sync::oneshot;

use super::link::{Answer, Pending};
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error};

impl Containers {
    /// Freezes its processes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run or is paused.
    pub async fn pause(&self, container: &str) -> Result<(), Error> {
        self.ask(container, Message::Pause).await
    }

    /// Thaws its processes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not paused.
    pub async fn unpause(&self, container: &str) -> Result<(), Error> {
        self.ask(container, Message::Unpause).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn resize(&self, container: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let size = TerminalSize { rows, cols: columns };
        let entry = self.core.index.find(container)?;
        let answer =
            self.forward(&entry, Request::ResizeTty(ResizeTty { exec_id: None, size }), None).await?;
        answer.map(drop).map_err(|refusal| Error::Conflict(refusal.text))?;
        let extra = vec![("height", rows.to_string()), ("width", columns.to_string())];
        super::publish(&self.core, &entry.view().record, "resize", extra);
        Ok(())
    }
}

impl Task {
    pub(super) fn on_pause(&mut self, answer: Answerer<()>) {
        let id = self.known.record.id.clone();
        match self.known.state.status {
            Status::Running => self.ask_and_answer(Request::Pause, answer),
            Status::Paused => {
                drop(answer.send(Err(Error::Conflict(format!("Container {id} is already paused")))))
            }
            Status::Restarting => {
                let text = format!("container {id} is restarting, wait until the container is running");
                drop(answer.send(Err(Error::Conflict(text))));
            }
            _ => drop(answer.send(Err(Error::Conflict(format!("container {id} is not running"))))),
        }
    }

    pub(super) fn on_unpause(&mut self, answer: Answerer<()>) {
        if self.known.state.status == Status::Paused {
            return self.ask_and_answer(Request::Resume, answer);
        }
        let id = &self.known.record.id;
        drop(answer.send(Err(Error::Conflict(format!("Container {id} is not paused")))));
    }

    /// Asks the shim for what is done when it answers.
    fn ask_and_answer(&mut self, request: Request, answer: Answerer<()>) {
        let Some(link) = &mut self.link else {
            return drop(answer.send(Err(Error::Conflict("the container has no shim".into()))));
        };
        let (sender, receiver) = oneshot::channel::<Answer>();
        link.ask(request, &[], Pending::Caller(sender));
        let id = self.known.record.id.clone();
        tokio::spawn(async move {
            let result = match receiver.await {
                Ok(Ok(_)) => Ok(()),
                // Another request of the kind came first.
                Ok(Err(refusal)) if refusal.kind == RefusalKind::Conflict => {
                    Err(Error::Conflict(format!("Container {id} is {}", refusal.text)))
                }
                Ok(Err(refusal)) => Err(Error::Internal(refusal.text)),
                Err(_) => Err(Error::Conflict("the container ended meanwhile".into())),
            };
            let _ = answer.send(result);
        });
    }

    /// Forwards a request of another's making.
    pub(super) fn on_ask(&mut self, request: Request, client: Option<OwnedFd>, answer: Answerer<Answer>) {
        let id = &self.known.record.id;
        match &mut self.link {
            Some(link) if self.phase == Phase::Up => {
                let (sender, receiver) = oneshot::channel::<Answer>();
                let descriptors: Vec<_> = client.iter().map(AsFd::as_fd).collect();
                let execs = matches!(request, Request::Exec(_));
                link.ask(request, &descriptors, Pending::Caller(sender));
                if execs {
                    reached(Point::ExecAsked);
                }
                tokio::spawn(async move {
                    let gone = Error::Conflict("the container ended meanwhile".into());
                    let _ = answer.send(receiver.await.map_err(|_| gone));
                });
            }
            _ => drop(answer.send(Err(Error::Conflict(format!("container {id} is not running"))))),
        }
    }
}
