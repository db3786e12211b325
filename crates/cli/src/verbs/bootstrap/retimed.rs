//! A tar in which every entry has one time, as it passes by.
//!
//! `mmdebstrap` clamps all times to the `SOURCE_DATE_EPOCH` that the packages' scripts see too. The only
//! value of it that is known before the packages are, and the same whenever they are, is 0; what the
//! times should be is known when the packages are unpacked, just before the first byte of the tar.
//!
//! ```text
//! header block, 512 bytes:  136 mtime, 12 octal digits   148 checksum, 6 octal digits, NUL, space
//!                           124 size, 12 octal digits, or the first byte's high bit and a number
//! ```
//! (POSIX.1-2024, pax interchange format.) A header is followed by its data, filled up to whole blocks.

use std::io::{self, Read};

const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Reads the tar of `inner` with the time of every entry replaced by the one that `time` gives in seconds
/// since 1970. `time` is called once, when the first block has been read.
///
/// # Errors
/// `InvalidData` for a block that is no header where one has to be; what `time` fails with.
pub(super) struct Retimed<R, T> {
    inner: R,
    time: T,
    known: Option<u64>,
    block: [u8; BLOCK],
    /// Bytes of `block` that were handed on.
    taken: usize,
    /// Bytes of data that follow, to the end of its last block.
    data_bytes: u64,
}

impl<R: Read, T: FnMut() -> io::Result<u64>> Retimed<R, T> {
    pub(super) fn new(inner: R, time: T) -> Retimed<R, T> {
        Retimed { inner, time, known: None, block: [0; BLOCK], taken: BLOCK, data_bytes: 0 }
    }

    /// Reads the next header into `block`; `false` at the end.
    fn next_header(&mut self) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut self.block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.taken = 0;
        if self.block.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        if octal(&self.block[CHECKSUM]) != Some(checksum(&self.block)) {
            return Err(invalid("a block that is no header of a tar"));
        }
        let size = number(&self.block[SIZE]).ok_or_else(|| invalid("a size that is no number"))?;
        self.data_bytes = size.div_ceil(512).checked_mul(512).ok_or_else(|| invalid("a size beyond all"))?;
        let time = match self.known {
            Some(time) => time,
            None => *self.known.insert((self.time)()?),
        };
        self.block[MTIME].copy_from_slice(format!("{time:011o}\0").as_bytes());
        let sum = checksum(&self.block);
        self.block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(true)
    }
}

impl<R: Read, T: FnMut() -> io::Result<u64>> Read for Retimed<R, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == BLOCK && self.data_bytes > 0 {
            let most = usize::try_from(self.data_bytes).unwrap_or(usize::MAX).min(into.len());
            let read = self.inner.read(&mut into[..most])?;
            if read == 0 && most > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.data_bytes -= read as u64;
            return Ok(read);
        }
        if self.taken == BLOCK && !self.next_header()? {
            return Ok(0);
        }
        let most = into.len().min(BLOCK - self.taken);
        into[..most].copy_from_slice(&self.block[self.taken..self.taken + most]);
        self.taken += most;
        Ok(most)
    }
}

/// The sum of a header's bytes, those of the sum itself taken for spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let byte = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { 32 } else { u64::from(*byte) };
    block.iter().enumerate().map(byte).sum()
}

fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let mut bytes = rest.iter().copied();
    bytes.try_fold(u64::from(first & 0x7f), |sum, byte| Some(sum.checked_mul(256)? + u64::from(byte)))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("mmdebstrap wrote {what}"))
}

#[cfg(test)]
mod tests {
    use super::Retimed;
    use std::io::{self, Read as _, Write as _};
    use std::process::{Command, Stdio};

    fn retimed(tar: &[u8], time: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Retimed::new(tar, || Ok(time)).read_to_end(&mut all)?;
        Ok(all)
    }

    fn list(tar: &[u8]) -> String {
        let mut child = Command::new("tar")
            .args(["--list", "--verbose", "--full-time", "--utc", "--file=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar is part of every system");
        child.stdin.take().expect("it is piped").write_all(tar).expect("tar reads it all");
        let output = child.wait_with_output().expect("tar ends");
        assert!(output.status.success(), "tar does not take it");
        String::from_utf8(output.stdout).expect("the names are plain")
    }

    /// What `tar` itself reads out of it: other times, and nothing else has changed; long names and
    /// links, whose extra headers have data of their own, included.
    #[test]
    fn every_entry_has_the_time() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let long = "n".repeat(180);
        std::fs::write(directory.path().join("empty"), "").expect("written");
        std::fs::write(directory.path().join("odd"), vec![b'x'; 1300]).expect("written");
        std::fs::write(directory.path().join(&long), vec![0; 512]).expect("written");
        std::os::unix::fs::symlink(&long, directory.path().join("link")).expect("linked");
        std::fs::hard_link(directory.path().join("odd"), directory.path().join("same")).expect("linked");
        for format in ["pax", "gnu"] {
            let output = Command::new("tar")
                .args(["--create", "--file=-", "--mtime=@0", "--sort=name"])
                .arg(format!("--format={format}"))
                .arg("--directory")
                .arg(directory.path())
                .arg(".")
                .output()
                .expect("tar is part of every system");
            let before = list(&output.stdout);
            assert_eq!(before.matches(" 1970-01-01 00:00:00 ").count(), 6, "{format}: {before}");
            let after = retimed(&output.stdout, 1_600_000_000).expect("it is a tar");
            assert_eq!(
                list(&after),
                before.replace("1970-01-01 00:00:00", "2020-09-13 12:26:40"),
                "{format}"
            );
            assert_eq!(
                retimed(&after, 0).expect("it is a tar still"),
                output.stdout,
                "{format}: the rest is as it was"
            );
        }
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let error = retimed(&[b'x'; 512], 1).expect_err("no header");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = retimed(&[0; 100], 1).expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let none = Retimed::new(&[][..], || Err(io::Error::other("never asked"))).read(&mut [0; 8]);
        assert_eq!(none.expect("an empty tar needs no time"), 0);
    }

    #[test]
    fn numbers() {
        assert_eq!(super::number(b"00000000012\0"), Some(10));
        assert_eq!(super::number(b"\x80\0\0\0\0\0\0\x02\0\0\0\x01"), Some(0x2_0000_0001));
        assert_eq!(super::number(&[0xff; 12]), None);
        assert_eq!(super::number(b"nonsense 123"), None);
    }
}
