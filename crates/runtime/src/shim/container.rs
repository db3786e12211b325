//! What a shim knows about its container.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::Instant;

use gantry_model::Timestamp;
use gantry_model::container::{RestartPolicy, Status};
use serde_json::value::RawValue;

use super::oom::OomWatch;
use super::protocol::{Exit, Launch, ProcessId, TerminalSize};
use super::restart::Restarts;
use crate::cgroup::Cgroup;
use crate::launch::Created;
use crate::{LaunchError, Process, Reason};

/// The container.
#[derive(Debug, Default)]
pub(super) struct Container {
    pub(super) settings: Settings,
    pub(super) stored: StoredLaunch,
    pub(super) phase: Phase,
    /// The number of the current start.
    pub(super) generation: u64,
    pub(super) run: Run,
    pub(super) restarts: Restarts,
    pub(super) exit: Option<Exit>,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) oom_watch: OomWatch,
}

/// What is needed of the launch while it runs. The rest is stored away.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) restart: RestartPolicy,
    pub(super) stop_signal: i32,
    pub(super) stop_timeout_s: i64,
    pub(super) stdin: Stdin,
    pub(super) terminal: Option<TerminalSize>,
    /// The runtime's annotations, for execs.
    pub(super) annotations: HashMap<String, String>,
    /// Whether the specification has a filter of its own, for execs.
    pub(super) has_seccomp: bool,
}

/// What becomes of standard input.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stdin {
    pub(super) open: bool,
    pub(super) once: bool,
}

/// Where the container stands.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Nothing was launched.
    #[default]
    Empty,
    /// Its process waits before `execve`.
    Created(Box<Created>),
    /// It runs.
    Running(Process),
    /// It ended; its output is being read and written.
    Draining {
        /// Its exit code.
        code: i32,
        /// When that is given up.
        deadline: Instant,
        /// Whether the log was told of the end.
        log_ended: bool,
    },
    /// It will be started again then.
    Waiting(Instant),
    /// It ended for good, or could not be started.
    Exited,
}

/// One run of the container.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Its streams' number.
    pub(super) owner: u32,
    pub(super) since: Option<Instant>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) stop: Option<StopUnderWay>,
    /// Whether its end is somebody's will.
    pub(super) by_hand: bool,
    pub(super) paused: bool,
    /// The cgroup's count of kills when it began.
    pub(super) oom_kills_before: u64,
    /// The cgroup's count of kills that the daemon was told of.
    pub(super) oom_kills_told: u64,
}

/// A stop under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopUnderWay {
    /// When it kills; `None`: never, or it has.
    pub(super) kill_at: Option<Instant>,
}

/// The launch as it was sent, to launch again: first in memory, soon in a file without a name.
#[derive(Debug, Default)]
pub(super) enum StoredLaunch {
    #[default]
    None,
    Memory(Box<RawValue>),
    File(File),
}

impl Settings {
    /// Takes from the launch what is needed later.
    pub(super) fn of(launch: &Launch) -> Self {
        let annotations = launch.spec.annotations().as_ref();
        Self {
            name: launch.container.clone(),
            restart: launch.restart,
            stop_signal: launch.stop_signal,
            stop_timeout_s: launch.stop_timeout_s,
            stdin: Stdin { open: launch.open_stdin, once: launch.stdin_once },
            terminal: launch
                .spec
                .process()
                .as_ref()
                .and_then(|process| process.terminal().unwrap_or_default().then_some(launch.terminal_size)),
            annotations: annotations.map(runtime_annotations).unwrap_or_default(),
            has_seccomp: launch.spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some()),
        }
    }
}

fn runtime_annotations(all: &HashMap<String, String>) -> HashMap<String, String> {
    let ours = all.iter().filter(|(key, _)| key.starts_with("gantry."));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Container {
    /// The running process.
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.phase {
            Phase::Created(created) => Some(&created.process),
            Phase::Running(process) => Some(process),
            _ => None,
        }
    }

    /// In Docker's words.
    pub(super) fn status(&self) -> Status {
        match self.phase {
            Phase::Empty | Phase::Created(_) => Status::Created,
            Phase::Running(_) if self.run.paused => Status::Paused,
            // Its end is not announced yet.
            Phase::Running(_) | Phase::Draining { .. } => Status::Running,
            Phase::Waiting(_) => Status::Restarting,
            Phase::Exited => Status::Exited,
        }
    }

    /// Moves the launch out of memory.
    pub(super) fn store_launch(&mut self) {
        let StoredLaunch::Memory(json) = &self.stored else { return };
        let file = rustix::fs::memfd_create(c"launch", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
        if let Ok(mut file) = file
            && file.write_all(json.get().as_bytes()).is_ok()
        {
            self.stored = StoredLaunch::File(file);
        }
    }

    /// Reads the launch back.
    pub(super) fn stored_launch(&mut self) -> Result<Launch, LaunchError> {
        let invalid = |error: &dyn std::fmt::Display| {
            LaunchError::new(Reason::Setup, format!("the stored launch cannot be read: {error}"))
        };
        match &mut self.stored {
            StoredLaunch::None => Err(LaunchError::new(Reason::Setup, "nothing was launched")),
            StoredLaunch::Memory(json) => serde_json::from_str(json.get()).map_err(|error| invalid(&error)),
            StoredLaunch::File(file) => {
                let mut json = Vec::new();
                file.rewind().and_then(|()| file.read_to_end(&mut json)).map_err(|error| invalid(&error))?;
                serde_json::from_slice(&json).map_err(|error| invalid(&error))
            }
        }
    }
}

/// As the protocol writes it.
pub(super) fn process_id(process: &Process) -> ProcessId {
    ProcessId { pid: process.pid, start_time_ticks: process.start_time_ticks }
}
