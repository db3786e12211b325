//! One accepted socket, unix or TCP, shared between hyper, which reads and writes it, and whoever
//! watches whether the client is still there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// An accepted socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Of a unix listener.
    Unix(UnixStream),
    /// Of a TCP listener.
    Tcp(TcpStream),
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Unix($stream) => $call,
            Stream::Tcp($stream) => $call,
        }
    };
}

impl Stream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read_ready(context))
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(context))
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buffer))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(slices))
    }

    /// Writes everything.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            either!(self, stream => stream.writable().await)?;
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives up the runtime's hold on the socket.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Unix(stream) => OwnedFd::from(stream.into_std()?),
            Self::Tcp(stream) => OwnedFd::from(stream.into_std()?),
        })
    }

    /// Lets the client read what was sent last: a socket that is closed while input waits unread would
    /// reset the connection. Gives up after a second.
    pub(crate) async fn linger(&self) {
        self.close_write();
        let drain = async {
            let mut buffer = [0; 4 << 10];
            loop {
                either!(self, stream => stream.readable().await)?;
                match self.try_read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Whatever came of it, the socket is closed next.
        let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    }

    fn close_write(&self) {
        // A socket that is gone already needs no shutdown.
        let _ = either!(self, stream => rustix::net::shutdown(stream, rustix::net::Shutdown::Write));
    }

    fn hung_up(&self) -> bool {
        let check = |fd: &dyn AsFd| {
            let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
                && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        };
        either!(self, stream => check(stream))
    }

    /// Returns once the client is gone: both directions are closed, or the connection was reset. One that
    /// has only closed its sending half is still there.
    pub(crate) async fn gone(&self) {
        // Priority readiness comes with urgent data, which nobody sends, and with the end of reading;
        // ordinary bytes, which hyper is to see, do not wake it.
        let end = either!(self, stream => stream.ready(Interest::PRIORITY).await);
        if end.is_err() {
            return;
        }
        // Readiness does not tell the end of one direction from that of both, and does not change again
        // after the first: from here on the kernel is asked. Half-closed clients are few.
        let mut pause = Duration::from_millis(5);
        while !self.hung_up() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// hyper's view of a shared socket.
#[derive(Debug, Clone)]
pub(crate) struct Shared(pub(crate) Arc<Stream>);

impl Read for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // On the stack, because hyper's buffer is not initialised and this crate has no unsafe code.
        let mut buffer = [0; 16 << 10];
        let limit = cursor.remaining().min(buffer.len());
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(&mut buffer[..limit]) {
                Ok(read) => {
                    cursor.put_slice(&buffer[..read]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close_write();
        Poll::Ready(Ok(()))
    }
}
