//! `load` and `save`: the forms that archives of images have, what is refused, and that nothing is left of it.

use std::io::Write as _;

use gantry_model::Digest;
use gantry_store::content::digest_of;
use gantry_store::image::{LoadEvent, LoadOptions, SaveOptions};
use gantry_store::{Options, Store};
use serde_json::{Value, json};

use crate::Scratch;
use crate::tarball::Tarball;

fn open(scratch: &Scratch) -> Store {
    Store::open(&scratch.0, &Options::default()).expect("a store")
}

/// A layer with one file.
pub(crate) fn layer(name: &str, content: &str) -> Vec<u8> {
    Tarball::default().directory("d/").file(&format!("d/{name}"), content).end()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer).to_string()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "unknown": {"kept": [1]},
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    serde_json::to_vec(&config).expect("JSON")
}

pub(crate) fn add(tar: Tarball, path: &str, bytes: &[u8]) -> Tarball {
    tar.add(&crate::tarball::header(path, tar::EntryType::Regular, bytes.len() as u64), bytes)
}

pub(crate) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// What was told, as text.
pub(crate) fn load(store: &Store, archive: &[u8]) -> Result<Vec<String>, String> {
    load_with(store, archive, &LoadOptions::default())
}

pub(crate) fn load_with(store: &Store, archive: &[u8], options: &LoadOptions) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    let mut events = |event: LoadEvent<'_>| {
        told.push(match event {
            LoadEvent::Layer { diff_id, read_bytes, total_bytes } => {
                format!("layer {} {read_bytes}/{total_bytes}", &diff_id.hex()[..12])
            }
            LoadEvent::Loaded(image) => {
                let names: Vec<String> = image.names.iter().map(|(name, _)| name.familiar()).collect();
                format!("image {} {}", &image.id.hex()[..12], names.join(" "))
            }
        });
    };
    match store.images().load(archive, options, &mut events) {
        Ok(_) => Ok(told),
        Err(error) => Err(chain(&error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn save(store: &Store, names: &[&str]) -> Result<Vec<u8>, String> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let saved = store.images().save(&names, &SaveOptions::default()).map_err(|error| chain(&error))?;
    let mut bytes = Vec::new();
    saved.write(&mut bytes).map_err(|error| chain(&error))?;
    Ok(bytes)
}

/// The form of Docker before 25: directories of layers, one of them a link.
fn old_form(one: &[u8], two: &[u8]) -> Vec<u8> {
    let config = config(&[one, two, one]);
    let name = format!("{}.json", digest_of(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["old:1", "old:2"],
        "Layers": ["aa/layer.tar", "bb/layer.tar", "cc/layer.tar"]}]);
    let mut tar = Tarball::default();
    for (directory, layer) in [("aa", Some(one)), ("bb", Some(two)), ("cc", None)] {
        tar = tar.directory(&format!("{directory}/")).file(&format!("{directory}/VERSION"), "1.0");
        tar = tar.file(&format!("{directory}/json"), "{}");
        let path = format!("{directory}/layer.tar");
        tar = match layer {
            Some(layer) => add(tar, &path, layer),
            None => tar.symlink(&path, "../aa/layer.tar"),
        };
    }
    let tar = add(tar, &name, &config);
    let tar = add(tar, "manifest.json", manifest.to_string().as_bytes());
    tar.file("repositories", r#"{"old":{"1":"cc","2":"cc"}}"#).end()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("options");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest_of(bytes).to_string(),
        "size": bytes.len()})
}

/// Architecture, configuration and packed layers.
type OneOfLayout<'a> = (&'a str, &'a [u8], &'a [Vec<u8>]);

/// An OCI layout of one image for each platform, behind one index.
fn layout(images: &[OneOfLayout<'_>]) -> Vec<u8> {
    let (mut blobs, mut manifests): (Vec<Vec<u8>>, Vec<Value>) = (Vec::new(), Vec::new());
    for (architecture, config, layers) in images {
        let layers_json: Vec<Value> =
            layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
        let manifest = json!({"schemaVersion": 2, "config": descriptor("config.v1+json", config), "layers": layers_json});
        let manifest = manifest.to_string().into_bytes();
        let mut described = descriptor("manifest.v1+json", &manifest);
        described["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(described);
        blobs.push(manifest);
        blobs.push(config.to_vec());
        blobs.extend(layers.iter().cloned());
    }
    let inner = json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
    let mut described = descriptor("index.v1+json", &inner);
    described["annotations"] = json!({"io.containerd.image.name": "example.org/a/b:c"});
    let outer = json!({"schemaVersion": 2, "manifests": [described]});
    blobs.push(inner);
    let mut tar = Tarball::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    for bytes in &blobs {
        tar = add(tar, &blob(&digest_of(bytes)), bytes);
    }
    add(tar, "index.json", outer.to_string().as_bytes()).end()
}

/// Neither rows nor files that no image has.
pub(crate) fn is_clean(store: &Store) {
    let collected = store.collect().expect("collected");
    assert_eq!((collected.layers, collected.blobs), (Vec::new(), Vec::new()), "all was gone before");
    store.empty_trash().expect("unlinked");
    let inventory = store.inventory().expect("an inventory");
    assert_eq!(inventory.findings, Vec::<String>::new());
}

#[test]
fn the_old_form_is_loaded_and_saved_with_the_same_bytes() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("load-old");
    let store = open(&scratch);
    let (one, two) = (layer("one", "1"), layer("two", "2"));
    let archive = old_form(&one, &two);
    let id = digest_of(&config(&[&one, &two, &one]));
    let expected = [
        format!("layer {} {n}/{n}", &digest_of(&one).hex()[..12], n = one.len()),
        format!("layer {} {n}/{n}", &digest_of(&two).hex()[..12], n = two.len()),
        format!("image {} old:1 old:2", &id.hex()[..12]),
    ];
    assert_eq!(load(&store, &archive).expect("loaded"), expected);
    let image = store.images().resolve("old:2").expect("there");
    assert_eq!((image.id, image.config_bytes.clone()), (id, config(&[&one, &two, &one])));
    for (layer, bytes) in image.layers.iter().zip([&one, &two, &one]) {
        let mut written = Vec::new();
        store.layers().write_tar(*layer, &mut written).expect("written");
        assert_eq!(&written, bytes);
        assert_eq!(store.layers().tar_size_bytes(*layer).expect("known"), bytes.len() as u64);
    }
    // Once more, and once more packed: everything is here.
    let again = format!("image {} old:1 old:2", &id.hex()[..12]);
    for packed in [gzip(&archive), xz(&archive), bzip2(&archive)] {
        assert_eq!(load(&store, &packed).expect("loaded").last(), Some(&again));
        assert_eq!(load(&store, &packed[..packed.len() / 2]), Err("unexpected EOF".into()));
    }
    is_clean(&store);
    // What we save another store loads, and it saves the same bytes.
    let saved = save(&store, &["old"]).expect("saved");
    let other = Scratch::new("load-old-other");
    let other = open(&other);
    assert_eq!(load(&other, &saved).expect("loaded").last(), Some(&again));
    assert_eq!(save(&other, &["old"]).expect("saved"), saved);
    assert_eq!(load(&other, &saved).expect("loaded"), [again], "no layer is read twice");
    is_clean(&other);
}

#[test]
fn names_say_what_is_saved() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("save-names");
    let store = open(&scratch);
    load(&store, &old_form(&layer("one", "1"), &layer("two", "2"))).expect("loaded");
    let id = store.images().resolve("old:1").expect("there").id;
    let manifest = |names: &[&str]| -> Value {
        let bytes = save(&store, names).expect("saved");
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().expect("an archive");
        let mut found = entries
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path_bytes().as_ref() == b"manifest.json");
        serde_json::from_reader(found.next().expect("it is there")).expect("JSON")
    };
    assert_eq!(manifest(&["old"])[0]["RepoTags"], json!(["old:1", "old:2"]));
    assert_eq!(manifest(&["old:2"])[0]["RepoTags"], json!(["old:2"]));
    assert_eq!(manifest(&["old:2", "old:1", &id.to_string()])[0]["RepoTags"], json!(["old:2", "old:1"]));
    assert_eq!(manifest(&[&id.hex()[..12]])[0]["RepoTags"], Value::Null);
    assert_eq!(manifest(&[]), json!([]));
    assert_eq!(save(&store, &["old:3"]).unwrap_err(), "reference does not exist");
    assert_eq!(save(&store, &["nosuch"]).unwrap_err(), "No such image: nosuch");
}

#[test]
fn layouts_are_loaded_by_platform() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("load-oci");
    let store = open(&scratch);
    let (here, there) = (layer("here", "1"), layer("there", "2"));
    let (of_here, of_there) = (config(&[&here]), config(&[&there, &here]));
    let (packed_here, packed_there) = (gzip(&here), zstd::encode_all(&there[..], 1).expect("memory"));
    let archive = layout(&[
        ("riscv64", &of_there, &[packed_there.clone(), packed_here.clone()]),
        ("amd64", &of_here, std::slice::from_ref(&packed_here)),
    ]);
    let host = gantry_model::Platform::host().architecture == "amd64";
    let (own, other) = (digest_of(&of_here), digest_of(&of_there));
    let expected = if host { own } else { other };
    let told = load(&store, &archive).expect("loaded");
    assert_eq!(told.last(), Some(&format!("image {} example.org/a/b:c", &expected.hex()[..12])));
    is_clean(&store);
    // The layer's plain bytes come out of it again.
    let image = store.images().get(&expected).expect("there");
    let mut written = Vec::new();
    store.layers().write_tar(*image.layers.last().expect("one"), &mut written).expect("written");
    assert_eq!(written, here);
    // A platform that its index lists, and one that it does not.
    let options = |text: &str| LoadOptions { platform: Some(text.parse().expect(text)) };
    // (The configuration says what an image is for; this one says amd64 and is listed as another.)
    assert_eq!(load_with(&store, &archive, &options("linux/riscv64")), Ok(Vec::new()));
    assert_eq!(load_with(&store, &archive, &options("linux/s390x")), Ok(Vec::new()));
    is_clean(&store);
}

#[test]
fn what_is_wrong_is_told_and_leaves_nothing() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("load-bad");
    let store = open(&scratch);
    let (one, two) = (layer("one", "1"), layer("two", "2"));
    load(&store, &old_form(&one, &two)).expect("loaded");
    let good = store.images().resolve("old:1").expect("there").id;
    let new = layer("new", "3");
    let config_of = config(&[&new]);
    let archive = |manifest: Value, files: &[(&str, &[u8])]| {
        let tar = files.iter().fold(Tarball::default(), |tar, (path, bytes)| add(tar, path, bytes));
        add(tar, "manifest.json", manifest.to_string().as_bytes()).end()
    };
    let item = |config: &str, tags: Value, layers: &[&str]| json!({"Config": config, "RepoTags": tags, "Layers": layers});
    let files: [(&str, &[u8]); 2] = [("c", &config_of), ("l", &new)];
    let fine = archive(json!([item("c", json!(["old:1"]), &["l"])]), &files);
    let lying = config(&[&one[..1024]]);
    let escaping = Tarball::default().file("../x", "y").end();
    let many = config(&vec![&new[..]; 126]);
    let paths = vec!["l"; 126];
    let absent = digest_of(b"x");
    for (name, bytes, says) in [
        ("nothing", Vec::new(), "the archive has no images"),
        ("a short text", b"hello".to_vec(), "unexpected EOF"),
        ("a long text", b"hello ".repeat(200), "archive/tar: invalid tar header"),
        ("truncated in a layer", fine[..2000].to_vec(), "unexpected EOF"),
        ("truncated in a header", fine[..100].to_vec(), "unexpected EOF"),
        ("truncated and packed", gzip(&fine)[..300].to_vec(), "unexpected EOF"),
        ("no configuration", archive(json!([item("x", Value::Null, &[])]), &files), "open x: no such file or directory"),
        ("no layer", archive(json!([item("c", Value::Null, &["x"])]), &[("c", &lying), ("l", &new)]), "open x: no such file or directory"),
        ("a path out of it", archive(json!([item("../c", Value::Null, &["l"])]), &files), "../c: the archive's links"),
        ("fewer layers", archive(json!([item("c", Value::Null, &[])]), &files), "invalid manifest, layers length mismatch: expected 0, got 1"),
        ("a name without tag", archive(json!([item("c", json!(["x"]), &["l"])]), &files), "invalid tag \"x\""),
        ("a name that is none", archive(json!([item("c", json!(["X:1"]), &["l"])]), &files), "invalid reference format: repository name (library/X) must be lowercase"),
        ("no JSON", archive(json!("x"), &files), "manifest.json cannot be read"),
        ("a list of nothing", archive(Value::Null, &files), "invalid manifest, manifest cannot be null (but can be [])"),
        ("an empty list", add(Tarball::default(), "manifest.json", b"").end(), "EOF"),
        ("no root file system", archive(json!([item("c", Value::Null, &[])]), &[("c", br#"{"os":"linux","rootfs":null}"#)]), "invalid image JSON, no RootFS key"),
        ("half JSON", add(Tarball::default(), "manifest.json", b"[{").end(), "unexpected EOF"),
        ("a lying configuration", archive(json!([item("c", Value::Null, &["l"])]), &[("c", &lying), ("l", &new)]), "invalid diffID for layer 0: expected"),
        ("a hostile layer", archive(json!([item("c", Value::Null, &["l"])]), &[("c", &config(&[&escaping])), ("l", &escaping)]), "a path must not contain .."),
        ("a layer that is a text", archive(json!([item("c", Value::Null, &["l"])]), &[("c", &config(&[b"x"])), ("l", b"x")]), "it ends within a header"),
        ("too deep", archive(json!([item("c", Value::Null, &paths)]), &[("c", &many), ("l", &new)]), "max depth exceeded"),
        ("for Windows", archive(json!([item("c", Value::Null, &[])]), &[("c", br#"{"os":"windows","rootfs":{"type":"layers","diff_ids":[]}}"#)]), "cannot load windows image on linux"),
        ("the second is bad", archive(json!([item("c", json!(["old:1"]), &["l"]), item("x", Value::Null, &[])]), &files), "open x: no such"),
        ("a huge list", archive(json!([{"Config": "c".repeat(9 << 20)}]), &files), "manifest.json has 943"),
        ("an index of nothing", Tarball::default().file("index.json", &json!({"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": absent.to_string(), "size": 1}]}).to_string()).end(), "open blobs/sha256/"),
        ("a ring of links", Tarball::default().symlink("manifest.json", "a").symlink("a", "manifest.json").end(), "the archive has no images"),
    ] {
        let said = load(&store, &bytes).expect_err(name);
        assert!(said.contains(says), "{name}: {said}");
        assert_eq!(store.images().list().expect("listed").len(), 1, "{name}");
        assert_eq!(store.images().resolve("old:1").expect("there").id, good, "{name}");
        is_clean(&store);
    }
    assert_eq!(load(&store, &fine).expect("loaded").len(), 2);
    assert_ne!(store.images().resolve("old:1").expect("there").id, good, "the name has moved");
    is_clean(&store);
}

#[test]
fn layers_may_be_packed_in_any_way() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("load-packed");
    let store = open(&scratch);
    for (name, pack) in [("gz", gzip as fn(&[u8]) -> Vec<u8>), ("xz", xz), ("bz2", bzip2)] {
        let plain = layer(name, "1");
        let config = config(&[&plain]);
        let manifest = json!([{"Config": "c", "Layers": ["l"]}]).to_string();
        let tar = add(add(Tarball::default(), "c", &config), "l", &pack(&plain));
        load(&store, &tar.file("manifest.json", &manifest).end()).expect(name);
        let image = store.images().get(&digest_of(&config)).expect("there");
        let mut written = Vec::new();
        store.layers().write_tar(image.layers[0], &mut written).expect("written");
        assert_eq!(written, plain, "{name}");
    }
    is_clean(&store);
}

#[test]
fn later_entries_win_and_empty_layers_are_layers() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("load-odd");
    let store = open(&scratch);
    let (one, two, empty) = (layer("one", "1"), layer("two", "2"), vec![0; 1024]);
    let config = config(&[&two, &empty]);
    let manifest = json!([{"Config": "c", "Layers": ["l", "e"]}]).to_string();
    let tar = add(Tarball::default(), "l", &one).file("c", "{}").file("manifest.json", "[]");
    let tar = add(add(add(tar, "l", &two), "c", &config), "e", &empty);
    let told = load(&store, &add(tar, "manifest.json", manifest.as_bytes()).end()).expect("loaded");
    assert_eq!(told.last(), Some(&format!("image {} ", &digest_of(&config).hex()[..12])));
    is_clean(&store);
}
