//! The journal: an append-only file of checksummed records, `journal` in the shim's directory.
//!
//! ```text
//! offset  bytes   of each record
//!      0      4   length of the body, little-endian
//!      4      4   checksum of the body (CRC-32C), little-endian
//!      8      …   the body: JSON, a protocol::Record
//! ```
//! Each record is appended by one write(2). A record that is cut short or does not match its checksum
//! ends the journal: nothing after it is read. When everything in it has been acknowledged the file
//! is emptied; when half of a file above 64 KiB has been, it is rewritten without that half.
//!
//! Where no daemon acknowledges anything, a container that its policy restarts for days would fill `/run`.
//! So above 64 KiB all but the last 64 records of restarts become one, [`Event::Coalesced`], which has their
//! numbers; what was asked for by somebody is kept as it is, and cannot become much without a daemon. So is what
//! was sent to a daemon: it may have counted some of it without having said so, and a sum cannot be counted in part. A
//! rewritten file replaces the old one by rename.
//!
//! The file lives on `/run`: it survives the daemon and the shim, not the machine. After a reboot its
//! boot id is not the current one, and no container of it runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use gantry_model::Timestamp;
use gantry_model::failpoint::{Point, reached};
use rustix::fs::{Mode, OFlags};

use super::protocol::{Coalesced, Event, Record};

/// The file's name in the shim's directory.
pub const JOURNAL_NAME: &str = "journal";

const HEADER_BYTES: usize = 8;
/// A record is an event; the longest have a launch error's text.
const MAX_RECORD_BYTES: usize = 256 * 1024;
const COMPACT_ABOVE_BYTES: u64 = 64 * 1024;
/// So many of the newest records are never coalesced.
const KEPT_RECORDS: usize = 64;
/// What a rewritten file is called until it replaces the old one.
const REWRITTEN_NAME: &str = "journal.new";

/// Reads what a shim left behind in its directory, oldest first; of a living shim too, though asking
/// it is better. Records that were acknowledged may still be among them: skip what is committed.
///
/// # Errors
/// open(2)'s and read(2)'s; `NotFound` where no shim has launched anything there.
pub fn read(directory: &Path) -> io::Result<Vec<Record>> {
    let mut bytes = Vec::new();
    File::open(directory.join(JOURNAL_NAME))?.read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// The records until the first that is torn.
fn parse(bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((body, after)) = split_record(rest) {
        let Ok(record) = serde_json::from_slice(body) else { break };
        records.push(record);
        rest = after;
    }
    records
}

/// Adds a record's bytes; nothing where it cannot be written as JSON.
fn write_record(record: &Record, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend([0; HEADER_BYTES]);
    if serde_json::to_writer(&mut *bytes, record).is_err() {
        return bytes.truncate(start);
    }
    let body = &bytes[start + HEADER_BYTES..];
    let (length, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32c(body));
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Makes one record of each row of records that say nothing but that the container was started again and
/// again. The newest [`KEPT_RECORDS`] stay, and those up to the number `sent`.
fn coalesce(records: Vec<Record>, sent: u64) -> Vec<Record> {
    let old = records.len().saturating_sub(KEPT_RECORDS);
    let mut fewer: Vec<Record> = Vec::with_capacity(KEPT_RECORDS + 2);
    for (at, record) in records.into_iter().enumerate() {
        let part = if at < old && record.seq > sent { Coalesced::of(&record.event) } else { None };
        match (part, fewer.last_mut()) {
            (Some(part), Some(Record { event: Event::Coalesced(sum), seq, generation, time, .. }))
                if *seq > sent =>
            {
                sum.add(part);
                (*seq, *generation, *time) = (record.seq, record.generation, record.time);
            }
            (Some(part), _) => fewer.push(Record { event: Event::Coalesced(part), ..record }),
            (None, _) => fewer.push(record),
        }
    }
    fewer
}

/// Cuts the first whole record off.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [a, b, c, d, e, f, g, h] = *header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_RECORD_BYTES || length > rest.len() {
        return None;
    }
    let (body, after) = rest.split_at(length);
    (crc32c(body) == u32::from_le_bytes([e, f, g, h])).then_some((body, after))
}

/// The writing side, in the shim. Without a directory (a build step's) nothing is kept.
#[derive(Debug)]
pub(super) struct Journal {
    file: Option<File>,
    directory: Option<OwnedFd>,
    boot_id: String,
    last_seq: u64,
    acknowledged: u64,
    /// The last number that any daemon was sent.
    sent: u64,
    /// At most the sequence number of the file's first record.
    first_seq: u64,
    bytes: u64,
    /// Records are coalesced when the file has become so large.
    coalesce_above_bytes: u64,
}

impl Journal {
    /// Opens an empty one.
    pub(super) fn create(directory: Option<impl AsFd>) -> io::Result<Self> {
        let directory = directory.map(|directory| directory.as_fd().try_clone_to_owned()).transpose()?;
        let file =
            directory.as_ref().map(|directory| make_file(directory.as_fd(), JOURNAL_NAME)).transpose()?;
        let boot_id = gantry_sys::process::boot_id()?;
        Ok(Self {
            file,
            directory,
            boot_id,
            last_seq: 0,
            acknowledged: 0,
            sent: 0,
            first_seq: 1,
            bytes: 0,
            coalesce_above_bytes: COMPACT_ABOVE_BYTES,
        })
    }

    /// Sets where numbering goes on, before the first record.
    pub(super) fn continue_after(&mut self, last_seq: u64) {
        (self.last_seq, self.acknowledged, self.first_seq) = (last_seq, last_seq, last_seq + 1);
    }

    /// Notes that a daemon is sent everything there is: from then on it may have counted it.
    pub(super) fn note_sent(&mut self) {
        self.sent = self.last_seq;
    }

    /// The last number given out.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether everything is acknowledged up to `seq`.
    pub(super) fn is_acknowledged(&self, seq: u64) -> bool {
        seq <= self.acknowledged
    }

    /// Numbers an event and appends it. A write that fails (a full `/run`) is not reported: the event
    /// is still announced, and the shim's own state stays true.
    pub(super) fn append(&mut self, generation: u64, event: Event) -> Record {
        self.last_seq += 1;
        let record = Record {
            boot_id: self.boot_id.clone(),
            generation,
            seq: self.last_seq,
            time: Timestamp::from_system(std::time::SystemTime::now()),
            event,
        };
        if let Some(file) = &self.file {
            let mut bytes = Vec::new();
            write_record(&record, &mut bytes);
            if file.write_all_at(&bytes, self.bytes).is_ok() {
                self.bytes += bytes.len() as u64;
            }
        }
        if self.bytes > self.coalesce_above_bytes {
            let sent = self.sent;
            self.rewrite(|records| coalesce(records, sent));
            self.coalesce_above_bytes = COMPACT_ABOVE_BYTES.max(self.bytes * 2);
        }
        record
    }

    /// Forgets records up to `seq`; numbers never given out are ignored.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        if seq <= self.acknowledged || seq > self.last_seq {
            return;
        }
        self.acknowledged = seq;
        let Some(file) = &self.file else { return };
        if seq == self.last_seq {
            if file.set_len(0).is_ok() {
                (self.bytes, self.first_seq) = (0, seq + 1);
                self.coalesce_above_bytes = COMPACT_ABOVE_BYTES;
                reached(Point::ShimAcknowledged);
            }
        } else if self.bytes > COMPACT_ABOVE_BYTES && (seq - self.first_seq) * 2 > self.last_seq - seq {
            self.rewrite(|records| records);
        }
    }

    /// All records above `seq`, for a daemon that has just come.
    pub(super) fn records_above(&self, seq: u64) -> Vec<Record> {
        let seq = seq.max(self.acknowledged);
        let bytes = self.contents().unwrap_or_default();
        parse(&bytes).into_iter().filter(|record| record.seq > seq).collect()
    }

    fn contents(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes).ok()?];
        self.file.as_ref()?.read_exact_at(&mut bytes, 0).ok()?;
        Some(bytes)
    }

    /// Rewrites the file without what is acknowledged, and as `change` says. Where that fails, it stays as it is.
    fn rewrite(&mut self, change: impl FnOnce(Vec<Record>) -> Vec<Record>) {
        let (Some(bytes), Some(directory)) = (self.contents(), &self.directory) else { return };
        let mut records = parse(&bytes);
        records.retain(|record| record.seq > self.acknowledged);
        let records = change(records);
        let mut bytes = Vec::new();
        records.iter().for_each(|record| write_record(record, &mut bytes));
        let Ok(file) = make_file(directory.as_fd(), REWRITTEN_NAME) else { return };
        if file.write_all_at(&bytes, 0).is_ok()
            && rustix::fs::renameat(directory, REWRITTEN_NAME, directory, JOURNAL_NAME).is_ok()
        {
            self.file = Some(file);
            self.first_seq = records.first().map_or(self.last_seq + 1, |record| record.seq);
            self.bytes = bytes.len() as u64;
        } else {
            let _ = rustix::fs::unlinkat(directory, REWRITTEN_NAME, rustix::fs::AtFlags::empty());
        }
    }
}

/// Makes an empty file, also in place of one that is there.
fn make_file(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?.into())
}

/// CRC-32C (Castagnoli), bit by bit: records are short and few, and a table would be memory.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::protocol::ProcessId;

    /// Restarts the container so many times.
    fn restart(journal: &mut Journal, times: u32) {
        for count in 1..=times {
            let generation = u64::from(count);
            let process = || ProcessId { pid: 7, start_time_ticks: generation };
            journal.append(generation, Event::Created(process()));
            journal.append(generation, Event::Started(process()));
            let oom = count % 10 == 0;
            if oom {
                journal.append(generation, Event::OomKilled);
            }
            let code = i32::try_from(count % 200).expect("small");
            journal.append(generation, Event::Exited { code, oom, restarting: true });
            journal.append(generation, Event::Restarting { delay_ms: 60_000, count });
        }
    }

    #[test]
    fn a_journal_that_nobody_reads_stays_small_and_counts_everything() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal =
            Journal::create(Some(File::open(directory.path()).expect("it"))).expect("a journal");
        journal.append(0, Event::Stopping { signal: 15, timeout_s: 10 });
        restart(&mut journal, 20_000);
        let size = std::fs::metadata(directory.path().join(JOURNAL_NAME)).expect("the file").len();
        assert!(size < 2 * COMPACT_ABOVE_BYTES, "{size} bytes");
        let records = read(directory.path()).expect("readable");
        assert!(matches!(records[0].event, Event::Stopping { .. }), "{:?}", records[0]);
        let (mut exits, mut ooms) = (0, 0);
        for record in &records {
            match &record.event {
                Event::Coalesced(sum) => (exits, ooms) = (exits + sum.exits, ooms + sum.oom_kills),
                Event::Exited { .. } => exits += 1,
                Event::OomKilled => ooms += 1,
                _ => {}
            }
        }
        assert_eq!((exits, ooms), (20_000, 2_000));
        let last = records.last().expect("some");
        assert_eq!(last.seq, journal.last_seq());
        assert!(matches!(last.event, Event::Restarting { count: 20_000, .. }), "{last:?}");
        assert!(records.windows(2).all(|pair| pair[0].seq < pair[1].seq), "in their order");
        assert_eq!(journal.records_above(0).len(), records.len());
        journal.acknowledge(last.seq);
        assert!(read(directory.path()).expect("readable").is_empty());
        restart(&mut journal, 3);
        assert_eq!(read(directory.path()).expect("readable").len(), 12);
    }

    /// A daemon reads, commits some of it and dies before it says so: what it counted must not come again in a sum.
    #[test]
    fn what_a_daemon_may_have_counted_is_never_part_of_a_sum() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal =
            Journal::create(Some(File::open(directory.path()).expect("it"))).expect("a journal");
        restart(&mut journal, 30);
        journal.note_sent();
        let sent = journal.last_seq();
        restart(&mut journal, 20_000);
        let records = journal.records_above(0);
        assert_eq!(
            records.iter().filter(|record| record.seq <= sent).count() as u64,
            sent,
            "each on its own"
        );
        for committed in [0, 50, sent] {
            let exits: u64 = journal
                .records_above(committed)
                .iter()
                .map(|record| match &record.event {
                    Event::Coalesced(sum) => sum.exits,
                    Event::Exited { .. } => 1,
                    _ => 0,
                })
                .sum();
            let counted = records.iter().take_while(|record| record.seq <= committed.min(sent));
            let counted =
                counted.filter(|record| matches!(record.event, Event::Exited { .. })).count() as u64;
            assert_eq!(counted + exits, 20_030, "of which a daemon had committed {committed}");
        }
        let size = std::fs::metadata(directory.path().join(JOURNAL_NAME)).expect("the file").len();
        assert!(size < 8 * COMPACT_ABOVE_BYTES, "{size} bytes");
    }

    #[test]
    fn what_is_acknowledged_leaves_a_large_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal =
            Journal::create(Some(File::open(directory.path()).expect("it"))).expect("a journal");
        for number in 0..2_000 {
            journal.append(1, Event::Killed { signal: 1 + number % 60 });
            if number % 100 == 99 {
                journal.acknowledge(journal.last_seq() - 10);
            }
        }
        let records = read(directory.path()).expect("readable");
        assert_eq!(records.last().map(|record| record.seq), Some(2_000));
        assert!(records.len() < 1_000, "{}", records.len());
        assert!(journal.records_above(1_990).iter().all(|record| record.seq > 1_990));
        assert_eq!(journal.records_above(1_990).len(), 10);
    }
}
