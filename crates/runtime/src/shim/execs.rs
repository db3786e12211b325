//! Further processes in the container.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gantry_model::failpoint::{Point, reached};
use oci_spec::runtime::LinuxSeccomp;

use super::container::{Phase, process_id};
use super::lifecycle::{DRAIN, check_signal, not_running};
use super::poller::Token;
use super::protocol::{Event, Exec, KillExec, ProcessId, Refusal, RefusalKind};
use super::streams::{Shape, Streams};
use super::supervisor::{IsLogged, Supervisor, earliest};
use crate::launch::Supervise;
use crate::{LaunchError, Process, Reason, exec};

/// How long a client's end may wait for the daemon's acknowledgement of the exit code: the client asks for
/// the code when it sees the end. Long, because a daemon that is connected and slow will acknowledge yet.
const HOLD: Duration = Duration::from_secs(10);
/// The annotation that says which user to resolve.
const USER: &str = "gantry.user";
const GROUPS: &str = "gantry.groups";

/// A further process.
#[derive(Debug)]
pub(super) struct ExecProcess {
    pub(super) id: String,
    /// Its streams' number.
    pub(super) owner: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Running(Process),
    /// It ended; its output is being read.
    Draining {
        code: i32,
        deadline: Instant,
    },
    /// Its end is announced; its client is held until that is acknowledged.
    Announced {
        seq: u64,
        until: Instant,
    },
}

impl ExecProcess {
    /// Whether its end has been announced.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Announced { .. })
    }

    /// Its process, while it runs.
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Running(process) => Some(process),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Carries out `Exec`.
    pub(super) fn exec(&mut self, exec: &Exec, mut descriptors: Vec<OwnedFd>) -> Result<ProcessId, Refusal> {
        self.check_generation(exec.generation)?;
        if !matches!(self.container.phase, Phase::Running(_)) {
            return Err(not_running());
        }
        if self.container.run.paused {
            return Err(Refusal::new(RefusalKind::Conflict, "the container is paused"));
        }
        if self.execs.iter().any(|it| it.id == exec.exec_id) {
            return Err(Refusal::new(RefusalKind::Conflict, format!("exec {} exists", exec.exec_id)));
        }
        let client = descriptors.pop();
        if client.is_some() != exec.attach.is_some() || !descriptors.is_empty() {
            return Err(Refusal::new(RefusalKind::Invalid, "an exec has a descriptor if it has a client"));
        }
        let owner = self.table.new_owner();
        self.make_exec(exec, owner, client).map_err(|error| {
            self.finish_streams(owner);
            Refusal { kind: RefusalKind::Launch, text: error.to_string(), exit_code: Some(error.exit_code()) }
        })
    }

    fn make_exec(
        &mut self,
        exec: &Exec,
        owner: u32,
        client: Option<OwnedFd>,
    ) -> Result<ProcessId, LaunchError> {
        let failed = |error: std::io::Error| LaunchError::new(Reason::Setup, error.to_string());
        let terminal = exec.process.terminal().unwrap_or_default();
        let shape = Shape {
            terminal: terminal.then_some(exec.terminal_size),
            stdin: exec.attach.as_ref().is_some_and(|attach| attach.streams.stdin),
            output: exec.attach.is_some(),
            stdin_once: true,
        };
        let (streams, stdio) = Streams::new(owner, shape).map_err(failed)?;
        self.table.insert(owner, streams, IsLogged::No);
        let seccomp = self.container_seccomp()?;
        let annotations = self.exec_annotations(exec);
        let Some(target) = self.container.process() else {
            return Err(LaunchError::new(Reason::Setup, "the container is not running"));
        };
        let mut created = exec::exec(exec::Exec {
            target,
            process: &exec.process,
            annotations: &annotations,
            stdio,
            cgroup: self.container.cgroup.as_ref(),
            seccomp: seccomp.as_ref(),
            supervise: Supervise::Child,
        })?;
        let master = created.terminal.take();
        let process = created.start()?;
        reached(Point::ShimExec);
        if let Some(master) = master
            && let Some(streams) = self.table.streams(owner)
        {
            streams.set_terminal(master).map_err(failed)?;
        }
        // Not before: of an exec that fails, the client is the daemon's to tell why.
        if let (Some(attach), Some(client)) = (&exec.attach, client)
            && let Some((streams, mut io)) = self.table.get(owner, &self.poller)
        {
            streams.attach(client, attach, &mut io).map_err(failed)?;
        }
        self.watch_process(&process, Token::Exec(owner)).map_err(failed)?;
        let id = process_id(&process);
        self.execs.push(ExecProcess { id: exec.exec_id.clone(), owner, stage: Stage::Running(process) });
        self.announce(Event::ExecStarted { exec_id: exec.exec_id.clone(), process: id });
        Ok(id)
    }

    /// The container's own filter, if it has one; the default one needs no reading back.
    fn container_seccomp(&mut self) -> Result<Option<LinuxSeccomp>, LaunchError> {
        if !self.container.settings.has_seccomp {
            return Ok(None);
        }
        let launch = self.container.stored_launch()?;
        Ok(launch.spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()))
    }

    fn exec_annotations(&self, exec: &Exec) -> HashMap<String, String> {
        let mut annotations = self.container.settings.annotations.clone();
        annotations.remove(USER);
        if !exec.user.is_empty() {
            annotations.insert(USER.into(), exec.user.clone());
        }
        if exec.user.is_empty() && exec.process.user().uid() != 0 {
            annotations.remove(GROUPS);
        }
        annotations
    }

    /// Carries out `KillExec`.
    pub(super) fn kill_exec(&mut self, kill: &KillExec) -> Result<(), Refusal> {
        check_signal(kill.signal)?;
        let process = self.execs.iter().find(|exec| exec.id == kill.exec_id).and_then(ExecProcess::process);
        let Some(process) = process else {
            return Err(Refusal::new(RefusalKind::NotFound, format!("no exec {} runs", kill.exec_id)));
        };
        process.signal(kill.signal).map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))
    }

    /// The streams of an exec, or of the container.
    pub(super) fn owner_of(&self, exec_id: Option<&str>) -> Result<u32, Refusal> {
        let Some(id) = exec_id else { return Ok(self.container.run.owner) };
        self.execs
            .iter()
            .find(|exec| exec.id == id)
            .map(|exec| exec.owner)
            .ok_or_else(|| Refusal::new(RefusalKind::NotFound, format!("no exec {id} runs")))
    }

    /// The container has ended, and so must they.
    pub(super) fn kill_execs(&mut self) {
        for process in self.execs.iter().filter_map(ExecProcess::process) {
            let _ = process.signal(9);
        }
    }

    /// An exec's process has ended.
    pub(super) fn on_exec_ended(&mut self, owner: u32) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.owner == owner) else { return };
        let Stage::Running(process) = &exec.stage else { return };
        let code = match process.try_wait() {
            Ok(Some(exit)) => exit.code(),
            Ok(None) => return,
            Err(_) => 137,
        };
        exec.stage = Stage::Draining { code, deadline: Instant::now() + DRAIN };
        if let Some(streams) = self.table.streams(owner) {
            streams.drain();
        }
    }

    /// Goes on with those that have ended. Returns the next deadline.
    pub(super) fn settle_execs(&mut self) -> Option<Instant> {
        let mut next = None;
        for at in 0..self.execs.len() {
            let owner = self.execs[at].owner;
            if let Stage::Draining { code, deadline } = self.execs[at].stage {
                let drained = self.table.streams(owner).is_none_or(|streams| streams.is_drained());
                if !drained && Instant::now() < deadline {
                    next = earliest(next, Some(deadline));
                    continue;
                }
                let exec_id = self.execs[at].id.clone();
                let seq = self.announce(Event::ExecExited { exec_id, code });
                if let Some(streams) = self.table.streams(owner) {
                    streams.may_close = false;
                }
                self.finish_streams(owner);
                self.execs[at].stage = Stage::Announced { seq, until: Instant::now() + HOLD };
            }
            if let Stage::Announced { seq, until } = self.execs[at].stage {
                let known = self.link.journal.is_acknowledged(seq) || self.link.daemon().is_none();
                if known || Instant::now() >= until {
                    if let Some(streams) = self.table.streams(owner) {
                        streams.may_close = true;
                    }
                } else {
                    next = earliest(next, Some(until));
                }
            }
        }
        self.execs.retain(|exec| {
            !(exec.has_ended() && self.table.streams(exec.owner).is_none_or(|streams| streams.may_close))
        });
        next
    }
}
