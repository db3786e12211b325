//! What a stream socket's peer has read so far.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether bytes that were sent are still in the kernel: for a unix socket, the peer has not read them; for TCP, it has
/// not acknowledged them (`SIOCOUTQ`, unix(7) and tcp(7)).
///
/// # Errors
/// The kernel's, for a descriptor that is no stream socket.
pub fn holds_sent(socket: impl AsFd) -> io::Result<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel writes one int, which is ours.
    if unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes > 0)
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
