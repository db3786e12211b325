//! Archives made by hand, also such as no program would make.

use tar::{EntryType, Header};

/// An archive in the making.
#[derive(Default, Clone)]
pub(crate) struct Tarball(pub(crate) Vec<u8>);

/// A header with the usual attributes.
pub(crate) fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let bytes = header.as_mut_bytes();
    assert!(path.len() <= 100, "use a PAX record for {path}");
    bytes[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    header
}

impl Tarball {
    pub(crate) fn add(mut self, header: &Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, data: &str) -> Self {
        self.add(&header(path, EntryType::Regular, data.len() as u64), data.as_bytes())
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        let mut header = header(path, EntryType::Directory, 0);
        header.set_mode(0o755);
        header.set_cksum();
        self.add(&header, b"")
    }

    pub(crate) fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = header(path, kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.add(&header, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    pub(crate) fn device(self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(path, EntryType::Char, 0);
        header.set_device_major(major).expect("a ustar header");
        header.set_device_minor(minor).expect("a ustar header");
        header.set_cksum();
        self.add(&header, b"")
    }

    /// An extended header for what follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|&length: &usize| length == rest + length.to_string().len());
            text.extend_from_slice(format!("{} {key}=", length.expect("there is one")).as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.add(&header("pax", EntryType::XHeader, text.len() as u64), &text)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}
