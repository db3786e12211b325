//! A task's end of the conversation with its container's shim.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use gantry_runtime::shim::connection::{Connection, ConnectionError};
use gantry_runtime::shim::protocol::{Ack, Frame, Record, Refusal, Reply, Request};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::sync::oneshot;

/// What a request is answered with; an error of its own if the shim is gone.
pub(super) type Answer = Result<Reply, Refusal>;

/// Who waits for an answer.
pub(super) enum Pending {
    /// A caller elsewhere.
    Caller(oneshot::Sender<Answer>),
    /// The task itself, which knows what it asked.
    Task(Asked),
    /// Nobody.
    Nobody,
}

/// What the task itself asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// How things are.
    Hello,
    /// The process was to be made.
    Launch,
    /// The process was to go on.
    Start,
    /// The shim was to end.
    Shutdown,
}

/// What came from the shim.
pub(super) enum Arrival {
    /// A journal record.
    Record(Record),
    /// The answer to what the task asked.
    Answer(Asked, Answer),
    /// The answer to a caller, which gets it after the records that came before are applied.
    Reply(oneshot::Sender<Answer>, Answer),
    /// The conversation is over: the shim died or ended.
    End(ConnectionError),
}

/// The connection, and what is under way on it.
pub(super) struct Link {
    wire: AsyncFd<Wire>,
    last_id: u64,
    pending: HashMap<u64, Pending>,
}

struct Wire(Connection);

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Link {
    /// Takes over a connection on which request ids up to `last_id` were used; those of `under_way` are to be
    /// answered yet.
    pub(super) fn new(
        connection: Connection,
        last_id: u64,
        under_way: &[(u64, Asked)],
    ) -> std::io::Result<Self> {
        let wire = crate::readiness::watch(Wire(connection), Interest::READABLE | Interest::WRITABLE)?;
        let pending = under_way.iter().map(|(id, asked)| (*id, Pending::Task(*asked))).collect();
        Ok(Self { wire, last_id, pending })
    }

    /// Sends a request; a connection that is broken is noticed by [`Link::arrival`].
    pub(super) fn ask(&mut self, request: Request, descriptors: &[BorrowedFd<'_>], pending: Pending) {
        self.last_id += 1;
        self.pending.insert(self.last_id, pending);
        if let Err(error) = self.wire.get_mut().0.request(self.last_id, request, descriptors) {
            tracing::debug!("a request to a shim was not sent: {error}");
            self.pending.remove(&self.last_id);
        }
    }

    /// Says that records up to `seq` are committed.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.last_id += 1;
        if let Err(error) = self.wire.get_mut().0.request(self.last_id, Request::Ack(Ack { seq }), &[]) {
            tracing::debug!("an acknowledgement to a shim was not sent: {error}");
        }
    }

    /// What comes next, without waiting.
    pub(super) fn ready(&mut self) -> Option<Arrival> {
        loop {
            match self.wire.get_mut().0.try_recv() {
                Ok(None) => return None,
                Ok(Some(frame)) => {
                    if let Some(arrival) = self.sort(frame) {
                        return Some(arrival);
                    }
                }
                Err(error) => return Some(Arrival::End(error)),
            }
        }
    }

    /// Blocks until something has come, at most so long; whether it has.
    pub(super) fn wait_ready(&mut self, patience: std::time::Duration) -> bool {
        let mut wanted = [rustix::event::PollFd::new(&self.wire.get_ref().0, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec::try_from(patience).ok();
        rustix::event::poll(&mut wanted, patience.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Waits for what comes next. May be dropped and called again without loss.
    pub(super) async fn arrival(&mut self) -> Arrival {
        loop {
            if let Some(arrival) = self.ready() {
                return arrival;
            }
            let writes = self.wire.get_ref().0.wants_write();
            let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            match self.wire.ready_mut(interest).await {
                Ok(mut guard) => {
                    guard.clear_ready_matching(if writes {
                        Ready::ALL
                    } else {
                        Ready::READABLE | Ready::READ_CLOSED
                    });
                    if let Err(error) = guard.get_inner_mut().0.flush() {
                        return Arrival::End(error);
                    }
                }
                Err(error) => return Arrival::End(error.into()),
            }
        }
    }

    /// Finds whom a reply belongs to.
    fn sort(&mut self, (frame, _descriptors): (Frame, Vec<OwnedFd>)) -> Option<Arrival> {
        match frame {
            Frame::Event(record) => Some(Arrival::Record(record)),
            Frame::Reply(reply) => match self.pending.remove(&reply.id)? {
                Pending::Task(asked) => Some(Arrival::Answer(asked, reply.outcome.into_result())),
                Pending::Caller(caller) => Some(Arrival::Reply(caller, reply.outcome.into_result())),
                Pending::Nobody => None,
            },
            Frame::Request(_) => None,
        }
    }
}

/// Waits for the end of a shim that is our child, and reaps it.
pub(super) fn reap_later(pidfd: OwnedFd) {
    tokio::spawn(async move {
        let Ok(pidfd) = crate::readiness::watch(pidfd, Interest::READABLE) else { return };
        if pidfd.readable().await.is_ok() {
            gantry_runtime::shim::spawn::reap(pidfd.get_ref());
        }
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use gantry_model::Timestamp;
    use gantry_runtime::shim::protocol::{Event, Outcome, ReplyFrame};

    use super::*;

    #[tokio::test]
    async fn a_callers_answer_comes_after_the_records_before_it() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let wrap = |socket: UnixStream| Connection::from_socket(socket.into()).expect("a connection");
        let mut link = Link::new(wrap(left), 0, &[]).expect("a link");
        let mut shim = wrap(right);
        let (sender, mut receiver) = oneshot::channel();
        link.ask(Request::Pause, &[], Pending::Caller(sender));
        let record = Record {
            boot_id: String::new(),
            generation: 1,
            seq: 1,
            time: Timestamp::from_nanos(0),
            event: Event::Paused,
        };
        shim.send(&Frame::Event(record), &[]).expect("sent");
        let reply = ReplyFrame { id: 1, outcome: Outcome::Ok(Reply::Done) };
        shim.send(&Frame::Reply(reply), &[]).expect("sent");
        assert!(matches!(link.arrival().await, Arrival::Record(_)));
        let Arrival::Reply(caller, answer) = link.arrival().await else { panic!("not a reply") };
        assert!(receiver.try_recv().is_err(), "answered before the record could be applied");
        let _ = caller.send(answer);
        assert!(matches!(receiver.await, Ok(Ok(Reply::Done))));
    }
}
