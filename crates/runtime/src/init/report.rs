//! What a child says to its maker before `execve`, as packets of one socket.
//!
//! ```text
//! packet = tag (1 byte), reason (1 byte), error number (4 bytes, little-endian), text
//! tag    = 'R' set up, waiting | 'W' warning | 'T' the terminal's master is attached | 'E' failed
//! ```
//!
//! The maker sends one byte, `G`, to let the child go. After a successful `execve` the socket closes.
//! The child formats into a buffer on its stack: nothing here allocates on its side.

use std::fmt::{self, Write};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::{LaunchError, Reason};

const PACKET: usize = 1024;
const HEAD: usize = 6;

/// The child has reported a failure and has nothing left to do but end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop;

/// The result of a step in the child.
pub(crate) type Step<T = ()> = Result<T, Stop>;

/// An error number, from either source of system calls.
pub(crate) trait ErrorNumber {
    /// The number.
    fn number(self) -> i32;
}

impl ErrorNumber for i32 {
    fn number(self) -> i32 {
        self
    }
}

impl ErrorNumber for Errno {
    fn number(self) -> i32 {
        self.raw_os_error()
    }
}

/// The child's end of the socket (or, once detached, a FIFO).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a> {
    fd: BorrowedFd<'a>,
}

struct Packet {
    bytes: [u8; PACKET],
    len: usize,
}

impl Write for Packet {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = PACKET - self.len;
        let take = text.len().min(room);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

fn packet(tag: u8, reason: Reason, errno: i32, text: fmt::Arguments<'_>) -> Packet {
    let mut packet = Packet { bytes: [0; PACKET], len: HEAD };
    packet.bytes[0] = tag;
    packet.bytes[1] = encode(reason);
    packet.bytes[2..HEAD].copy_from_slice(&errno.to_le_bytes());
    // Writing into the buffer truncates instead of failing.
    let _ = packet.write_fmt(text);
    packet
}

impl<'a> Report<'a> {
    /// Reports through this descriptor.
    pub(crate) fn new(fd: BorrowedFd<'a>) -> Self {
        Self { fd }
    }

    /// Reports that a step of the set-up failed.
    pub(crate) fn failed(self, error: impl ErrorNumber, text: fmt::Arguments<'_>) -> Stop {
        self.refused(Reason::Setup, error, text)
    }

    /// Reports a failure with its reason. An error number of 0 adds nothing to the text.
    pub(crate) fn refused(self, reason: Reason, error: impl ErrorNumber, text: fmt::Arguments<'_>) -> Stop {
        self.write(&packet(b'E', reason, error.number(), text));
        Stop
    }

    /// Reports something left out.
    pub(crate) fn warning(self, error: impl ErrorNumber, text: fmt::Arguments<'_>) {
        self.write(&packet(b'W', Reason::Setup, error.number(), text));
    }

    /// Reports that all is set up.
    pub(crate) fn ready(self) {
        self.write(&packet(b'R', Reason::Setup, 0, format_args!("")));
    }

    /// Hands the terminal's master side over.
    pub(crate) fn terminal(self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        let packet = packet(b'T', Reason::Setup, 0, format_args!(""));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [master];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let data = [IoSlice::new(&packet.bytes[..packet.len])];
        rustix::net::sendmsg(self.fd, &data, &mut control, SendFlags::empty()).map(drop)
    }

    fn write(self, packet: &Packet) {
        // Only write(2): a seccomp filter may be in force. If nobody listens, nobody needs to know.
        let _ = rustix::io::write(self.fd, &packet.bytes[..packet.len]);
    }
}

fn encode(reason: Reason) -> u8 {
    match reason {
        Reason::NotFound => 1,
        Reason::NotExecutable => 2,
        Reason::ExecFailed => 3,
        Reason::User => 4,
        Reason::Invalid => 5,
        Reason::Setup => 6,
    }
}

fn decode(byte: u8) -> Reason {
    match byte {
        1 => Reason::NotFound,
        2 => Reason::NotExecutable,
        3 => Reason::ExecFailed,
        4 => Reason::User,
        5 => Reason::Invalid,
        _ => Reason::Setup,
    }
}

/// What the maker hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// All is set up.
    Ready,
    /// Something was left out.
    Warning(String),
    /// The terminal's master side.
    Terminal(OwnedFd),
    /// It failed.
    Failed(LaunchError),
    /// The other end is closed: executed, or dead.
    Closed,
}

/// Waits for the next packet from the socket.
///
/// # Errors
/// The socket's.
pub(crate) fn hear(socket: impl AsFd) -> Result<Heard, Errno> {
    let mut bytes = [0; PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // A child that died of SIGKILL amid its set-up.
            Err(Errno::CONNRESET) => break 0,
            received => break received?.bytes,
        }
    };
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptor = fds.last();
        }
    }
    Ok(parse(&bytes[..received], descriptor))
}

/// Reads one packet (of a FIFO: one packet is written atomically and read whole).
pub(crate) fn parse(bytes: &[u8], descriptor: Option<OwnedFd>) -> Heard {
    if bytes.len() < HEAD {
        return Heard::Closed;
    }
    let errno = i32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    let mut text = String::from_utf8_lossy(&bytes[HEAD..]).into_owned();
    if errno != 0 {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error_text(errno));
    }
    match (bytes[0], descriptor) {
        (b'R', _) => Heard::Ready,
        (b'W', _) => Heard::Warning(text),
        (b'T', Some(master)) => Heard::Terminal(master),
        _ => Heard::Failed(LaunchError::new(decode(bytes[1]), text)),
    }
}

/// The error's text as Go writes it: in lower case.
pub(crate) fn error_text(errno: i32) -> String {
    if let Some(text) = exec_error_text(errno) {
        return text.into();
    }
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// The texts of `execve`'s usual errors, for the child, which must not allocate.
pub(crate) fn exec_error_text(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => "operation not permitted",
        libc::ENOENT => "no such file or directory",
        libc::EIO => "input/output error",
        libc::E2BIG => "argument list too long",
        libc::ENOEXEC => "exec format error",
        libc::EAGAIN => "resource temporarily unavailable",
        libc::ENOMEM => "cannot allocate memory",
        libc::EACCES => "permission denied",
        libc::ENOTDIR => "not a directory",
        libc::EISDIR => "is a directory",
        libc::EINVAL => "invalid argument",
        libc::ETXTBSY => "text file busy",
        libc::ELOOP => "too many levels of symbolic links",
        libc::ENAMETOOLONG => "file name too long",
        libc::ELIBBAD => "accessing a corrupted shared library",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn packets_arrive_as_they_were_sent() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("pair");
        let report = Report::new(theirs.as_fd());
        report.warning(libc::EPERM, format_args!("limit {}", 3));
        let _ = report.refused(Reason::NotFound, 0, format_args!("exec: {:?}", "x"));
        report.terminal(theirs.as_fd()).expect("send");
        report.ready();
        assert!(
            matches!(hear(&ours), Ok(Heard::Warning(text)) if text == "limit 3: operation not permitted")
        );
        assert!(
            matches!(hear(&ours), Ok(Heard::Failed(error)) if error == LaunchError::new(Reason::NotFound, "exec: \"x\""))
        );
        assert!(matches!(hear(&ours), Ok(Heard::Terminal(_))));
        assert!(matches!(hear(&ours), Ok(Heard::Ready)));
        drop(theirs);
        assert!(matches!(hear(&ours), Ok(Heard::Closed)));
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = "x".repeat(5000);
        assert_eq!(packet(b'E', Reason::Setup, 1, format_args!("{long}")).len, PACKET);
    }

    #[test]
    fn errors_read_as_go_writes_them() {
        assert_eq!(error_text(libc::ENOEXEC), "exec format error");
        assert_eq!(error_text(libc::ENOSPC), "no space left on device");
    }
}
