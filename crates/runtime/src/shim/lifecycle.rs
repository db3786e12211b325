//! The container's way from launch to exit, and back again by policy.
//!
//! | step of a launch | undone by |
//! | --- | --- |
//! | hold the descriptors | the shim's end |
//! | make the cgroup (mostly before: `Prepare`) | remove it |
//! | make pipes, attach clients | close both, clients see the end |
//! | make the process (`launch::create`) | it kills and reaps |
//! | let it go (`Created::start`) | it kills and reaps |
//!
//! The order of an exit: reap, end execs and whatever is left in the cgroup, read the output to its end
//! (with a deadline), have it written (same deadline), read the OOM count, journal and announce, let
//! clients go, remove the cgroup.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_logs::{LogConfig, Stream};
use gantry_model::Timestamp;
use gantry_model::failpoint::{Point, reached};
use oci_spec::runtime::LinuxResources;

use super::container::{Phase, Run, Settings, StopUnderWay, StoredLaunch, process_id};
use super::poller::{EventFlags, Token, Watched};
use super::protocol::{Attach, Event, Exit, Kill, Launch, Prepare, ProcessId, Stop};
use super::protocol::{Refusal, RefusalKind};
use super::restart::{Ended, Restarts};
use super::streams::{Shape, Streams};
use super::supervisor::{Ending, IsLogged, Supervisor, earliest};
use crate::cgroup::{self, Cgroup, CgroupError, Layout};
use crate::init::report;
use crate::launch::{self, Supervise};
use crate::{LaunchError, Process, Reason};

/// How long output is waited for after the process' end.
pub(super) const DRAIN: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;
/// What Docker gives for a program that the kernel would not execute.
const EXEC_FAILED_CODE: i32 = 255;

impl Supervisor {
    /// Carries out `Launch`: `json` is its text, kept for restarts.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        json: Box<serde_json::value::RawValue>,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<ProcessId, Refusal> {
        if !matches!(self.container.phase, Phase::Empty) {
            return Err(Refusal::new(RefusalKind::Conflict, "this shim has launched its container already"));
        }
        let wanted = launch.descriptors.len() + launch.attach.len();
        if descriptors.len() != wanted {
            let text = format!("a launch with {wanted} descriptors came with {}", descriptors.len());
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        let clients = descriptors.split_off(launch.descriptors.len());
        self.held.put(launch.descriptors.clone(), descriptors);
        self.container.settings = Settings::of(launch);
        self.container.stored = StoredLaunch::Memory(json);
        self.container.restarts = Restarts::new(launch.restart_count);
        self.container.generation = launch.last_generation;
        self.link.journal.continue_after(launch.last_seq);
        let mut result = self.open_log(launch).and_then(|()| self.create(launch, clients));
        if launch.then_start && result.is_ok() {
            result = self.start();
        }
        result.map_err(|error| self.start_failed(&error))
    }

    fn open_log(&mut self, launch: &Launch) -> Result<(), LaunchError> {
        match &launch.log {
            LogConfig::None => Ok(()),
            LogConfig::JsonFile(config) => {
                self.table.open_log(config, &self.poller).map_err(|error| setup("opening the log", &error))
            }
        }
    }

    /// Makes the process.
    fn create(&mut self, launch: &Launch, clients: Vec<OwnedFd>) -> Result<ProcessId, LaunchError> {
        self.container.generation += 1;
        self.make_cgroup(launch)?;
        reached(Point::ShimCgroup);
        let owner = self.table.new_owner();
        let settings = &self.container.settings;
        let shape = Shape {
            terminal: settings.terminal,
            stdin: settings.stdin.open,
            output: true,
            stdin_once: settings.stdin.once,
        };
        let (streams, stdio) = Streams::new(owner, shape).map_err(|error| setup("making pipes", &error))?;
        let before = self.container.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kill_count().ok());
        let oom_kills_before = before.unwrap_or(0);
        self.container.run =
            Run { owner, oom_kills_before, oom_kills_told: oom_kills_before, ..Run::default() };
        self.table.insert(owner, streams, IsLogged::Yes);
        self.attach_all(owner, &launch.attach, clients)
            .map_err(|error| setup("attaching a client", &error))?;
        let mut created = launch::create(launch::Launch {
            spec: &launch.spec,
            root: &launch.root,
            namespaces: self.held.joined(),
            stdio,
            cgroup: self.container.cgroup.as_ref(),
            supervise: Supervise::Child,
            init: launch.init.as_deref(),
        })?;
        if let Some(master) = created.terminal.take()
            && let Some(streams) = self.table.streams(owner)
        {
            streams.set_terminal(master).map_err(|error| setup("taking the terminal", &error))?;
        }
        reached(Point::ShimCreated);
        let id = process_id(&created.process);
        let warnings = std::mem::take(&mut created.warnings);
        self.container.phase = Phase::Created(Box::new(created));
        self.announce(Event::Created(id));
        for text in warnings {
            self.announce(Event::Warning { text });
        }
        Ok(id)
    }

    fn attach_all(&mut self, owner: u32, attach: &[Attach], clients: Vec<OwnedFd>) -> io::Result<()> {
        for (attach, client) in attach.iter().zip(clients) {
            if let Some((streams, mut io)) = self.table.get(owner, &self.poller) {
                streams.attach(client, attach, &mut io)?;
            }
        }
        Ok(())
    }

    /// Carries out `Prepare`.
    pub(super) fn prepare(&mut self, prepare: &Prepare) -> Result<(), Refusal> {
        if !matches!(self.container.phase, Phase::Empty) {
            return Err(Refusal::new(RefusalKind::Conflict, "this shim has launched its container already"));
        }
        let Prepare { cgroup, hierarchies, resources } = prepare;
        let made = new_cgroup(Path::new(cgroup), hierarchies.as_ref(), resources.as_ref());
        let made = made.map_err(|error| Refusal::new(RefusalKind::Internal, chain(&error)))?;
        self.remove_cgroup();
        self.container.cgroup = Some(made);
        Ok(())
    }

    /// Makes the cgroup, unless it was prepared or an earlier run left it.
    fn make_cgroup(&mut self, launch: &Launch) -> Result<(), LaunchError> {
        let Some(path) = launch.cgroup.as_ref().map(Path::new) else { return Ok(()) };
        if self.container.cgroup.as_ref().is_none_or(|cgroup| cgroup.path() != path) {
            self.remove_cgroup();
            let resources = launch.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
            let cgroup = new_cgroup(path, launch.hierarchies.as_ref(), resources)
                .map_err(|error| setup("error setting cgroup config for procHooks process", &error))?;
            self.container.cgroup = Some(cgroup);
        }
        let warnings = self.container.cgroup.as_mut().map(Cgroup::take_warnings);
        for text in warnings.into_iter().flatten() {
            self.announce(Event::Warning { text });
        }
        Ok(())
    }

    /// Lets the waiting process go.
    pub(super) fn start(&mut self) -> Result<ProcessId, LaunchError> {
        let created = match std::mem::take(&mut self.container.phase) {
            Phase::Created(created) => created,
            other => {
                self.container.phase = other;
                return Err(LaunchError::new(Reason::Setup, "there is no process to start"));
            }
        };
        let id = process_id(&created.process);
        let result = created.start();
        self.container.run.since = Some(Instant::now());
        self.container.run.started_at = Some(now());
        match result {
            Ok(process) => {
                reached(Point::ShimReleased);
                self.watch_process(&process, Token::Init).map_err(|error| setup("watching it", &error))?;
                self.container.phase = Phase::Running(process);
                self.announce(Event::Started(id));
                Ok(id)
            }
            Err(error) if error.reason == Reason::ExecFailed => {
                // To Docker it ran: it wrote why not, and exited.
                self.announce(Event::Started(id));
                let text = format!("{error}\n");
                self.table.inject(self.container.run.owner, Stream::Stderr, text.as_bytes());
                self.begin_draining(EXEC_FAILED_CODE);
                Ok(id)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the end of a process told to us. The pidfd is watched until it is closed, which nobody else
    /// holds.
    pub(super) fn watch_process(&self, process: &Process, token: Token) -> io::Result<()> {
        Watched::new(process, token).watch(&self.poller, Some(EventFlags::IN))
    }

    /// Cleans up after a start that failed, and says so.
    pub(super) fn start_failed(&mut self, error: &LaunchError) -> Refusal {
        self.container.phase = Phase::Exited;
        self.finish_streams(self.container.run.owner);
        self.remove_cgroup();
        let (text, exit_code) = (error.to_string(), error.exit_code());
        self.announce(Event::StartFailed { text: text.clone(), exit_code });
        Refusal { kind: RefusalKind::Launch, text, exit_code: Some(exit_code) }
    }

    /// The container's init has ended.
    pub(super) fn on_init_ended(&mut self) {
        let Phase::Running(process) = &self.container.phase else { return };
        let code = match process.try_wait() {
            Ok(Some(exit)) => exit.code(),
            Ok(None) => return,
            // It cannot be waited for: all that is known is that it is gone.
            Err(_) => 128 + SIGKILL,
        };
        self.begin_draining(code);
    }

    fn begin_draining(&mut self, code: i32) {
        reached(Point::ShimReaped);
        // The pidfd leaves the epoll by being closed.
        self.container.phase = Phase::Draining { code, deadline: Instant::now() + DRAIN, log_ended: false };
        self.kill_execs();
        if let Some(cgroup) = &self.container.cgroup
            && cgroup.procs().is_ok_and(|left| !left.is_empty())
        {
            let _ = cgroup.kill_all();
        }
        if let Some(streams) = self.table.streams(self.container.run.owner) {
            streams.drain();
        }
    }

    /// Goes on with what waits for time or for others. Returns the next deadline.
    pub(super) fn settle_container(&mut self) -> Option<Instant> {
        match self.container.phase {
            Phase::Running(_) => earliest(self.settle_oom(), self.settle_stop()),
            Phase::Draining { code, deadline, log_ended } => {
                let owner = self.container.run.owner;
                let drained = self.table.streams(owner).is_none_or(|streams| streams.is_drained());
                let late = Instant::now() >= deadline;
                if drained && !log_ended {
                    self.table.end_log();
                    self.container.phase = Phase::Draining { code, deadline, log_ended: true };
                }
                if late
                    || (drained
                        && self.execs.iter().all(super::execs::ExecProcess::has_ended)
                        && self.is_log_drained())
                {
                    self.exited(code);
                    return self.settle_container();
                }
                Some(deadline)
            }
            Phase::Waiting(at) if Instant::now() >= at => {
                self.restart();
                self.settle_container()
            }
            Phase::Waiting(at) => Some(at),
            _ => None,
        }
    }

    fn settle_stop(&mut self) -> Option<Instant> {
        let kill_at = self.container.run.stop?.kill_at?;
        if Instant::now() < kill_at {
            return Some(kill_at);
        }
        self.container.run.stop = Some(StopUnderWay { kill_at: None });
        // One whose output still drains has ended by itself.
        if matches!(self.container.phase, Phase::Running(_)) {
            self.announce(Event::Killed { signal: SIGKILL });
            let _ = self.signal(SIGKILL);
        }
        None
    }

    /// The exit is complete: decides what follows, journals, announces, cleans up.
    fn exited(&mut self, code: i32) {
        reached(Point::ShimDrained);
        // Read while the cgroup is there.
        let oom = self.tell_oom_kills();
        let ended = Ended {
            code,
            ran: self.container.run.since.map_or(Duration::ZERO, |since| since.elapsed()),
            by_hand: self.container.run.by_hand || self.ending != Ending::No,
        };
        let delay = self.container.restarts.after(self.container.settings.restart, ended);
        self.container.exit = Some(Exit { code, oom, time: now() });
        self.container.run.stop = None;
        self.announce(Event::Exited { code, oom, restarting: delay.is_some() });
        if let Some(delay) = delay {
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            self.announce(Event::Restarting { delay_ms, count: self.container.restarts.count });
            self.container.phase = Phase::Waiting(Instant::now() + delay);
        } else {
            self.container.phase = Phase::Exited;
        }
        reached(Point::ShimExited);
        self.finish_streams(self.container.run.owner);
        if delay.is_none() {
            self.remove_cgroup();
        }
    }

    pub(super) fn finish_streams(&mut self, owner: u32) {
        if let Some(streams) = self.table.streams(owner) {
            streams.finish(&self.poller);
        }
    }

    pub(super) fn remove_cgroup(&mut self) {
        self.end_oom_watch();
        if let Some(cgroup) = self.container.cgroup.take() {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
    }

    /// Starts it again.
    fn restart(&mut self) {
        reached(Point::ShimRestart);
        let result = self.container.stored_launch().and_then(|mut launch| {
            // Those attached to the first start are long gone.
            launch.attach.clear();
            self.create(&launch, Vec::new())?;
            self.start()
        });
        if let Err(error) = result {
            self.start_failed(&error);
        }
    }

    /// Refuses what is meant for another start; 0 means the current.
    pub(super) fn check_generation(&self, generation: u64) -> Result<(), Refusal> {
        if generation == 0 || generation == self.container.generation {
            return Ok(());
        }
        let text = format!("start {generation} was meant, but {} is current", self.container.generation);
        Err(Refusal::new(RefusalKind::StaleGeneration, text))
    }

    /// Carries out `Stop`.
    pub(super) fn stop(&mut self, stop: Stop) -> Result<(), Refusal> {
        self.check_generation(stop.generation)?;
        match self.container.phase {
            Phase::Running(_) => {}
            Phase::Draining { .. } => {
                self.container.run.by_hand = true;
                return Ok(());
            }
            Phase::Waiting(_) => {
                self.cancel_restart();
                return Ok(());
            }
            Phase::Empty | Phase::Created(_) | Phase::Exited => return Err(not_running()),
        }
        let signal = stop.signal.unwrap_or(self.container.settings.stop_signal);
        // The container's own may be a number that is no signal: nothing is sent then, and the time runs out.
        let is_signal = check_signal(signal);
        let is_sent = is_signal.is_ok();
        if stop.signal.is_some() {
            is_signal?;
        }
        let timeout_s = stop.timeout_s.unwrap_or(self.container.settings.stop_timeout_s);
        self.container.run.by_hand = true;
        self.announce(Event::Stopping { signal, timeout_s });
        reached(Point::ShimStopping);
        // A timeout beyond an Instant's range is as good as none.
        let mut kill_at = u64::try_from(timeout_s)
            .ok()
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        if let Some(StopUnderWay { kill_at: Some(earlier) }) = self.container.run.stop {
            kill_at = Some(kill_at.map_or(earlier, |at| at.min(earlier)));
        }
        self.container.run.stop = Some(StopUnderWay { kill_at });
        if is_sent {
            self.signal(signal)?;
        }
        reached(Point::ShimSignalled);
        self.thaw_to_die();
        Ok(())
    }

    /// Carries out `Kill`.
    pub(super) fn kill(&mut self, kill: Kill) -> Result<(), Refusal> {
        self.check_generation(kill.generation)?;
        check_signal(kill.signal)?;
        match self.container.phase {
            Phase::Running(_) => {}
            Phase::Waiting(_) if kill.cancels_restart => {
                self.cancel_restart();
                return Ok(());
            }
            _ => return Err(not_running()),
        }
        self.container.run.by_hand |= kill.cancels_restart;
        self.announce(Event::Killed { signal: kill.signal });
        self.signal(kill.signal)
    }

    fn cancel_restart(&mut self) {
        self.container.phase = Phase::Exited;
        self.announce(Event::RestartCancelled);
        self.remove_cgroup();
    }

    /// Signals init; a frozen one that is killed is thawed to die.
    fn signal(&mut self, signal: i32) -> Result<(), Refusal> {
        let Some(process) = self.container.process() else { return Err(not_running()) };
        // One that ended a moment ago is as good as signalled: its exit is on its way.
        match process.signal(signal) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                return Err(Refusal::new(RefusalKind::Internal, format!("signal {signal}: {error}")));
            }
            _ => {}
        }
        if signal == SIGKILL {
            self.thaw_to_die();
        }
        Ok(())
    }

    fn thaw_to_die(&mut self) {
        if std::mem::take(&mut self.container.run.paused)
            && let Some(cgroup) = &self.container.cgroup
        {
            let _ = cgroup.thaw();
            self.announce(Event::Resumed);
        }
    }

    /// Carries out `Pause` and `Resume`.
    pub(super) fn set_paused(&mut self, paused: bool) -> Result<(), Refusal> {
        if !matches!(self.container.phase, Phase::Running(_)) {
            return Err(not_running());
        }
        let Some(cgroup) = &self.container.cgroup else {
            return Err(Refusal::new(RefusalKind::Conflict, "a container without a cgroup cannot be frozen"));
        };
        if self.container.run.paused == paused {
            let text = if paused { "already paused" } else { "not paused" };
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        let result = if paused { cgroup.freeze() } else { cgroup.thaw() };
        result.map_err(|error| Refusal::new(RefusalKind::Internal, chain(&error)))?;
        self.container.run.paused = paused;
        self.announce(if paused { Event::Paused } else { Event::Resumed });
        Ok(())
    }

    /// Kills whatever lives, because the shim is to end.
    pub(super) fn kill_for_shutdown(&mut self) {
        self.container.run.by_hand = true;
        match std::mem::take(&mut self.container.phase) {
            Phase::Created(created) => {
                // It has not executed anything: nothing of it is worth telling.
                let _ = created.process.signal(SIGKILL);
                let _ = created.process.wait();
                self.container.phase = Phase::Exited;
                self.finish_streams(self.container.run.owner);
                self.remove_cgroup();
            }
            Phase::Waiting(_) => self.cancel_restart(),
            other => {
                self.container.phase = other;
                let _ = self.signal(SIGKILL);
            }
        }
    }
}

fn new_cgroup(
    path: &Path,
    hierarchies: Option<&Layout>,
    resources: Option<&LinuxResources>,
) -> Result<Cgroup, CgroupError> {
    match hierarchies {
        Some(known) => Cgroup::create(known, path, resources),
        None => Cgroup::create(&cgroup::detect()?, path, resources),
    }
}

fn setup(what: &str, error: &dyn std::error::Error) -> LaunchError {
    LaunchError::new(Reason::Setup, format!("{what}: {}", chain(error)))
}

/// An error with its causes, as one text for another process; the kernel's errors in Go's words, which clients know.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        let errno = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        text.push_str(&errno.map_or_else(|| cause.to_string(), report::error_text));
        source = cause.source();
    }
    text
}

pub(super) fn not_running() -> Refusal {
    Refusal::new(RefusalKind::Conflict, "the container is not running")
}

pub(super) fn check_signal(signal: i32) -> Result<(), Refusal> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Refusal::new(RefusalKind::Invalid, format!("{signal} is not a signal")))
}

/// The system clock.
pub(super) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_control_group_refuses_is_told_in_runcs_words() {
        let source = io::Error::from_raw_os_error(libc::ENODEV);
        let path = "/sys/fs/cgroup/blkio/c/blkio.throttle.read_bps_device".into();
        let error = CgroupError::Write { value: "1:8 20971520".into(), path, source };
        assert_eq!(
            chain(&error),
            "failed to write \"1:8 20971520\": write \
             /sys/fs/cgroup/blkio/c/blkio.throttle.read_bps_device: no such device"
        );
    }
}
