//! The daemon's own log, on standard error: writing it can neither fail anything nor make anything wait.
//!
//! Whoever keeps standard error may have a full disk, or may have stopped reading. So an event is given to
//! a thread through a bounded queue. What finds the queue full, and what cannot be written, is dropped and
//! counted; the next line that can be written is preceded by one that says how many are missing.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::options::Options;

/// Lines that may wait to be written; of some hundred bytes each.
const QUEUE_LINES: usize = 1024;
/// How long the end waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// Sends the log to standard error, without colours: whoever starts daemons keeps it. `GANTRY_LOG` takes
/// the filter syntax of `tracing` and wins over the flags. The last lines are written when what is returned
/// is dropped.
pub(crate) fn begin(options: &Options) -> Log {
    let level = if options.debug { "debug" } else { &options.log_level };
    let level = match level {
        // Docker's further names.
        "fatal" | "panic" => "error",
        other => other,
    };
    let chosen = std::env::var("GANTRY_LOG").unwrap_or_else(|_| format!("{level},hyper=warn"));
    let filter = tracing_subscriber::EnvFilter::try_new(chosen).unwrap_or_else(|_| "info".into());
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = Log::to(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // It would tell of a failed write by a macro that panics when its own write fails.
        .log_internal_errors(false)
        .with_writer(log.queue.clone());
    // The journal has a clock of its own. A second subscriber cannot be there yet.
    let _ = if under_systemd { builder.without_time().try_init() } else { builder.try_init() };
    std::panic::set_hook(Box::new(|panic| tracing::error!("a defect: {panic}")));
    log
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The thread that writes, until it is dropped.
pub(crate) struct Log {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    fn to(sink: impl Write + Send + 'static) -> Self {
        let (sender, lines) = sync_channel(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(sink, &lines, &counter))
            .ok();
        Self { queue: Queue { sender, lost, ended: Arc::default() }, thread }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The subscriber keeps its queue for ever: what ends the thread is a word in it.
        let _ = self.queue.ended.set(());
        let _ = self.queue.sender.try_send(None);
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + FAREWELL;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(mut sink: impl Write, lines: &Receiver<Option<Vec<u8>>>, lost: &AtomicU64) {
    while let Ok(Some(line)) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        let mut bytes = Vec::new();
        if missing > 0 {
            bytes = format!("{missing} lines of this log are missing\n").into_bytes();
        }
        bytes.extend(line);
        if sink.write_all(&bytes).and_then(|()| sink.flush()).is_err() {
            lost.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }
}

/// Where events are put.
#[derive(Clone)]
struct Queue {
    sender: SyncSender<Option<Vec<u8>>>,
    lost: Arc<AtomicU64>,
    ended: Arc<OnceLock<()>>,
}

impl Write for Queue {
    /// Takes one event, which is formatted as a whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let ended = self.ended.get().is_some();
        if ended || self.sender.try_send(Some(bytes.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Fails as often as it is told to, and keeps what it takes.
    struct Full {
        failures: usize,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.lock().expect("no panic holds it").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_later() {
        let taken = Arc::default();
        let log = Log::to(Full { failures: 2, taken: Arc::clone(&taken) });
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.queue.clone().write_all(line.as_bytes()).expect("it never fails");
        }
        drop(log);
        let text = String::from_utf8(taken.lock().expect("no panic holds it").clone()).expect("text");
        assert_eq!(text, "2 lines of this log are missing\nthree\nfour\n");
    }

    /// Takes nothing until the other end of its channel is gone.
    struct Stalled(Receiver<()>, Sender<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.1.send(());
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_makes_nobody_wait() {
        let (release, released) = channel();
        let (tell, begun) = channel();
        let log = Log::to(Stalled(released, tell));
        let mut queue = log.queue.clone();
        queue.write_all(b"first\n").expect("it never fails");
        begun.recv().expect("the thread writes");
        // The thread hangs in the first: were there no limit or no dropping, this would not end, or not count.
        for _ in 0..QUEUE_LINES + 7 {
            queue.write_all(b"more\n").expect("it never fails");
        }
        assert_eq!(queue.lost.load(Ordering::Relaxed), 7);
        drop(release);
    }
}
