//! The way of the bytes: read, decompress, hash, unpack, each on a thread of its own where it costs
//! anything, with buffers that go round.
//!
//! ```text
//! input ──Pump── tee (digest, blob) ── inflate ──Pump── digest ── Entries (the caller's thread)
//! ```
//!
//! A [`Pump`] is a thread that fills buffers from a reader and hands them over; the other side reads
//! them as `BufRead` without copying and gives them back. When either side stops, so does the other.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use super::error::ArchiveError;
use super::{Compression, Limits};

/// Bytes of one buffer: large enough that a hand-over costs nothing beside the work on it.
const BUFFER_BYTES: usize = 256 * 1024;
/// Buffers of one pump: one filled, one emptied, two on the way.
const BUFFERS: usize = 4;
/// zstd frames that need more than 2^25 bytes (32 MiB) of window are refused: memory is bounded.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// xz blocks that need more than this are refused; `xz -9` takes 65 MiB to decompress.
const XZ_MEMORY_KIB: u32 = 72 << 10;

/// The reading end of a pump.
pub(crate) struct Pump {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Pump {
    /// Starts a thread that reads from what `open` returns until its end. `open` runs on that thread.
    pub(crate) fn start<'scope, R: Read>(
        scope: &'scope Scope<'scope, '_>,
        open: impl FnOnce() -> io::Result<R> + Send + 'scope,
    ) -> Self {
        let (full_sender, filled) = sync_channel(BUFFERS);
        let (empty, empty_receiver) = channel();
        for _ in 0..BUFFERS {
            // The receiver is in this function still.
            let _ = empty.send(Vec::new());
        }
        scope.spawn(move || match open() {
            Ok(reader) => run(reader, &full_sender, &empty_receiver),
            Err(error) => drop(full_sender.send(Err(error))),
        });
        Self { filled, empty, current: Vec::new(), at: 0, ended: false }
    }
}

fn run(mut reader: impl Read, filled: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER_BYTES, 0);
        let mut length = 0;
        let failed = loop {
            match reader.read(&mut buffer[length..]) {
                Ok(0) => break None,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if length == BUFFER_BYTES {
                break None;
            }
        };
        let ended = length < BUFFER_BYTES;
        buffer.truncate(length);
        if filled.send(Ok(buffer)).is_err() {
            return;
        }
        if let Some(error) = failed {
            let _ = filled.send(Err(error));
            return;
        }
        if ended {
            return;
        }
    }
}

impl BufRead for Pump {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() && !self.ended {
            match self.filled.recv() {
                Ok(Ok(next)) => {
                    let used = std::mem::replace(&mut self.current, next);
                    self.at = 0;
                    // The thread may be gone, having read everything.
                    let _ = self.empty.send(used);
                }
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, used: usize) {
        self.at += used;
    }
}

impl Read for Pump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Shows each byte that passes to an observer, such as a digest.
pub(crate) struct Tee<R, F> {
    pub(crate) inner: R,
    pub(crate) observe: F,
}

impl<R: Read, F: FnMut(&[u8]) -> io::Result<()>> Read for Tee<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            // Said here, where it is known that it was not the decompressor.
            _ => ArchiveError::from_read(error).into_io(),
        })?;
        (self.observe)(&buffer[..length])?;
        Ok(length)
    }
}

/// Stops a stream that has become too much larger than what came in.
pub(crate) struct RatioGuard<'a, R> {
    pub(crate) inner: R,
    pub(crate) incoming: &'a AtomicU64,
    pub(crate) plain: u64,
    pub(crate) limits: Limits,
}

impl<R: Read> Read for RatioGuard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer).map_err(|error| {
            match error.downcast::<ArchiveError>() {
                Ok(refusal) => refusal,
                Err(error) => ArchiveError::Compressed(error),
            }
            .into_io()
        })?;
        self.plain += length as u64;
        check_ratio(self.plain, self.incoming.load(Ordering::Relaxed), &self.limits)
            .map_err(ArchiveError::into_io)?;
        Ok(length)
    }
}

/// Whether so many bytes unpacked from so many incoming ones are still believable.
pub(crate) fn check_ratio(unpacked: u64, incoming: u64, limits: &Limits) -> Result<(), ArchiveError> {
    let allowed = incoming.saturating_mul(limits.ratio).saturating_add(limits.ratio_allowance_bytes);
    if unpacked > allowed {
        let what = "bytes unpacked for each byte of the archive";
        return Err(ArchiveError::TooMuch { what, limit: limits.ratio });
    }
    Ok(())
}

/// Tells by the first bytes how a stream is compressed; `None` is not known to be compressed.
pub(crate) fn magic(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame may come first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        // The level stands between the two.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Compression::Bzip2,
        // Of nothing at all.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
        _ => Compression::None,
    }
}

/// Puts the right decompressor on a stream. The inflaters are behind this one function.
pub(crate) fn decompress<'r>(
    input: impl BufRead + 'r,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
    })
}
