//! Archives of images with random contents, in sections: a line with a file's name, then what is in it.
//!
//! ```text
//! === manifest.json
//! [{"Config": "@config", "RepoTags": ["a:1"], "Layers": ["@layer"]}]
//! === config
//! {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:#layer"]}}
//! === layer
//! ```
//!
//! A file whose name has no dot and no slash is a blob: it stands at `blobs/sha256/…`, `@NAME` means that path, `#NAME`
//! its digest in hexadecimal. A blob `layer` without contents is an empty tar. So archives stay whole while they change.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use gantry_store::image::{LoadOptions, SaveOptions};
use gantry_store::{DriverChoice, Options, Store};
use libfuzzer_sys::fuzz_target;
use tar::{Builder, Header};

static STORE: LazyLock<(Store, tempfile::TempDir)> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::open(root.path(), &Options { driver: DriverChoice::Vfs }).expect("a new store opens");
    (store, root)
});

fuzz_target!(|text: &str| {
    let images = STORE.0.images();
    let archive = archive(text);
    let loaded = images.load(archive.as_slice(), &LoadOptions::default(), &mut |_| ());
    for image in loaded.iter().flatten() {
        // What was taken in can be given out, and taken in once more.
        let names = [image.id.to_string()];
        let mut saved = Vec::new();
        images
            .save(&names, &SaveOptions::default())
            .expect("what was loaded can be saved")
            .write(&mut saved)
            .expect("memory takes everything");
        images
            .load(saved.as_slice(), &LoadOptions::default(), &mut |_| ())
            .expect("what was saved can be loaded");
    }
});

/// The archive that a text describes.
fn archive(text: &str) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    // Backwards, so that what is referred to is known: a file refers to those after it.
    for section in text.split("=== ").skip(1).collect::<Vec<_>>().into_iter().rev() {
        let (name, contents) = section.split_once('\n').unwrap_or((section, ""));
        let mut contents = contents.trim_end().to_owned();
        for (blob, bytes) in &files {
            if let Some(path) = path_of_blob(blob, bytes) {
                let hex = path.trim_start_matches("blobs/sha256/").to_owned();
                contents = contents.replace(&format!("@{blob}"), &path).replace(&format!("#{blob}"), &hex);
            }
        }
        let bytes = if contents.is_empty() { vec![0; 1024] } else { contents.into_bytes() };
        files.push((name.to_owned(), bytes));
    }
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in files.iter().rev() {
        let path = path_of_blob(name, bytes).unwrap_or_else(|| name.clone());
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        let path = &path.as_bytes()[..path.len().min(100)];
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).expect("memory takes everything");
    }
    archive.into_inner().expect("memory takes everything")
}

fn path_of_blob(name: &str, bytes: &[u8]) -> Option<String> {
    if name.is_empty() || name.contains(['.', '/']) || name == "oci-layout" || name == "repositories" {
        return None;
    }
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("blobs/sha256/{hex}"))
}
