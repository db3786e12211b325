//! One attached client: what waits to be written to it, and whether it still types.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gantry_logs::Stream;
use rustix::net::Shutdown;

use super::detach::DetachKeys;
use super::poller::{EventFlags, Poller, Token, Watched};
use super::protocol::{Attach, Framing, Streams as Which};

/// How long a client whose output is complete may take to close its end.
const LINGER: Duration = Duration::from_secs(2);

/// One attached client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u32,
    socket: Watched<OwnedFd>,
    pub(super) streams: Which,
    framing: Framing,
    pub(super) keys: DetachKeys,
    backlog: Backlog,
    phase: Phase,
}

/// Output that the client has not taken yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both ways.
    Attached,
    /// It has closed its end for good, but typed something before that is still to be read.
    HungUp,
    /// Its output ends with what waits.
    Finishing,
    /// Everything is written and our half closed; it is given a while to close its own, because
    /// closing a socket that has unread input resets the connection and may destroy output.
    Lingering(Instant),
    /// To be forgotten.
    Gone,
}

impl Client {
    /// Makes the descriptor non-blocking and begins to watch it.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub(super) fn new(
        owner: u32,
        number: u32,
        socket: OwnedFd,
        attach: &Attach,
        poller: &Poller,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let mut socket = Watched::new(socket, Token::Client(owner, number));
        socket.watch(poller, Some(EventFlags::empty()))?;
        Ok(Self {
            number,
            socket,
            streams: attach.streams,
            framing: attach.framing,
            keys: DetachKeys::new(attach.detach_keys.clone()),
            backlog: Backlog::default(),
            phase: Phase::Attached,
        })
    }

    /// Whether output of this stream must wait for this client.
    pub(super) fn holds_back(&self, stream: Stream) -> bool {
        self.takes(stream) && !self.backlog.bytes.is_empty()
    }

    fn takes(&self, stream: Stream) -> bool {
        self.phase == Phase::Attached
            && match stream {
                Stream::Stdout => self.streams.stdout,
                Stream::Stderr => self.streams.stderr,
            }
    }

    /// Whether its input is still to be read.
    pub(super) fn types(&self) -> bool {
        self.streams.stdin && matches!(self.phase, Phase::Attached | Phase::HungUp)
    }

    /// Whether reading its input must be tried without being told by the epoll.
    pub(super) fn has_left_input(&self) -> bool {
        self.streams.stdin && self.phase == Phase::HungUp
    }

    /// Gives it output.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.takes(stream) || bytes.is_empty() {
            return;
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let kind = if stream == Stream::Stderr { 2 } else { 1 };
        let header = [kind, 0, 0, 0, length[0], length[1], length[2], length[3]];
        let header: &[u8] = if self.framing == Framing::Multiplexed { &header } else { &[] };
        let mut sent = 0;
        if self.backlog.bytes.is_empty() {
            let pieces = [IoSlice::new(header), IoSlice::new(bytes)];
            match rustix::io::retry_on_intr(|| rustix::io::writev(&self.socket.inner, &pieces)) {
                Ok(count) => sent = count,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(_) => return self.vanish(),
            }
        }
        if sent < header.len() {
            self.backlog.bytes.extend_from_slice(&header[sent..]);
        }
        self.backlog.bytes.extend_from_slice(&bytes[sent.saturating_sub(header.len())..]);
    }

    /// Goes on writing what waits.
    pub(super) fn flush(&mut self) {
        while self.backlog.sent < self.backlog.bytes.len() {
            match rustix::io::write(&self.socket.inner, &self.backlog.bytes[self.backlog.sent..]) {
                Ok(count) => self.backlog.sent += count,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return self.vanish(),
            }
        }
        self.backlog.bytes.clear();
        self.backlog.sent = 0;
    }

    /// Gives unused room back.
    pub(super) fn shrink(&mut self) {
        self.backlog.bytes.shrink_to_fit();
    }

    /// Reads what it typed. `Ok(0)` is its end of input; `WouldBlock` that there is nothing now.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(&self.socket.inner, &mut *buffer))?)
    }

    /// It types no more.
    pub(super) fn ends_input(&mut self) {
        self.streams.stdin = false;
        if self.phase == Phase::HungUp {
            self.phase = Phase::Gone;
        }
    }

    /// It hung up: no output any more; what it typed before is still read.
    pub(super) fn hangs_up(&mut self) {
        self.backlog = Backlog::default();
        self.phase =
            if self.streams.stdin && self.phase == Phase::Attached { Phase::HungUp } else { Phase::Gone };
    }

    fn vanish(&mut self) {
        self.hangs_up();
    }

    /// Gives it what waits, and then the end.
    pub(super) fn finish(&mut self) {
        self.streams.stdin = false;
        self.phase = match self.phase {
            Phase::Attached => Phase::Finishing,
            Phase::HungUp => Phase::Gone,
            other => other,
        };
    }

    /// Does what its phase asks for, given whether there is room for its input and whether its end may
    /// be told yet. Returns when it is to be looked at again at the latest.
    pub(super) fn settle(&mut self, poller: &Poller, room: bool, may_close: bool) -> Option<Instant> {
        if self.phase == Phase::Finishing && self.backlog.bytes.is_empty() && may_close {
            // Not a socket, or already reset: then there is nobody to wait for.
            self.phase = match rustix::net::shutdown(&self.socket.inner, Shutdown::Write) {
                Ok(()) => Phase::Lingering(Instant::now() + LINGER),
                Err(_) => Phase::Gone,
            };
        }
        let mut want = EventFlags::empty();
        if self.types() && room {
            want |= EventFlags::IN;
        }
        if !self.backlog.bytes.is_empty() {
            want |= EventFlags::OUT;
        }
        let mut again = None;
        let want = match self.phase {
            // Hang-ups are told again and again, so nothing is asked for any more.
            Phase::HungUp | Phase::Gone => None,
            Phase::Attached | Phase::Finishing => Some(want),
            Phase::Lingering(until) => {
                again = Some(until);
                if Instant::now() >= until {
                    self.phase = Phase::Gone;
                }
                Some(EventFlags::IN)
            }
        };
        if self.socket.watch(poller, want).is_err() {
            self.phase = Phase::Gone;
        }
        again
    }

    /// Takes an event while nobody reads its input any more: reads and drops it until its end.
    pub(super) fn drop_input(&mut self, scratch: &mut [u8]) {
        loop {
            match self.read(scratch) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    if matches!(self.phase, Phase::Lingering(_)) {
                        self.phase = Phase::Gone;
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_))
    }

    /// Whether output waits for it.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.bytes.is_empty()
    }

    /// Closes the descriptor.
    pub(super) fn release(self, poller: &Poller) {
        drop(self.socket.release(poller));
    }
}
