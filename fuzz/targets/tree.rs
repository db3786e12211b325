//! Archives whose entries are what is random, in lines of a kind, a name and a link's target or a file's contents:
//!
//! ```text
//! d a
//! f a/b some text
//! l a/c -> ../../outside
//! h a/d -> a/b
//! ```
//!
//! So the search is among names and links that work against each other instead of among checksums.

#![no_main]

#[path = "../support/yard.rs"]
mod yard;

use libfuzzer_sys::fuzz_target;
use tar::{Builder, EntryType, Header};

fuzz_target!(|text: &str| {
    let mut archive = Builder::new(Vec::new());
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(' ') else { continue };
        let (kind, separator) = match kind {
            "d" => (EntryType::Directory, " "),
            "f" => (EntryType::Regular, " "),
            "l" => (EntryType::Symlink, " -> "),
            "h" => (EntryType::Link, " -> "),
            "p" => (EntryType::Fifo, " "),
            "c" => (EntryType::Char, " "),
            _ => continue,
        };
        let (name, what) = rest.split_once(separator).unwrap_or((rest, ""));
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        // The crate's own checks of names are gone round: what it would refuse is what is wanted here.
        let bytes = header.as_mut_bytes();
        let name = &name.as_bytes()[..name.len().min(100)];
        bytes[..name.len()].copy_from_slice(name);
        let contents = if kind == EntryType::Regular { what.as_bytes() } else { &[] };
        if contents.is_empty() {
            let target = &what.as_bytes()[..what.len().min(100)];
            bytes[157..157 + target.len()].copy_from_slice(target);
        }
        header.set_size(contents.len() as u64);
        header.set_cksum();
        archive.append(&header, contents).expect("memory takes everything");
    }
    yard::unpack(&archive.into_inner().expect("memory takes everything"));
});
