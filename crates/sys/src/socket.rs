//! What a stream socket's peer has read so far.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether the peer of a unix socket has not read all that was sent to it (`SIOCOUTQ`, unix(7)). Once it has, whoever
/// waits for the socket to be writable, by edges, is woken.
///
/// # Errors
/// The kernel's, for a descriptor that is no stream socket.
pub fn holds_sent(socket: impl AsFd) -> io::Result<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel writes one int, which is ours.
    if unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // It counts memory. The last byte of it is given back after the wake-up (`sock_wfree` in the kernel).
    Ok(bytes > 1)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sent_bytes_are_held_until_the_peer_reads_them() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        assert!(!holds_sent(&ours).expect("a socket"));
        ours.write_all(b"head").expect("a write");
        assert!(holds_sent(&ours).expect("a socket"));
        theirs.read_exact(&mut [0; 4]).expect("a read");
        assert!(!holds_sent(&ours).expect("a socket"));
        assert!(holds_sent(std::fs::File::open("/dev/null").expect("a file")).is_err());
    }
}
