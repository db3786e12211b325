//! Netlink: a socket, the conversation on it, and reading what comes back.
//!
//! The kernel works off a request inside `sendmsg`: when that returns, every answer is already in the
//! socket's queue. So nothing here ever waits.
//!
//! [`route`] speaks of links, addresses and routes, [`conntrack`] of connections; [`crate::nft`] of rules.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use rustix::net::sockopt;

pub mod conntrack;
pub mod route;

const HEADER: usize = 16;
/// `NLM_F_ACK_TLVS`: attributes follow in an acknowledgement.
const ACK_TLVS: u16 = 0x200;
const ERROR_MESSAGE_ATTRIBUTE: u16 = 1;
/// What one `recv` may give: the kernel makes dumps in pieces of at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Why the kernel refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    errno: i32,
    explanation: String,
    /// Which message of the request, counted from 0.
    position: usize,
}

impl Error {
    pub(crate) fn new(errno: i32, explanation: &str, position: usize) -> Self {
        Self { errno, explanation: explanation.into(), position }
    }

    /// The error number, positive (`libc::EEXIST`, …).
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// Which message of the request was refused, counted from 0.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether the thing asked for is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ENODEV | libc::ESRCH)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if self.explanation.is_empty() { Ok(()) } else { write!(f, ": {}", self.explanation) }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(libc::EIO), explanation: String::new(), position: 0 }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self { errno: error.raw_os_error(), explanation: String::new(), position: 0 }
    }
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// `nf_tables` and connection tracking.
    Netfilter,
}

/// A netlink socket. It belongs to the network namespace that its thread was in when it was opened, and
/// stays there.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    received: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. Close-on-exec.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Protocol::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
        };
        let mut inner = netlink_sys::Socket::new(number)?;
        inner.bind_auto()?;
        // Both are refinements: an old kernel without them only explains less.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        Ok(Self { inner, sequence: 1, received: Vec::new() })
    }

    /// Subscribes to a group of notifications. The socket is for [`Socket::notifications`] only from then on.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.inner.add_membership(group)?;
        let _ = sockopt::set_socket_recv_buffer_size_force(&self.inner, 4 << 20);
        Ok(())
    }

    /// A request for this socket, to be filled with messages.
    #[must_use]
    pub fn request(&self) -> Request {
        Request {
            bytes: Vec::with_capacity(512),
            first: self.sequence,
            next: self.sequence,
            awaited: self.sequence,
            last_start: 0,
        }
    }

    /// Sends a request of changes. Several messages are worked off in order, and for the route protocol one
    /// that fails does not stop those after it.
    ///
    /// # Errors
    /// The first refusal. A netfilter batch is then undone by the kernel; others are not.
    pub fn change(&mut self, request: Request) -> Result<(), Error> {
        self.send(request, |_, _| {})
    }

    /// Sends a request and gives every message of the answer to `reply`: its type and its payload.
    ///
    /// # Errors
    /// The first refusal.
    pub fn query(&mut self, request: Request, reply: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        self.send(request, reply)
    }

    /// Takes the notifications that are queued, without waiting.
    ///
    /// # Errors
    /// `ENOBUFS` where some were lost.
    pub fn notifications(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        while self.receive()? {
            for (header, payload) in messages(&self.received) {
                each(header.message_type, payload);
            }
        }
        Ok(())
    }

    fn send(&mut self, request: Request, mut reply: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        let Request { bytes, first, next, awaited, .. } = request;
        if next == first {
            return Ok(());
        }
        self.sequence = next.wrapping_add(1);
        if bytes.len() > 100_000 {
            sockopt::set_socket_send_buffer_size_force(&self.inner, bytes.len() * 2 + 65_536)?;
        }
        self.inner.send(&bytes, 0)?;
        let mut failure: Option<Error> = None;
        let mut ended = false;
        while !ended && self.receive()? {
            for (header, payload) in messages(&self.received) {
                let position = header.sequence_number.wrapping_sub(first) as usize;
                if header.sequence_number.wrapping_sub(first) >= next.wrapping_sub(first) {
                    continue; // the answer to an earlier request that was given up
                }
                match header.message_type {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR => {
                        if let Some(error) = refusal(header.flags, payload, position) {
                            failure.get_or_insert(error);
                        }
                        ended |= header.sequence_number == awaited;
                    }
                    NLMSG_DONE => ended |= header.sequence_number == awaited,
                    kind => reply(kind, payload),
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None if ended => Ok(()),
            None => Err(Error::new(libc::EPROTO, "the kernel did not answer", 0)),
        }
    }

    /// Takes one datagram; false if none is queued.
    fn receive(&mut self) -> Result<bool, Error> {
        self.received.clear();
        self.received.reserve(RECEIVE_BYTES);
        match self.inner.recv(&mut self.received, libc::MSG_DONTWAIT) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Messages to be sent together.
pub struct Request {
    bytes: Vec<u8>,
    /// The first message's number, and the next one's.
    first: u32,
    next: u32,
    /// The message whose acknowledgement, or end of list, is the end of the answer.
    awaited: u32,
    last_start: usize,
}

impl Request {
    /// Adds a message with these flags besides `NLM_F_REQUEST`.
    pub(crate) fn push<M: NetlinkSerializable + fmt::Debug>(&mut self, message: M, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.next;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        self.last_start = self.bytes.len();
        self.bytes.resize(self.last_start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut self.bytes[self.last_start..]);
        self.numbered();
    }

    /// Adds a message whose payload is already bytes.
    pub(crate) fn push_raw(&mut self, kind: u16, flags: u16, payload: &[u8]) {
        self.last_start = self.bytes.len();
        let length = u32::try_from(HEADER + payload.len()).expect("messages are built below 4 GiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.next.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.numbered();
    }

    fn numbered(&mut self) {
        self.awaited = self.next;
        self.next = self.next.wrapping_add(1);
    }

    /// Asks for an acknowledgement of the message added last, which implies all before it.
    pub(crate) fn acknowledge_last(&mut self) {
        let flags = &mut self.bytes[self.last_start + 6..self.last_start + 8];
        let value = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
        flags.copy_from_slice(&value.to_ne_bytes());
    }

    /// Adds a message that is not answered: the answer ends with the one before it.
    pub(crate) fn push_unanswered(&mut self, kind: u16, payload: &[u8]) {
        let awaited = self.awaited;
        self.push_raw(kind, 0, payload);
        self.awaited = awaited;
    }

    /// Whether it has no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.first
    }
}

/// The flags of a request for a whole list.
pub(crate) const DUMP: u16 = NLM_F_DUMP;

fn refusal(flags: u16, payload: &[u8], position: usize) -> Option<Error> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // With a capped acknowledgement only the request's header is between the code and the explanation.
    let explanation = (flags & ACK_TLVS != 0)
        .then(|| payload.get(4 + HEADER..))
        .flatten()
        .and_then(|rest| attributes(rest).find(|(kind, _)| *kind == ERROR_MESSAGE_ATTRIBUTE))
        .map(|(_, text)| text_of(text))
        .unwrap_or_default();
    Some(Error::new(code.saturating_neg(), &explanation, position))
}

/// The messages of a datagram. Stops at the first that is cut short.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (NetlinkHeader, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let length = word(0)?;
        let [kind, flags] =
            [4, 6].map(|at| rest.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]])));
        let mut header = NetlinkHeader::default();
        header.length = length;
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = word(8)?;
        let length = length as usize;
        let payload = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// The attributes of a message or of a nested attribute: type without flag bits, and value. Stops at the
/// first that is cut short.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let head = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A zero-terminated text.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Appends an attribute.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("attributes are built below 64 KiB");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stop_at_what_is_cut_short() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, b"eth0\0");
        put(&mut bytes, 0x8000 | 7, &[1, 2]);
        let all: Vec<_> = attributes(&bytes).collect();
        assert_eq!(all, [(3, &b"eth0\0"[..]), (7, &[1, 2][..])]);
        assert_eq!(text_of(all[0].1), "eth0");
        for cut in 0..bytes.len() {
            assert!(attributes(&bytes[..cut]).count() <= 2);
        }
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "a length below the header's is no attribute");
    }

    #[test]
    fn refusals_carry_the_kernels_words() {
        let mut payload = (-libc::EEXIST).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        put(&mut payload, ERROR_MESSAGE_ATTRIBUTE, b"it is there\0");
        let error = refusal(ACK_TLVS, &payload, 2).expect("a refusal");
        assert_eq!((error.errno(), error.position()), (libc::EEXIST, 2));
        assert_eq!(error.to_string(), "File exists (os error 17): it is there");
        assert_eq!(refusal(0, &[0; 20], 0), None);
    }
}
