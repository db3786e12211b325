//! From 512-byte blocks to entries: ustar, old and GNU tar, PAX. Bounded memory, whatever comes.
//!
//! Nothing is trusted: each size is checked against a limit before it is used, each path is taken
//! apart and put together again, and what is not understood is refused rather than skipped.

use std::io::BufRead;

use gantry_model::Timestamp;
use tar::Header;

use super::error::{ArchiveError, shown};
use super::names::{cleaned_path, link_path, normal_path, symlink_target};
use super::pax::{self, Records, Segment};
use super::{Limits, Onto};

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// To a path of the same archive, normalised.
    HardLink(Vec<u8>),
    /// With its target, verbatim.
    Symlink(Vec<u8>),
    Directory,
    Fifo,
    /// Major, minor.
    CharDevice(u32, u32),
    /// Major, minor.
    BlockDevice(u32, u32),
}

/// One entry of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Components joined by `/`, without `.`, `..` and empty ones; empty for the root itself.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits and set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// The file's size, holes included; 0 for everything else.
    pub(crate) size: u64,
    /// Names and values as the archive has them.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes; `None` is one stretch from the start.
    pub(crate) sparse: Option<Vec<Segment>>,
}

/// Headers that stand before an entry and are about it.
#[derive(Default)]
struct Prefix {
    pax: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Reads an archive entry by entry.
pub(crate) struct Entries<R> {
    input: R,
    limits: Limits,
    /// Entries so far, headers about entries included.
    count: u64,
    devices: u64,
    unpacked: u64,
    /// Data of the present entry that was not read yet.
    data_left: u64,
    padding: u64,
    global: Records,
    onto: Onto,
}

impl<R: BufRead> Entries<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        Self {
            input,
            limits,
            count: 0,
            devices: 0,
            unpacked: 0,
            data_left: 0,
            padding: 0,
            global: Records::default(),
            onto: Onto::New,
        }
    }

    /// The same for what is unpacked there: names mean something else in a tree in use.
    pub(crate) fn onto(self, onto: Onto) -> Self {
        Self { onto, ..self }
    }

    /// The next entry; `None` at the end, which is a zero block or the end of the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut prefix = Prefix::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.count += 1;
            if self.count > self.limits.entries {
                return Err(too_much("entries", self.limits.entries));
            }
            let size = self.number(&header.as_old().size)?;
            match header.as_old().linkflag[0] {
                b'x' => prefix.pax = self.records(size)?,
                b'g' => {
                    let records = self.records(size)?;
                    self.global.extend(records);
                    if self.global.size() > self.limits.header_bytes {
                        return Err(too_much("bytes of global headers", self.limits.header_bytes as u64));
                    }
                }
                b'L' => prefix.long_name = Some(self.long_text(size)?),
                b'K' => prefix.long_link = Some(self.long_text(size)?),
                b'V' => self.begin_data(size),
                _ => return self.entry(&header, size, prefix).map(Some),
            }
        }
    }

    /// The next piece of the present entry's data; empty at its end. Tell what was used with [`Self::consume`].
    pub(crate) fn data(&mut self) -> Result<&[u8], ArchiveError> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let entry = self.count;
        let available = self.input.fill_buf().map_err(ArchiveError::from_read)?;
        if available.is_empty() {
            return Err(ArchiveError::Damaged { entry, reason: "it ends within a file" });
        }
        let length = available.len().min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    pub(crate) fn consume(&mut self, used: usize) {
        self.input.consume(used);
        self.data_left -= used as u64;
    }

    /// Reads what follows the end mark, so that a digest covers the whole stream.
    pub(crate) fn drain(&mut self) -> Result<(), ArchiveError> {
        loop {
            let length = self.input.fill_buf().map_err(ArchiveError::from_read)?.len();
            if length == 0 {
                return Ok(());
            }
            self.input.consume(length);
        }
    }

    fn damaged<T>(&self, reason: &'static str) -> Result<T, ArchiveError> {
        Err(ArchiveError::Damaged { entry: self.count.max(1), reason })
    }

    fn begin_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Passes what is left of the present entry. The last entry's padding may be missing: the stock CLI
    /// closes a context whose Dockerfile it replaced (`build -f` of a file outside of it) right after its data.
    fn skip(&mut self) -> Result<(), ArchiveError> {
        while self.data_left > 0 {
            let length = self.data()?.len();
            self.consume(length);
        }
        while self.padding > 0 {
            let available = self.input.fill_buf().map_err(ArchiveError::from_read)?.len();
            if available == 0 {
                self.padding = 0;
                return Ok(());
            }
            let length = available.min(usize::try_from(self.padding).unwrap_or(usize::MAX));
            self.input.consume(length);
            self.padding -= length as u64;
        }
        Ok(())
    }

    /// One header; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]).map_err(ArchiveError::from_read)? {
                0 if filled == 0 => return Ok(None),
                0 => return self.damaged("it ends within a header"),
                length => filled += length,
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if is_header(block) {
            return Ok(Some(header));
        }
        self.damaged("it is not a tar header (the checksum does not fit)")
    }

    /// A non-negative number of a header.
    fn number(&self, field: &[u8]) -> Result<u64, ArchiveError> {
        match number(field).map(u64::try_from) {
            Some(Ok(number)) => Ok(number),
            _ => self.damaged("a number in its header is malformed"),
        }
    }

    /// Data that is about the next entry, whole in memory.
    fn text(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > self.limits.header_bytes as u64 {
            return Err(too_much("bytes of an extended header", self.limits.header_bytes as u64));
        }
        self.begin_data(size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while self.data_left > 0 {
            let piece = self.data()?;
            bytes.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
        Ok(bytes)
    }

    fn records(&mut self, size: u64) -> Result<Records, ArchiveError> {
        match Records::parse(&self.text(size)?) {
            Some(records) => Ok(records),
            None => self.damaged("its extended header is malformed"),
        }
    }

    fn long_text(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut text = self.text(size)?;
        if let Some(end) = text.iter().position(|&byte| byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    fn entry(&mut self, header: &Header, size: u64, prefix: Prefix) -> Result<Entry, ArchiveError> {
        let mut pax = self.global.clone();
        pax.extend(prefix.pax);
        let old = header.as_old();
        let name = match (pax.get("GNU.sparse.name").or_else(|| pax.get("path")), prefix.long_name) {
            (Some(path), _) => path.to_vec(),
            (None, Some(path)) => path,
            (None, None) => header.path_bytes().into_owned(),
        };
        let size = self.pax_number(&pax, "size")?.unwrap_or(size);
        let path = match self.onto {
            Onto::New => normal_path(&name, &self.limits)?,
            Onto::Living(_) => cleaned_path(&name, &self.limits)?
                .ok_or_else(|| ArchiveError::Outside { path: shown(&name) })?,
        };
        let kind = self.kind(header, &pax, prefix.long_link, &name)?;
        let id = |field: &[u8], key: &str| -> Result<u32, ArchiveError> {
            let id = match self.pax_number(&pax, key)? {
                Some(id) => id,
                None => self.number(field)?,
            };
            // 2^32-1 means "unchanged" to chown, so no file can have it.
            match u32::try_from(id) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => self.damaged("a user or group number does not fit 32 bits"),
            }
        };
        let (uid, gid) = (id(&old.uid, "uid")?, id(&old.gid, "gid")?);
        let mtime = match pax.get("mtime").map(pax::time) {
            Some(Some(nanos)) => Timestamp::from_nanos(nanos),
            None => Timestamp::from_secs(number(&old.mtime).unwrap_or(0)),
            Some(None) => return self.damaged("its time is malformed"),
        };
        let mode = u32::try_from(self.number(&old.mode)? & 0o7777).expect("twelve bits");
        let xattrs = pax
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.to_vec())))
            .collect();
        let mut entry = Entry { path, kind, mode, uid, gid, mtime, size: 0, xattrs, sparse: None };
        if entry.kind == Kind::File {
            self.begin_data(size);
            (entry.size, entry.sparse) = self.sparse(header, &pax, size)?;
            self.unpacked = self.unpacked.saturating_add(entry.size);
            if self.unpacked > self.limits.unpacked_bytes {
                return Err(too_much("bytes unpacked", self.limits.unpacked_bytes));
            }
        } else if matches!(entry.kind, Kind::CharDevice(..) | Kind::BlockDevice(..)) {
            self.devices += 1;
            if self.devices > self.limits.devices {
                return Err(too_much("device nodes", self.limits.devices));
            }
        }
        Ok(entry)
    }

    fn pax_number(&self, pax: &Records, key: &str) -> Result<Option<u64>, ArchiveError> {
        match pax.get(key).map(pax::decimal) {
            Some(None) => self.damaged("a number in its extended header is malformed"),
            Some(number) => Ok(number),
            None => Ok(None),
        }
    }

    fn kind(
        &self,
        header: &Header,
        pax: &Records,
        long_link: Option<Vec<u8>>,
        name: &[u8],
    ) -> Result<Kind, ArchiveError> {
        let old = header.as_old();
        let link = || {
            pax.get("linkpath")
                .map(<[u8]>::to_vec)
                .or(long_link)
                .unwrap_or_else(|| until_zero(&old.linkname).to_vec())
        };
        let device = || -> Result<(u32, u32), ArchiveError> {
            let Some(ustar) = header
                .as_ustar()
                .map(|h| (&h.dev_major, &h.dev_minor))
                .or_else(|| header.as_gnu().map(|h| (&h.dev_major, &h.dev_minor)))
            else {
                return Ok((0, 0));
            };
            let part = |field: &[u8], limit: u64| match self.number(field)? {
                number if number <= limit => Ok(u32::try_from(number).expect("checked")),
                _ => self.damaged("its device number is out of range"),
            };
            Ok((part(ustar.0, 0xfff)?, part(ustar.1, 0xf_ffff)?))
        };
        Ok(match old.linkflag[0] {
            // Before POSIX, a directory was a file whose name ends with a slash.
            b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(match self.onto {
                Onto::New => link_path(name, &link(), &self.limits)?,
                Onto::Living(_) => {
                    let link = link();
                    let outside = || ArchiveError::OutsideLink { target: shown(&link) };
                    cleaned_path(&link, &self.limits)?.ok_or_else(outside)?
                }
            }),
            b'2' => Kind::Symlink(symlink_target(name, link(), &self.limits, self.onto)?),
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(ArchiveError::UnknownType { path: shown(name), kind: char::from(other) });
            }
        })
    }

    /// The file's real size and where its data goes: GNU's old form, and PAX forms 0.0, 0.1 and 1.0.
    fn sparse(
        &mut self,
        header: &Header,
        pax: &Records,
        size: u64,
    ) -> Result<(u64, Option<Vec<Segment>>), ArchiveError> {
        let (real, map) = if header.as_old().linkflag[0] == b'S' {
            let Some(gnu) = header.as_gnu() else { return self.damaged("its sparse header is malformed") };
            let real = self.number(&gnu.realsize)?;
            (real, self.old_map(gnu)?)
        } else if pax.get("GNU.sparse.major") == Some(b"1") {
            let Some(real) = self.pax_number(pax, "GNU.sparse.realsize")? else {
                return self.damaged("its sparse header is malformed");
            };
            (real, self.map_in_data()?)
        } else if let Some(map) = pax::sparse_map(pax) {
            let real = self.pax_number(pax, "GNU.sparse.size")?;
            let (Some(map), Some(real)) = (map, real) else {
                return self.damaged("its sparse header is malformed");
            };
            (real, map)
        } else {
            return Ok((size, None));
        };
        if !pax::is_sound(&map, real, self.data_left) {
            return self.damaged("its sparse map does not fit the file");
        }
        Ok((real, Some(map)))
    }

    /// GNU's old form: four pairs in the header, twenty-one in each block that follows it.
    fn old_map(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<Segment>, ArchiveError> {
        let mut map = Vec::new();
        self.old_pairs(&gnu.sparse, &mut map)?;
        let mut more = gnu.is_extended();
        while more {
            if map.len() * size_of::<Segment>() > self.limits.header_bytes {
                return Err(too_much("bytes of a sparse map", self.limits.header_bytes as u64));
            }
            let mut block = tar::GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes()).map_err(ArchiveError::from_read)?;
            self.old_pairs(block.sparse(), &mut map)?;
            more = block.is_extended();
        }
        Ok(map)
    }

    fn old_pairs(&self, pairs: &[tar::GnuSparseHeader], map: &mut Vec<Segment>) -> Result<(), ArchiveError> {
        for pair in pairs.iter().filter(|pair| pair.offset[0] != 0 && pair.numbytes[0] != 0) {
            map.push(Segment { offset: self.number(&pair.offset)?, length: self.number(&pair.numbytes)? });
        }
        Ok(())
    }

    /// PAX form 1.0: decimal numbers, a line each, at the start of the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<Segment>, ArchiveError> {
        let mut used = 0_u64;
        let count = self.line(&mut used)?;
        if count.saturating_mul(size_of::<Segment>() as u64) > self.limits.header_bytes as u64 {
            return Err(too_much("bytes of a sparse map", self.limits.header_bytes as u64));
        }
        let mut map = Vec::new();
        for _ in 0..count {
            map.push(Segment { offset: self.line(&mut used)?, length: self.line(&mut used)? });
        }
        let mut padding = used.wrapping_neg() % BLOCK as u64;
        while padding > 0 {
            let length = self.data()?.len().min(usize::try_from(padding).unwrap_or(usize::MAX));
            if length == 0 {
                return self.damaged("its sparse map is malformed");
            }
            self.consume(length);
            padding -= length as u64;
        }
        Ok(map)
    }

    fn line(&mut self, used: &mut u64) -> Result<u64, ArchiveError> {
        let mut digits = Vec::new();
        loop {
            let Some(&byte) = self.data()?.first() else {
                return self.damaged("its sparse map is malformed");
            };
            self.consume(1);
            *used += 1;
            match byte {
                b'\n' => break,
                byte if digits.len() < 20 => digits.push(byte),
                _ => return self.damaged("its sparse map is malformed"),
            }
        }
        pax::decimal(&digits).map_or_else(|| self.damaged("its sparse map is malformed"), Ok)
    }
}

/// Whether a block's checksum fits. Some old programs summed signed bytes.
pub(super) fn is_header(block: &[u8]) -> bool {
    let sum = |signed: bool| -> i64 {
        let value = |(at, &byte): (usize, &u8)| match byte {
            _ if (148..156).contains(&at) => i64::from(b' '),
            byte if signed => i64::from(byte.cast_signed()),
            byte => i64::from(byte),
        };
        block.iter().enumerate().map(value).sum()
    };
    let told = number(&block[148..156]);
    told.is_some_and(|told| told == sum(false) || told == sum(true))
}

pub(super) fn too_much(what: &'static str, limit: u64) -> ArchiveError {
    ArchiveError::TooMuch { what, limit }
}

fn until_zero(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// A header's number: octal text, or binary with the top bit set (GNU). Blank is 0.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, &byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, false) => byte & 0x7f,
                _ => byte,
            };
            if value >> 55 != if negative { -1 } else { 0 } {
                return None;
            }
            value = value << 8 | i64::from(byte);
        }
        return Some(value);
    }
    let text = until_zero(field).trim_ascii();
    text.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"  644 \0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000648", None),
            (b"-1      ", None),
            (&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256)),
            (&[0xff; 12], Some(-1)),
            (&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
