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
//! The file lives on `/run`: it survives the daemon and the shim, not the machine. After a reboot its
//! boot id is not the current one, and no container of it runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use gantry_model::Timestamp;

use super::protocol::{Event, Record};

/// The file's name in the shim's directory.
pub const JOURNAL_NAME: &str = "journal";

const HEADER_BYTES: usize = 8;
/// A record is an event; the longest have a launch error's text.
const MAX_RECORD_BYTES: usize = 256 * 1024;
const COMPACT_ABOVE_BYTES: u64 = 64 * 1024;

/// Reads what a shim left behind in its directory, oldest first; of a living shim too, though asking
/// it is better. Records that were acknowledged may still be among them: skip what is committed.
///
/// # Errors
/// open(2)'s and read(2)'s; `NotFound` where no shim has launched anything there.
pub fn read(directory: &Path) -> io::Result<Vec<Record>> {
    let mut bytes = Vec::new();
    File::open(directory.join(JOURNAL_NAME))?.read_to_end(&mut bytes)?;
    let mut records = Vec::new();
    let mut rest = &bytes[..];
    while let Some((body, after)) = split_record(rest) {
        let Ok(record) = serde_json::from_slice(body) else { break };
        records.push(record);
        rest = after;
    }
    Ok(records)
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
    boot_id: String,
    last_seq: u64,
    acknowledged: u64,
    /// Ends of records in the file, as (sequence number of the first record, offset past the last):
    /// records have consecutive numbers, so the first one's and the count tell all.
    first_seq: u64,
    bytes: u64,
}

impl Journal {
    /// Opens an empty one.
    pub(super) fn create(directory: Option<impl AsFd>) -> io::Result<Self> {
        let file = match directory {
            None => None,
            Some(directory) => Some(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(format!("/proc/self/fd/{}/{JOURNAL_NAME}", directory.as_fd().as_raw_fd()))?,
            ),
        };
        let mut boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        boot_id.truncate(boot_id.trim_end().len());
        Ok(Self { file, boot_id, last_seq: 0, acknowledged: 0, first_seq: 1, bytes: 0 })
    }

    /// Sets where numbering goes on, before the first record.
    pub(super) fn continue_after(&mut self, last_seq: u64) {
        (self.last_seq, self.acknowledged, self.first_seq) = (last_seq, last_seq, last_seq + 1);
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
            let mut bytes = vec![0; HEADER_BYTES];
            if serde_json::to_writer(&mut bytes, &record).is_ok() {
                let body = &bytes[HEADER_BYTES..];
                let (length, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32c(body));
                bytes[..4].copy_from_slice(&length.to_le_bytes());
                bytes[4..8].copy_from_slice(&sum.to_le_bytes());
                if file.write_all_at(&bytes, self.bytes).is_ok() {
                    self.bytes += bytes.len() as u64;
                }
            }
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
            }
        } else if self.bytes > COMPACT_ABOVE_BYTES && (seq - self.first_seq) * 2 > self.last_seq - seq {
            self.compact();
        }
    }

    /// All records above `seq`, for a daemon that has just come.
    pub(super) fn records_above(&self, seq: u64) -> Vec<Record> {
        let seq = seq.max(self.acknowledged);
        let Some(bytes) = self.contents() else { return Vec::new() };
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while let Some((body, after)) = split_record(rest) {
            match serde_json::from_slice::<Record>(body) {
                Ok(record) if record.seq > seq => records.push(record),
                Ok(_) => {}
                Err(_) => break,
            }
            rest = after;
        }
        records
    }

    fn contents(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes).ok()?];
        self.file.as_ref()?.read_exact_at(&mut bytes, 0).ok()?;
        Some(bytes)
    }

    /// Rewrites the file without what is acknowledged. A reader that comes at the wrong moment sees a
    /// torn end; only a shim that dies in this moment loses anything, and only on `/run`.
    fn compact(&mut self) {
        let Some(bytes) = self.contents() else { return };
        let mut rest = &bytes[..];
        let mut first = self.first_seq;
        while first <= self.acknowledged {
            let Some((_, after)) = split_record(rest) else { return };
            rest = after;
            first += 1;
        }
        let Some(file) = &self.file else { return };
        if file.write_all_at(rest, 0).is_ok() && file.set_len(rest.len() as u64).is_ok() {
            (self.bytes, self.first_seq) = (rest.len() as u64, first);
        }
    }
}

/// CRC-32C (Castagnoli), bit by bit: records are short and few, and a table would be memory.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}
