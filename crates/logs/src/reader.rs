//! Reading a log: the last lines, a span of time, or on and on.
//!
//! [`Reader::next_entry`] gives entries in order, across rotated files, and never waits. Where it has no
//! more and [`Query::follow`] is set, the caller waits until the reader's descriptor (an inotify's)
//! is readable, and goes on. Whoever knows that nothing will be written any more says
//! [`Reader::finish`], and the reader ends with the last entry. A reader that is slower than the rotation goes on
//! with the oldest file that there still is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gantry_model::Timestamp;
use rustix::fs::inotify::{CreateFlags, WatchFlags};

use crate::entry::{Details, Entry, Stream, time_of};
use crate::file::{Identity, Unpacking, open_packed, packed_path_of, path_of, unpacking};

/// What to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query {
    /// Only the last so many entries; `None`: all.
    pub tail: Option<usize>,
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only entries before or at this time; the first later one ends the reading.
    pub until: Option<Timestamp>,
    /// Whether to go on with what is written later.
    pub follow: bool,
    /// Only this stream; `None`: both. A tail counts both, as Docker does.
    pub stream: Option<Stream>,
    /// Whether entries come with their attributes.
    pub details: Details,
}

/// What [`Reader::next_entry`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An entry.
    Entry(Entry),
    /// Nothing now: wait for the reader's descriptor. Only with `follow`.
    Wait,
    /// Nothing any more.
    End,
}

/// A place in a log. Holds one file and one inotify descriptor.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    query: Query,
    inotify: Option<OwnedFd>,
    /// Files still to be read before the current one is followed, oldest first.
    files: VecDeque<LogFile>,
    current: Option<LogFile>,
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    taken: usize,
    /// How far the buffer was searched for a line feed.
    searched: usize,
    finished: bool,
    ended: bool,
}

/// A file and how far it was read.
#[derive(Debug)]
struct LogFile {
    identity: Identity,
    source: Source,
    /// So many entries come before those of a tail.
    skip: usize,
}

#[derive(Debug)]
enum Source {
    Plain { file: File, offset: u64 },
    Packed(Box<Unpacking>),
}

const READ_BYTES: usize = 64 * 1024;
/// More rotated files than this are not looked for.
const MAX_FILES: u32 = 10_000;

impl Reader {
    /// Opens the log in `directory`. A log that does not exist yet is an empty one.
    ///
    /// # Errors
    /// open(2)'s and inotify's; `NotFound` only of the directory, and only with `follow`.
    pub fn open(directory: &Path, query: Query) -> io::Result<Self> {
        let inotify = if query.follow {
            let inotify = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let what = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE;
            rustix::fs::inotify::add_watch(&inotify, directory, what)?;
            Some(inotify)
        } else {
            None
        };
        let mut reader = Self {
            directory: directory.into(),
            query,
            inotify,
            files: open_all(directory)?,
            current: None,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            finished: false,
            ended: false,
        };
        if let Some(count) = query.tail {
            reader.seek_tail(count)?;
        } else {
            reader.open_next()?;
        }
        Ok(reader)
    }

    /// Says that nothing will be written any more (the container ended): the reader gives what is
    /// there and then ends.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Gives the next entry.
    ///
    /// # Errors
    /// read(2)'s.
    pub fn next_entry(&mut self) -> io::Result<Next> {
        while !self.ended {
            let Some(line) = self.next_line()? else {
                if self.query.follow && !self.finished {
                    return Ok(Next::Wait);
                }
                break;
            };
            let Some(entry) = Entry::decode(&self.buffer[line], self.query.details) else { continue };
            if self.query.until.is_some_and(|until| entry.time > until) {
                break;
            }
            if let Some(LogFile { skip: skip @ 1.., .. }) = &mut self.current {
                *skip -= 1;
                continue;
            }
            let wanted = self.query.since.is_none_or(|since| entry.time >= since)
                && self.query.stream.is_none_or(|stream| stream == entry.stream);
            if wanted {
                return Ok(Next::Entry(entry));
            }
        }
        self.ended = true;
        Ok(Next::End)
    }

    /// Where the next whole line is in the buffer, without its line feed. Having none, it has emptied the inotify
    /// queue before it looked for the last time, so that nothing written later goes unnoticed.
    fn next_line(&mut self) -> io::Result<Option<Range<usize>>> {
        let mut notified = false;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let line = self.taken..self.searched + at;
                self.taken = line.end + 1;
                self.searched = self.taken;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.fill()? {
                continue;
            }
            // Whoever holds a place that has moved away reads it once more after having noticed.
            if self.is_left_behind()? {
                if !self.fill()? {
                    self.open_next()?;
                }
                continue;
            }
            if notified || self.inotify.is_none() {
                return Ok(None);
            }
            self.empty_inotify();
            notified = true;
        }
    }

    /// Reads on in the current file. Returns whether anything came.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(place) = &mut self.current else { return Ok(false) };
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + READ_BYTES, 0);
        let result = match &mut place.source {
            Source::Plain { file, offset } => file.read_at(&mut self.buffer[have..], *offset),
            // What a loss of power left of a packed file ends where it is torn.
            Source::Packed(packed) => Ok(packed.read(&mut self.buffer[have..]).unwrap_or(0)),
        };
        self.buffer.truncate(have + *result.as_ref().unwrap_or(&0));
        let count = result?;
        let Source::Plain { file, offset } = &mut place.source else { return Ok(count > 0) };
        *offset += count as u64;
        if count == 0 && file.metadata()?.len() < *offset {
            // With max-file 1 the file is emptied in place.
            *offset = 0;
            self.buffer.clear();
            self.searched = 0;
            return self.fill();
        }
        Ok(count > 0)
    }

    /// Whether there is a file after the current one.
    fn is_left_behind(&self) -> io::Result<bool> {
        if !self.files.is_empty() {
            return Ok(true);
        }
        let newest = match Identity::of_path(&path_of(&self.directory, 0)) {
            Ok(newest) => newest,
            // Between a rotation and the next entry there is no current file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(self.current.as_ref().is_none_or(|place| place.identity != newest))
    }

    /// Goes to the file after the current one. A torn rest of a line is dropped.
    fn open_next(&mut self) -> io::Result<()> {
        if self.files.is_empty() {
            let mut files = open_all(&self.directory)?;
            // Found again among the rotated files, it tells which come after it; not found, it was
            // deleted, and all that are there do.
            let current = self.current.as_ref().map(|place| &place.identity);
            if let Some(at) = files.iter().rposition(|file| Some(&file.identity) == current) {
                files.drain(..=at);
            }
            self.files = files;
        }
        if let Some(file) = self.files.pop_front() {
            self.current = Some(file);
            self.buffer.clear();
            self.taken = 0;
            self.searched = 0;
        }
        Ok(())
    }

    fn empty_inotify(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [0u8; 4096];
        while matches!(rustix::io::read(inotify, &mut buffer), Ok(1..)) {}
    }

    /// Goes to where the last `count` entries begin, scanning backwards.
    fn seek_tail(&mut self, count: usize) -> io::Result<()> {
        let mut left = count;
        let mut kept = VecDeque::new();
        while let Some(mut file) = self.files.pop_back() {
            match &mut file.source {
                Source::Plain { file, offset } => {
                    let size = file.metadata()?.len();
                    (*offset, left) = scan_back(file, size, left, self.query.until)?;
                }
                Source::Packed(packed) => {
                    (file.skip, left) = skip_to_tail(packed, left, self.query.until)?;
                }
            }
            kept.push_front(file);
            if left == 0 {
                break;
            }
        }
        self.files = kept;
        self.open_next()
    }
}

impl AsFd for Reader {
    /// The inotify descriptor.
    ///
    /// # Panics
    /// Where the reader does not follow: there is nothing to wait for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_ref().expect("only a following reader is waited for").as_fd()
    }
}

/// Opens all files of a log, oldest first. One that is rotated away or packed meanwhile is not missed, because
/// they are opened from the current one back, and the plain form first: at worst it is met twice, and kept once.
fn open_all(directory: &Path) -> io::Result<VecDeque<LogFile>> {
    let mut files: VecDeque<LogFile> = VecDeque::new();
    for number in 0..MAX_FILES {
        let opened = match open_plain(&path_of(directory, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 0 => {
                let packed = open_packed(&packed_path_of(directory, number));
                packed.map(|(packed, identity)| LogFile {
                    identity,
                    source: Source::Packed(Box::new(packed)),
                    skip: 0,
                })
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            // Right after a rotation there is no current file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        if files.front().is_none_or(|younger| younger.identity != file.identity) {
            files.push_front(file);
        }
    }
    Ok(files)
}

fn open_plain(path: &Path) -> io::Result<LogFile> {
    let file = File::open(path)?;
    Ok(LogFile { identity: Identity::of(&file)?, source: Source::Plain { file, offset: 0 }, skip: 0 })
}

/// How many lines not after `until` come in a packed file before the last `count` of them, and how many were lacking.
/// The file is rewound: nobody can go backwards in it.
fn skip_to_tail(
    packed: &mut Unpacking,
    count: usize,
    until: Option<Timestamp>,
) -> io::Result<(usize, usize)> {
    let mut lines = 0_usize;
    let mut line = Vec::new();
    let mut from = BufReader::with_capacity(READ_BYTES, &mut *packed);
    // A torn file ends where it is torn.
    while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let counts = |line: &[u8]| until.is_none_or(|until| time_of(line).is_some_and(|time| time <= until));
        lines += usize::from(line.strip_suffix(b"\n").is_some_and(counts));
        line.clear();
    }
    let mut file = packed.get_ref().get_ref().try_clone()?;
    file.rewind()?;
    *packed = unpacking(file);
    Ok((lines.saturating_sub(count), count.saturating_sub(lines)))
}

/// Walks back over the lines that end before `size`, counting those not after `until`. Returns where the
/// last `count` of them begin, and how many were lacking.
fn scan_back(file: &File, size: u64, count: usize, until: Option<Timestamp>) -> io::Result<(u64, usize)> {
    let mut left = count;
    let mut end = size;
    // Where the line begins whose end is known; `None` while a torn last line is passed.
    let mut line_end: Option<u64> = None;
    let mut buffer = vec![0; READ_BYTES];
    while end > 0 {
        let start = end.saturating_sub(READ_BYTES as u64);
        let part = &mut buffer[..usize::try_from(end - start).unwrap_or(READ_BYTES)];
        file.read_exact_at(part, start)?;
        for at in (0..part.len()).rev().filter(|&at| part[at] == b'\n') {
            let feed = start + at as u64;
            if let Some(line_end) = line_end
                && counts(file, feed + 1, line_end, until)?
            {
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok((feed + 1, 0));
                }
            }
            if count == 0 {
                return Ok((feed + 1, 0));
            }
            line_end = Some(feed);
        }
        end = start;
    }
    if let Some(line_end) = line_end
        && counts(file, 0, line_end, until)?
    {
        left = left.saturating_sub(1);
    }
    Ok((0, left))
}

/// Whether the line from `start` to `end` is one that a tail counts.
fn counts(file: &File, start: u64, end: u64, until: Option<Timestamp>) -> io::Result<bool> {
    let Some(until) = until else { return Ok(end > start) };
    // The time is at the end: the longest form and its frame have fewer than 64 bytes.
    let from = end.saturating_sub(64).max(start);
    let mut tail = vec![0; usize::try_from(end - from).unwrap_or(64)];
    file.read_exact_at(&mut tail, from)?;
    Ok(time_of(&tail).is_some_and(|time| time <= until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Writes one file of entries numbered so, each a second after the other.
    fn write(directory: &Path, number: u32, entries: std::ops::Range<i64>) {
        let lines: String = entries.map(line).collect();
        std::fs::write(path_of(directory, number), lines).expect("written");
    }

    fn line(number: i64) -> String {
        let stream = if number % 3 == 0 { "stderr" } else { "stdout" };
        let time = Timestamp::from_secs(number).rfc3339_nano();
        format!("{{\"log\":\"{number}\\n\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n")
    }

    fn append(directory: &Path, bytes: &str) {
        let path = path_of(directory, 0);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("opened");
        file.write_all(bytes.as_bytes()).expect("written");
    }

    /// Everything that comes without waiting, and how it ended.
    fn take(reader: &mut Reader) -> (Vec<i64>, Next) {
        let mut numbers = Vec::new();
        loop {
            match reader.next_entry().expect("read") {
                Next::Entry(entry) => {
                    let text = String::from_utf8(entry.line).expect("UTF-8");
                    numbers.push(text.trim().parse().expect("a number"));
                }
                end => return (numbers, end),
            }
        }
    }

    fn check(directory: &Path, query: Query, want: &[i64]) {
        let mut reader = Reader::open(directory, query).expect("opened");
        assert_eq!(take(&mut reader), (want.to_vec(), Next::End), "{query:?}");
    }

    #[test]
    fn tails_and_spans_go_across_files() {
        let dir = tempfile::tempdir().expect("a directory");
        check(dir.path(), Query::default(), &[]);
        check(dir.path(), Query { tail: Some(3), ..Query::default() }, &[]);
        write(dir.path(), 2, 0..4);
        write(dir.path(), 1, 4..8);
        write(dir.path(), 0, 8..10);
        append(dir.path(), "{\"log\":\"torn");
        let all: Vec<i64> = (0..10).collect();
        check(dir.path(), Query::default(), &all);
        for tail in [0, 1, 2, 3, 6, 7, 10, 100] {
            let want = &all[all.len().saturating_sub(tail)..];
            check(dir.path(), Query { tail: Some(tail), ..Query::default() }, want);
        }
        let at = |secs| Some(Timestamp::from_secs(secs));
        check(dir.path(), Query { since: at(7), ..Query::default() }, &[7, 8, 9]);
        check(dir.path(), Query { until: at(2), ..Query::default() }, &[0, 1, 2]);
        check(dir.path(), Query { tail: Some(2), until: at(5), ..Query::default() }, &[4, 5]);
        check(dir.path(), Query { stream: Some(Stream::Stderr), ..Query::default() }, &[0, 3, 6, 9]);
    }

    #[test]
    fn a_tail_of_a_big_file_is_found_from_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 0, 0..5000);
        let want: Vec<i64> = (3000..5000).collect();
        check(dir.path(), Query { tail: Some(2000), ..Query::default() }, &want);
    }

    #[test]
    fn following_goes_on_across_rotation_and_truncation() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 0, 0..2);
        let query = Query { follow: true, ..Query::default() };
        let mut reader = Reader::open(dir.path(), query).expect("opened");
        assert_eq!(take(&mut reader), (vec![0, 1], Next::Wait));
        let (half, rest) = (&line(2)[..20], &line(2)[20..]);
        append(dir.path(), half);
        assert_eq!(take(&mut reader), (vec![], Next::Wait));
        append(dir.path(), rest);
        assert_eq!(take(&mut reader), (vec![2], Next::Wait));
        // Two rotations between two looks.
        append(dir.path(), &line(3));
        std::fs::rename(path_of(dir.path(), 0), path_of(dir.path(), 1)).expect("renamed");
        append(dir.path(), &line(4));
        std::fs::rename(path_of(dir.path(), 1), path_of(dir.path(), 2)).expect("renamed");
        std::fs::rename(path_of(dir.path(), 0), path_of(dir.path(), 1)).expect("renamed");
        append(dir.path(), &line(5));
        assert_eq!(take(&mut reader), (vec![3, 4, 5], Next::Wait));
        std::fs::File::create(path_of(dir.path(), 0)).expect("emptied");
        append(dir.path(), &line(6)[..30]);
        assert_eq!(take(&mut reader), (vec![], Next::Wait));
        append(dir.path(), &line(6)[30..]);
        reader.finish();
        assert_eq!(take(&mut reader), (vec![6], Next::End));
    }

    /// Packs the youngest rotated file as a writer does.
    fn pack(directory: &Path) {
        crate::file::pack(directory).expect("packed");
    }

    #[test]
    fn packed_files_are_read_like_others() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 0..4);
        pack(dir.path());
        let packed = |number| packed_path_of(dir.path(), number);
        std::fs::rename(packed(1), packed(2)).expect("renamed");
        write(dir.path(), 1, 4..8);
        pack(dir.path());
        write(dir.path(), 0, 8..10);
        let all: Vec<i64> = (0..10).collect();
        for tail in [0, 1, 2, 3, 6, 7, 10, 100] {
            let want = &all[all.len().saturating_sub(tail)..];
            check(dir.path(), Query { tail: Some(tail), ..Query::default() }, want);
        }
        let at = |secs| Some(Timestamp::from_secs(secs));
        check(dir.path(), Query { tail: Some(2), until: at(5), ..Query::default() }, &[4, 5]);
        check(dir.path(), Query { since: at(3), until: at(5), ..Query::default() }, &[3, 4, 5]);
        // A loss of power may tear what was packed last.
        let bytes = std::fs::read(packed(1)).expect("a file");
        std::fs::write(packed(1), &bytes[..bytes.len() / 2]).expect("torn");
        let mut reader = Reader::open(dir.path(), Query::default()).expect("opened");
        let (numbers, end) = take(&mut reader);
        assert_eq!((&numbers[..4], numbers.last(), end), (&[0, 1, 2, 3][..], Some(&9), Next::End));
    }

    #[test]
    fn a_file_that_is_packed_under_its_reader_is_read_once() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 0, 0..3);
        let mut reader =
            Reader::open(dir.path(), Query { follow: true, ..Query::default() }).expect("opened");
        assert_eq!(take(&mut reader), (vec![0, 1, 2], Next::Wait));
        std::fs::rename(path_of(dir.path(), 0), path_of(dir.path(), 1)).expect("renamed");
        pack(dir.path());
        append(dir.path(), &line(3));
        std::fs::rename(packed_path_of(dir.path(), 1), packed_path_of(dir.path(), 2)).expect("renamed");
        std::fs::rename(path_of(dir.path(), 0), path_of(dir.path(), 1)).expect("renamed");
        pack(dir.path());
        append(dir.path(), &line(4));
        assert_eq!(take(&mut reader), (vec![3, 4], Next::Wait));
    }

    #[test]
    fn a_follower_is_woken() {
        let dir = tempfile::tempdir().expect("a directory");
        let query = Query { follow: true, tail: Some(0), ..Query::default() };
        let mut reader = Reader::open(dir.path(), query).expect("opened");
        assert_eq!(take(&mut reader), (vec![], Next::Wait));
        append(dir.path(), &line(1));
        let timeout = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        let mut wanted = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut wanted, Some(&timeout)), Ok(1));
        assert_eq!(take(&mut reader), (vec![1], Next::Wait));
    }
}
