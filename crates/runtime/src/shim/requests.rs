//! What each request does.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::container::{Phase, process_id};
use super::lifecycle::not_running;
use super::link::Incoming;
use super::protocol::{
    Attach, Descriptors, ExecState, Hello, HelloRequest, Outcome, PROTOCOL, PROTOCOL_OLDEST, Refusal,
    RefusalKind, Reply, Request, Shutdown, State,
};
use super::supervisor::{Ending, Supervisor};

/// How a request is answered.
enum Answer {
    /// With this.
    Reply(Reply),
    /// With this and held descriptors of these names.
    Descriptors(Vec<String>),
    /// Not at all, or later.
    None,
}

impl Supervisor {
    /// Carries out a request and answers it.
    pub(super) fn on_request(&mut self, incoming: Incoming) {
        let Incoming { peer, greeted, frame, descriptors } = incoming;
        let id = frame.id;
        let result = Request::parse(&frame).and_then(|request| match request {
            Request::Hello(hello) => self.hello(peer, id, &hello),
            _ if !greeted => Err(Refusal::new(RefusalKind::Protocol, "hello comes first")),
            Request::Launch(launch) => self
                .launch(&launch, frame.args, descriptors)
                .map(|process| Answer::Reply(Reply::Launched(process))),
            request => self.carry_out(request, descriptors, (peer, id)),
        });
        match result {
            Ok(Answer::Reply(reply)) => self.link.reply(peer, id, Outcome::Ok(reply), &[], &self.poller),
            Ok(Answer::Descriptors(names)) => self.reply_descriptors(peer, id, names),
            Ok(Answer::None) => {}
            Err(refusal) => self.link.reply(peer, id, Outcome::Error(refusal), &[], &self.poller),
        }
    }

    fn carry_out(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
        from: (u32, u64),
    ) -> Result<Answer, Refusal> {
        match request {
            Request::Hello(_) | Request::Launch(_) => return Ok(Answer::None),
            Request::Prepare(prepare) => self.prepare(&prepare)?,
            Request::Start => return self.start_request(),
            Request::Stop(stop) => self.stop(stop)?,
            Request::Kill(kill) => self.kill(kill)?,
            Request::SetRestartPolicy(policy) => self.container.settings.restart = policy,
            Request::Exec(exec) => {
                return self.exec(&exec, descriptors).map(|id| Answer::Reply(Reply::ExecStarted(id)));
            }
            Request::KillExec(kill) => self.kill_exec(&kill)?,
            Request::ResizeTty(resize) => {
                let owner = self.owner_of(resize.exec_id.as_deref())?;
                if let Some(streams) = self.table.streams(owner) {
                    streams.resize(resize.size);
                }
            }
            Request::Attach(attach) => self.attach(&attach, descriptors)?,
            Request::CloseStdin(close) => {
                let owner = self.owner_of(close.exec_id.as_deref())?;
                if let Some(streams) = self.table.streams(owner) {
                    streams.close_input();
                }
            }
            Request::Pause => self.set_paused(true)?,
            Request::Resume => self.set_paused(false)?,
            Request::State => return Ok(Answer::Reply(Reply::State(self.state()))),
            Request::Ack(ack) => {
                self.link.journal.acknowledge(ack.seq);
                return Ok(Answer::None);
            }
            Request::Descriptors(asked) => {
                let names = if asked.names.is_empty() { self.held.names() } else { asked.names };
                return Ok(Answer::Descriptors(names));
            }
            Request::Hold(given) => {
                if given.names.len() != descriptors.len() {
                    return Err(Refusal::new(RefusalKind::Invalid, "each name needs one descriptor"));
                }
                self.held.put(given.names, descriptors);
            }
            Request::Release(names) => self.held.release(&names.names),
            Request::Shutdown(shutdown) => return self.shutdown(shutdown, from),
        }
        Ok(Answer::Reply(Reply::Done))
    }

    fn hello(&mut self, peer: u32, id: u64, hello: &HelloRequest) -> Result<Answer, Refusal> {
        if self.link.is_outdated(peer) {
            return Err(Refusal::new(RefusalKind::Conflict, "another daemon has come since"));
        }
        let protocol = PROTOCOL.min(hello.protocol);
        if protocol < PROTOCOL_OLDEST.max(hello.protocol_oldest) {
            let text = format!(
                "this shim speaks protocol {PROTOCOL_OLDEST} to {PROTOCOL}, the daemon {} to {}",
                hello.protocol_oldest, hello.protocol
            );
            return Err(Refusal::new(RefusalKind::Protocol, text));
        }
        let reply = Reply::Hello(Hello {
            protocol,
            build: env!("CARGO_PKG_VERSION").into(),
            features: Vec::new(),
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            state: self.state(),
        });
        self.link.greet(peer, Outcome::Ok(reply), id, hello.acknowledged, &self.poller);
        Ok(Answer::None)
    }

    fn start_request(&mut self) -> Result<Answer, Refusal> {
        if !matches!(self.container.phase, Phase::Created(_)) {
            return Err(Refusal::new(RefusalKind::Conflict, "there is no process that waits for its start"));
        }
        match self.start() {
            Ok(id) => Ok(Answer::Reply(Reply::Launched(id))),
            Err(error) => Err(self.start_failed(&error)),
        }
    }

    fn attach(&mut self, attach: &Attach, mut descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        let (Some(client), true) = (descriptors.pop(), descriptors.is_empty()) else {
            return Err(Refusal::new(RefusalKind::Invalid, "attach needs one descriptor"));
        };
        if !matches!(self.container.phase, Phase::Created(_) | Phase::Running(_)) {
            return Err(not_running());
        }
        let Some((streams, mut io)) = self.table.get(self.container.run.owner, &self.poller) else {
            return Err(not_running());
        };
        streams
            .attach(client, attach, &mut io)
            .map_err(|error| Refusal::new(RefusalKind::Invalid, format!("attaching a client: {error}")))
    }

    fn shutdown(&mut self, shutdown: Shutdown, from: (u32, u64)) -> Result<Answer, Refusal> {
        if self.ending != Ending::No {
            return Err(Refusal::new(RefusalKind::Conflict, "the shim is ending already"));
        }
        if !self.container.is_over() {
            if !shutdown.kill {
                return Err(Refusal::new(RefusalKind::Conflict, "the container has not ended"));
            }
            // It is answered when the container is gone, which the loop sees.
            self.ending = Ending::WhenExited(Some(from));
            self.kill_for_shutdown();
            return Ok(Answer::None);
        }
        self.finish_shutdown(Some(from));
        Ok(Answer::None)
    }

    fn reply_descriptors(&mut self, peer: u32, id: u64, names: Vec<String>) {
        let found = self.held.get(&names);
        let (outcome, descriptors): (_, Vec<BorrowedFd<'_>>) = match found {
            Ok(descriptors) => (Outcome::Ok(Reply::Descriptors(Descriptors { names })), descriptors),
            Err(refusal) => (Outcome::Error(refusal), Vec::new()),
        };
        self.link.reply(peer, id, outcome, &descriptors, &self.poller);
    }

    fn state(&self) -> State {
        let container = &self.container;
        State {
            container: container.settings.name.clone(),
            generation: container.generation,
            status: container.status(),
            process: container.process().map(process_id),
            started_at: container.run.started_at,
            exit: container.exit,
            restart_count: container.restarts.count,
            stopping: container.run.stop.is_some(),
            restart: container.settings.restart,
            last_seq: self.link.journal.last_seq(),
            execs: self
                .execs
                .iter()
                .filter_map(|exec| {
                    Some(ExecState { exec_id: exec.id.clone(), process: process_id(exec.process()?) })
                })
                .collect(),
        }
    }
}
