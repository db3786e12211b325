//! An attached session: a hijacked connection on one side, our standard streams on the other.
//!
//! Two threads copy with blocking calls, one each way, because that is the fastest way to move a
//! gigabyte and keeps back-pressure for free; the caller's thread sees to signals and the
//! terminal's size meanwhile.
//!
//! Without a terminal the stream comes in frames:
//! ```text
//! 0        1        4                8
//! | stream | 0 0 0  | length (BE)    | bytes …
//!   1 stdout, 2 stderr
//! ```

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::api::{Api, Hijacked, Request};
use crate::failure::Outcome;
use crate::terminal;

/// How a session is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Whether our standard input goes to the container.
    pub(crate) stdin: bool,
    /// Whether the stream is raw (a terminal's) instead of framed.
    pub(crate) raw: bool,
    /// The keys that leave the container running; empty if none shall.
    pub(crate) detach_keys: Vec<u8>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed the stream.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Starts copying; the end arrives at the receiver.
pub(crate) fn run(hijacked: Hijacked, setup: Setup) -> UnboundedReceiver<End> {
    let (sender, receiver) = unbounded_channel();
    let stream = Arc::new(hijacked.stream);
    if setup.stdin {
        let (stream, sender, keys) = (Arc::clone(&stream), sender.clone(), setup.detach_keys.clone());
        thread::spawn(move || input(&stream, &keys, &sender));
    }
    thread::spawn(move || {
        let source = hijacked.early.as_slice().chain(&*stream);
        // A closed standard output ends the session as Docker's does: without a word.
        let _ = if setup.raw { raw(source) } else { framed(source) };
        let _ = sender.send(End::Closed);
    });
    receiver
}

fn input(stream: &crate::api::Stream, keys: &[u8], sender: &UnboundedSender<End>) {
    let mut buffer = vec![0; 64 << 10];
    let mut escape = Escape::new(keys);
    let mut stdin = io::stdin().lock();
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let sent = if keys.is_empty() {
            (&*stream).write_all(&buffer[..read])
        } else {
            let (bytes, detached) = escape.filter(&buffer[..read]);
            if detached {
                let _ = sender.send(End::Detached);
                return;
            }
            (&*stream).write_all(&bytes)
        };
        if sent.is_err() {
            return;
        }
    }
    stream.close_write();
}

fn raw(mut source: impl Read) -> io::Result<()> {
    let mut out = stdout();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => out.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Standard output without the line buffer that the library's own has.
fn stdout() -> std::fs::File {
    rustix::io::dup(std::io::stdout()).map_or_else(
        |_| std::fs::File::open("/dev/null").expect("there is always a /dev/null"),
        std::fs::File::from,
    )
}

/// Copies frames to standard output and standard error until the stream ends.
///
/// # Errors
/// Reading or writing failed, or the stream broke off within a frame.
pub(crate) fn framed(source: impl Read) -> io::Result<()> {
    let mut source = io::BufReader::with_capacity(64 << 10, source);
    let (mut out, mut err) = (stdout(), io::stderr());
    let mut header = [0; 8];
    loop {
        match source.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut frame = (&mut source).take(u64::from(length));
        let copied = match header[0] {
            2 => copy(&mut frame, &mut err)?,
            3 => {
                let mut text = String::new();
                frame.read_to_string(&mut text)?;
                return Err(io::Error::other(format!("error from daemon in stream: {text}")));
            }
            _ => copy(&mut frame, &mut out)?,
        };
        if copied < u64::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn copy(frame: &mut io::Take<&mut io::BufReader<impl Read>>, out: &mut impl Write) -> io::Result<u64> {
    use io::BufRead as _;
    let mut total = 0;
    loop {
        let bytes = frame.fill_buf()?;
        if bytes.is_empty() {
            return Ok(total);
        }
        out.write_all(bytes)?;
        let length = bytes.len();
        frame.consume(length);
        total += length as u64;
    }
}

/// What is done while a session runs, besides copying.
pub(crate) struct Attendance<'a> {
    /// The daemon.
    pub(crate) api: &'a Api,
    /// `/containers/<id>/resize` or `/exec/<id>/resize`, if our terminal's size shall follow.
    pub(crate) resize: Option<String>,
    /// `/containers/<id>/kill`, if our signals shall reach the container.
    pub(crate) signals: Option<String>,
}

/// A signal by Docker's name for it and the system's.
type Forwarded = (&'static str, fn() -> SignalKind);

/// The signals that reach the container in place of us.
const FORWARDED: [Forwarded; 8] = [
    ("INT", SignalKind::interrupt),
    ("TERM", SignalKind::terminate),
    ("HUP", SignalKind::hangup),
    ("QUIT", SignalKind::quit),
    ("USR1", SignalKind::user_defined1),
    ("USR2", SignalKind::user_defined2),
    ("ALRM", SignalKind::alarm),
    ("CONT", || SignalKind::from_raw(18)),
];

/// Signals that were asked for, from then on.
pub(crate) struct Watch {
    runtime: tokio::runtime::Runtime,
    forwarded: Vec<(&'static str, Signal)>,
    window: Option<Signal>,
}

impl Attendance<'_> {
    /// Begins to catch what [`Self::until_end`] handles, so that nothing is lost before.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn watch(&self) -> Outcome<Watch> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let mut forwarded = Vec::new();
        if self.signals.is_some() {
            for (name, kind) in FORWARDED {
                forwarded.push((name, signal(kind())?));
            }
        }
        let window = self.resize.as_ref().map(|_| signal(SignalKind::window_change())).transpose()?;
        drop(entered);
        Ok(Watch { runtime, forwarded, window })
    }

    /// Passes signals and the terminal's size on until the session ends.
    pub(crate) fn until_end(&self, watch: Watch, mut session: UnboundedReceiver<End>) -> End {
        let Watch { runtime, mut forwarded, mut window } = watch;
        self.resize();
        runtime.block_on(async {
            loop {
                tokio::select! {
                    biased;
                    end = session.recv() => return end.unwrap_or(End::Closed),
                    name = next(&mut forwarded) => self.forward(name),
                    () = changed(&mut window) => self.resize(),
                }
            }
        })
    }

    fn forward(&self, name: &str) {
        if let Some(path) = &self.signals {
            // A container that is gone has nothing to be told; the session's end says so next.
            let _ = self.api.ask(Request::post(path.as_str()).query("signal", name));
        }
    }

    fn resize(&self) {
        if let (Some(path), Some((rows, columns))) = (&self.resize, terminal::size()) {
            let request =
                Request::post(path.as_str()).query("h", rows.to_string()).query("w", columns.to_string());
            // A session that is over already has no size.
            let _ = self.api.ask(request);
        }
    }
}

async fn next(signals: &mut [(&'static str, Signal)]) -> &'static str {
    std::future::poll_fn(|context| {
        for (name, signal) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*name);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn changed(window: &mut Option<Signal>) {
    match window {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Finds the detach keys in what is typed; keys that turn out to be no detaching go on their way.
struct Escape<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl<'a> Escape<'a> {
    fn new(keys: &'a [u8]) -> Self {
        Self { keys, matched: 0 }
    }

    /// What is to be sent, and whether the user wants to leave.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

/// Parses `ctrl-p,ctrl-q` into the bytes that a terminal sends for it.
///
/// # Errors
/// Docker's text for a key that is none.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(vec![16, 17]);
    }
    text.split(',')
        .map(|key| match key.as_bytes() {
            [byte] => Ok(*byte),
            _ => match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some(b"@") => Ok(0),
                Some([sign @ b'['..=b'_']) => Ok(sign - b'[' + 27),
                _ => Err(format!("invalid detach keys ({text}): Unknown character: '{key}'")),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads() {
        let keys = detach_keys("").unwrap();
        let mut escape = Escape::new(&keys);
        assert_eq!(escape.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(escape.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(escape.filter(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
        assert_eq!(detach_keys("ctrl-@,a,ctrl-["), Ok(vec![0, b'a', 27]));
        assert!(detach_keys("foo").is_err() && detach_keys("ctrl-P").is_err());
    }
}
