//! One end of a conversation: frames over a non-blocking unix stream socket.
//!
//! ```text
//! offset  bytes
//!      0      4  length of the body, little-endian, 2 to 4 MiB
//!      4      4  number of descriptors that come with this frame, little-endian, at most 4096
//!      8      …  the body: one JSON object, a protocol::Frame
//! ```
//! Descriptors travel as `SCM_RIGHTS` on bytes of their own frame, at most 253 on each message. A
//! peer that breaks these rules is not answered; the connection is to be closed.
//!
//! Neither end blocks: [`Connection::send`] keeps what the socket does not take, [`Connection::flush`]
//! goes on with it. Under tokio, wrap the connection in an `AsyncFd`; without, use
//! [`Connection::recv_until`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_sys::fdpass;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::{Frame, Outcome, Reply, Request};

/// The most bytes that a frame's body may have.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// The most descriptors that a frame may have.
pub const MAX_DESCRIPTORS: usize = 4096;

/// The socket's name in the shim's directory.
pub const SOCKET_NAME: &str = "shim.sock";

/// How many may wait to be let in.
const BACKLOG: i32 = 8;

const HEADER_BYTES: usize = 8;
const READ_BYTES: usize = 16 * 1024;

/// One end of a conversation. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    incoming: Vec<u8>,
    arrived: Vec<OwnedFd>,
    outgoing: VecDeque<Outgoing>,
    outgoing_bytes: usize,
}

/// A frame, or its rest, that the socket has not taken yet.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: VecDeque<OwnedFd>,
}

/// Why a conversation cannot go on. After any of these the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer ended it: it died or closed the socket, possibly in the middle of a frame.
    #[error("the shim's connection was closed by the other side")]
    Closed,
    /// The socket failed.
    #[error("the shim's connection failed")]
    Io(#[from] io::Error),
    /// A header that breaks the rules.
    #[error(
        "the other side sent a frame of {body_bytes} bytes with {descriptors} descriptors, which is refused"
    )]
    Oversized {
        /// As the header says.
        body_bytes: usize,
        /// As the header says.
        descriptors: usize,
    },
    /// A frame to send that is too large. This one leaves the connection usable.
    #[error("a frame of {body_bytes} bytes with {descriptors} descriptors is too large to send")]
    TooLarge {
        /// The body's.
        body_bytes: usize,
        /// Given with it.
        descriptors: usize,
    },
    /// A body that is not a frame, or a value that cannot be written as JSON.
    #[error("a frame cannot be read or written")]
    Json(#[from] serde_json::Error),
    /// Fewer descriptors came than the header says.
    #[error("descriptors are missing from a frame")]
    MissingDescriptors,
    /// Nothing came in time (only of the blocking calls).
    #[error("the shim did not answer in time")]
    TimedOut,
    /// A reply to nothing that was asked, or of the wrong sort (only of [`Connection::call`]).
    #[error("the shim gave an unexpected answer")]
    Unexpected,
}

impl Connection {
    /// Wraps a connected unix stream socket. It is used with `MSG_DONTWAIT` and set non-blocking.
    ///
    /// # Errors
    /// `Io` where the flag cannot be set.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, ConnectionError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
        Ok(Self {
            socket,
            incoming: Vec::new(),
            arrived: Vec::new(),
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
        })
    }

    /// Connects to the shim that lives in `directory` (`<exec-root>/c/<id>`); the path may be of any
    /// length. The caller then sends [`Request::Hello`].
    ///
    /// # Errors
    /// `Io`: `NotFound` without such a directory or socket (no shim was here, or it has shut down),
    /// `ConnectionRefused` where a shim was and died (its journal can be read), `WouldBlock` where
    /// it is stopped and its queue is full.
    pub fn connect(directory: &Path) -> Result<Self, ConnectionError> {
        let directory =
            rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from)?;
        let address = socket_address(&directory)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(io::Error::from)?;
        rustix::net::connect(&socket, &address).map_err(io::Error::from)?;
        Self::from_socket(socket)
    }

    /// Sends a frame, or keeps what the socket does not take now; see [`Self::wants_write`].
    /// Descriptors are duplicated where they are kept, so the caller's may be closed on return.
    ///
    /// # Errors
    /// `TooLarge` and `Json` (nothing is sent, the connection goes on); `Closed`; `Io`.
    pub fn send(&mut self, frame: &Frame, descriptors: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        let mut bytes = vec![0; HEADER_BYTES];
        serde_json::to_writer(&mut bytes, frame)?;
        let body_bytes = bytes.len() - HEADER_BYTES;
        let too_large = || ConnectionError::TooLarge { body_bytes, descriptors: descriptors.len() };
        // Every 253 descriptors need a byte to travel on.
        let messages = descriptors.len().div_ceil(fdpass::MAX_PER_MESSAGE);
        if body_bytes > MAX_BODY_BYTES || descriptors.len() > MAX_DESCRIPTORS || messages > bytes.len() {
            return Err(too_large());
        }
        let length = u32::try_from(body_bytes).map_err(|_| too_large())?;
        let count = u32::try_from(descriptors.len()).map_err(|_| too_large())?;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
        self.flush()?;
        let mut sent = 0;
        let mut rest = descriptors;
        if self.outgoing.is_empty() {
            while sent < bytes.len() {
                let (now, later) = rest.split_at(rest.len().min(fdpass::MAX_PER_MESSAGE));
                // All but the last of several messages carry one byte each.
                let end = if later.is_empty() { bytes.len() } else { sent + 1 };
                match write(&self.socket, &bytes[sent..end], now)? {
                    None => break,
                    Some(count) => (sent, rest) = (sent + count, later),
                }
            }
        }
        if sent < bytes.len() {
            let descriptors =
                rest.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<VecDeque<_>>>()?;
            self.outgoing_bytes += bytes.len() - sent;
            self.outgoing.push_back(Outgoing { bytes, sent, descriptors });
        }
        Ok(())
    }

    /// Sends a request; [`Self::send`] tells the rest.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn request(
        &mut self,
        id: u64,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ConnectionError> {
        self.send(&request.into_frame(id)?, descriptors)
    }

    /// Goes on sending what was kept. Returns whether all is sent.
    ///
    /// # Errors
    /// `Closed`, `Io`.
    pub fn flush(&mut self) -> Result<bool, ConnectionError> {
        while let Some(first) = self.outgoing.front_mut() {
            let now = first.descriptors.len().min(fdpass::MAX_PER_MESSAGE);
            let end = if first.descriptors.len() > now { first.sent + 1 } else { first.bytes.len() };
            let borrowed: Vec<_> = first.descriptors.iter().take(now).map(AsFd::as_fd).collect();
            let Some(count) = write(&self.socket, &first.bytes[first.sent..end], &borrowed)? else {
                return Ok(false);
            };
            drop(borrowed);
            first.descriptors.drain(..now);
            first.sent += count;
            self.outgoing_bytes -= count;
            if first.sent == first.bytes.len() {
                self.outgoing.pop_front();
            }
        }
        Ok(true)
    }

    /// Whether something is kept: wait for the socket to become writable, then [`Self::flush`].
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// How many bytes are kept. A sender that may produce without end bounds itself by this.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    /// Takes the next frame and the descriptors that came with it; `None` where none is complete and
    /// the socket has nothing more now. To be called until it says `None`: frames already read do
    /// not make the socket readable again.
    ///
    /// # Errors
    /// `Closed`, `Io`, `Oversized`, `Json`, `MissingDescriptors`. Frames that came whole before the
    /// peer's end are delivered before `Closed`.
    pub fn try_recv(&mut self) -> Result<Option<(Frame, Vec<OwnedFd>)>, ConnectionError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let have = self.incoming.len();
            // What the frame still lacks is read at once, so a big one costs few calls.
            let want = self.missing_bytes().max(READ_BYTES);
            self.incoming.resize(have + want, 0);
            let result = fdpass::receive(&self.socket, &mut self.incoming[have..], &mut self.arrived);
            self.incoming.truncate(have + *result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.incoming.is_empty() {
                        self.incoming = Vec::new();
                    }
                    return Ok(None);
                }
                Err(error) if is_end(&error) => return Err(ConnectionError::Closed),
                Err(error) => return Err(error.into()),
            }
            if self.arrived.len() > MAX_DESCRIPTORS + fdpass::MAX_PER_MESSAGE {
                return Err(ConnectionError::Oversized { body_bytes: 0, descriptors: self.arrived.len() });
            }
        }
    }

    /// Waits for the next frame, and sends meanwhile what was kept. For callers without an event loop.
    ///
    /// # Errors
    /// As [`Self::try_recv`]; `TimedOut` at `deadline`.
    pub fn recv_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(Frame, Vec<OwnedFd>), ConnectionError> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ConnectionError::TimedOut);
            }
            let mut interest = PollFlags::IN;
            if !self.flush()? {
                interest |= PollFlags::OUT;
            }
            let left = left.map(timespec);
            match rustix::event::poll(&mut [PollFd::new(&self.socket, interest)], left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Asks and waits for the answer to this one request. Events that come first are given to
    /// `on_event`; they must be acknowledged by the caller. For callers without an event loop, with no
    /// other request under way.
    ///
    /// # Errors
    /// As [`Self::recv_until`]; `Unexpected` for a reply to something else.
    pub fn call(
        &mut self,
        id: u64,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        mut on_event: impl FnMut(super::protocol::Record),
    ) -> Result<(Result<Reply, super::protocol::Refusal>, Vec<OwnedFd>), ConnectionError> {
        self.request(id, request, descriptors)?;
        loop {
            match self.recv_until(deadline)? {
                (Frame::Event(record), _) => on_event(record),
                (Frame::Reply(reply), descriptors) if reply.id == id => {
                    return Ok((Outcome::into_result(reply.outcome), descriptors));
                }
                _ => return Err(ConnectionError::Unexpected),
            }
        }
    }

    /// The body's and the descriptors' number of the frame that begins the buffer, if its header is there.
    fn header(&self) -> Result<Option<(usize, usize)>, ConnectionError> {
        let Some((header, _)) = self.incoming.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let body_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let descriptors = u32::from_le_bytes([e, f, g, h]) as usize;
        if !(2..=MAX_BODY_BYTES).contains(&body_bytes) || descriptors > MAX_DESCRIPTORS {
            return Err(ConnectionError::Oversized { body_bytes, descriptors });
        }
        Ok(Some((body_bytes, descriptors)))
    }

    fn missing_bytes(&self) -> usize {
        match self.header() {
            Ok(Some((body_bytes, _))) => (HEADER_BYTES + body_bytes).saturating_sub(self.incoming.len()),
            _ => 0,
        }
    }

    fn take_frame(&mut self) -> Result<Option<(Frame, Vec<OwnedFd>)>, ConnectionError> {
        let Some((body_bytes, descriptors)) = self.header()? else {
            return Ok(None);
        };
        let end = HEADER_BYTES + body_bytes;
        if self.incoming.len() < end {
            return Ok(None);
        }
        if self.arrived.len() < descriptors {
            return Err(ConnectionError::MissingDescriptors);
        }
        let frame = serde_json::from_slice(&self.incoming[HEADER_BYTES..end])?;
        self.incoming.drain(..end);
        Ok(Some((frame, self.arrived.drain(..descriptors).collect())))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The address of the socket in a directory, through `/proc/self/fd`, so that a long path fits.
/// Makes the listening socket in a shim's directory, in the place of an earlier one.
pub(super) fn listen(directory: &Path) -> Result<OwnedFd, ConnectionError> {
    let make = || -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        match rustix::fs::unlinkat(&directory, SOCKET_NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &socket_address(&directory)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    make().map_err(ConnectionError::from)
}

fn socket_address(directory: impl AsFd) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_fd().as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

fn write(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Option<usize>, ConnectionError> {
    match fdpass::send(socket, bytes, descriptors) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if is_end(&error) => Err(ConnectionError::Closed),
        Err(error) => Err(error.into()),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn timespec(duration: Duration) -> rustix::time::Timespec {
    rustix::time::Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::protocol::{HelloRequest, Kill, Refusal, RefusalKind, ReplyFrame, RequestFrame};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Connection, Connection) {
        let (left, right) = UnixStream::pair().expect("a pair");
        (
            Connection::from_socket(left.into()).expect("left"),
            Connection::from_socket(right.into()).expect("right"),
        )
    }

    #[test]
    fn a_request_with_a_thousand_descriptors_arrives_whole_although_the_socket_fills() {
        let (mut left, mut right) = pair();
        let null = std::fs::File::open("/dev/null").expect("null");
        let descriptors = vec![null.as_fd(); 600];
        let hello = || HelloRequest { build: "x".repeat(300_000), ..HelloRequest::new(7) };
        for id in 0..3 {
            left.request(id, Request::Hello(hello()), &descriptors).expect("sent or kept");
        }
        assert!(left.wants_write(), "the socket took a megabyte");
        for id in 0..3 {
            let (frame, got) = loop {
                left.flush().expect("flushed");
                if let Some(frame) = right.try_recv().expect("received") {
                    break frame;
                }
            };
            let Frame::Request(frame) = frame else { panic!("not a request") };
            assert_eq!((frame.id, got.len()), (id, 600));
            let Ok(Request::Hello(got)) = Request::parse(&frame) else { panic!("not a hello") };
            assert_eq!((got.acknowledged, got.build.len()), (7, 300_000));
        }
        drop(left);
        assert!(matches!(right.try_recv(), Err(ConnectionError::Closed)));
    }

    #[test]
    fn hostile_bytes_end_the_conversation() {
        for (bytes, want) in [
            (&[0xff; 8][..], "Oversized"),
            (&[0, 0, 0, 0, 0, 0, 0, 0], "Oversized"),
            (&[2, 0, 0, 0, 0, 0, 0, 1, b'{', b'}'], "Oversized"),
            (&[2, 0, 0, 0, 1, 0, 0, 0, b'{', b'}'], "MissingDescriptors"),
            (&[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'], "Json"),
            (&[2, 0, 0, 0, 0, 0, 0, 0, b'{'], "Closed"),
        ] {
            let (mut wire, right) = UnixStream::pair().expect("a pair");
            let mut right = Connection::from_socket(right.into()).expect("right");
            wire.write_all(bytes).expect("written");
            drop(wire);
            let error = right.try_recv().expect_err("refused");
            assert!(format!("{error:?}").starts_with(want), "{bytes:?}: {error:?}");
        }
    }

    #[test]
    fn unknown_operations_are_refused_and_unknown_fields_ignored() {
        let parse = |json: &str| {
            let frame: RequestFrame = serde_json::from_str(json).expect(json);
            Request::parse(&frame).map_err(|refusal| refusal.kind)
        };
        assert!(matches!(parse(r#"{"id":1,"op":"fly"}"#), Err(RefusalKind::UnknownOperation)));
        assert!(matches!(parse(r#"{"id":1,"op":"kill","args":[]}"#), Err(RefusalKind::Invalid)));
        let kill = parse(r#"{"id":1,"op":"kill","more":1,"args":{"signal":9,"new":{"a":[]}}}"#);
        assert!(matches!(kill, Ok(Request::Kill(Kill { signal: 9, generation: 0, cancels_restart: false }))));
        let frame = Frame::Reply(ReplyFrame {
            id: 3,
            outcome: Outcome::Error(Refusal::new(RefusalKind::Conflict, "no")),
        });
        let text = serde_json::to_string(&frame).expect("written");
        assert_eq!(
            text,
            r#"{"reply":{"id":3,"outcome":{"error":{"kind":"conflict","text":"no","exit_code":null}}}}"#
        );
    }
}
