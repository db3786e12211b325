//! One epoll, and who a descriptor in it belongs to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gantry_logs::Stream;
use rustix::event::epoll;
pub(super) use rustix::event::epoll::EventFlags;

/// Who a descriptor belongs to. Owners are numbered: each run of the container and each exec has a
/// number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The socket that daemons connect to.
    Listener,
    /// A connection, by number.
    Peer(u32),
    /// The container's init, ended.
    Init,
    /// The log has room, or a gap to tell.
    Spool,
    /// Memory ran out in the container.
    Oom,
    /// An exec's process, ended.
    Exec(u32),
    /// An owner's standard input.
    Input(u32),
    /// An owner's output.
    Output(u32, Stream),
    /// An owner's client, by number.
    Client(u32, u32),
}

impl Token {
    /// Kind in the top byte, then 28 bits each for owner and client.
    fn encode(self) -> u64 {
        let (kind, owner, client) = match self {
            Self::Listener => (0, 0, 0),
            Self::Peer(number) => (1, number, 0),
            Self::Init => (2, 0, 0),
            Self::Spool => (3, 0, 0),
            Self::Exec(owner) => (4, owner, 0),
            Self::Input(owner) => (5, owner, 0),
            Self::Output(owner, Stream::Stdout) => (6, owner, 0),
            Self::Output(owner, Stream::Stderr) => (7, owner, 0),
            Self::Client(owner, client) => (8, owner, client),
            Self::Oom => (9, 0, 0),
        };
        kind << 56 | u64::from(owner & MASK) << 28 | u64::from(client & MASK)
    }

    fn decode(data: u64) -> Option<Self> {
        let part = |shift: u32| u32::try_from(data >> shift & u64::from(MASK)).unwrap_or(MASK);
        let (owner, client) = (part(28), part(0));
        Some(match data >> 56 {
            0 => Self::Listener,
            1 => Self::Peer(owner),
            2 => Self::Init,
            3 => Self::Spool,
            4 => Self::Exec(owner),
            5 => Self::Input(owner),
            6 => Self::Output(owner, Stream::Stdout),
            7 => Self::Output(owner, Stream::Stderr),
            8 => Self::Client(owner, client),
            9 => Self::Oom,
            _ => return None,
        })
    }
}

/// Numbers are 28 bits: a quarter of a billion execs in one container's life.
const MASK: u32 = (1 << 28) - 1;

/// The epoll.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Waits for something, or for `timeout`. An empty answer is a timeout (or a signal).
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Token, EventFlags)>> {
        let mut events: [epoll::Event; 16] =
            [epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 16];
        let timeout = timeout.map(|left| rustix::time::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => Ok(events[..count]
                .iter()
                .filter_map(|event| Some((Token::decode(event.data.u64())?, event.flags)))
                .collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A descriptor that the epoll may watch. `watch` makes it so or otherwise; it must be told `None`
/// before it is dropped, because a child that holds a copy would keep it in the epoll.
#[derive(Debug)]
pub(super) struct Watched<T: AsFd> {
    pub(super) inner: T,
    token: Token,
    registered: Option<EventFlags>,
}

impl<T: AsFd> Watched<T> {
    pub(super) fn new(inner: T, token: Token) -> Self {
        Self { inner, token, registered: None }
    }

    /// Asks for these events from now on (hang-ups and errors are always among them), or for none.
    ///
    /// # Errors
    /// `PermissionDenied` for a descriptor that cannot be waited for, such as a regular file.
    pub(super) fn watch(&mut self, poller: &Poller, want: Option<EventFlags>) -> io::Result<()> {
        if self.registered == want {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(self.token.encode());
        match (self.registered, want) {
            (None, Some(flags)) => epoll::add(&poller.epoll, &self.inner, data, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&poller.epoll, &self.inner, data, flags)?,
            (Some(_), None) => epoll::delete(&poller.epoll, &self.inner)?,
            (None, None) => {}
        }
        self.registered = want;
        Ok(())
    }

    /// Stops watching, and gives the descriptor back.
    pub(super) fn release(mut self, poller: &Poller) -> T {
        let _ = self.watch(poller, None);
        self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Listener,
            Token::Peer(7),
            Token::Init,
            Token::Spool,
            Token::Exec(MASK),
            Token::Input(1),
            Token::Output(3, Stream::Stdout),
            Token::Output(3, Stream::Stderr),
            Token::Client(MASK, MASK),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}
