//! The shim's one thread: waits, and hands each event to whom it concerns.
//!
//! Everything slow is either bounded (making a process: milliseconds) or somebody else's (the log's
//! thread). Time is kept as deadlines, gone through at each turn: there are few.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gantry_logs::{Spool, Stream};
use gantry_model::failpoint::{Point, reached};
use gantry_sys::memory;

use super::container::{Container, Phase};
use super::descriptors::Held;
use super::execs::ExecProcess;
use super::link::Link;
use super::poller::{EventFlags, Poller, Token, Watched};
use super::streams::{Io, Streams};

/// How long attached clients may take for the rest of the output after `Shutdown`.
const LAST_OUTPUT: Duration = Duration::from_secs(10);
/// After so long without any event, buffers are given back.
const QUIET: Duration = Duration::from_millis(500);
/// A log that cannot be written for long is told so often, not with each write that fails.
const GAP_INTERVAL: Duration = Duration::from_secs(10);

/// What ends the shim besides `Shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing, from the launch on. The current directory is the shim's own.
    Container,
    /// The end of its first connection.
    Ephemeral,
}

/// All that a shim has.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) mode: Mode,
    pub(super) poller: Poller,
    pub(super) link: Link,
    pub(super) container: Container,
    pub(super) execs: Vec<ExecProcess>,
    pub(super) held: Held,
    pub(super) table: StreamTable,
    pub(super) ending: Ending,
}

/// How far the shim's own end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    No,
    /// It ends as soon as the container, which was killed, has ended; then it answers this request of
    /// this peer, if any.
    WhenExited(Option<(u32, u64)>),
    /// Clients get their last output until then.
    Until(Instant),
}

/// The streams of all processes, and what they share.
#[derive(Debug)]
pub(super) struct StreamTable {
    entries: Vec<(u32, Streams)>,
    next_owner: u32,
    scratch: Vec<u8>,
    log: Option<Log>,
    /// The owner whose output is logged: the container's current run.
    logged: Option<u32>,
}

#[derive(Debug)]
struct Log {
    spool: Spool,
    /// When a gap may be told next: what is lost until then is told with it.
    next_gap: Option<Instant>,
    wake: Watched<OwnedFd>,
}

/// Runs a shim on its first connection until its end; a container's also on its listening socket, which is in the
/// current directory.
///
/// # Errors
/// It could not begin: no epoll, no journal. Later failures are told to the daemon.
pub fn run(first: OwnedFd, listener: Option<OwnedFd>) -> io::Result<()> {
    let poller = Poller::new()?;
    let mode = if listener.is_some() { Mode::Container } else { Mode::Ephemeral };
    let link = Link::new(first, listener, &poller)?;
    let mut supervisor = Supervisor {
        mode,
        poller,
        link,
        container: Container::default(),
        execs: Vec::new(),
        held: Held::default(),
        table: StreamTable {
            entries: Vec::new(),
            next_owner: 0,
            scratch: Vec::new(),
            log: None,
            logged: None,
        },
        ending: Ending::No,
    };
    supervisor.run()
}

impl Supervisor {
    fn run(&mut self) -> io::Result<()> {
        let mut unquiet = true;
        loop {
            let next = self.settle();
            if self.is_over() {
                return Ok(());
            }
            let now = Instant::now();
            let mut timeout = next.map(|at| at.saturating_duration_since(now));
            if unquiet {
                timeout = Some(timeout.map_or(QUIET, |left| left.min(QUIET)));
            }
            let events = self.poller.wait(timeout)?;
            if events.is_empty() && unquiet && timeout == Some(QUIET) {
                self.be_quiet();
                unquiet = false;
            }
            for (token, flags) in events {
                unquiet = true;
                self.on_event(token, flags);
            }
        }
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Listener => self.link.accept(&self.poller),
            Token::Peer(number) => {
                while let Some(incoming) = self.link.next_request(number, &self.poller) {
                    self.on_request(incoming);
                }
                self.end_if_unwanted();
            }
            Token::Init => self.on_init_ended(),
            Token::Oom => self.on_oom(),
            Token::Spool => {
                if let Some(log) = &mut self.table.log {
                    log.spool.clear_wake();
                    log.next_gap.get_or_insert_with(Instant::now);
                }
            }
            Token::Exec(owner) => self.on_exec_ended(owner),
            Token::Input(owner) => {
                if let Some((streams, _)) = self.table.get(owner, &self.poller) {
                    streams.on_input();
                }
            }
            Token::Output(owner, stream) => {
                if let Some((streams, mut io)) = self.table.get(owner, &self.poller) {
                    streams.on_output(stream, &mut io);
                }
            }
            Token::Client(owner, client) => {
                if let Some((streams, mut io)) = self.table.get(owner, &self.poller) {
                    streams.on_client(client, flags, &mut io);
                }
            }
        }
    }

    /// Draws the conclusions from what has happened, and from the time. Returns when it must be called
    /// again at the latest.
    fn settle(&mut self) -> Option<Instant> {
        self.tell_detached();
        let mut next = earliest(self.settle_gap(), self.settle_execs());
        next = earliest(next, self.settle_container());
        if let Ending::WhenExited(request) = self.ending
            && self.container.is_over()
        {
            self.finish_shutdown(request);
        }
        next = earliest(next, self.table.settle(&self.poller));
        if let Ending::Until(deadline) = self.ending {
            next = earliest(next, Some(deadline));
        }
        next
    }

    fn is_over(&self) -> bool {
        match self.ending {
            Ending::Until(deadline) => {
                self.mode == Mode::Ephemeral && self.link.is_alone() && !self.table.has_unserved_clients()
                    || self.table.entries.is_empty()
                    || Instant::now() >= deadline
            }
            _ => false,
        }
    }

    /// Ends with the last connection, where that is what keeps us: a build step's shim, and one whose daemon died
    /// before it had anything launched. A daemon that waits to be let in is a connection too.
    fn end_if_unwanted(&mut self) {
        let unlaunched = || matches!(self.container.phase, Phase::Empty);
        if !self.link.is_alone() || !(self.mode == Mode::Ephemeral || unlaunched()) {
            return;
        }
        self.link.accept(&self.poller);
        if self.link.is_alone() {
            self.end_now();
        }
    }

    /// Kills what lives and ends, with nobody to tell.
    fn end_now(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::WhenExited(None);
            self.kill_for_shutdown();
        }
    }

    /// Goes away: nothing but clients' last output is left to do.
    pub(super) fn finish_shutdown(&mut self, request: Option<(u32, u64)>) {
        self.held = Held::default();
        // Prepared for a launch that never came.
        self.remove_cgroup();
        self.link.unlink(&self.poller);
        reached(Point::ShimUnlinked);
        if let Some((peer, id)) = request {
            let done = super::protocol::Outcome::Ok(super::protocol::Reply::Done);
            self.link.reply(peer, id, done, &[], &self.poller);
        }
        self.link.close(&self.poller);
        self.ending = Ending::Until(Instant::now() + LAST_OUTPUT);
    }

    /// Nothing happened for a while: becomes as small as can be.
    fn be_quiet(&mut self) {
        self.container.store_launch();
        self.table.scratch = Vec::new();
        for (_, streams) in &mut self.table.entries {
            streams.shrink();
        }
        memory::trim_heap();
    }

    fn tell_detached(&mut self) {
        let mut owners = Vec::new();
        for (owner, streams) in &mut self.table.entries {
            if std::mem::take(&mut streams.detached) {
                owners.push(*owner);
            }
        }
        for owner in owners {
            let exec_id = self.execs.iter().find(|exec| exec.owner == owner).map(|exec| exec.id.clone());
            self.announce(super::protocol::Event::Detached { exec_id });
        }
    }

    /// Tells what was lost of the log since the last time, at most once in [`GAP_INTERVAL`]. Returns when there may
    /// be more to tell.
    fn settle_gap(&mut self) -> Option<Instant> {
        let next = self.table.log.as_ref()?.next_gap?;
        if Instant::now() < next {
            return Some(next);
        }
        self.tell_gap();
        self.table.log.as_ref()?.next_gap
    }

    fn tell_gap(&mut self) {
        let Some(log) = &mut self.table.log else { return };
        let gap = log.spool.take_gap();
        log.next_gap = gap.is_some().then(|| Instant::now() + GAP_INTERVAL);
        if let Some(gap) = gap {
            self.announce(super::protocol::Event::LogGap { bytes: gap.bytes, reason: gap.reason });
        }
    }

    /// Whether the log is on disk; asks to be woken when it is. Tells the last gaps.
    pub(super) fn is_log_drained(&mut self) -> bool {
        let drained = self.table.log.as_ref().is_none_or(|log| log.spool.is_drained());
        if drained {
            self.tell_gap();
        }
        drained
    }

    /// Journals an event of the current generation and tells it.
    pub(super) fn announce(&mut self, event: super::protocol::Event) -> u64 {
        self.link.announce(self.container.generation, event, &self.poller)
    }
}

impl StreamTable {
    /// The next owner's number.
    pub(super) fn new_owner(&mut self) -> u32 {
        self.next_owner += 1;
        self.next_owner
    }

    /// Adds an owner's streams; those of a container's run are logged.
    pub(super) fn insert(&mut self, owner: u32, streams: Streams, is_logged: IsLogged) {
        if is_logged == IsLogged::Yes {
            self.logged = Some(owner);
        }
        self.entries.push((owner, streams));
    }

    /// An owner's streams and what they work with.
    pub(super) fn get<'a>(&'a mut self, owner: u32, poller: &'a Poller) -> Option<(&'a mut Streams, Io<'a>)> {
        let streams = &mut self.entries.iter_mut().find(|entry| entry.0 == owner)?.1;
        let is_logged = self.logged == Some(owner);
        let spool = self.log.as_ref().filter(|_| is_logged).map(|log| &log.spool);
        Some((streams, Io { poller, scratch: &mut self.scratch, spool }))
    }

    /// An owner's streams alone.
    pub(super) fn streams(&mut self, owner: u32) -> Option<&mut Streams> {
        self.entries.iter_mut().find(|entry| entry.0 == owner).map(|entry| &mut entry.1)
    }

    /// Opens the log.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn open_log(&mut self, config: &gantry_logs::JsonFile, poller: &Poller) -> io::Result<()> {
        let spool = Spool::new(config.clone())?;
        let mut wake = Watched::new(spool.wake().try_clone_to_owned()?, Token::Spool);
        wake.watch(poller, Some(EventFlags::IN))?;
        self.log = Some(Log { spool, next_gap: None, wake });
        Ok(())
    }

    /// Says that the logged process has ended.
    pub(super) fn end_log(&self) {
        if let Some(log) = &self.log {
            log.spool.end();
        }
    }

    /// Writes output that did not come from the process.
    pub(super) fn inject(&mut self, owner: u32, stream: Stream, bytes: &[u8]) {
        let spool = self.log.as_ref().map(|log| &log.spool);
        if let Some((_, streams)) = self.entries.iter_mut().find(|entry| entry.0 == owner) {
            streams.inject(stream, bytes, spool);
        }
    }

    fn has_unserved_clients(&self) -> bool {
        self.entries.iter().any(|entry| entry.1.has_unserved_clients())
    }

    fn settle(&mut self, poller: &Poller) -> Option<Instant> {
        let mut next = None;
        for (owner, streams) in &mut self.entries {
            let is_logged = self.logged == Some(*owner);
            let spool = self.log.as_ref().filter(|_| is_logged).map(|log| &log.spool);
            let mut io = Io { poller, scratch: &mut self.scratch, spool };
            next = earliest(next, streams.settle(&mut io));
        }
        self.entries.retain(|entry| !entry.1.is_finished());
        next
    }
}

/// Whether a process' output goes to the container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsLogged {
    Yes,
    No,
}

impl Drop for StreamTable {
    fn drop(&mut self) {
        // The log's thread ends by itself; the process ends first.
        let _ = self.log.take().map(|log| log.wake.inner);
    }
}

/// The earlier of two deadlines.
pub(super) fn earliest(left: Option<Instant>, right: Option<Instant>) -> Option<Instant> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

impl Container {
    /// Whether nothing of the container lives or will live.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Empty | Phase::Exited)
    }
}
