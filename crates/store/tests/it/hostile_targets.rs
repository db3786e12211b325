//! Manifests and indexes that are wrong, or too much: a clear error, nothing left, other images unharmed.

use gantry_model::Platform;
use gantry_store::content::digest_of;
use serde_json::{Value, json};

use crate::Scratch;
use crate::loading::{add, blob, descriptor, is_clean, layer, load};
use crate::tarball::Tarball;
use crate::targets::{
    Containers, Several, archive, blobs, config, index, manifest, named, of_platform, open, remove, save,
    several,
};

#[test]
fn what_is_too_large_for_memory_is_kept_all_the_same() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-large");
    let store = open(&scratch);
    let plain = layer("plain", "1");
    let own = config(&Platform::host().architecture, &[&plain]);
    let first = manifest(&own, &[("layer.v1.tar", &plain)]);
    let said = json!({"packages": "p".repeat(9 << 20)}).to_string().into_bytes();
    let mut statement: Value = serde_json::from_slice(&manifest(b"{}", &[("text", &said)])).expect("JSON");
    statement["layers"][0]["mediaType"] = json!("application/vnd.in-toto+json");
    let statement = statement.to_string().into_bytes();
    let index =
        index(&[of_platform(&first, "linux", "amd64"), of_platform(&statement, "unknown", "unknown")]);
    let entry = named(descriptor("index.v1+json", &index), "large:1");
    let good =
        archive(std::slice::from_ref(&entry), &[&plain, &own, &first, &said, b"{}", &statement, &index]);
    load(&store, &good).expect("loaded");
    is_clean(&store);
    assert!(blobs(&save(&store, "large:1", None).expect("saved")) == blobs(&good));
    remove(&store, "large:1", &Containers::default()).expect("removed");
    is_clean(&store);
    // Others under its name.
    let tar = Tarball(archive(&[], &[&plain, &own, &first, b"{}", &statement, &index]));
    let tar =
        add(Tarball(tar.0[..tar.0.len() - 1024].to_vec()), &blob(&digest_of(&said)), &vec![b' '; 9 << 20]);
    let lying = add(tar, "index.json", json!({"manifests": [entry]}).to_string().as_bytes()).end();
    let refused = load(&store, &lying).unwrap_err();
    assert!(refused.contains("as announced"), "{refused}");
    assert!(store.images().list().expect("listed").is_empty());
    is_clean(&store);
}

#[test]
fn a_web_of_indexes_is_walked_once() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-web");
    let store = open(&scratch);
    // Each lists all of the level below, in all 100^4 ways down, and none of them comes to an image.
    let statement = manifest(b"{}", &[("text", b"x")]);
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut below = vec![descriptor("manifest.v1+json", &statement)];
    for level in 0..4 {
        let indexes: Vec<Vec<u8>> =
            (0..100).map(|n| [index(&below), " ".repeat(100 * level + n).into_bytes()].concat()).collect();
        below = indexes.iter().map(|one| descriptor("index.v1+json", one)).collect();
        all.extend(indexes);
    }
    let top = index(&below);
    let mut blobs: Vec<&[u8]> = all.iter().map(|one| &one[..]).collect();
    blobs.extend([&statement[..], &top]);
    let web = archive(&[named(descriptor("index.v1+json", &top), "web:1")], &blobs);
    assert_eq!(load(&store, &web), Ok(Vec::new()));
    is_clean(&store);
}

#[test]
fn hostile_indexes_leave_nothing() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-hostile");
    let store = open(&scratch);
    let Several { archive: good, own: kept, .. } = several();
    load(&store, &good).expect("loaded");
    let before = save(&store, "example.org/a:1", None).expect("saved");
    let plain = layer("plain", "9");
    let own = config(&Platform::host().architecture, &[&plain]);
    let fine = manifest(&own, &[("layer.v1.tar", &plain)]);
    let top = |bytes: &[u8]| named(descriptor("index.v1+json", bytes), "example.org/a:1");
    let with = |change: &dyn Fn(&mut Value)| -> Vec<u8> {
        let mut child = of_platform(&fine, "linux", &Platform::host().architecture);
        change(&mut child);
        let index = index(&[child]);
        archive(&[top(&index)], &[&plain, &own, &fine, &index])
    };
    let changed = |change: &dyn Fn(&mut Value)| -> Vec<u8> {
        let mut value: Value = serde_json::from_slice(&fine).expect("JSON");
        change(&mut value);
        let bytes = value.to_string().into_bytes();
        archive(&[named(descriptor("manifest.v1+json", &bytes), "example.org/a:1")], &[&plain, &own, &bytes])
    };
    // The bytes under a manifest's name are others.
    let lying = {
        let index = index(&[of_platform(&fine, "linux", "amd64")]);
        let tar = add(Tarball::default(), &blob(&digest_of(&index)), &index);
        let tar = add(
            add(add(tar, &blob(&digest_of(&fine)), &own), &blob(&digest_of(&own)), &own),
            &blob(&digest_of(&plain)),
            &plain,
        );
        add(tar, "index.json", json!({"manifests": [top(&index)]}).to_string().as_bytes()).end()
    };
    // An index cannot have its own digest; one that claims to is another.
    let ring = {
        let digest = digest_of(b"ring");
        let own = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": 100});
        let index = json!({"schemaVersion": 2, "manifests": [own]}).to_string();
        let tar = add(Tarball::default(), &blob(&digest), index.as_bytes());
        add(tar, "index.json", json!({"manifests": [own]}).to_string().as_bytes()).end()
    };
    let deep = {
        let mut all = vec![index(&[of_platform(&fine, "linux", "amd64")])];
        for _ in 0..5 {
            let next = index(&[descriptor("index.v1+json", all.last().expect("one"))]);
            all.push(next);
        }
        let mut blobs: Vec<&[u8]> = all.iter().map(|one| &one[..]).collect();
        blobs.extend([&plain[..], &own, &fine]);
        archive(&[top(all.last().expect("one"))], &blobs)
    };
    let many = {
        let all: Vec<Vec<u8>> = (0..1001).map(|n| [&fine[..], " ".repeat(n).as_bytes()].concat()).collect();
        let index = index(&all.iter().map(|one| of_platform(one, "linux", "amd64")).collect::<Vec<_>>());
        let mut blobs: Vec<&[u8]> = all.iter().map(|one| &one[..]).collect();
        blobs.extend([&plain[..], &own, &index]);
        archive(&[top(&index)], &blobs)
    };
    let huge = {
        let absent: Vec<Value> =
            (0..20_000_u32).map(|n| of_platform(&n.to_le_bytes(), "linux", "amd64")).collect();
        let index = index(&absent);
        archive(&[top(&index)], &[&index])
    };
    // The configuration lists a layer that is here, the manifest another one.
    let known = config(&Platform::host().architecture, &[&layer("shared", "0")]);
    let swapped = manifest(&known, &[("layer.v1.tar", &plain)]);
    let swapped = archive(
        &[named(descriptor("manifest.v1+json", &swapped), "example.org/a:1")],
        &[&plain, &known, &swapped],
    );
    let deeper = changed(&|value| value["layers"] = vec![value["layers"][0].clone(); 126].into());
    for (what, bytes, says) in [
        ("another manifest", lying, "as announced"),
        ("a ring", ring, "as announced"),
        ("a size", with(&|child| child["size"] = json!(1)), "bytes, not 1 as announced"),
        (
            "a kind",
            with(&|child| child["mediaType"] = json!("text/plain")),
            "\"text/plain\" is not a kind that is loaded",
        ),
        (
            "two kinds",
            with(&|child| child["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json")),
            "and says that it is",
        ),
        (
            "an index as manifest",
            with(&|child| child["mediaType"] = json!("application/vnd.oci.image.index.v1+json")),
            "and says that it is",
        ),
        (
            "a layer's size",
            changed(&|value| value["layers"][0]["size"] = json!(7)),
            "bytes, not 7 as announced",
        ),
        (
            "a configuration's size",
            changed(&|value| value["config"]["size"] = json!(7)),
            "bytes, not 7 as announced",
        ),
        ("both", changed(&|value| value["manifests"] = json!([])), "it lists manifests and layers"),
        (
            "twice the layer",
            changed(&|value| value["layers"] = json!([value["layers"][0], value["layers"][0]])),
            "layers length mismatch: expected 2, got 1",
        ),
        ("another layer", swapped, "invalid diffID for layer 0"),
        ("many layers", deeper, "max depth exceeded"),
        ("a size below none", changed(&|value| value["layers"][0]["size"] = json!(-1)), "cannot be read"),
        ("deep", deep, "nested more than 4 deep"),
        ("many", many, "more than 1000 manifests"),
        ("huge", huge, "more than the 4194304 that are read of it"),
    ] {
        let said = load(&store, &bytes).expect_err(what);
        assert!(said.contains(says), "{what}: {said}");
        assert_eq!(store.images().list().expect("listed").len(), 1, "{what}");
        assert_eq!(store.images().resolve("example.org/a:1").expect("there").id, digest_of(&kept), "{what}");
        is_clean(&store);
    }
    assert!(save(&store, "example.org/a:1", None).expect("saved") == before, "the other image is unharmed");
    load(&store, &with(&|_| {})).expect("the same without a fault");
    assert_ne!(store.images().resolve("example.org/a:1").expect("there").id, digest_of(&kept));
    is_clean(&store);
}
