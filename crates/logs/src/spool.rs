//! Writing: a bounded ring, and a thread that empties it onto the disk.
//!
//! The thread starts with the first output and ends after three seconds without, so a silent container
//! has none. [`Spool::write`] never waits for the disk: when the ring is full it says so, and the
//! caller stops reading the container's output until [`Spool::wake`] becomes readable. What the disk
//! refuses (it is full) is counted and dropped, and told by [`Spool::take_gap`]; writing is tried
//! again with whatever comes next.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use gantry_model::Timestamp;
use rustix::event::EventfdFlags;

use crate::config::{JsonFile, Overflow};
use crate::entry::{Frame, MAX_LINE_BYTES, Stream, encode};
use crate::file::LogFile;

/// How much output may wait for the disk.
pub const RING_BYTES: usize = 512 * 1024;

const IDLE: Duration = Duration::from_secs(3);
/// What a chunk takes beside its bytes: a process that writes little at a time must not fill the memory.
const CHUNK_COST_BYTES: usize = 64;
const THREAD_STACK_BYTES: usize = 64 * 1024;
/// Encoded lines are written when there are so many bytes of them, or nothing more waits.
const BATCH_BYTES: usize = 64 * 1024;

/// Output that was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gap {
    /// How many bytes of output.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// The writing end of a log. Dropping it lets the thread write what it has and end.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    wake: OwnedFd,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Chunk>,
    ring_bytes: usize,
    limit_bytes: usize,
    /// `None`: a full ring takes nothing. Else it drops what it cannot take, and this is how the streams stand.
    dropping: Option<[Dropping; 2]>,
    /// The writer while no thread has it.
    parked: Option<Writer>,
    /// The caller waits for room or for everything to be written.
    awaited: bool,
    closed: bool,
    gap: Gap,
}

/// Whether the ring drops a stream's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Dropping {
    /// It does not.
    #[default]
    No,
    /// What it dropped last ended with a line.
    AtLineEnd,
    /// The rest of a line goes, too.
    InLine,
}

#[derive(Debug)]
enum Chunk {
    Output(Stream, Timestamp, Vec<u8>),
    /// The rest of the stream's unended line was dropped; so is its beginning.
    Torn(Stream),
    /// The process ended: lines without a line feed will not be completed.
    End,
}

impl Spool {
    /// Makes one; nothing is opened or started before the first output.
    ///
    /// # Errors
    /// eventfd(2)'s.
    pub fn new(config: JsonFile) -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (limit_bytes, dropping) = match config.overflow {
            Overflow::Wait => (RING_BYTES, None),
            Overflow::Drop { ring_bytes } => {
                (usize::try_from(ring_bytes).unwrap_or(usize::MAX), Some([Dropping::No; 2]))
            }
        };
        let state = State {
            ring: VecDeque::new(),
            ring_bytes: 0,
            limit_bytes,
            dropping,
            parked: Some(Writer::new(config)),
            awaited: false,
            closed: false,
            gap: Gap::default(),
        };
        Ok(Self { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), wake }) })
    }

    /// Gives output to the ring. Returns false, and takes nothing, where it is full; then
    /// [`Self::wake`] will become readable. One chunk always fits into an empty ring. With [`Overflow::Drop`] it
    /// always returns true: whole lines are dropped where the ring is full.
    #[must_use]
    pub fn write(&self, stream: Stream, mut bytes: &[u8]) -> bool {
        let mut state = self.shared.lock();
        let has_room = state.has_room(bytes.len());
        if let Some(dropping) = &mut state.dropping {
            let dropping = &mut dropping[usize::from(stream == Stream::Stderr)];
            let (kept, torn) = dropping.cut(bytes, has_room);
            if torn {
                state.ring.push_back(Chunk::Torn(stream));
            }
            if kept.is_empty() {
                return true;
            }
            bytes = kept;
        } else if !has_room {
            state.awaited = true;
            return false;
        }
        let time = Timestamp::from_system(SystemTime::now());
        let chunk = Chunk::Output(stream, time, bytes.to_vec());
        state.ring_bytes += chunk.cost();
        state.ring.push_back(chunk);
        self.shared.start(state);
        true
    }

    /// Whether the ring takes so many bytes (an empty one always does, and one that drops); where not,
    /// [`Self::wake`] will become readable when it does.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let mut state = self.shared.lock();
        let room = state.dropping.is_some() || state.has_room(bytes);
        state.awaited |= !room;
        room
    }

    /// Says that the process ended, so that its last, unended lines are written.
    pub fn end(&self) {
        let mut state = self.shared.lock();
        if state.parked.as_ref().is_none_or(Writer::has_partial) || !state.ring.is_empty() {
            state.ring.push_back(Chunk::End);
            self.shared.start(state);
        }
    }

    /// Whether everything given is on disk (or counted as lost); where not, [`Self::wake`] will
    /// become readable when it is.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let mut state = self.shared.lock();
        let drained = state.ring.is_empty();
        state.awaited |= !drained;
        drained
    }

    /// Becomes readable when there is room or a gap to be told; [`Self::clear_wake`] makes it quiet.
    #[must_use]
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// To be called when [`Self::wake`] was readable.
    pub fn clear_wake(&self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
    }

    /// Takes what was lost since the last call, if anything.
    #[must_use]
    pub fn take_gap(&self) -> Option<Gap> {
        let gap = std::mem::take(&mut self.shared.lock().gap);
        (gap.bytes > 0).then_some(gap)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking writer loses its own state only; the ring is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Wakes the thread, or starts one.
    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let Some(writer) = state.parked.take() else {
            // It is awake unless the ring was empty.
            if state.ring.len() == 1 {
                self.work.notify_one();
            }
            return;
        };
        let shared = Arc::clone(self);
        let config = writer.file_config();
        let thread = std::thread::Builder::new()
            .name("log".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || shared.run(writer));
        if let Err(error) = thread {
            // The moved writer is gone with the failed thread; its partial lines are lost with it.
            state.lose(&error);
            state.parked = Some(Writer::new(config));
        }
    }

    /// The thread.
    fn run(&self, mut writer: Writer) {
        let mut state = self.lock();
        loop {
            if state.ring.is_empty() {
                if std::mem::take(&mut state.awaited) {
                    self.signal();
                }
                let (back, timeout) =
                    self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = back;
                if state.ring.is_empty() && (timeout.timed_out() || state.closed) {
                    writer.forget_buffers();
                    state.parked = Some(writer);
                    return;
                }
                continue;
            }
            // Chunks stay counted in the ring until they are written, so that an empty ring means
            // a written log.
            let batch: Vec<Chunk> = take_batch(&mut state.ring);
            state.ring.push_front(Chunk::Output(Stream::Stdout, Timestamp::default(), Vec::new()));
            drop(state);
            let bytes: usize = batch.iter().map(Chunk::cost).sum();
            let failure = writer.write(batch).err();
            state = self.lock();
            state.ring.pop_front();
            state.ring_bytes -= bytes;
            if let Some(error) = failure {
                let first = state.gap.bytes == 0;
                state.gap.bytes += writer.encoded_from;
                state.gap.reason = error.to_string();
                if first {
                    self.signal();
                }
            }
            if state.awaited && state.ring_bytes <= RING_BYTES / 2 && !state.ring.is_empty() {
                state.awaited = false;
                self.signal();
            }
        }
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.ring.is_empty() || self.ring_bytes + bytes + CHUNK_COST_BYTES <= self.limit_bytes
    }

    /// Drops the ring and counts it as lost.
    fn lose(&mut self, why: &io::Error) {
        self.gap.bytes += self.ring_bytes as u64;
        self.gap.reason = why.to_string();
        self.ring.clear();
        self.ring_bytes = 0;
    }
}

impl Chunk {
    /// The memory that it takes, about.
    fn cost(&self) -> usize {
        match self {
            Self::Output(_, _, bytes) => bytes.len() + CHUNK_COST_BYTES,
            Self::Torn(_) | Self::End => 0,
        }
    }
}

impl Dropping {
    /// What of these bytes the ring takes, and whether the stream's line is torn now.
    fn cut<'a>(&mut self, bytes: &'a [u8], has_room: bool) -> (&'a [u8], bool) {
        if !has_room {
            let torn = *self == Self::No;
            *self = if bytes.ends_with(b"\n") { Self::AtLineEnd } else { Self::InLine };
            return (&[], torn);
        }
        let from = match self {
            Self::InLine => memchr::memchr(b'\n', bytes).map(|at| at + 1),
            _ => Some(0),
        };
        if from.is_some() {
            *self = Self::No;
        }
        (from.map_or(&[], |from| &bytes[from..]), false)
    }
}

fn take_batch(ring: &mut VecDeque<Chunk>) -> Vec<Chunk> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES {
        let Some(chunk) = ring.pop_front() else { break };
        bytes += chunk.cost();
        batch.push(chunk);
    }
    batch
}

/// Turns output into lines, and lines into entries of the file.
#[derive(Debug)]
struct Writer {
    file: LogFile,
    config: JsonFile,
    encoded: Vec<u8>,
    /// The bytes of output that `encoded` was made of: what is lost if it cannot be written. A line's
    /// unended beginning counts with its end.
    encoded_from: u64,
    partial: [Partial; 2],
}

/// The unended line of a stream.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(config: JsonFile) -> Self {
        Self {
            file: LogFile::new(config.clone()),
            config,
            encoded: Vec::new(),
            encoded_from: 0,
            partial: [Partial::default(), Partial::default()],
        }
    }

    fn file_config(&self) -> JsonFile {
        self.config.clone()
    }

    fn has_partial(&self) -> bool {
        self.partial.iter().any(|partial| !partial.bytes.is_empty())
    }

    fn forget_buffers(&mut self) {
        self.encoded = Vec::new();
        for partial in &mut self.partial {
            partial.bytes.shrink_to_fit();
        }
    }

    fn write(&mut self, batch: Vec<Chunk>) -> io::Result<()> {
        self.encoded.clear();
        self.encoded_from = 0;
        for chunk in batch {
            match chunk {
                Chunk::Output(stream, time, bytes) => self.lines(stream, time, &bytes),
                Chunk::Torn(stream) => self.partial[usize::from(stream == Stream::Stderr)].bytes.clear(),
                Chunk::End => self.end(),
            }
        }
        if self.encoded.is_empty() {
            return Ok(());
        }
        self.file.append(&self.encoded)
    }

    fn lines(&mut self, stream: Stream, time: Timestamp, bytes: &[u8]) {
        let time = time.rfc3339_nano();
        let frame = Frame { stream, attributes: &self.config.attributes, time: &time };
        let partial = &mut self.partial[usize::from(stream == Stream::Stderr)].bytes;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_LINE_BYTES - partial.len();
            let window = &rest[..rest.len().min(room)];
            let feed = memchr::memchr(b'\n', window);
            let piece = &window[..feed.unwrap_or(window.len())];
            rest = &rest[piece.len() + usize::from(feed.is_some())..];
            if feed.is_none() && partial.len() + piece.len() < MAX_LINE_BYTES {
                partial.extend_from_slice(piece);
                return;
            }
            self.encoded_from += (partial.len() + piece.len() + usize::from(feed.is_some())) as u64;
            if partial.is_empty() {
                encode(&mut self.encoded, frame, piece, feed.is_some());
            } else {
                partial.extend_from_slice(piece);
                encode(&mut self.encoded, frame, partial, feed.is_some());
                partial.clear();
            }
        }
    }

    fn end(&mut self) {
        let time = Timestamp::from_system(SystemTime::now()).rfc3339_nano();
        for (partial, stream) in self.partial.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if !partial.bytes.is_empty() {
                self.encoded_from += partial.bytes.len() as u64;
                let frame = Frame { stream, attributes: &self.config.attributes, time: &time };
                encode(&mut self.encoded, frame, &partial.bytes, false);
            }
            partial.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Details, Entry};
    use rustix::event::{PollFd, PollFlags};
    use std::path::Path;
    use std::time::Instant;

    fn spool(directory: &Path, max_size_bytes: Option<u64>, max_files: u32) -> Spool {
        let config = JsonFile { max_size_bytes, max_files, ..JsonFile::new(directory.into()) };
        Spool::new(config).expect("a spool")
    }

    /// Waits until everything is written.
    fn drain(spool: &Spool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !spool.is_drained() {
            assert!(Instant::now() < deadline, "the log was not written");
            let timeout = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut [PollFd::new(&spool.wake(), PollFlags::IN)], Some(&timeout));
            spool.clear_wake();
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("a log");
        assert!(text.ends_with('\n'));
        let decode = |line: &str| Entry::decode(line.as_bytes(), Details::Omitted).expect("an entry").line;
        text.lines().map(|line| String::from_utf8(decode(line)).expect("UTF-8")).collect()
    }

    #[test]
    fn lines_are_joined_over_writes_and_split_at_16_kib() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path(), None, 1);
        for (stream, bytes) in [
            (Stream::Stdout, &b"one\ntw"[..]),
            (Stream::Stderr, b"err"),
            (Stream::Stdout, b"o\n\n"),
            (Stream::Stdout, &[b'x'; 20_000]),
            (Stream::Stdout, b"y\nlast"),
        ] {
            assert!(spool.write(stream, bytes));
        }
        spool.end();
        drain(&spool);
        let want = [
            "one\n".into(),
            "two\n".into(),
            "\n".into(),
            "x".repeat(16_384),
            format!("{}y\n", "x".repeat(20_000 - 16_384)),
            "last".into(),
            "err".to_string(),
        ];
        assert_eq!(lines(&dir.path().join("json.log")), want);
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path(), Some(100), 3);
        for number in 0..5 {
            assert!(spool.write(Stream::Stdout, format!("{number:050}\n").as_bytes()));
            drain(&spool);
        }
        let numbers = |name: &str| -> Vec<usize> {
            lines(&dir.path().join(name)).iter().map(|line| line.trim().parse().expect("a number")).collect()
        };
        assert_eq!(numbers("json.log"), [4]);
        assert_eq!(numbers("json.log.1"), [3]);
        assert_eq!(numbers("json.log.2"), [2]);
        assert!(!dir.path().join("json.log.3").exists());
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("json.log"), "{\"log\":\"tor").expect("written");
        let spool = spool(dir.path(), None, 1);
        assert!(spool.write(Stream::Stdout, b"whole\n"));
        drain(&spool);
        let text = std::fs::read_to_string(dir.path().join("json.log")).expect("read");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn what_cannot_be_written_is_a_gap_and_writing_goes_on_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("later");
        let spool = spool(&missing, None, 1);
        assert!(spool.write(Stream::Stdout, b"12345\n"));
        drain(&spool);
        let gap = spool.take_gap().expect("a gap");
        assert_eq!(gap.bytes, 6);
        assert!(gap.reason.contains("No such file"), "{}", gap.reason);
        // The beginning of a line is not lost before its end is: it is not written before.
        assert!(spool.write(Stream::Stdout, b"a line\nbegin"));
        drain(&spool);
        assert_eq!(spool.take_gap().expect("a gap").bytes, 7);
        assert!(spool.write(Stream::Stdout, b"ning\nnext"));
        drain(&spool);
        assert_eq!(spool.take_gap().expect("a gap").bytes, 10);
        std::fs::create_dir(&missing).expect("made");
        assert!(spool.write(Stream::Stdout, b" line\n"));
        drain(&spool);
        assert_eq!((lines(&missing.join("json.log")), spool.take_gap()), (vec!["next line\n".into()], None));
        assert!(spool.write(Stream::Stdout, b"after\n"));
        drain(&spool);
        assert_eq!((lines(&missing.join("json.log")).len(), spool.take_gap()), (2, None));
    }

    #[test]
    fn a_ring_that_drops_takes_whole_lines() {
        let mut state = Dropping::No;
        // What comes, whether there is room, what is kept, and whether a line is torn.
        for (bytes, room, kept, torn) in [
            ("one\ntw", true, "one\ntw", false),
            ("o\nthree\nfo", false, "", true),
            ("u", false, "", false),
            ("r", true, "", false),
            ("r\nfive\nsi", true, "five\nsi", false),
            ("x\n", false, "", true),
            ("seven\n", true, "seven\n", false),
        ] {
            assert_eq!(state.cut(bytes.as_bytes(), room), (kept.as_bytes(), torn), "{bytes:?}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let overflow = Overflow::Drop { ring_bytes: 0 };
        let spool = Spool::new(JsonFile { overflow, ..JsonFile::new(dir.path().into()) }).expect("a spool");
        let mut line = vec![b'x'; 4000];
        line.push(b'\n');
        for _ in 0..10_000 {
            assert!(spool.write(Stream::Stdout, &line[..1500]) && spool.write(Stream::Stdout, &line[1500..]));
        }
        drain(&spool);
        assert!(spool.write(Stream::Stderr, b"the last\n"));
        drain(&spool);
        let lines = lines(&dir.path().join("json.log"));
        let (last, others) = lines.split_last().expect("lines");
        assert_eq!(last, "the last\n");
        assert!(others.len() < 10_000, "nothing was dropped");
        assert!(others.iter().all(|line| line.len() == 4001), "half a line was kept");
    }

    #[test]
    fn a_full_ring_takes_nothing_and_wakes_when_there_is_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path(), None, 1);
        let chunk = vec![b'\n'; 64 * 1024];
        let mut taken = 0;
        while taken < 200 && spool.write(Stream::Stdout, &chunk) {
            taken += 1;
        }
        assert!(taken < 200, "the ring has no end");
        let timeout = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&spool.wake(), PollFlags::IN)], Some(&timeout));
        assert_eq!(ready, Ok(1));
        spool.clear_wake();
        assert!(spool.write(Stream::Stdout, &chunk));
        drain(&spool);
        assert_eq!(lines(&dir.path().join("json.log")).len(), (taken + 1) * 64 * 1024);
    }
}
