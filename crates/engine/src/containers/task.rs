//! One task for each container: a state machine with a mailbox.
//!
//! ```text
//!            start            answer to Start
//!   Idle ───────────▶ Starting ───────────▶ Up ──┐ exits for good
//!    ▲                   │ fails                 │
//!    │      settled      ▼                       ▼
//!    └───────────────────────── Settling ◀───────┘        (removed: the task ends)
//! ```
//! * **Starting**: a blocking thread takes the steps of [`super::start`]; then the shim is waited for.
//! * **Up**: a shim has the container, running, paused or waiting for its restart.
//! * **Settling**: the shim is told to end, then a blocking thread takes down the sandbox and, if the
//!   container is to go, all of it ([`super::remove`]).
//!
//! The task never waits for any of these: what cannot be done in the present phase is deferred to the
//! next, everything else is answered at once. Only the task writes the container's row.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::container::Desired;
use gantry_model::failpoint::{Point, reached};
use gantry_runtime::shim::connection::Connection;
use gantry_runtime::shim::protocol::{self, Reply, Request, Shutdown};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{self, Core};
use super::index::Entry;
use super::journal::{self, Effect};
use super::link::{Answer, Arrival, Asked, Link, Pending};
use super::record::{Record, State, View};
use super::remove::{Removal, Settled};
use super::start::Begun;
use super::stop::Afterwards;
use super::stopwatch::Stopwatch;
use super::{Error, Exit, RemoveOptions, Update, WaitCondition, supervise};
use crate::sandboxes::Attached;

/// Where an answer goes.
pub(super) type Answerer<T> = oneshot::Sender<Result<T, Error>>;

/// What a task can be told.
pub(crate) enum Message {
    /// Start.
    Start(Answerer<()>),
    /// Stop, with signal and seconds; `None` is the container's own.
    Stop { signal: Option<i32>, timeout_s: Option<i64>, afterwards: Afterwards, answer: Answerer<()> },
    /// Send a signal.
    Kill { signal: i32, answer: Answerer<()> },
    /// Freeze.
    Pause(Answerer<()>),
    /// Thaw.
    Unpause(Answerer<()>),
    /// Remove.
    Remove { options: RemoveOptions, answer: Answerer<()> },
    /// Another name.
    Rename { name: String, answer: Answerer<()> },
    /// Another policy or other limits.
    Update { update: Box<Update>, answer: Answerer<Vec<String>> },
    /// Wait; the exit comes through `exit`, `registered` says that nothing will be missed.
    Wait { condition: WaitCondition, exit: oneshot::Sender<Exit>, registered: oneshot::Sender<()> },
    /// A client of the streams.
    Attach { attach: Box<protocol::Attach>, client: OwnedFd, answer: Answerer<()> },
    /// Something to be forwarded to the shim as it is.
    Ask { request: Box<Request>, client: Option<OwnedFd>, answer: Answerer<Answer> },
    /// From a start's thread: the shim has all it needs.
    Begun(Box<Begun>),
    /// From a start's thread: it failed, and everything is undone.
    BeginFailed(Error),
    /// From a settling thread.
    Settled(Settled),
    /// The engine closes: the task ends, the container goes on.
    Close,
    /// Panics.
    #[cfg(test)]
    Defect,
}

/// Where the state machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No shim.
    Idle,
    /// On the way up.
    Starting,
    /// A shim has it.
    Up,
    /// On the way down.
    Settling,
    /// The task ends.
    Gone,
}

/// After this a state that could not be recorded is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(1);

/// What is known about the container; the view is made of it.
pub(super) struct Known {
    pub(super) record: Arc<Record>,
    pub(super) state: State,
    pub(super) network: Arc<Attached>,
    /// The last journal record that is in `state`.
    pub(super) seq: u64,
}

impl Known {
    /// The view.
    pub(super) fn view(&self, core: &Core) -> View {
        View {
            record: Arc::clone(&self.record),
            state: self.state.clone(),
            network: Arc::clone(&self.network),
            execs: core.execs.running_in(&self.record.id),
        }
    }
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Callers {
    pub(super) starts: Vec<Answerer<()>>,
    /// Answered at the final exit.
    pub(super) stops: Vec<Answerer<()>>,
    /// As `stops`, without the event `stop`.
    pub(super) kills: Vec<Answerer<()>>,
    pub(super) removal: Option<Removal>,
    /// Of the stop under way.
    pub(super) afterwards: Afterwards,
    pub(super) waiters: Vec<(WaitCondition, oneshot::Sender<Exit>)>,
    /// Clients that came before the start.
    pub(super) clients: Vec<(protocol::Attach, OwnedFd)>,
    /// Of the start that `starts` wait for, while it is in the shim's hands.
    pub(super) stopwatch: Option<Stopwatch>,
    /// Of that start: nobody else mounts the snapshot until the process runs, and shows as running.
    pub(super) rest: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// The task.
pub(super) struct Task {
    pub(super) core: Arc<Core>,
    pub(super) entry: Arc<Entry>,
    mailbox: mpsc::UnboundedReceiver<Message>,
    pub(super) known: Known,
    pub(super) phase: Phase,
    pub(super) link: Option<Link>,
    pub(super) callers: Callers,
    /// Messages for the next phase.
    deferred: Vec<Message>,
    /// When policy starts it again without a shim (whose shim died).
    pub(super) restart_at: Option<Instant>,
    /// A state that had to be recorded was not: nothing is acknowledged until one is.
    is_unsaved: bool,
    /// When to try again to record a state that could not be, for want of room on the disk.
    save_at: Option<Instant>,
    /// What a shim that was taken up said about how things are, until that is dealt with.
    pub(super) heard: Option<Box<protocol::State>>,
}

/// A container with its task, which [`Spawned::run`] starts.
pub(super) struct Spawned(Box<Task>);

impl Spawned {
    /// Makes entry and task and puts the entry into the index.
    pub(super) fn new(core: &Arc<Core>, known: Known) -> Self {
        let (sender, mailbox) = mpsc::unbounded_channel();
        let entry = Arc::new(Entry::new(sender, known.view(core)));
        core.index.insert(Arc::clone(&entry));
        Self(Box::new(Task {
            core: Arc::clone(core),
            entry,
            mailbox,
            known,
            phase: Phase::Idle,
            link: None,
            callers: Callers::default(),
            deferred: Vec::new(),
            restart_at: None,
            is_unsaved: false,
            save_at: None,
            heard: None,
        }))
    }

    /// The task before it runs.
    pub(super) fn task(&mut self) -> &mut Task {
        &mut self.0
    }

    /// Lets the task run.
    pub(super) fn run(self, runtime: &tokio::runtime::Handle) {
        runtime.spawn(self.0.run());
    }
}

enum Step {
    Message(Option<Message>),
    Arrival(Arrival),
    RestartDue,
    SaveDue,
}

impl Step {
    /// Whether it is the word of a thread or of the shim, which does not come again.
    fn is_word(&self) -> bool {
        match self {
            Self::Message(Some(Message::Begun(_) | Message::BeginFailed(_) | Message::Settled(_)))
            | Self::Arrival(_)
            | Self::RestartDue => true,
            Self::Message(_) | Self::SaveDue => false,
        }
    }
}

impl Task {
    async fn run(mut self: Box<Self>) {
        while self.phase != Phase::Gone {
            let step = tokio::select! {
                message = self.mailbox.recv() => Step::Message(message),
                arrival = arrival(&mut self.link) => Step::Arrival(arrival),
                () = due(self.restart_at) => Step::RestartDue,
                () = due(self.save_at) => Step::SaveDue,
            };
            let took_word = step.is_word();
            match supervise::guard(|| self.take(step)) {
                Some(ControlFlow::Continue(())) => {}
                Some(ControlFlow::Break(())) => break,
                None => self.mend(took_word),
            }
        }
    }

    fn take(&mut self, step: Step) -> ControlFlow<()> {
        match step {
            Step::Message(Some(message)) => self.on_message(message),
            Step::Message(None) => return ControlFlow::Break(()),
            Step::Arrival(arrival) => self.on_arrival(arrival),
            // A settling under way goes first.
            Step::RestartDue if self.phase == Phase::Settling => {
                self.restart_at = Some(Instant::now() + Duration::from_millis(10));
            }
            Step::RestartDue => {
                self.restart_at = None;
                self.begin();
            }
            Step::SaveDue => {
                if self.save()
                    && let Some(link) = &mut self.link
                {
                    link.acknowledge(self.known.seq);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whoever asked for what was deferred is told that something failed.
    pub(super) fn forget_deferred(&mut self) {
        self.deferred.clear();
    }

    fn on_message(&mut self, message: Message) {
        if self.must_wait(&message) {
            self.deferred.push(message);
            return;
        }
        match message {
            Message::Start(answer) => self.on_start(answer),
            Message::Stop { signal, timeout_s, afterwards, answer } => {
                self.on_stop(signal, timeout_s, afterwards, answer);
            }
            Message::Kill { signal, answer } => self.on_kill(signal, answer),
            Message::Pause(answer) => self.on_pause(answer),
            Message::Unpause(answer) => self.on_unpause(answer),
            Message::Remove { options, answer } => self.on_remove(options, answer),
            Message::Rename { name, answer } => drop(answer.send(self.rename(name))),
            Message::Update { update, answer } => drop(answer.send(self.update(*update))),
            Message::Wait { condition, exit, registered } => {
                self.on_wait(condition, exit);
                // Whoever withdrew in between does not need to know.
                let _ = registered.send(());
            }
            Message::Attach { attach, client, answer } => self.on_attach(*attach, client, answer),
            Message::Ask { request, client, answer } => self.on_ask(*request, client, answer),
            Message::Begun(begun) => self.on_begun(*begun),
            Message::BeginFailed(error) => self.on_begin_failed(error),
            Message::Settled(settled) => self.on_settled(settled),
            Message::Close => self.phase = Phase::Gone,
            #[cfg(test)]
            Message::Defect => std::panic::resume_unwind(Box::new("as the test wants it")),
        }
    }

    /// What a start or a settling under way must come first for.
    fn must_wait(&self, message: &Message) -> bool {
        let needs_rest = matches!(
            message,
            Message::Start(_)
                | Message::Stop { .. }
                | Message::Kill { .. }
                | Message::Pause(_)
                | Message::Unpause(_)
                | Message::Ask { .. }
                | Message::Attach { .. }
        );
        match self.phase {
            Phase::Starting => needs_rest || matches!(message, Message::Remove { .. }),
            Phase::Settling => matches!(message, Message::Start(_)),
            Phase::Idle | Phase::Up | Phase::Gone => false,
        }
    }

    /// Goes to another phase and does what waited for it.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        for message in std::mem::take(&mut self.deferred) {
            self.on_message(message);
        }
    }

    pub(super) fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Record(first) => {
                // What has come at once is committed at once.
                let mut records = vec![first];
                let mut next = None;
                while let Some(arrival) = self.link.as_mut().and_then(Link::ready) {
                    match arrival {
                        Arrival::Record(record) => records.push(record),
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                self.apply(&records);
                if let Some(next) = next {
                    self.on_arrival(next);
                }
            }
            Arrival::Answer(Asked::Hello, Ok(Reply::Hello(hello))) if self.phase == Phase::Up => {
                self.heard = Some(Box::new(hello.state));
            }
            Arrival::Answer(Asked::Shutdown, _) => {
                reached(Point::StopShimEnded);
                self.link = None;
                self.settle_things();
            }
            Arrival::Answer(Asked::Launch | Asked::Start, Err(refusal)) if self.phase == Phase::Starting => {
                self.on_refused(&refusal);
            }
            Arrival::Answer(Asked::Start, Ok(_)) if self.phase == Phase::Starting => self.on_started(),
            Arrival::Answer(..) => {}
            // A caller that has gone does not need the answer.
            Arrival::Reply(caller, answer) => drop(caller.send(answer)),
            Arrival::End(error) => self.on_end(&error),
        }
    }

    /// Applies journal records in one transaction, then acknowledges them, then tells everybody.
    pub(super) fn apply(&mut self, records: &[protocol::Record]) {
        let mut effects = Vec::new();
        let mut kept = false;
        for record in records {
            if record.seq <= self.known.seq {
                continue;
            }
            effects.extend(journal::apply(&mut self.known.state, record));
            kept |= journal::is_kept(&record.event);
            self.known.seq = record.seq;
        }
        // Before the acknowledgement, which lets an exec's client see the end: it asks for the exit code then.
        self.tell_execs(&effects);
        let must_keep = kept || self.is_unsaved;
        if must_keep && !self.save() {
            // Not acknowledged: it comes again with the next daemon.
            self.is_unsaved = true;
            return self.tell(effects);
        }
        if effects.contains(&Effect::Exited) {
            reached(Point::StopRecorded);
        }
        if let (Some(link), Some(last)) = (&mut self.link, records.last()) {
            link.acknowledge(last.seq);
        }
        if !must_keep {
            // Nothing but the number changed: whoever waits for the acknowledgement need not wait for this.
            self.save();
        }
        self.tell(effects);
    }

    /// Writes the state; whether it was written.
    pub(super) fn save(&mut self) -> bool {
        let Known { record, state, seq, .. } = &self.known;
        let boot = &self.core.host.boot_id;
        let written = self
            .core
            .ledger
            .write(|transaction| core::update_state(transaction, &record.id, state, *seq, boot));
        if let Err(error) = &written {
            tracing::error!("the state of container {} was not recorded: {error}", record.id);
        }
        self.is_unsaved &= written.is_err();
        self.save_at = written.is_err().then(|| Instant::now() + SAVE_AGAIN);
        written.is_ok()
    }

    fn tell_execs(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::ExecStarted(exec, pid) => self.core.execs.started(exec, *pid),
                Effect::ExecExited(exec, code) => {
                    if let Some(id) = self.core.execs.exited(exec, *code) {
                        let attributes = vec![("execID", id), ("exitCode", code.to_string())];
                        self.publish("exec_die", attributes);
                    }
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, effects: Vec<Effect>) {
        self.show();
        let mut ended = false;
        if effects.contains(&Effect::Final) {
            self.publish_network("disconnect");
            self.publish_volumes("unmount");
        }
        for effect in effects {
            match effect {
                Effect::Event(action, attributes) => self.publish(action, attributes),
                Effect::Exited => self.on_exit(),
                Effect::Final => ended = true,
                Effect::Warning(text) => tracing::warn!("container {}: {text}", self.known.record.id),
                Effect::ExecStarted(..) | Effect::ExecExited(..) | Effect::Detached => {}
            }
        }
        if ended {
            self.on_final();
        }
    }

    /// Shows the present state to lists and inspect.
    pub(super) fn show(&self) {
        self.entry.set_view(self.known.view(&self.core));
    }

    /// It will not run again by itself: whoever waited is told, and what it used is taken down.
    pub(super) fn on_final(&mut self) {
        self.core.execs.container_ended(&self.known.record.id);
        if matches!(self.phase, Phase::Starting | Phase::Settling) {
            // The refusal that follows says why, and settles; or that is under way.
            return;
        }
        for answer in std::mem::take(&mut self.callers.kills) {
            let _ = answer.send(Ok(()));
        }
        let stops = std::mem::take(&mut self.callers.stops);
        if !stops.is_empty() {
            self.publish("stop", Vec::new());
        }
        for answer in stops {
            let _ = answer.send(Ok(()));
        }
        self.settle();
    }

    /// Takes down shim and sandbox, and the whole container if it is to go.
    pub(super) fn settle(&mut self) {
        self.phase = Phase::Settling;
        self.callers.rest = None;
        match &mut self.link {
            Some(link) => {
                let request = Request::Shutdown(Shutdown { kill: true });
                link.ask(request, &[], Pending::Task(Asked::Shutdown));
            }
            None => self.settle_things(),
        }
    }

    /// The conversation is over without having been ended: another daemon took over, or the shim died.
    fn on_end(&mut self, error: &dyn std::error::Error) {
        self.link = None;
        match self.phase {
            Phase::Settling => {
                // It did not say that it is done: it was killed, and what it had may be left.
                self.kill_cgroup();
                return self.settle_things();
            }
            Phase::Starting | Phase::Up => {}
            Phase::Idle | Phase::Gone => return,
        }
        let id = &self.known.record.id;
        tracing::warn!("lost the shim of container {id}: {}", crate::chain(error));
        let directory = self.core.host.shim_directory(id);
        if self.phase == Phase::Up
            && let Ok(connection) = Connection::connect(&directory)
            && self.take_up(connection).unwrap_or(false)
        {
            return self.catch_up();
        }
        let left = protocol_records(&directory);
        self.apply(&left);
        if matches!(self.phase, Phase::Starting | Phase::Up) {
            self.shim_died();
        }
    }

    /// Its shim was killed: kills what is left, records exit 137, and applies policy.
    pub(super) fn shim_died(&mut self) {
        self.kill_cgroup();
        if self.phase == Phase::Up && !self.known.state.is_running() {
            // It was taken up before it had launched anything.
            if self.record_interruption() {
                self.restart_at = Some(Instant::now());
            }
            return self.on_final();
        }
        let again = self.known.state.desired == Desired::Running && self.policy_restarts(137);
        self.record_loss(137, "shim died", again);
        for answer in std::mem::take(&mut self.callers.starts) {
            let _ = answer.send(Err(Error::Internal("the container's shim died".into())));
        }
        if again {
            let delay = Duration::from_millis(100) * 2_u32.pow(self.known.state.restart_count.min(9));
            self.restart_at = Some(Instant::now() + delay.min(Duration::from_secs(60)));
        }
        self.phase = Phase::Up;
        self.on_final();
    }
}

async fn arrival(link: &mut Option<Link>) -> Arrival {
    match link {
        Some(link) => link.arrival().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a dead shim left behind; nothing where there is nothing.
pub(super) fn protocol_records(directory: &std::path::Path) -> Vec<protocol::Record> {
    gantry_runtime::shim::journal::read(directory).unwrap_or_default()
}
