//! The archive as it comes: what looks like a layer is unpacked at once, small files are kept, links noted.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::sync::Arc;

use gantry_model::image::Descriptor;
use gantry_model::{Digest, ErrorKind, LayerId};

use super::listing::place;
use super::{LoadError, LoadEvent};
use crate::archive::{self, ArchiveError, Compression, Entries, Entry, Kind, Limits, Pump};
use crate::content::{Content, digest_of};
use crate::image::{ImageError, target};
use crate::layer::{ApplyOptions, Exact, Layers};
use crate::store::Inner;
use crate::{Error, Lease};

/// The largest file that is kept in memory, in bytes: a configuration's limit.
const FILE_LIMIT_BYTES: u64 = crate::image::CONFIG_LIMIT_BYTES;
/// Bytes of all files, links and names that are kept.
const KEPT_LIMIT_BYTES: usize = 64 << 20;
/// What each of them costs beyond its bytes, roughly.
const OVERHEAD_BYTES: usize = 128;
/// Layers of one archive.
const LAYERS: usize = 10_000;
/// Links that are followed for one path; the kernel's number.
const LINKS: usize = 40;
/// Bytes of a layer between two events.
const EVENT_BYTES: u64 = 1 << 20;

/// One thing of the archive.
enum Item {
    File(Vec<u8>),
    /// A file that is no layer and too large to keep.
    TooLarge(u64),
    Layer(Unpacked),
    /// A file of an OCI layout that is no layer and too large for memory: a blob, with the digest of its bytes.
    Stored(Digest),
    /// It looked like a layer and was refused: an error for whoever refers to it.
    Refused(Error),
    /// To another path of the archive.
    Link(Vec<u8>),
}

/// Where the bytes are that a manifest lists.
pub(super) enum Presence {
    /// Neither in the archive nor here.
    Absent,
    /// In the store, held by the load's lease.
    Held,
    /// In the archive, and small.
    Small(Vec<u8>),
}

/// A layer of the archive.
#[derive(Clone, Copy)]
pub(super) struct Unpacked {
    pub(super) layer: LayerId,
    pub(super) diff_id: Digest,
    /// Of the file as it is in the archive, perhaps compressed.
    digest: Digest,
}

/// What has come of the archive so far.
pub(super) struct Intake<'a> {
    layers: Layers,
    lease: &'a Lease,
    events: &'a mut (dyn FnMut(LoadEvent<'_>) + Send),
    items: BTreeMap<Vec<u8>, Item>,
    kept_bytes: usize,
    unpacked: usize,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        store: &Arc<Inner>,
        lease: &'a Lease,
        events: &'a mut (dyn FnMut(LoadEvent<'_>) + Send),
    ) -> Self {
        let layers = Layers { store: store.clone() };
        Self { layers, lease, events, items: BTreeMap::new(), kept_bytes: 0, unpacked: 0 }
    }

    /// Reads the archive to its end.
    pub(super) fn read(&mut self, entries: &mut Entries<Pump>) -> Result<(), ImageError> {
        while let Some(entry) = entries.next()? {
            let item = match &entry.kind {
                Kind::File => self.take(entries, &entry)?,
                Kind::Symlink(target) => Item::Link(beside(&entry.path, target)),
                Kind::HardLink(target) => Item::Link(target.clone()),
                // Directories are in the paths of what is in them; nothing else is part of an image's archive.
                _ => continue,
            };
            let bytes = match &item {
                Item::File(bytes) | Item::Link(bytes) => bytes.len(),
                _ => 0,
            };
            self.kept_bytes += entry.path.len() + bytes + OVERHEAD_BYTES;
            if self.kept_bytes > KEPT_LIMIT_BYTES {
                let what = "bytes of descriptions and names";
                return Err(ArchiveError::TooMuch { what, limit: KEPT_LIMIT_BYTES as u64 }.into());
            }
            self.items.insert(entry.path, item);
        }
        entries.drain()?;
        Ok(())
    }

    fn take(&mut self, entries: &mut Entries<Pump>, entry: &Entry) -> Result<Item, ImageError> {
        let mut first = Vec::with_capacity(512);
        let mut data = Data { entries, read_bytes: 0 };
        (&mut data).take(512).read_to_end(&mut first).map_err(ArchiveError::from_read)?;
        if entry.sparse.is_none()
            && let Some(compression) = archive::detect(&first)
        {
            return self.unpack(data, first, entry, compression);
        }
        if entry.size > FILE_LIMIT_BYTES {
            return match name_digest(&entry.path) {
                Some(_) => self.store_blob(first, data),
                None => Ok(Item::TooLarge(entry.size)),
            };
        }
        data.read_to_end(&mut first).map_err(ArchiveError::from_read)?;
        Ok(Item::File(first))
    }

    fn store_blob(&self, first: Vec<u8>, mut data: Data<'_>) -> Result<Item, ImageError> {
        let mut writer = Content { store: self.layers.store.clone() }.writer()?;
        let mut buffer = first;
        while !buffer.is_empty() {
            writer.write_all(&buffer).map_err(Error::Output)?;
            buffer.resize(1 << 16, 0);
            let length = data.read(&mut buffer).map_err(ArchiveError::from_read)?;
            buffer.truncate(length);
        }
        Ok(Item::Stored(writer.commit(None, self.lease)?))
    }

    fn unpack(
        &mut self,
        data: Data<'_>,
        first: Vec<u8>,
        entry: &Entry,
        compression: Compression,
    ) -> Result<Item, ImageError> {
        let named = name_digest(&entry.path);
        if let Some(digest) = named {
            let here = match compression {
                Compression::None => self.layers.find_by_diff_id(&digest, self.lease)?,
                _ => self.layers.find_by_blob(&digest, self.lease)?,
            };
            if let Some(layer) = here {
                return Ok(Item::Layer(Unpacked { layer: layer.id, diff_id: layer.diff_id, digest }));
            }
        }
        self.unpacked += 1;
        if self.unpacked > LAYERS {
            return Err(LoadError::TooManyLayers(LAYERS).into());
        }
        // Of a plain layer by its name in an OCI layout; of others it is known when they were read.
        let announced = named.filter(|_| compression == Compression::None);
        let (events, total_bytes) = (&mut *self.events, entry.size);
        let mut next = EVENT_BYTES;
        let told = Told {
            inner: io::Cursor::new(first).chain(data),
            tell: |read_bytes| {
                if let Some(diff_id) = announced.as_ref().filter(|_| read_bytes >= next) {
                    next = read_bytes + EVENT_BYTES;
                    events(LoadEvent::Layer { diff_id, read_bytes, total_bytes });
                }
            },
            read_bytes: 0,
        };
        let options = ApplyOptions { exact: Exact::Received { expected: None }, limits: Limits::default() };
        match self.layers.apply(told, &options, self.lease) {
            Ok(layer) => {
                let event =
                    LoadEvent::Layer { diff_id: &layer.diff_id, read_bytes: total_bytes, total_bytes };
                (self.events)(event);
                let digest = self.layers.blob(layer.id)?.unwrap_or(layer.diff_id);
                Ok(Item::Layer(Unpacked { layer: layer.id, diff_id: layer.diff_id, digest }))
            }
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(Item::Refused(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// A layer with this DiffID that is here, or came with this archive.
    pub(super) fn known(&self, diff_id: &Digest) -> Result<Option<LayerId>, ImageError> {
        Ok(self.layers.find_by_diff_id(diff_id, self.lease)?.map(|layer| layer.id))
    }

    /// What the file at a path is as a layer; `None` where there is none, or it is no layer.
    pub(super) fn diff_id(&self, path: &str) -> Option<Digest> {
        match self.items.get(&self.resolve(path).ok()?)? {
            Item::Layer(unpacked) => Some(unpacked.diff_id),
            _ => None,
        }
    }

    /// The layer at a path.
    pub(super) fn layer(&mut self, path: &str) -> Result<Unpacked, ImageError> {
        let at = self.resolve(path)?;
        // Taken out, and put back as what it has become.
        match self.items.remove(&at) {
            Some(Item::Layer(unpacked)) => {
                self.items.insert(at, Item::Layer(unpacked));
                Ok(unpacked)
            }
            Some(Item::File(bytes)) => {
                // Such as a layer that changes nothing: zero bytes alone, which look like nothing.
                let options =
                    ApplyOptions { exact: Exact::Received { expected: None }, limits: Limits::default() };
                let layer = self.layers.apply(&bytes[..], &options, self.lease)?;
                let size = bytes.len() as u64;
                let (diff_id, read_bytes, total_bytes) = (&layer.diff_id, size, size);
                (self.events)(LoadEvent::Layer { diff_id, read_bytes, total_bytes });
                let unpacked =
                    Unpacked { layer: layer.id, diff_id: layer.diff_id, digest: digest_of(&bytes) };
                self.items.insert(at, Item::Layer(unpacked));
                Ok(unpacked)
            }
            Some(Item::Refused(error)) => Err(error.into()),
            Some(Item::TooLarge(_) | Item::Stored(_)) => Err(LoadError::NoArchive.into()),
            Some(Item::Link(_)) | None => Err(LoadError::Missing(path.into()).into()),
        }
    }

    /// A file that was kept.
    pub(super) fn file(&self, path: &str) -> Result<&[u8], ImageError> {
        match self.items.get(&self.resolve(path)?) {
            Some(Item::File(bytes)) => Ok(bytes),
            Some(Item::TooLarge(size_bytes)) => {
                let (size_bytes, limit_bytes) = (*size_bytes, FILE_LIMIT_BYTES);
                Err(LoadError::TooLarge { path: path.into(), size_bytes, limit_bytes }.into())
            }
            Some(Item::Stored(digest)) => {
                let size_bytes = self.size(digest)?.unwrap_or_default();
                Err(LoadError::TooLarge { path: path.into(), size_bytes, limit_bytes: FILE_LIMIT_BYTES }
                    .into())
            }
            Some(Item::Layer(..) | Item::Refused(_)) => {
                let reason = "it is an archive".into();
                Err(LoadError::Malformed { path: path.into(), reason }.into())
            }
            Some(Item::Link(_)) | None => Err(LoadError::Missing(path.into()).into()),
        }
    }

    /// Whether what a manifest lists is in the archive or here already, as it is announced. Bytes that have to be kept
    /// beside it: those of small files that are no layers.
    pub(super) fn content(&mut self, listed: &Descriptor) -> Result<Presence, ImageError> {
        let path = place(&listed.digest);
        let at = self.resolve(&path)?;
        let is = |actual: Digest| -> Result<(), ImageError> {
            let (expected, path) = (listed.digest, path.clone());
            if actual == expected { Ok(()) } else { Err(LoadError::Digest { path, expected, actual }.into()) }
        };
        let (size_bytes, presence) = match self.items.get(&at) {
            Some(Item::File(bytes)) => {
                is(digest_of(bytes))?;
                (bytes.len() as u64, Presence::Small(bytes.clone()))
            }
            Some(Item::Refused(_)) => {
                // Its error is told.
                self.layer(&path)?;
                return Ok(Presence::Absent);
            }
            found => {
                match found {
                    Some(Item::Layer(unpacked)) => is(unpacked.digest)?,
                    Some(Item::Stored(digest)) => is(*digest)?,
                    _ => {}
                }
                match self.size(&listed.digest)? {
                    Some(size_bytes) => (size_bytes, Presence::Held),
                    None => return Ok(Presence::Absent),
                }
            }
        };
        if size_bytes != listed.size {
            let (expected_bytes, actual_bytes) = (listed.size, size_bytes);
            return Err(LoadError::Size { path, expected_bytes, actual_bytes }.into());
        }
        Ok(presence)
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, ImageError> {
        Ok(target::held_size(&self.layers.store, digest, self.lease)?)
    }

    /// Whether there is anything at a path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|at| self.items.contains_key(&at))
    }

    /// Where a path leads, inside the archive.
    fn resolve(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let mut at = normal(path.as_bytes()).ok_or_else(|| LoadError::BadPath(path.into()))?;
        for _ in 0..LINKS {
            match self.items.get(&at) {
                Some(Item::Link(target)) => {
                    at = normal(target).ok_or_else(|| LoadError::BadPath(path.into()))?;
                }
                _ => return Ok(at),
            }
        }
        Err(LoadError::BadPath(path.into()).into())
    }
}

/// A file's digest by its place in an OCI layout.
fn name_digest(path: &[u8]) -> Option<Digest> {
    let hex = path.strip_prefix(b"blobs/sha256/")?;
    Digest::from_hex(std::str::from_utf8(hex).ok()?).ok()
}

/// A link's target from the archive's root; an absolute one is meant so.
fn beside(link: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    let directory = link.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    [&link[..directory], target].concat()
}

/// A path without `.`, `..` and empty components; `None` where it leads out of the archive.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// The data of the present entry.
struct Data<'a> {
    entries: &'a mut Entries<Pump>,
    read_bytes: u64,
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.entries.data().map_err(ArchiveError::into_io)?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.entries.consume(length);
        self.read_bytes += length as u64;
        Ok(length)
    }
}

/// Tells how many bytes have passed.
struct Told<R, F> {
    inner: R,
    tell: F,
    read_bytes: u64,
}

impl<R: Read, F: FnMut(u64)> Read for Told<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.read_bytes += length as u64;
        (self.tell)(self.read_bytes);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_inside_the_archive() {
        let check = |link: &str, target: &str, expected: Option<&str>| {
            let to = normal(&beside(link.as_bytes(), target.as_bytes()));
            assert_eq!(to.as_deref(), expected.map(str::as_bytes), "{link} -> {target}");
        };
        check("b/layer.tar", "../a/layer.tar", Some("a/layer.tar"));
        check("b", "a", Some("a"));
        check("b/c", "/a", Some("a"));
        check("b", "../a", None);
        check("b/c", "../../a", None);
    }
}
