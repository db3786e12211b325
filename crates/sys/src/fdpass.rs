//! Descriptors over unix sockets (`SCM_RIGHTS`, unix(7)).
//!
//! The kernel ties descriptors to the first byte that they were sent with, never merges two such
//! messages into one read, and takes at most 253 at a time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// How many descriptors one message takes (`SCM_MAX_FD`).
pub const MAX_PER_MESSAGE: usize = 253;

/// Sends some of `bytes`, at least one, with all of `descriptors`, without blocking and without
/// SIGPIPE. Returns how many bytes went. Descriptors go with the first byte, or not at all.
///
/// # Errors
/// `WouldBlock`; `InvalidInput` for more than [`MAX_PER_MESSAGE`] descriptors or for descriptors
/// without a byte; else sendmsg(2)'s. Nothing was sent then.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.len() > MAX_PER_MESSAGE || (bytes.is_empty() && !descriptors.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let iov = [IoSlice::new(bytes)];
    if descriptors.is_empty() {
        let mut none = SendAncillaryBuffer::default();
        return Ok(rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &iov, &mut none, flags))?);
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &iov, &mut ancillary, flags))?)
}

/// Receives up to `buffer.len()` bytes without blocking, and appends what descriptors came with them,
/// close-on-exec. Returns 0 at the end of the stream.
///
/// # Errors
/// `WouldBlock`; `InvalidData` where the kernel could not install all descriptors (the process has
/// too many open); else recvmsg(2)'s.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost: too many are open"));
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_byte_and_works() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        assert_eq!(send(&left, b"x", &[writer.as_fd()]).expect("sent"), 1);
        drop(writer);
        let (mut buffer, mut got) = ([0; 8], Vec::new());
        assert_eq!(receive(&right, &mut buffer, &mut got).expect("received"), 1);
        let mut writer = std::fs::File::from(got.pop().expect("one descriptor"));
        writer.write_all(b"through").expect("written");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
        assert_eq!(
            receive(&right, &mut buffer, &mut got).expect_err("empty").kind(),
            io::ErrorKind::WouldBlock
        );
        drop(left);
        assert_eq!(receive(&right, &mut buffer, &mut got).expect("the end"), 0);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let (left, _right) = UnixStream::pair().expect("a pair");
        let many = vec![left.as_fd(); MAX_PER_MESSAGE + 1];
        for (bytes, descriptors) in [(&b"x"[..], &many[..]), (b"", &many[..1])] {
            let error = send(&left, bytes, descriptors).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(send(&left, b"x", &many[..MAX_PER_MESSAGE]).expect("the most that goes"), 1);
    }
}
