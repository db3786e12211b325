//! A connection: unix or TCP behind one type, with what was read of it but not used yet.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::{Error, Host};

/// A socket to a daemon. `&Stream` reads and writes, so two threads may share one.
#[derive(Debug)]
pub enum Stream {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub fn connect(host: &Host) -> Result<Self, Error> {
        let stream = match host {
            Host::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Host::Tcp(address) => TcpStream::connect(address.as_str()).map(|stream| {
                // A small request must not wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                Self::Tcp(stream)
            }),
        };
        stream.map_err(|source| Error::Connect { host: host.to_string(), source })
    }

    /// Tells the other side that nothing more comes; reading goes on.
    pub fn close_write(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends both directions, which also wakes a thread that reads.
    pub fn close(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        // A socket that is gone already needs no shutdown.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).read(buffer),
            Stream::Tcp(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).write(bytes),
            Stream::Tcp(stream) => (&*stream).write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that is no longer HTTP.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket.
    pub stream: Stream,
    /// What the daemon sent right behind its reply: comes before what is read of the socket.
    pub early: Vec<u8>,
    /// The reply's content type: [`gantry_api::frame::RAW`], [`gantry_api::frame::MULTIPLEXED`], or empty.
    pub content_type: String,
}

/// A socket with a read buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    buffer: Vec<u8>,
    start: usize,
}

/// The longest head of a reply that is read.
const MAX_HEAD_BYTES: usize = 256 << 10;

impl Connection {
    pub(crate) fn open(host: &Host) -> Result<Self, Error> {
        Ok(Self { stream: Stream::connect(host)?, buffer: Vec::new(), start: 0 })
    }

    /// What was read and not used.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Reads more behind what is buffered; `false` at the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let len = self.buffer.len();
        self.buffer.resize(len + (16 << 10), 0);
        let read = loop {
            match (&self.stream).read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(len + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }

    /// Reads past the buffer, for long bodies.
    pub(crate) fn read_direct(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let buffered = self.buffered();
        if buffered.is_empty() {
            return (&self.stream).read(into);
        }
        let take = buffered.len().min(into.len());
        into[..take].copy_from_slice(&buffered[..take]);
        self.consume(take);
        Ok(take)
    }

    /// Takes a line, without its end.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffered()[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                let line = String::from_utf8_lossy(&self.buffered()[..end]).trim_end_matches('\r').to_owned();
                self.consume(end + 1);
                return Ok(line);
            }
            searched = self.buffered().len();
            if searched > MAX_HEAD_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the daemon's reply has an endless header",
                ));
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) fn into_hijacked(self, content_type: String) -> Hijacked {
        let early = self.buffered().to_vec();
        Hijacked { stream: self.stream, early, content_type }
    }
}
