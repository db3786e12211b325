//! The daemon's side of the shim: connections, the journal, and what is held for whoever comes next.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use gantry_model::failpoint::{Point, reached};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::SocketFlags;

use super::connection::{Connection, SOCKET_NAME};
use super::journal::{JOURNAL_NAME, Journal};
use super::poller::{EventFlags, Poller, Token, Watched};
use super::protocol::{Event, Frame, Outcome, ReplyFrame, RequestFrame};

/// More strangers than this are not let in at a time.
const MAX_STRANGERS: usize = 8;
/// A daemon that leaves so much unread is taken for dead; it may come again and is told everything.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Everything between the shim and its daemon.
#[derive(Debug)]
pub(super) struct Link {
    directory: Option<OwnedFd>,
    listener: Option<Watched<OwnedFd>>,
    peers: Vec<Peer>,
    next_peer: u32,
    pub(super) journal: Journal,
}

#[derive(Debug)]
struct Peer {
    number: u32,
    connection: Watched<Connection>,
    /// Whether it has said hello. At most one has, and it gets the events.
    greeted: bool,
}

/// A request that came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) peer: u32,
    pub(super) greeted: bool,
    pub(super) frame: RequestFrame,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Link {
    /// Takes the first connection; with a listening socket, which is in the current directory, also opens the
    /// journal there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub(super) fn new(first: OwnedFd, listener: Option<OwnedFd>, poller: &Poller) -> io::Result<Self> {
        let directory = listener
            .is_some()
            .then(|| {
                rustix::fs::open(c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            })
            .transpose()?;
        let journal = Journal::create(directory.as_ref())?;
        let mut link = Self { directory, listener: None, peers: Vec::new(), next_peer: 0, journal };
        link.add_peer(first, poller)?;
        if let Some(listener) = listener {
            let mut listener = Watched::new(listener, Token::Listener);
            listener.watch(poller, Some(EventFlags::IN))?;
            link.listener = Some(listener);
        }
        Ok(link)
    }

    fn add_peer(&mut self, socket: OwnedFd, poller: &Poller) -> io::Result<()> {
        let number = self.next_peer;
        self.next_peer += 1;
        let connection = Connection::from_socket(socket).map_err(io::Error::other)?;
        let mut connection = Watched::new(connection, Token::Peer(number));
        connection.watch(poller, Some(EventFlags::IN))?;
        self.peers.push(Peer { number, connection, greeted: false });
        Ok(())
    }

    /// Somebody connects. Only our own user and root may.
    pub(super) fn accept(&mut self, poller: &Poller) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&listener.inner, flags) else { return };
        let allowed = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        let strangers = self.peers.iter().filter(|peer| !peer.greeted).count();
        if allowed && strangers < MAX_STRANGERS {
            let _ = self.add_peer(socket, poller);
        }
    }

    /// Takes the next request of a peer. One that breaks the rules, or ended, is dropped.
    pub(super) fn next_request(&mut self, number: u32, poller: &Poller) -> Option<Incoming> {
        let peer = self.peers.iter_mut().find(|peer| peer.number == number)?;
        if peer.connection.inner.flush().is_err() {
            self.drop_peer(number, poller);
            return None;
        }
        let greeted = peer.greeted;
        match peer.connection.inner.try_recv() {
            Ok(Some((Frame::Request(frame), descriptors))) => {
                Some(Incoming { peer: number, greeted, frame, descriptors })
            }
            Ok(None) => {
                self.watch(number, poller);
                None
            }
            Ok(Some(_)) | Err(_) => {
                self.drop_peer(number, poller);
                None
            }
        }
    }

    /// Makes a peer the daemon; an earlier one is dropped. What it has not acknowledged is sent.
    pub(super) fn greet(&mut self, number: u32, reply: Outcome, id: u64, acknowledged: u64, poller: &Poller) {
        let others: Vec<u32> =
            self.peers.iter().filter(|it| it.greeted && it.number != number).map(|it| it.number).collect();
        for other in others {
            self.drop_peer(other, poller);
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) else { return };
        let again = std::mem::replace(&mut peer.greeted, true);
        self.journal.acknowledge(acknowledged);
        self.reply(number, id, reply, &[], poller);
        if !again {
            self.journal.note_sent();
            for record in self.journal.records_above(acknowledged) {
                self.send(number, &Frame::Event(record), &[], poller);
            }
        }
    }

    /// Journals an event and tells the daemon, if there is one. Returns its sequence number.
    pub(super) fn announce(&mut self, generation: u64, event: Event, poller: &Poller) -> u64 {
        let record = self.journal.append(generation, event);
        let seq = record.seq;
        reached(Point::ShimJournaled);
        if let Some(number) = self.daemon() {
            self.journal.note_sent();
            self.send(number, &Frame::Event(record), &[], poller);
        }
        seq
    }

    /// Answers a request.
    pub(super) fn reply(
        &mut self,
        number: u32,
        id: u64,
        outcome: Outcome,
        descriptors: &[BorrowedFd<'_>],
        poller: &Poller,
    ) {
        self.send(number, &Frame::Reply(ReplyFrame { id, outcome }), descriptors, poller);
    }

    fn send(&mut self, number: u32, frame: &Frame, descriptors: &[BorrowedFd<'_>], poller: &Poller) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) else { return };
        let connection = &mut peer.connection.inner;
        if connection.send(frame, descriptors).is_err() || connection.kept_bytes() > MAX_KEPT_BYTES {
            self.drop_peer(number, poller);
        } else {
            self.watch(number, poller);
        }
    }

    fn watch(&mut self, number: u32, poller: &Poller) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) else { return };
        let out = if peer.connection.inner.wants_write() { EventFlags::OUT } else { EventFlags::empty() };
        let _ = peer.connection.watch(poller, Some(EventFlags::IN | out));
    }

    /// Ends a conversation.
    pub(super) fn drop_peer(&mut self, number: u32, poller: &Poller) {
        if let Some(at) = self.peers.iter().position(|peer| peer.number == number) {
            drop(self.peers.swap_remove(at).connection.release(poller));
        }
    }

    /// Whether a daemon is connected and has said hello.
    pub(super) fn daemon(&self) -> Option<u32> {
        self.peers.iter().find(|peer| peer.greeted).map(|peer| peer.number)
    }

    /// Whether a daemon that came later than this peer has said hello: what the earlier one left unread does not
    /// count any more.
    pub(super) fn is_outdated(&self, number: u32) -> bool {
        self.peers.iter().any(|peer| peer.greeted && peer.number > number)
    }

    /// Whether nobody is connected at all.
    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// Removes the socket and the journal, so that no daemon comes any more.
    pub(super) fn unlink(&mut self, poller: &Poller) {
        if let Some(listener) = self.listener.take() {
            drop(listener.release(poller));
        }
        if let Some(directory) = self.directory.take() {
            for name in [SOCKET_NAME, JOURNAL_NAME] {
                let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
            }
        }
    }

    /// Closes all connections. What was not sent goes with them; a daemon that reads has it all.
    pub(super) fn close(&mut self, poller: &Poller) {
        for peer in self.peers.drain(..) {
            drop(peer.connection.release(poller));
        }
    }
}
