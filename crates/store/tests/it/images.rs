//! Images: names, look-ups, removal by Docker's rules, and what a crash leaves.

use std::fs;
use std::path::Path;

use gantry_model::image::{History, ImageConfig, RootFs};
use gantry_model::{Digest, Reference, SnapshotId, Timestamp};
use gantry_state::rusqlite::Connection;
use gantry_store::image::{Image, ImageError, ImportOptions, InUse, NewImage, RemoveOptions, Removed};
use gantry_store::{DriverChoice, Error, Options, Store};

use crate::Scratch;
use crate::tarball::Tarball;

fn open(root: &Path) -> Store {
    Store::open(root, &Options::default()).expect("a store")
}

fn reference(text: &str) -> Reference {
    Reference::parse_normalized(text).expect(text)
}

fn import(store: &Store, content: &str, name: Option<&str>) -> std::sync::Arc<Image> {
    let tar = Tarball::default().file("content", content).end();
    let options = ImportOptions { reference: name.map(reference), ..ImportOptions::default() };
    store.images().import(&tar[..], &options).expect("an image")
}

/// An image without layers on top of another, such as `FROM x` and `LABEL y` make.
fn derive(store: &Store, parent: &Image, comment: &str) -> std::sync::Arc<Image> {
    let config = ImageConfig {
        comment: comment.into(),
        rootfs: RootFs { diff_ids: parent.config.rootfs.diff_ids.clone(), ..RootFs::default() },
        ..ImageConfig::default()
    };
    let bytes = serde_json::to_vec(&config).expect("a configuration");
    let image = NewImage { config_bytes: &bytes, layers: &parent.layers, parent: Some(parent.id) };
    store.images().create(&image).expect("an image")
}

#[derive(Default)]
struct Containers {
    running: Vec<Digest>,
    stopped: Vec<Digest>,
}

impl InUse for Containers {
    fn running(&self, image: &Digest) -> Option<String> {
        self.running.contains(image).then(|| "c0ffee".repeat(10) + "c0ff")
    }

    fn stopped(&self, image: &Digest) -> Option<String> {
        self.stopped.contains(image).then(|| "deadbeef".repeat(8))
    }
}

fn remove(store: &Store, text: &str) -> Result<Vec<String>, String> {
    remove_with(store, text, RemoveOptions::default(), &Containers::default())
}

fn remove_with(
    store: &Store,
    text: &str,
    options: RemoveOptions,
    containers: &Containers,
) -> Result<Vec<String>, String> {
    let show = |removed: Removed| match removed {
        Removed::Untagged { reference, .. } => format!("untagged {reference}"),
        Removed::Image(id) => format!("deleted {}", id.hex().split_at(12).0),
        Removed::Layer(_) => "deleted layer".into(),
    };
    match store.images().remove(text, options, containers) {
        Ok(removed) => Ok(removed.done.into_iter().map(show).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn short(image: &Image) -> String {
    image.id.hex().split_at(12).0.into()
}

#[test]
fn imports_are_found_by_all_that_names_them() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("resolve");
    let store = open(&scratch.0);
    let image = import(&store, "one", Some("web"));
    assert_eq!((image.size_bytes, image.layers.len()), (3, 1));
    assert_eq!(image.config.created.as_deref(), Some("2001-09-09T01:46:40Z"), "the newest file's time");
    assert_eq!(import(&store, "one", None).id, image.id, "the same archive is the same image");
    assert_eq!(store.collect().expect("collected").layers, [], "and leaves no second layer");
    let hex = image.id.hex();
    for text in [
        "web",
        "web:latest",
        "docker.io/library/web",
        &hex,
        &hex[..12],
        &hex[..1],
        &image.id.to_string(),
        &format!("sha256:{}", &hex[..7]),
    ] {
        assert_eq!(store.images().resolve(text).map(|found| found.id).ok(), Some(image.id), "{text}");
    }
    let check = |text: &str, expected: &str| {
        let error = store.images().resolve(text).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    };
    let none = "0".repeat(64);
    check("nosuch", "No such image: nosuch:latest");
    check("r.example:5000/a/b:1", "No such image: r.example:5000/a/b:1");
    check("web:other", "No such image: web:other");
    check(&none, &format!("No such image: sha256:{none}"));
    check("Web", "invalid reference format: repository name (library/Web) must be lowercase");
    check("a b", "invalid reference format");
    // A beginning that two images have is, as in Docker, no such image.
    let mut others = (0..).map(|n| import(&store, &n.to_string(), None));
    let other = others.find(|other| other.id.hex()[..1] == hex[..1]).expect("one in sixteen");
    check(&hex[..1], &format!("No such image: {}:latest", &hex[..1]));
    assert_eq!(store.images().resolve(&other.id.hex()[..12]).expect("found").id, other.id);
    store.images().tag(&image.id, &reference(&hex[..1])).expect("tagged");
    assert_eq!(store.images().resolve(&hex[..1]).expect("names come first").id, image.id);
}

#[test]
fn names_move_and_are_listed() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("names");
    let store = open(&scratch.0);
    let (one, two) = (import(&store, "1", Some("web")), import(&store, "2", None));
    store.images().tag(&one.id, &reference("web:v1")).expect("tagged");
    store.images().tag(&two.id, &reference("web")).expect("tagged");
    let names = |image: &Image| {
        let image = store.images().get(&image.id).expect("the image");
        image.references.iter().map(Reference::familiar).collect::<Vec<_>>()
    };
    assert_eq!((names(&one), names(&two)), (vec!["web:v1".into()], vec!["web:latest".to_owned()]));
    assert_eq!(store.images().untag(&reference("web")).expect("untagged"), two.id);
    assert!(matches!(store.images().untag(&reference("web")), Err(ImageError::NoSuchImage(_))));
    assert_eq!(store.images().list().expect("the list").len(), 2);
    let missing = Digest::from_sha256([0; 32]);
    assert!(matches!(store.images().tag(&missing, &reference("x")), Err(ImageError::NoSuchImage(_))));
    let target = store.images().target(&reference("web:v1")).expect("the target");
    assert_eq!((target.digest, target.size), (one.id, one.config_bytes.len() as u64));
    drop(store);
    assert_eq!(open(&scratch.0).images().resolve("web:v1").expect("after opening again").id, one.id);
}

#[test]
fn removal_follows_dockers_rules() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("rmi");
    let store = open(&scratch.0);
    let ok =
        |lines: &[&str]| Ok::<_, String>(lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
    // A name of several: only the name goes.
    let image = import(&store, "1", Some("a"));
    let id = short(&image);
    store.images().tag(&image.id, &reference("b")).expect("tagged");
    assert_eq!(remove(&store, "a"), ok(&["untagged a:latest"]));
    // The last name takes the image with it.
    assert_eq!(remove(&store, "b"), ok(&["untagged b:latest", &format!("deleted {id}"), "deleted layer"]));
    assert_eq!(remove(&store, "b"), Err("No such image: b:latest".into()));
    // By id: all names of one repository go, but not of several.
    let image = import(&store, "1", Some("a"));
    assert_eq!(remove(&store, &id), ok(&["untagged a:latest", &format!("deleted {id}"), "deleted layer"]));
    import(&store, "1", Some("a"));
    store.images().tag(&image.id, &reference("a:v2")).expect("tagged");
    let conflict = format!(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
    );
    assert_eq!(remove(&store, &id), Err(conflict));
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    assert_eq!(
        remove_with(&store, &id, force, &Containers::default()),
        ok(&["untagged a:latest", "untagged a:v2", &format!("deleted {id}"), "deleted layer"])
    );
    assert_eq!(store.images().list().expect("the list").len(), 0);
    store.empty_trash().expect("emptied");
    assert_eq!(fs::read_dir(scratch.0.join("layers")).expect("layers").count(), 1, "only the layer 0");
    assert_eq!(fs::read_dir(scratch.0.join("content/blobs/sha256")).expect("blobs").count(), 0);
}

#[test]
fn containers_hold_their_images() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("in-use");
    let store = open(&scratch.0);
    let image = import(&store, "1", Some("a"));
    let id = short(&image);
    let running = Containers { running: vec![image.id], ..Containers::default() };
    let stopped = Containers { stopped: vec![image.id], ..Containers::default() };
    let (plain, force) =
        (RemoveOptions::default(), RemoveOptions { force: true, ..RemoveOptions::default() });
    let check = |text: &str, options, containers: &Containers, expected: &str| {
        assert_eq!(remove_with(&store, text, options, containers), Err(expected.into()), "{text}");
    };
    let by_name = |container: &str| {
        format!(
            "conflict: unable to remove repository reference \"a\" (must force) - container {container} is using its referenced image {id}"
        )
    };
    check("a", plain, &running, &by_name("c0ffeec0ffee"));
    check("a", plain, &stopped, &by_name("deadbeefdead"));
    let runs = format!(
        "conflict: unable to delete {id} (cannot be forced) - image is being used by running container c0ffeec0ffee"
    );
    check(&id, plain, &running, &runs);
    check(&id, force, &running, &runs);
    check(
        &id,
        plain,
        &stopped,
        &format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container deadbeefdead"
        ),
    );
    // By force the name goes, the image stays while it runs.
    assert_eq!(remove_with(&store, "a", force, &running), Ok(vec!["untagged a:latest".into()]));
    assert_eq!(store.images().get(&image.id).expect("it stays").references, []);
    let gone = Ok(vec![format!("deleted {id}"), "deleted layer".to_owned()]);
    assert_eq!(remove_with(&store, &id, force, &stopped), gone);
}

#[test]
fn children_hold_their_parents_and_take_them_along() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("parents");
    let store = open(&scratch.0);
    let base = import(&store, "1", Some("base"));
    let middle = derive(&store, &base, "middle");
    let top = derive(&store, &middle, "top");
    store.images().tag(&top.id, &reference("top")).expect("tagged");
    assert_eq!(store.images().children(&base.id).expect("children"), [middle.id]);
    let conflict = |image: &Image| {
        Err(format!(
            "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
            short(image)
        ))
    };
    assert_eq!(remove(&store, &short(&base)), conflict(&base));
    assert_eq!(remove(&store, &short(&middle)), conflict(&middle));
    let no_prune = RemoveOptions { no_prune: true, ..RemoveOptions::default() };
    let removed = remove_with(&store, "top", no_prune, &Containers::default());
    assert_eq!(removed, Ok(vec!["untagged top:latest".into(), format!("deleted {}", short(&top))]));
    let top = derive(&store, &middle, "top");
    assert_eq!(
        remove(&store, &short(&top)),
        Ok(vec![format!("deleted {}", short(&top)), format!("deleted {}", short(&middle))]),
        "the tagged base stays"
    );
    assert_eq!(store.images().resolve("base").expect("the base").id, base.id);
}

#[test]
fn history_tells_steps_sizes_and_names() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("history");
    let store = open(&scratch.0);
    let base = import(&store, "12345", Some("base:1"));
    let history = store.images().history("base:1").expect("the history");
    assert_eq!(history.len(), 1);
    let entry = &history[0];
    assert_eq!((entry.id, entry.size_bytes, entry.comment.as_str()), (Some(base.id), 5, "Imported from -"));
    assert_eq!(
        (entry.tags.as_slice(), entry.created),
        (&["base:1".to_owned()][..], Some(Timestamp::from_secs(1_000_000_000)))
    );
}

#[test]
fn history_names_parents_at_the_steps_that_they_end_with() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("history-parents");
    let store = open(&scratch.0);
    let base = import(&store, "1", Some("base:1"));
    let mut config = base.config.clone();
    for step in ["ENV A=1", "ENV B=2"] {
        let step = format!("/bin/sh -c #(nop)  {step}");
        config.history.push(History { created_by: step, empty_layer: true, ..History::default() });
    }
    let bytes = serde_json::to_vec(&config).expect("JSON");
    let image = NewImage { config_bytes: &bytes, layers: &base.layers, parent: Some(base.id) };
    let image = store.images().create(&image).expect("an image");
    let history = store.images().history(&image.id.to_string()).expect("the history");
    let ids: Vec<_> = history.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [Some(image.id), None, Some(base.id)]);
    assert_eq!(history[2].tags, ["base:1"]);
}

#[test]
fn images_of_one_time_are_listed_by_when_they_came() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("order");
    let store = open(&scratch.0);
    let came: Vec<_> = ["1", "2", "3"].map(|content| import(&store, content, None).id).into();
    let listed: Vec<_> =
        store.images().list().expect("the list").iter().map(|image| image.id).rev().collect();
    assert_eq!(listed, came);
}

#[test]
fn links_count_with_their_length() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("link-size");
    let store = open(&scratch.0);
    let archive = Tarball::default().file("f", "12345").hard_link("again", "f").symlink("s", "f").end();
    let image = store.images().import(&archive[..], &ImportOptions::default()).expect("an image");
    assert_eq!(image.size_bytes, 6);
    let removed =
        store.images().remove(&image.id.to_string(), RemoveOptions::default(), &Containers::default());
    assert_eq!(removed.expect("removed").layer_bytes, 6);
}

#[test]
fn configurations_must_fit_their_layers() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("configs");
    let store = open(&scratch.0);
    let base = import(&store, "1", None);
    let refused = |bytes: &[u8], layers| {
        let image = NewImage { config_bytes: bytes, layers, parent: None };
        assert!(matches!(store.images().create(&image), Err(ImageError::InvalidConfig(_))));
    };
    refused(b"no json", &[]);
    refused(b"{}", &base.layers);
    let other = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#, "0".repeat(64));
    refused(other.as_bytes(), &base.layers);
    // What is not ours is kept: the bytes, not what we read of them.
    let odd = format!(
        "{{ \"extra\": 1,\n\"rootfs\": {{\"type\":\"layers\",\"diff_ids\":[\"{}\"]}} }}",
        base.config.rootfs.diff_ids[0]
    );
    let image = NewImage { config_bytes: odd.as_bytes(), layers: &base.layers, parent: None };
    assert_eq!(store.images().create(&image).expect("an image").config_bytes, odd.as_bytes());
}

#[test]
fn leases_hold_and_end() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("leases");
    let store = open(&scratch.0);
    let image = import(&store, "1", Some("a"));
    let lease = store.leases().temporary("a create").expect("a lease");
    let held = store.images().resolve_held("a", &lease).expect("held");
    remove(&store, "a").expect("removed");
    assert_eq!(store.collect().expect("collected"), gantry_store::gc::Collected::default());
    let id: SnapshotId = "container".parse().expect("a name");
    store.snapshots().prepare(&id, &held.layers).expect("its layers are there");
    drop(lease);
    let collected = store.collect().expect("collected");
    assert_eq!(
        (collected.layers.len(), collected.blobs),
        (0, vec![image.id]),
        "the snapshot holds the layer"
    );
    store.snapshots().remove(&id).expect("removed");
    assert_eq!(store.collect().expect("collected").layers, held.layers);
    assert!(matches!(
        store.leases().temporary("late").expect("a lease").hold_layer(held.layers[0]),
        Err(Error::NoSuchLayer(_))
    ));
    // A named lease outlives the process.
    let image = import(&store, "2", Some("b"));
    store.leases().named("cache").expect("a lease").hold_layer(image.layers[0]).expect("held");
    remove(&store, "b").expect("removed");
    drop(store);
    let store = open(&scratch.0);
    let lease = store.leases().named("cache").expect("the same lease");
    assert_eq!(lease.layers().expect("its layers"), image.layers);
    assert_eq!(store.collect().expect("collected").layers, []);
    lease.end().expect("ended");
    assert_eq!(store.collect().expect("collected").layers, image.layers);
}

/// What a killed process, or a power loss, can leave in a data root is put right by the next open.
#[test]
fn a_crash_leaves_nothing() {
    if crate::skipped() {
        return;
    }
    let scratch = Scratch::new("crash");
    let root = &scratch.0;
    let store = open(root);
    let image = import(&store, "1", Some("a"));
    let held = import(&store, "2", None);
    let lease = store.leases().named("cache").expect("a lease");
    lease.hold_layer(held.layers[0]).expect("held");
    let kept: SnapshotId = "kept".parse().expect("a name");
    store.snapshots().prepare(&kept, &image.layers).expect("a snapshot");
    assert!(matches!(Store::open(root, &Options::default()), Err(Error::InUse { .. })));
    drop((lease, store));

    let database = Connection::open(root.join("content.db")).expect("the database");
    let sql = |text: &str| database.execute_batch(text).expect(text);
    // Killed while a layer was unpacked, while a tree was on its way out, while a blob was written; and
    // by a power loss, rows whose trees are gone and trees whose rows are gone.
    sql("INSERT INTO layer (id, state, boot) VALUES (500, 0, 'x')");
    sql("INSERT INTO trash (id, source) VALUES (900, 'snapshots/going')");
    sql("INSERT INTO snapshot VALUES ('lost')");
    sql("INSERT INTO lease (purpose) VALUES ('a build that died')");
    for directory in
        ["layers/500/fs/x", "layers/501/fs/x", "snapshots/going/fs/x", "snapshots/stray/fs", "trash/77/x"]
    {
        fs::create_dir_all(root.join(directory)).expect(directory);
    }
    fs::write(root.join("tmp/blob-0"), "half").expect("a file");
    fs::write(root.join("content/blobs/sha256").join("0".repeat(64)), "stray").expect("a file");
    drop(database);
    let check = |layers: usize| {
        let store = open(root);
        store.empty_trash().expect("emptied");
        let inventory = store.inventory().expect("the inventory");
        assert_eq!(inventory.findings, [""; 0]);
        let count = |name: &str| fs::read_dir(root.join(name)).expect(name).count();
        assert_eq!(
            (count("layers"), count("snapshots"), count("trash"), count("tmp")),
            (layers, 1, 0, 0),
            "layers, snapshots, trash, tmp"
        );
        assert_eq!(count("content/blobs/sha256"), 2);
        assert_eq!(store.images().resolve("a").expect("the image").id, image.id);
        assert_eq!(store.snapshots().list().expect("the snapshots"), std::slice::from_ref(&kept));
    };
    check(3);

    // After a power loss: a layer that never was on the disk goes, with what rests on it; images stay.
    let database = Connection::open(root.join("content.db")).expect("the database");
    let sql = |text: &str| database.execute_batch(text).expect(text);
    sql("UPDATE setting SET value = 'another boot' WHERE key = 'boot'");
    sql("INSERT INTO layer (id, state, boot) VALUES (600, 1, 'another boot')");
    sql("INSERT INTO lease_layer SELECT id, 600 FROM lease");
    sql("INSERT INTO snapshot VALUES ('step'); INSERT INTO snapshot_layer VALUES ('step', 0, 600)");
    for directory in ["layers/600/fs", "snapshots/step/fs"] {
        fs::create_dir_all(root.join(directory)).expect(directory);
    }
    drop(database);
    check(3);
}

#[test]
fn a_data_root_keeps_its_driver() {
    let scratch = Scratch::new("driver");
    let vfs = Options { driver: DriverChoice::Vfs };
    drop(Store::open(&scratch.0, &vfs).expect("a store"));
    assert_eq!(open(&scratch.0).driver_name(), "vfs");
    let overlay = Options { driver: DriverChoice::Overlay };
    assert!(matches!(Store::open(&scratch.0, &overlay), Err(Error::Driver { .. })));
}

/// What only a lease held is collected when it ends, without anybody asking.
#[test]
fn the_end_of_a_lease_is_the_end_of_what_it_alone_held() {
    let scratch = Scratch::new("lease-end");
    let store = open(&scratch.0);
    let image = import(&store, "kept", Some("kept:1"));
    let blobs = || fs::read_dir(scratch.0.join("content/blobs/sha256")).expect("a directory").count();
    let before = blobs();
    let lease = store.leases().temporary("test").expect("a lease");
    lease.hold_image(&image.id).expect("held");
    let mut writer = store.content().writer().expect("a writer");
    std::io::Write::write_all(&mut writer, b"nobody else has this").expect("written");
    writer.commit(None, &lease).expect("a blob");
    assert_eq!(blobs(), before + 1);
    drop(lease);
    let begun = std::time::Instant::now();
    while blobs() > before {
        assert!(begun.elapsed().as_secs() < 20, "it is not collected");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(store.images().get(&image.id).is_ok(), "what an image has stays");
}
