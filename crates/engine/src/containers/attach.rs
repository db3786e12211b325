//! Attaching a client to a container's standard streams.
//!
//! Two steps, because HTTP must answer in between: [`Containers::attach`] checks and gives an
//! [`Attachment`]; after the connection was hijacked, [`Attachment::connect`] gives the shim the
//! descriptor, which speaks to the client from then on, also without the daemon. A container that
//! does not run yet keeps attachments until it starts.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use gantry_model::container::Status;
use gantry_runtime::shim::protocol::{self, DEFAULT_DETACH_KEYS, Framing, Request, Streams};
use tokio::io::Interest;

use super::core::Core;
use super::index::{Coming, Entry};
use super::link::Pending;
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error, LogOptions};

/// What to attach and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Standard input, from the client.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Past output first.
    pub logs: bool,
    /// Goes on after past output.
    pub stream: bool,
    /// The keys that detach: `ctrl-p,ctrl-q`; empty is that default.
    pub detach_keys: String,
}

/// A checked attach, waiting for its connection.
pub struct Attachment {
    core: Arc<Core>,
    entry: Arc<Entry>,
    options: AttachOptions,
    detach_keys: Vec<u8>,
    tty: bool,
    /// A start waits for it: the first output must not come before the client has its place.
    coming: Coming,
}

impl Attachment {
    /// Whether output is framed in Docker's multiplexed form (no terminal).
    #[must_use]
    pub fn multiplexed(&self) -> bool {
        !self.tty
    }

    /// Hands over the hijacked connection with the bytes that were read from it after the request.
    /// Returns when the shim (or the waiting container) has it; the streams go on by themselves and the
    /// connection closes when the container exits or the client detaches.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the container went away; the connection is closed then.
    pub async fn connect(self, connection: OwnedFd, early: Vec<u8>) -> Result<(), Error> {
        let mut connection = head_read(connection).await;
        if self.options.logs {
            connection = self.send_past(connection).await?;
        }
        if !self.options.stream {
            return Ok(());
        }
        let attach = Box::new(protocol::Attach {
            streams: Streams {
                stdin: self.options.stdin && self.entry.view().record.config.open_stdin,
                stdout: self.options.stdout,
                stderr: self.options.stderr,
            },
            framing: if self.tty { Framing::Raw } else { Framing::Multiplexed },
            detach_keys: self.detach_keys,
            early,
        });
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.entry.tell(Message::Attach { attach, client: connection, answer })?;
        answered.await.map_err(|_| Error::Conflict("the container ended meanwhile".into()))??;
        drop(self.coming);
        super::publish(&self.core, &self.entry.view().record, "attach", Vec::new());
        Ok(())
    }

    /// Writes what was logged so far. A client that does not read keeps only its own thread.
    async fn send_past(&self, connection: OwnedFd) -> Result<OwnedFd, Error> {
        let options =
            LogOptions { stdout: self.options.stdout, stderr: self.options.stderr, ..LogOptions::default() };
        let containers = Containers { core: Arc::clone(&self.core) };
        let mut log = containers.logs(self.entry.id.as_str(), options).await?;
        let mut past = Vec::new();
        while let Some(entry) = log.next().await? {
            frame(&mut past, &entry.bytes, entry.stderr, self.tty);
        }
        crate::blocking(move || {
            let socket = std::os::unix::net::UnixStream::from(connection);
            let written = socket.set_nonblocking(false).and_then(|()| (&socket).write_all(&past));
            written.map_err(|error| Error::Conflict(format!("the client went away: {error}")))?;
            Ok(socket.into())
        })
        .await
    }
}

/// How long a client may take to read the reply's head before output follows all the same. It is not short: of a
/// client with eight threads on a host with more to do than CPUs, every sixth reads it only after 20 ms.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// Waits until the client has read the head of the reply that made its connection a stream. Some (docker-py among
/// them) read the head through a buffer and the stream past it, and lose what arrived together with the head; the
/// first output comes so early that it does. Over TCP the client's kernel has it at once, and nobody can tell more.
pub(super) async fn head_read(connection: OwnedFd) -> OwnedFd {
    head_read_within(connection, HEAD_PATIENCE).await
}

async fn head_read_within(connection: OwnedFd, patience: Duration) -> OwnedFd {
    let held = |connection: &OwnedFd| gantry_sys::socket::holds_sent(connection).unwrap_or(false);
    let is_unix = rustix::net::sockopt::socket_domain(&connection) == Ok(rustix::net::AddressFamily::UNIX);
    if !is_unix || !held(&connection) {
        return connection;
    }
    // Without a second descriptor the client gets its stream all the same.
    let Ok(watched) = connection.try_clone() else { return connection };
    let Ok(watched) = crate::readiness::watch(watched, Interest::WRITABLE) else { return connection };
    let read = async {
        while held(watched.get_ref()) {
            // It is writable all the time: the edge is what tells that something was read.
            match watched.writable().await {
                Ok(mut edge) => edge.clear_ready(),
                Err(_) => return,
            }
        }
    };
    // One that does not read is no reason to wait on.
    let _ = tokio::time::timeout(patience, read).await;
    connection
}

/// Adds output as a client expects it: as it is for a terminal, else with Docker's header.
pub(super) fn frame(to: &mut Vec<u8>, bytes: &[u8], stderr: bool, tty: bool) {
    if !tty {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        to.extend([if stderr { 2 } else { 1 }, 0, 0, 0]);
        to.extend(length.to_be_bytes());
    }
    to.extend(bytes);
}

/// Reads `ctrl-p,ctrl-q`: letters and `ctrl-` with a letter or one of `@[\]^_`.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn detach_keys(text: &str) -> Result<Vec<u8>, Error> {
    if text.is_empty() {
        return Ok(DEFAULT_DETACH_KEYS.to_vec());
    }
    text.split(',')
        .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(control), _) => match *control.as_bytes() {
                [letter @ (b'a'..=b'z')] => Some(letter - b'a' + 1),
                [sign @ (b'@' | b'['..=b'_')] => Some(sign - b'@'),
                _ => None,
            },
            (None, &[byte]) if byte.is_ascii() => Some(byte),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Invalid(format!("Invalid detach keys ({text}) provided")))
}

impl Containers {
    /// Checks that a client may attach.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Conflict`] if it is paused or restarting.
    pub async fn attach(&self, container: &str, options: AttachOptions) -> Result<Attachment, Error> {
        let entry = self.core.index.find(container)?;
        let view = entry.view();
        let id = &view.record.id;
        let conflict = match view.state.status {
            Status::Paused => Some(format!("container {id} is paused, unpause the container before attach.")),
            Status::Restarting => {
                Some(format!("container {id} is restarting, wait until the container is running"))
            }
            _ => None,
        };
        if let Some(conflict) = conflict {
            return Err(Error::Conflict(conflict));
        }
        let detach_keys = detach_keys(&options.detach_keys)?;
        let tty = view.record.config.tty;
        let coming = entry.expect_client();
        Ok(Attachment { core: Arc::clone(&self.core), entry, options, detach_keys, tty, coming })
    }
}

impl Task {
    pub(super) fn on_attach(&mut self, attach: protocol::Attach, client: OwnedFd, answer: Answerer<()>) {
        match (&mut self.link, self.phase) {
            (Some(link), Phase::Up) => {
                link.ask(Request::Attach(attach), &[client.as_fd()], Pending::Nobody);
            }
            _ => {
                self.callers.clients.push((attach, client));
            }
        }
        let _ = answer.send(Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_docker_reads_them() {
        for (text, keys) in [
            ("", Some(&[16, 17][..])),
            ("ctrl-a", Some(&[1])),
            ("ctrl-@,a", Some(&[0, b'a'])),
            ("ctrl-_", Some(&[31])),
            ("ctrl-", None),
            ("ab", None),
            ("ctrl-1", None),
        ] {
            assert_eq!(detach_keys(text).ok().as_deref(), keys, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_client_gets_its_stream_once_it_has_read_the_head() {
        use std::io::Read;
        let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        ours.write_all(b"head").expect("a write");
        ours.set_nonblocking(true).expect("a socket");
        let hour = Duration::from_secs(3600);
        let mut waiting = Box::pin(head_read_within(ours.into(), hour));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
        assert!(early.is_err(), "nobody has read the head");
        theirs.read_exact(&mut [0; 4]).expect("a read");
        let woken = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(woken.is_ok(), "the reading woke nobody");
    }

    #[test]
    fn output_is_framed_unless_there_is_a_terminal() {
        let mut framed = Vec::new();
        frame(&mut framed, b"ab", true, false);
        frame(&mut framed, b"c", false, true);
        assert_eq!(framed, b"\x02\0\0\0\0\0\0\x02abc");
    }
}
