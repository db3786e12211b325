//! What images come with: manifests and indexes are kept, looked up, saved as they came, and go with their names.

use std::collections::BTreeMap;
use std::io::Read as _;

use gantry_model::{Digest, Platform, Reference};
use gantry_store::content::digest_of;
use gantry_store::image::{InUse, LoadOptions, RemoveOptions, SaveOptions};
use gantry_store::{Options, Store};
use serde_json::{Value, json};

use crate::Scratch;
use crate::loading::{add, blob, descriptor, gzip, is_clean, layer, load, load_with};
use crate::tarball::Tarball;

pub(crate) fn open(scratch: &Scratch) -> Store {
    Store::open(&scratch.0, &Options::default()).expect("a store")
}

/// An architecture that is not this machine's.
fn foreign() -> &'static str {
    if Platform::host().architecture == "arm64" { "amd64" } else { "arm64" }
}

pub(crate) fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer).to_string()).collect();
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": [architecture]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.to_string().into_bytes()
}

pub(crate) fn manifest(config: &[u8], layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
    // Spaces and an unknown field: what is kept verbatim has them again.
    let text = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config), "layers": layers, "unknown": [1]});
    serde_json::to_vec_pretty(&text).expect("JSON")
}

pub(crate) fn of_platform(manifest: &[u8], os: &str, architecture: &str) -> Value {
    let mut described = descriptor("manifest.v1+json", manifest);
    described["platform"] = json!({"os": os, "architecture": architecture});
    described
}

pub(crate) fn index(children: &[Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children});
    serde_json::to_vec_pretty(&index).expect("JSON")
}

pub(crate) fn named(mut described: Value, name: &str) -> Value {
    described["annotations"] = json!({"io.containerd.image.name": name});
    described
}

pub(crate) fn archive(entries: &[Value], blobs: &[&[u8]]) -> Vec<u8> {
    let mut tar = Tarball::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    for bytes in blobs {
        tar = add(tar, &blob(&digest_of(bytes)), bytes);
    }
    let outer = json!({"schemaVersion": 2, "manifests": entries});
    add(tar, "index.json", outer.to_string().as_bytes()).end()
}

/// Files of an archive by their paths.
fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        if entry.header().entry_type().is_file() {
            let path = String::from_utf8(entry.path_bytes().into_owned()).expect("text");
            let mut data = Vec::new();
            entry.read_to_end(&mut data).expect("its data");
            found.insert(path, data);
        }
    }
    found
}

pub(crate) fn blobs(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    files(bytes).into_iter().filter(|(path, _)| path.starts_with("blobs/")).collect()
}

pub(crate) fn save(store: &Store, name: &str, platform: Option<&str>) -> Result<Vec<u8>, String> {
    let platform = platform.map(|text| text.parse().expect("a platform"));
    let saved = store.images().save(&[name.into()], &SaveOptions { platform });
    let mut bytes = Vec::new();
    saved.map_err(|error| error.to_string())?.write(&mut bytes).expect("written");
    Ok(bytes)
}

pub(crate) fn name(text: &str) -> Reference {
    Reference::parse_normalized(text).expect("a name")
}

/// Containers by the image that they run.
#[derive(Default)]
pub(crate) struct Containers {
    pub(crate) stopped: Vec<Digest>,
}

impl InUse for Containers {
    fn running(&self, _: &Digest) -> Option<String> {
        None
    }

    fn stopped(&self, image: &Digest) -> Option<String> {
        self.stopped.contains(image).then(|| "c".repeat(64))
    }
}

pub(crate) fn remove(store: &Store, text: &str, in_use: &Containers) -> Result<usize, String> {
    let removed = store.images().remove(text, RemoveOptions::default(), in_use);
    removed.map(|removed| removed.done.len()).map_err(|error| error.to_string())
}

/// An index of this machine's platform and another one, a statement, a platform for Windows, and one that is absent.
pub(crate) struct Several {
    pub(crate) own: Vec<u8>,
    pub(crate) other: Vec<u8>,
    pub(crate) manifests: [Vec<u8>; 4],
    pub(crate) index: Vec<u8>,
    pub(crate) archive: Vec<u8>,
}

pub(crate) fn several() -> Several {
    let (shared, here, there) = (layer("shared", "0"), layer("here", "1"), layer("there", "2"));
    let (packed, zipped) = (zstd::encode_all(&there[..], 1).expect("memory"), gzip(&here));
    let host = Platform::host().architecture;
    let (own, other) = (config(&host, &[&shared, &here]), config(foreign(), &[&shared, &there]));
    let first = manifest(&own, &[("layer.v1.tar", &shared), ("layer.v1.tar+gzip", &zipped)]);
    let second = manifest(&other, &[("layer.v1.tar", &shared), ("layer.v1.tar+zstd", &packed)]);
    let said = br#"{"_type": "https://in-toto.io/Statement/v0.1"}"#;
    let unknown = config("unknown", &[]);
    let mut statement: Value =
        serde_json::from_slice(&manifest(&unknown, &[("layer.v1.tar", said)])).expect("JSON");
    statement["layers"][0]["mediaType"] = json!("application/vnd.in-toto+json");
    let statement = statement.to_string().into_bytes();
    let mut windows: Value = serde_json::from_slice(&config("amd64", &[&shared])).expect("JSON");
    windows["os"] = json!("windows");
    let windows = windows.to_string().into_bytes();
    let fourth = manifest(&windows, &[("layer.v1.tar", &shared)]);
    let absent = manifest(&own, &[]);
    let mut stated = of_platform(&statement, "unknown", "unknown");
    stated["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = index(&[
        of_platform(&second, "linux", foreign()),
        of_platform(&absent, "linux", "s390x"),
        of_platform(&first, "linux", &host),
        stated,
        of_platform(&fourth, "windows", "amd64"),
    ]);
    let archive = archive(
        &[named(descriptor("index.v1+json", &index), "example.org/a:1")],
        &[
            &shared, &zipped, &packed, &own, &other, &first, &second, said, &unknown, &statement, &windows,
            &fourth, &index,
        ],
    );
    Several { own, other, manifests: [first, second, statement, fourth], index, archive }
}

#[test]
fn an_index_is_kept_with_all_its_platforms_and_saved_as_it_came() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-index");
    let store = open(&scratch);
    let Several { own, other, manifests, index, archive } = several();
    assert_eq!(
        load(&store, &archive).expect("loaded").last().expect("one"),
        &format!("image {} example.org/a:1", &digest_of(&own).hex()[..12])
    );
    is_clean(&store);
    let images = store.images();
    let listed: Vec<Digest> = images.list().expect("listed").iter().map(|image| image.id).collect();
    assert_eq!(listed, [digest_of(&own)], "one line for each name");
    let target = images.target(&name("example.org/a:1")).expect("a target");
    assert_eq!((target.digest, target.size), (digest_of(&index), index.len() as u64));
    assert_eq!(target.media_type, "application/vnd.oci.image.index.v1+json");
    for (text, expected) in [
        ("example.org/a:1".to_owned(), Some(&own)),
        (digest_of(&index).to_string(), Some(&own)),
        (format!("example.org/a@{}", digest_of(&index)), Some(&own)),
        (digest_of(&manifests[0]).to_string(), Some(&own)),
        (digest_of(&manifests[1]).to_string(), Some(&other)),
        (digest_of(&manifests[2]).to_string(), None),
        (digest_of(&manifests[3]).to_string(), None),
        (digest_of(&other).hex(), Some(&other)),
    ] {
        let found = images.resolve(&text).ok().map(|image| image.id);
        assert_eq!(found, expected.map(|config| digest_of(config)), "{text}");
    }
    for (platform, expected) in [
        ("linux/".to_owned() + foreign(), &other),
        (Platform::host().to_string(), &own),
        ("linux/s390x".into(), &own),
    ] {
        let found =
            images.resolve_for("example.org/a:1", &platform.parse().expect("a platform")).expect("there");
        assert_eq!(found.id, digest_of(expected), "{platform}");
    }
    // Every byte goes out again, and in again somewhere else.
    let saved = save(&store, "example.org/a:1", None).expect("saved");
    assert!(blobs(&saved) == blobs(&archive));
    let list: Value = serde_json::from_slice(&files(&saved)["manifest.json"]).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["Config"], json!(blob(&digest_of(&own))));
    let elsewhere = Scratch::new("target-index-other");
    let elsewhere = open(&elsewhere);
    for _ in 0..2 {
        load(&elsewhere, &saved).expect("loaded");
        assert!(save(&elsewhere, "example.org/a:1", None).expect("saved") == saved);
        assert_eq!(elsewhere.images().target(&name("example.org/a:1")).expect("a target"), target);
        is_clean(&elsewhere);
    }
    // One platform of it, and one that is not here.
    let one = save(&store, "example.org/a:1", Some(&format!("linux/{}", foreign()))).expect("saved");
    let written: Value = serde_json::from_slice(&files(&one)["index.json"]).expect("JSON");
    assert_eq!(written["manifests"][0]["digest"], json!(digest_of(&manifests[1]).to_string()));
    assert_eq!(blobs(&one).len(), 4, "its manifest, its configuration and its two layers");
    assert_eq!(
        save(&store, "example.org/a:1", Some("linux/s390x")).unwrap_err(),
        "no suitable export target found for platform linux/s390x"
    );
    // With the last name goes everything.
    remove(&store, "example.org/a:1", &Containers::default()).expect("removed");
    is_clean(&store);
    let left = store.inventory().expect("an inventory").owned;
    let left: Vec<_> = left
        .iter()
        .filter(|one| {
            matches!(one.kind.as_str(), "blob" | "layer") && !one.holders.contains(&"the store".to_owned())
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn one_platform_of_an_archive_comes_alone() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-platform");
    let store = open(&scratch);
    let Several { own, other, manifests, archive, index } = several();
    let options = LoadOptions { platform: Some(format!("linux/{}", foreign()).parse().expect("a platform")) };
    load_with(&store, &archive, &options).expect("loaded");
    assert_eq!(store.images().resolve("example.org/a:1").expect("there").id, digest_of(&other));
    assert_eq!(
        store.images().target(&name("example.org/a:1")).expect("there").digest,
        digest_of(&manifests[1])
    );
    is_clean(&store);
    // Later the whole: the name means the host's image, and the other is listed no more.
    load(&store, &archive).expect("loaded");
    assert_eq!(store.images().resolve("example.org/a:1").expect("there").id, digest_of(&own));
    assert_eq!(store.images().target(&name("example.org/a:1")).expect("there").digest, digest_of(&index));
    let dangling: Vec<Digest> = store.images().list().expect("listed").iter().map(|image| image.id).collect();
    assert_eq!(dangling.len(), 2, "an image that was loaded by itself stays as any image that lost its name");
    remove(&store, &digest_of(&other).to_string(), &Containers::default()).expect("removed");
    assert_eq!(store.images().list().expect("listed").len(), 1);
    assert!(store.images().get(&digest_of(&other)).is_ok(), "it is the index's platform still");
    is_clean(&store);
    assert!(blobs(&save(&store, "example.org/a:1", None).expect("saved")) == blobs(&archive));
}

#[test]
fn names_carry_what_they_point_to() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-names");
    let store = open(&scratch);
    let images = store.images();
    let Several { own, other, index, archive, manifests } = several();
    load(&store, &archive).expect("loaded");
    let target = |text: &str| images.target(&name(text)).expect("a name").digest;
    let by_manifest = digest_of(&manifests[1]).to_string();
    for (from, to, expected) in [
        ("example.org/a:1", "copy:1", digest_of(&index)),
        (&digest_of(&own).hex()[..], "copy:2", digest_of(&index)),
        (&by_manifest, "copy:3", digest_of(&manifests[1])),
        (&digest_of(&other).hex()[..], "copy:4", digest_of(&manifests[1])),
    ] {
        images.tag_as(from, &name(to)).expect("tagged");
        assert_eq!(target(to), expected, "{to}");
    }
    assert_eq!(images.list().expect("listed").len(), 2, "the platform has names of its own now");
    // Names of one image that point to different things do so elsewhere, too.
    images.tag_as(&digest_of(&manifests[0]).to_string(), &name("copy:5")).expect("tagged");
    let both = images.save(&["copy:1".into(), "copy:5".into()], &SaveOptions::default()).expect("found");
    let mut saved = Vec::new();
    both.write(&mut saved).expect("written");
    let elsewhere = Scratch::new("target-names-other");
    let elsewhere = open(&elsewhere);
    load(&elsewhere, &saved).expect("loaded");
    for (tag, expected) in [("copy:1", digest_of(&index)), ("copy:5", digest_of(&manifests[0]))] {
        assert_eq!(elsewhere.images().target(&name(tag)).expect("a name").digest, expected, "{tag}");
    }
    is_clean(&elsewhere);
    images.untag(&name("copy:5")).expect("untagged");
    // Its last name goes: it is a platform again, and nobody can remove it alone.
    remove(&store, "copy:3", &Containers::default()).expect("removed");
    remove(&store, "copy:4", &Containers::default()).expect("removed");
    assert_eq!(images.list().expect("listed").len(), 1);
    let refused = remove(&store, &digest_of(&other).to_string(), &Containers::default()).unwrap_err();
    let says = "(cannot be forced) - image is a platform of copy:1";
    assert!(refused.contains(says), "{refused}");
    // Who uses a platform keeps its index.
    remove(&store, "copy:1", &Containers::default()).expect("removed");
    remove(&store, "copy:2", &Containers::default()).expect("removed");
    let user = Containers { stopped: vec![digest_of(&other)] };
    let refused = remove(&store, "example.org/a:1", &user).unwrap_err();
    assert!(refused.contains("container cccccccccccc is using its referenced image"), "{refused}");
    // A name that moves leaves an image without one, which still has what it came with.
    let plain = layer("plain", "3");
    let single = config(&Platform::host().architecture, &[&plain]);
    let of_single = manifest(&single, &[("layer.v1.tar", &plain)]);
    let next = self::archive(
        &[named(descriptor("manifest.v1+json", &of_single), "example.org/a:1")],
        &[&plain, &single, &of_single],
    );
    load(&store, &next).expect("loaded");
    assert_eq!(target("example.org/a:1"), digest_of(&of_single));
    assert!(blobs(&save(&store, "example.org/a:1", None).expect("saved")) == blobs(&next));
    assert!(blobs(&save(&store, &digest_of(&own).to_string(), None).expect("saved")) == blobs(&archive));
    is_clean(&store);
    remove(&store, &digest_of(&own).to_string(), &Containers::default()).expect("removed");
    assert!(images.get(&digest_of(&other)).is_err(), "it went with the index");
    is_clean(&store);
}

#[test]
fn a_list_beside_an_index_says_which_images_there_are() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-hybrid");
    let store = open(&scratch);
    let Several { own, index, archive, .. } = several();
    let layers: Value = {
        let found: Value = serde_json::from_slice(&several().manifests[0]).expect("JSON");
        let paths = found["layers"].as_array().expect("layers").iter();
        paths
            .map(|layer| json!(format!("blobs/sha256/{}", &layer["digest"].as_str().expect("text")[7..])))
            .collect()
    };
    let list = |config: &[u8]| json!([{"Config": blob(&digest_of(config)), "RepoTags": ["example.org/a:1"], "Layers": layers}]);
    let hybrid = |list: &Value| {
        let end = archive.len() - 1024;
        add(Tarball(archive[..end].to_vec()), "manifest.json", list.to_string().as_bytes()).end()
    };
    load(&store, &hybrid(&list(&own))).expect("loaded");
    assert_eq!(store.images().target(&name("example.org/a:1")).expect("there").digest, digest_of(&index));
    is_clean(&store);
    // An index without the image of the list, and one with bad entries: the list alone counts.
    let other = Scratch::new("target-hybrid-other");
    let other = open(&other);
    let shared = layer("shared", "0");
    let alone = config("amd64", &[&shared]);
    let tar = add(add(Tarball::default(), "c", &alone), "l", &shared);
    let tar = add(
        tar,
        "manifest.json",
        json!([{"Config": "c", "RepoTags": ["x:1"], "Layers": ["l"]}]).to_string().as_bytes(),
    );
    let entries = json!({"manifests": [descriptor("manifest.v1+json", b"absent"), {"mediaType": "text/plain", "digest": digest_of(b"").to_string(), "size": 0}]});
    load(&other, &add(tar, "index.json", entries.to_string().as_bytes()).end()).expect("loaded");
    assert_eq!(other.images().target(&name("x:1")).expect("there").digest, digest_of(&alone));
    is_clean(&other);
}

#[test]
fn layers_that_are_here_as_trees_are_not_kept_twice() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-tree");
    let store = open(&scratch);
    let made = store
        .images()
        .import(
            &layer("made", "1")[..],
            &gantry_store::image::ImportOptions { reference: Some(name("made:1")), ..Default::default() },
        )
        .expect("imported");
    let saved = save(&store, "made:1", None).expect("saved");
    load(&store, &saved).expect("loaded");
    let found = files(&saved);
    let entry: Value = serde_json::from_slice(&found["index.json"]).expect("JSON");
    let digest = entry["manifests"][0]["digest"].as_str().expect("text").to_owned();
    assert_eq!(store.images().target(&name("made:1")).expect("there").digest.to_string(), digest);
    let diff_id = made.config.rootfs.diff_ids[0];
    assert_eq!(store.content().size(&diff_id).expect("asked"), None, "the tree gives the bytes");
    assert!(save(&store, "made:1", None).expect("saved") == saved);
    is_clean(&store);
    remove(&store, "made:1", &Containers::default()).expect("removed");
    is_clean(&store);
}

#[test]
fn of_several_variants_the_usual_one_is_meant() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-variants");
    let store = open(&scratch);
    let shared = layer("shared", "0");
    let variant = |variant: &str| {
        let mut config: Value = serde_json::from_slice(&config("arm", &[&shared])).expect("JSON");
        config["variant"] = json!(variant);
        let config = config.to_string().into_bytes();
        let manifest = manifest(&config, &[("layer.v1.tar", &shared)]);
        let mut described = of_platform(&manifest, "linux", "arm");
        described["platform"]["variant"] = json!(variant);
        (config, manifest, described)
    };
    let ((five, five_manifest, first), (six, six_manifest, second)) = (variant("v5"), variant("v6"));
    let (seven, seven_manifest, third) = variant("v7");
    for (described, blobs, wanted) in [
        (
            vec![first.clone(), second.clone(), third],
            vec![&five, &five_manifest, &six, &six_manifest, &seven, &seven_manifest],
            &seven,
        ),
        (vec![first, second], vec![&five, &five_manifest, &six, &six_manifest], &six),
    ] {
        let index = index(&described);
        let mut all: Vec<&[u8]> = vec![&shared, &index];
        all.extend(blobs.iter().map(|bytes| &bytes[..]));
        let entry = named(descriptor("index.v1+json", &index), "example.org/arm:1");
        load(&store, &archive(&[entry], &all)).expect("loaded");
        let platform = "linux/arm".parse().expect("a platform");
        let found = store.images().resolve_for("example.org/arm:1", &platform).expect("there");
        assert_eq!(found.id, digest_of(wanted));
        let saved = save(&store, "example.org/arm:1", Some("linux/arm")).expect("saved");
        assert!(blobs_of(&saved, wanted), "its configuration is in the archive");
    }
}

fn blobs_of(archive: &[u8], config: &[u8]) -> bool {
    let blobs = blobs(archive);
    blobs.len() == 3 && blobs.contains_key(&blob(&digest_of(config)))
}

#[test]
fn what_is_kept_as_it_came_is_counted() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("target-bytes");
    let store = open(&scratch);
    let (plain, packed) = (layer("plain", "0"), gzip(&layer("plain", "0")));
    let config = config(&Platform::host().architecture, &[&plain]);
    let manifest = manifest(&config, &[("layer.v1.tar+gzip", &packed)]);
    let entry = named(descriptor("manifest.v1+json", &manifest), "example.org/packed:1");
    assert_eq!(store.images().content_bytes().expect("counted"), 0);
    load(&store, &archive(&[entry], &[&packed, &config, &manifest])).expect("loaded");
    let bytes = store.images().content_bytes().expect("counted");
    assert!(bytes >= packed.len() as u64, "{bytes}");
    remove(&store, "example.org/packed:1", &Containers::default()).expect("removed");
    assert_eq!(store.images().content_bytes().expect("counted"), 0);
}
