//! What somebody broke below the data root: it is found, named, and nothing else suffers.

use std::fs;
use std::path::Path;

use gantry_model::Reference;
use gantry_store::image::{ImageError, ImportOptions, InUse, RemoveOptions, Removed, SaveOptions};
use gantry_store::{Options, Store};

use crate::Scratch;
use crate::tarball::Tarball;

/// How a file is broken.
type Breaking = fn(&Path);

struct Nobody;

impl InUse for Nobody {
    fn running(&self, _: &gantry_model::Digest) -> Option<String> {
        None
    }

    fn stopped(&self, _: &gantry_model::Digest) -> Option<String> {
        None
    }
}

fn open(scratch: &Scratch) -> Store {
    Store::open(&scratch.0, &Options::default()).expect("a store")
}

fn import(store: &Store, name: &str) -> gantry_model::Digest {
    let tar = Tarball::default().file("content", name).end();
    let reference = Some(Reference::parse_normalized(name).expect(name));
    let options = ImportOptions { reference, ..ImportOptions::default() };
    store.images().import(&tar[..], &options).expect("an image").id
}

/// Each way of breaking an image's configuration: the others are listed and used, it is too, and can be removed.
#[test]
fn a_damaged_image_is_listed_and_can_be_removed() {
    if crate::skipped() {
        return;
    }
    let ways: [(&str, Breaking); 3] = [
        ("gone", |path| fs::remove_file(path).expect("removed")),
        ("empty", |path| fs::write(path, "").expect("written")),
        ("changed", |path| {
            let mut bytes = fs::read(path).expect("read");
            bytes.reverse();
            fs::write(path, bytes).expect("written");
        }),
    ];
    for (way, break_it) in ways {
        let scratch = Scratch::new(&format!("damaged-{way}"));
        let (whole, broken) = {
            let store = open(&scratch);
            (import(&store, "whole"), import(&store, "broken"))
        };
        break_it(&scratch.0.join("content/blobs/sha256").join(broken.hex()));
        let store = open(&scratch);
        let mut listed: Vec<_> =
            store.images().list().expect("a list").iter().map(|image| image.id).collect();
        listed.sort();
        let mut both = vec![whole, broken];
        both.sort();
        assert_eq!(listed, both, "{way}");
        assert_eq!(store.images().resolve("whole").expect("it is whole").id, whole, "{way}");
        let error = store.images().resolve("broken").expect_err("it is damaged");
        assert!(matches!(error, ImageError::Damaged { image, .. } if image == broken), "{way}: {error}");
        assert!(error.to_string().contains(&format!("rmi {}", &broken.hex()[..12])), "{way}: {error}");
        let found = gantry_store::fsck::inspect(&scratch.0).expect("a look").expect("a store").findings;
        assert!(found.iter().any(|text| text.contains(&broken.hex())), "{way}: {found:?}");
        let removed =
            store.images().remove("broken", RemoveOptions::default(), &Nobody).expect("removed").done;
        assert!(removed.contains(&Removed::Image(broken)), "{way}: {removed:?}");
        assert_eq!(import(&store, "broken"), broken, "{way}");
        store.images().resolve("broken").expect("it is whole again");
        let found = gantry_store::fsck::inspect(&scratch.0).expect("a look").expect("a store").findings;
        assert!(found.is_empty(), "{way}: {found:?}");
    }
}

/// The files of an image's layer are gone, as a tree or as it came: nothing is written, and who asks is told what is gone.
#[test]
fn saving_an_image_without_its_files_names_them() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("damaged-layer");
    let store = open(&scratch);
    let broken = import(&store, "broken");
    import(&store, "whole");
    let layer = store.images().resolve("broken").expect("there");
    let diff_id = layer.config.rootfs.diff_ids[0];
    let blob = scratch.0.join("content/blobs/sha256").join(diff_id.hex());
    let tree = scratch.0.join(format!("layers/{}/fs", layer.layers[0]));
    if blob.exists() {
        fs::remove_file(&blob).expect("removed");
    }
    fs::remove_dir_all(&tree).expect("removed");
    let saved = store.images().save(&["broken".into()], &SaveOptions::default());
    let error = saved.err().expect("its files are gone").to_string();
    assert!(error.contains(&diff_id.to_string()) && error.contains(&broken.to_string()), "{error}");
    let found = gantry_store::fsck::inspect(&scratch.0).expect("a look").expect("a store").findings;
    assert!(!found.is_empty(), "fsck finds it");
    let mut bytes = Vec::new();
    let whole = store.images().save(&["whole".into()], &SaveOptions::default()).expect("the other is whole");
    whole.write(&mut bytes).expect("written");
}

/// What nobody of us made is named, and no start removes it.
#[test]
fn what_is_not_ours_is_left_alone() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("strangers");
    drop(open(&scratch));
    let file = |path: &str| fs::write(scratch.0.join(path), "precious").expect("written");
    let tree = |path: &str| {
        fs::create_dir_all(scratch.0.join(path)).expect("made");
        file(&format!("{path}/file"));
    };
    let strangers = [
        "content/notes",
        "content/blobs/notes",
        "content/blobs/sha256/notes",
        "layers/notes",
        "layers/0/notes",
        "snapshots/notes",
        "trash/notes",
    ];
    strangers.iter().for_each(|path| file(path));
    ["layers/77", "layers/mine", "snapshots/mine"].iter().for_each(|path| tree(path));
    // As a crash leaves it: these go.
    let blob = format!("content/blobs/sha256/{}", "a".repeat(64));
    file(&blob);
    ["layers/78/fs", "snapshots/half/fs", "trash/79"].iter().for_each(|path| tree(path));
    let findings = || gantry_store::fsck::inspect(&scratch.0).expect("a look").expect("a store").findings;
    assert_eq!(findings().iter().filter(|text| text.contains("the next start removes it")).count(), 4);
    drop(open(&scratch));
    let left = findings();
    assert_eq!(left.len(), strangers.len() + 3, "{left:?}");
    assert!(left.iter().all(|text| text.contains("is not ours: move it elsewhere")), "{left:?}");
    for path in strangers
        .iter()
        .map(ToString::to_string)
        .chain(["layers/77/file".into(), "snapshots/mine/file".into()])
    {
        assert_eq!(fs::read_to_string(scratch.0.join(&path)).ok().as_deref(), Some("precious"), "{path}");
    }
    assert!(!scratch.0.join(blob).exists());
}
