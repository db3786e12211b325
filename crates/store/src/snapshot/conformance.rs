//! What every snapshot driver must do. Each driver's tests run [`run`]; a new driver passes when it does.
//!
//! The cases work through a [`Store`] and see file systems only by the descriptors that it gives, so they
//! hold for any driver. They need root. A failed assertion panics with the case's name.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gantry_model::{LayerId, SnapshotId, Timestamp};
use rustix::fs::XattrFlags;

use super::{After, Change, ChangeKind, CommitOptions};
use crate::archive::{EMPTY_LAYER_DIFF_ID, Limits};
use crate::content::digest_of;
use crate::layer::{ApplyOptions, Exact};
use crate::{DriverChoice, Error, Layer, Lease, Options, Store};

/// Runs all cases with one driver, each on a data root of its own below `scratch`.
///
/// # Panics
/// Where the driver does not conform.
pub fn run(driver: DriverChoice, scratch: &Path) {
    type Check = fn(&Case);
    let cases: [(&str, Check); 14] = [
        ("an empty snapshot is empty", empty),
        ("changes become a layer", changes),
        ("what a layer removes is gone", whiteouts),
        ("a replaced directory hides the old one", opaque),
        ("attributes survive", attributes),
        ("the root has its layers' attributes", root_attributes),
        ("times are clamped and mount points vanish", stubs),
        ("a container's mount points are no changes", mount_points),
        ("a kept snapshot goes on", kept),
        ("a kept snapshot and a consumed one are the same layer", kept_or_consumed),
        ("what cannot be a layer is refused", refused),
        ("equal trees are equal layers", deterministic),
        ("a layer comes back byte for byte", round_trip),
        ("removed is removed", removed),
    ];
    for (number, (name, case)) in cases.into_iter().enumerate() {
        let root = scratch.join(format!("case-{number}"));
        let store = Store::open(&root, &Options { driver }).expect(name);
        let lease = store.leases().temporary(name).expect(name);
        tracing::info!(case = name, "conformance");
        case(&Case { store, lease });
        fs::remove_dir_all(&root).expect(name);
    }
}

struct Case {
    store: Store,
    lease: Lease,
}

impl Case {
    fn prepare(&self, name: &str, layers: &[LayerId]) -> SnapshotId {
        let id: SnapshotId = name.parse().expect("a snapshot's name");
        self.store.snapshots().prepare(&id, layers).expect("a snapshot");
        id
    }

    /// The merged tree, as a path that leads there while the descriptor is open.
    fn open(&self, id: &SnapshotId) -> Tree {
        Tree(self.store.snapshots().open(id).expect("the snapshot's tree"))
    }

    fn view(&self, layers: &[LayerId]) -> Tree {
        Tree(self.store.layers().open(layers).expect("the layers' tree"))
    }

    fn commit(&self, id: &SnapshotId, options: &CommitOptions) -> Layer {
        self.store.snapshots().commit(id, options, &self.lease).expect("a layer")
    }

    /// Makes a layer on top of others by doing something in a snapshot.
    fn layer(&self, below: &[LayerId], work: impl FnOnce(&Tree)) -> Layer {
        let id = self.prepare("step", below);
        work(&self.open(&id));
        self.commit(&id, &CommitOptions::default())
    }

    fn tar(&self, layer: LayerId) -> Vec<u8> {
        let mut tar = Vec::new();
        self.store.layers().write_tar(layer, &mut tar).expect("the layer's tar");
        tar
    }
}

struct Tree(OwnedFd);

impl Tree {
    fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.0.as_fd().as_raw_fd()))
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).expect(path);
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).expect(path);
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).expect(path);
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect(path).file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn set_time(&self, path: &str, secs: i64) {
        let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: 0 };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&self.0, path, &crate::archive::times(time), flags).expect(path);
    }
}

fn empty(case: &Case) {
    let id = case.prepare("a", &[]);
    assert_eq!(case.open(&id).names(""), [""; 0]);
    assert_eq!(case.store.snapshots().changes(&id).expect("changes"), []);
    assert_eq!(case.store.snapshots().usage(&id).expect("usage"), super::Usage::default());
    assert!(matches!(case.store.snapshots().prepare(&id, &[]), Err(Error::SnapshotExists(_))));
    let layer = case.commit(&id, &CommitOptions::default());
    assert_eq!((layer.diff_id, layer.size_bytes, layer.entries), (EMPTY_LAYER_DIFF_ID, 0, 0));
    let other = case.prepare("a", &[layer.id, layer.id]);
    let second = case.commit(&other, &CommitOptions::default());
    assert_eq!(second.diff_id, layer.diff_id);
    assert_ne!(second.id, layer.id, "a layer's id is never reused");
    assert!(matches!(case.store.snapshots().mount(&other), Err(Error::NoSuchSnapshot(_))));
    assert!(matches!(
        case.store.snapshots().prepare(&other, &[LayerId(1 << 40)]),
        Err(Error::NoSuchLayer(_))
    ));
    for nothing in [case.view(&[layer.id, second.id]), case.view(&[])] {
        assert_eq!(nothing.names(""), [""; 0]);
        assert!(fs::write(nothing.at("x"), "").is_err(), "a view of layers is read-only");
    }
}

fn changes(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.mkdir("etc/deep");
        tree.write("etc/a", "old");
        tree.write("etc/deep/b", "b");
        tree.write("gone", "x");
    });
    assert_eq!((base.entries, base.size_bytes), (5, 5));
    let id = case.prepare("c", &[base.id]);
    let tree = case.open(&id);
    tree.write("etc/a", "new!");
    tree.write("etc/c", "c");
    tree.mkdir("var");
    fs::remove_file(tree.at("gone")).expect("removed");
    let change = |path: &str, kind| Change { path: path.into(), kind };
    assert_eq!(
        case.store.snapshots().changes(&id).expect("changes"),
        [
            change("/etc", ChangeKind::Modified),
            change("/etc/a", ChangeKind::Modified),
            change("/etc/c", ChangeKind::Added),
            change("/gone", ChangeKind::Deleted),
            change("/var", ChangeKind::Added),
        ]
    );
    assert_eq!(case.store.snapshots().usage(&id).expect("usage").size_bytes, 5);
    drop(tree);
    let top = case.commit(&id, &CommitOptions::default());
    let view = case.view(&[base.id, top.id]);
    assert_eq!(view.names(""), ["etc", "var"]);
    assert_eq!((view.read("etc/a"), view.read("etc/deep/b")), (Some("new!".into()), Some("b".into())));
    assert!(fs::write(view.at("etc/a"), "").is_err(), "a view of layers is read-only");
    let again = case.prepare("again", &[base.id, top.id]);
    assert_eq!(case.open(&again).names("etc"), ["a", "c", "deep"]);
    let below = case.view(&[base.id]);
    assert_eq!((below.read("etc/a"), below.read("gone")), (Some("old".into()), Some("x".into())));
}

fn whiteouts(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.mkdir("d/e");
        tree.write("d/e/f", "f");
        tree.write("d/g", "g");
    });
    let top = case.layer(&[base.id], |tree| {
        fs::remove_dir_all(tree.at("d/e")).expect("removed");
        fs::remove_file(tree.at("d/g")).expect("removed");
        tree.write("d/h", "h");
    });
    let tar = case.tar(top.id);
    for name in ["d/.wh.e", "d/.wh.g"] {
        assert!(tar.chunks(512).any(|block| block.starts_with(name.as_bytes())), "{name}");
    }
    assert_eq!(case.view(&[base.id, top.id]).names("d"), ["h"]);
    // The same from a tar, as another machine gets it.
    let options =
        ApplyOptions { exact: Exact::Received { expected: Some(top.diff_id) }, limits: Limits::default() };
    let came = case.store.layers().apply(&tar[..], &options, &case.lease).expect("applied");
    assert_eq!(came.diff_id, top.diff_id);
    assert_eq!(case.view(&[base.id, came.id]).names("d"), ["h"]);
    let back = case.layer(&[base.id, came.id], |tree| tree.write("d/g", "again"));
    assert_eq!(case.view(&[base.id, came.id, back.id]).names("d"), ["g", "h"]);
}

fn opaque(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.mkdir("d");
        tree.write("d/old", "old");
        tree.write("file", "x");
    });
    let top = case.layer(&[base.id], |tree| {
        fs::remove_dir_all(tree.at("d")).expect("removed");
        tree.mkdir("d");
        tree.write("d/new", "new");
        fs::remove_file(tree.at("file")).expect("removed");
        tree.mkdir("file/now");
    });
    for id in [top.id, {
        let options = ApplyOptions { exact: Exact::Normalised, limits: Limits::default() };
        case.store.layers().apply(&case.tar(top.id)[..], &options, &case.lease).expect("applied").id
    }] {
        let view = case.view(&[base.id, id]);
        assert_eq!((view.names("d"), view.names("file")), (vec!["new".into()], vec!["now".to_owned()]));
    }
}

fn attributes(case: &Case) {
    use gantry_sys::xattr::{self, Target};
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let base = case.layer(&[], |tree| {
        tree.write("suid", "x");
        std::os::unix::fs::chown(tree.at("suid"), Some(1000), Some(3_000_000)).expect("chown");
        fs::set_permissions(tree.at("suid"), fs::Permissions::from_mode(0o6755)).expect("chmod");
        xattr::set(Target::At(tree.0.as_fd(), c"suid"), c"security.capability", &capability).expect("xattr");
        xattr::set(Target::At(tree.0.as_fd(), c"suid"), c"user.note", b"\0\n=").expect("xattr");
        fs::hard_link(tree.at("suid"), tree.at("twin")).expect("a hard link");
    });
    let view = case.view(&[base.id]);
    let stat = fs::metadata(view.at("suid")).expect("the file");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (1000, 3_000_000, 0o6755));
    let id = case.prepare("copy", &[base.id]);
    let tree = case.open(&id);
    for name in [c"suid", c"twin"] {
        let target = Target::At(tree.0.as_fd(), name);
        assert_eq!(xattr::get(target, c"security.capability").expect("xattr"), Some(capability.to_vec()));
        assert_eq!(xattr::get(target, c"user.note").expect("xattr"), Some(b"\0\n=".to_vec()));
    }
    let (one, other) =
        (fs::metadata(tree.at("suid")).expect("one"), fs::metadata(tree.at("twin")).expect("other"));
    assert_eq!(one.ino(), other.ino(), "a hard link");
}

fn root_attributes(case: &Case) {
    let base = case.layer(&[], |tree| {
        fs::set_permissions(tree.at(""), fs::Permissions::from_mode(0o711)).expect("chmod");
        std::os::unix::fs::chown(tree.at(""), Some(7), Some(8)).expect("chown");
    });
    let top = case.layer(&[base.id], |tree| tree.write("x", "x"));
    let id = case.prepare("r", &[base.id, top.id]);
    let stat = fs::metadata(case.open(&id).at("")).expect("the root");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (7, 8, 0o711));
    assert_eq!(case.commit(&id, &CommitOptions::default()).entries, 0, "nothing was changed");
}

fn stubs(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.mkdir("etc");
        tree.mkdir("proc");
        tree.write("etc/passwd", "root");
        tree.set_time("etc/passwd", 1000);
        tree.set_time("etc", 1000);
        tree.set_time("proc", 1000);
    });
    let id = case.prepare("s", &[base.id]);
    let tree = case.open(&id);
    tree.write("etc/hosts", "");
    tree.write("etc/resolv.conf", "");
    tree.mkdir("run/secrets");
    tree.mkdir("sys");
    tree.write("sys/kept", "x");
    drop(tree);
    let stubs = ["/etc/hosts", "/etc/resolv.conf", "/run/secrets", "/proc", "/sys", "/nothing/here"];
    let options = CommitOptions {
        epoch: Some(Timestamp::from_secs(2000)),
        stubs: stubs.iter().map(PathBuf::from).collect(),
        after: After::Consumed,
    };
    let top = case.commit(&id, &options);
    assert_eq!(top.entries, 2, "sys and sys/kept");
    assert_eq!(top.newest, Timestamp::from_secs(2000));
    let view = case.view(&[base.id, top.id]);
    assert_eq!(
        (view.names(""), view.names("etc")),
        (vec!["etc".into(), "proc".into(), "sys".to_owned()], vec!["passwd".to_owned()],)
    );
    let times = ["etc", "etc/passwd", "sys", "sys/kept"].map(|p| fs::metadata(view.at(p)).expect(p).mtime());
    assert_eq!(times, [1000, 1000, 2000, 2000]);
}

fn mount_points(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.mkdir("etc");
        tree.write("etc/passwd", "root");
    });
    let id = case.prepare("m", &[base.id]);
    let snapshots = case.store.snapshots();
    let tree = Tree(super::driver::open(&snapshots.mount_to_run(&id).expect("a mount")).expect("open"));
    if case.store.driver_name() == super::driver::OVERLAY {
        assert_eq!(tree.names(""), [".dockerenv", "dev", "etc", "proc", "sys"]);
        assert_eq!(tree.names("dev"), ["console", "pts", "shm"]);
        assert_eq!(tree.names("etc"), ["hostname", "hosts", "mtab", "passwd", "resolv.conf"]);
        assert_eq!(fs::read_link(tree.at("etc/mtab")).expect("a link").as_os_str(), "/proc/mounts");
    } else {
        // As whoever mounts does where nothing is.
        tree.mkdir("dev");
        tree.mkdir("dev/shm");
    }
    assert_eq!(snapshots.changes(&id).expect("changes"), []);
    tree.write("etc/hosts", "mine");
    drop(tree);
    let change = |path: &str, kind| Change { path: path.into(), kind };
    let expected = [change("/etc", ChangeKind::Modified), change("/etc/hosts", ChangeKind::Added)];
    assert_eq!(snapshots.changes(&id).expect("changes"), expected);
    if case.store.driver_name() == super::driver::OVERLAY {
        assert_eq!(case.open(&id).names(""), ["etc"], "a tree that nobody runs has what its layers have");
    }
    let top = case.commit(&id, &CommitOptions { after: After::Kept, ..CommitOptions::default() });
    let view = case.view(&[base.id, top.id]);
    assert_eq!(
        (view.names(""), view.names("etc")),
        (vec!["etc".into()], vec!["hosts".into(), "passwd".to_owned()])
    );
    assert_eq!(view.read("etc/hosts").as_deref(), Some("mine"));
}

fn kept(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.write("gone", "x");
        tree.mkdir("d");
        tree.write("d/old", "x");
    });
    let id = case.prepare("k", &[base.id]);
    let tree = case.open(&id);
    tree.write("file", "one");
    fs::remove_file(tree.at("gone")).expect("removed");
    fs::remove_dir_all(tree.at("d")).expect("removed");
    tree.mkdir("d");
    drop(tree);
    let options = CommitOptions { after: After::Kept, ..CommitOptions::default() };
    let one = case.commit(&id, &options);
    case.open(&id).write("file", "two");
    let two = case.commit(&id, &options);
    assert_eq!(case.view(&[base.id, one.id]).read("file").as_deref(), Some("one"));
    let view = case.view(&[base.id, two.id]);
    assert_eq!((view.names(""), view.names("d")), (vec!["d".into(), "file".to_owned()], vec![]));
    assert_eq!(view.read("file").as_deref(), Some("two"));
}

fn kept_or_consumed(case: &Case) {
    let base = case.layer(&[], |tree| {
        tree.write("gone", "x");
        tree.write("gone-too", "x");
        tree.mkdir("replaced");
        tree.write("replaced/old", "x");
        tree.mkdir("changed/deep");
        tree.write("changed/deep/file", "x");
    });
    let id = case.prepare("c", &[base.id]);
    let tree = case.open(&id);
    for name in ["gone", "gone-too"] {
        fs::remove_file(tree.at(name)).expect("removed");
    }
    fs::remove_dir_all(tree.at("replaced")).expect("removed");
    tree.mkdir("replaced/new");
    tree.write("changed/deep/file", &"changed ".repeat(100_000));
    fs::hard_link(tree.at("changed/deep/file"), tree.at("changed/name")).expect("a link");
    fs::set_permissions(tree.at("changed/deep/file"), fs::Permissions::from_mode(0o4711)).expect("a mode");
    std::os::unix::fs::chown(tree.at("changed/deep"), Some(12), Some(34)).expect("an owner");
    std::os::unix::fs::symlink("nowhere", tree.at("link")).expect("a link");
    rustix::fs::mknodat(&tree.0, "fifo", rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .expect("a fifo");
    rustix::fs::setxattr(tree.at("link").with_file_name("replaced"), "trusted.a", b"1", XattrFlags::empty())
        .expect("an attribute");
    let old = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(&tree.0, "changed", &times, rustix::fs::AtFlags::empty()).expect("a time");
    drop(tree);
    let kept = case.commit(&id, &CommitOptions { after: After::Kept, ..CommitOptions::default() });
    assert_eq!(digest_of(&case.tar(kept.id)), kept.diff_id);
    let consumed = case.commit(&id, &CommitOptions::default());
    assert_eq!(
        (kept.diff_id, kept.size_bytes, kept.entries),
        (consumed.diff_id, consumed.size_bytes, consumed.entries)
    );
    let view = case.view(&[base.id, kept.id]);
    assert_eq!(view.names(""), ["changed", "fifo", "link", "replaced"]);
    assert_eq!(view.names("replaced"), ["new"]);
}

fn refused(case: &Case) {
    let commit = |id: &SnapshotId, after| {
        let options = CommitOptions { after, ..CommitOptions::default() };
        case.store.snapshots().commit(id, &options, &case.lease)
    };
    let id = case.prepare("reserved", &[]);
    case.open(&id).write(".wh.x", "a file whose name means something else");
    for after in [After::Kept, After::Consumed] {
        assert!(matches!(commit(&id, after), Err(Error::ReservedName { .. })));
    }
    assert_eq!(case.open(&id).names(""), [".wh.x"], "the snapshot is there still");
    // Deeper than any path can say: nothing runs out of stack, and it can be removed.
    let id = case.prepare("deep", &[]);
    let mut directory = case.open(&id).0;
    for _ in 0..3000 {
        rustix::fs::mkdirat(&directory, "d", rustix::fs::Mode::RWXU).expect("a directory");
        directory = gantry_sys::tree::open_directory(directory.as_fd(), c"d").expect("the directory");
    }
    assert!(matches!(case.store.snapshots().changes(&id), Err(Error::Io { .. })));
    assert!(matches!(commit(&id, After::Consumed), Err(Error::Io { .. })));
    drop(directory);
    case.store.snapshots().remove(&id).expect("removed");
    case.store.empty_trash().expect("emptied");
    assert_eq!(fs::read_dir(case.store.root().join("tmp")).expect("tmp").count(), 0);
}

fn deterministic(case: &Case) {
    let epoch = Some(Timestamp::from_secs(1_000_000_000));
    let make = |order: &[&str]| {
        let id = case.prepare("d", &[]);
        let tree = case.open(&id);
        tree.mkdir("dir");
        for name in order {
            tree.write(name, name);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::os::unix::fs::symlink("a", tree.at("dir/link")).expect("a link");
        rustix::fs::mknodat(&tree.0, "fifo", rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a fifo");
        assert!(fs::symlink_metadata(tree.at("fifo")).expect("the fifo").file_type().is_fifo());
        drop(tree);
        case.commit(&id, &CommitOptions { epoch, ..CommitOptions::default() })
    };
    let (one, other) = (make(&["dir/a", "dir/b", "c-", "c"]), make(&["c", "c-", "dir/b", "dir/a"]));
    assert_eq!(one.diff_id, other.diff_id);
    assert_eq!(case.tar(one.id), case.tar(other.id));
}

fn round_trip(case: &Case) {
    let made = case.layer(&[], |tree| {
        tree.mkdir(&"long-name/".repeat(30));
        tree.write(&format!("{}file", "long-name/".repeat(30)), "x");
        std::os::unix::fs::symlink("t".repeat(300), tree.at("link")).expect("a link");
        tree.write("ünï", "ü");
    });
    let tar = case.tar(made.id);
    assert_eq!(digest_of(&tar), made.diff_id);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    let zstd = zstd::encode_all(&tar[..], 1).expect("zstd");
    for bytes in [&tar, &gzip, &zstd] {
        for exact in [Exact::Received { expected: Some(made.diff_id) }, Exact::Normalised] {
            let options = ApplyOptions { exact, limits: Limits::default() };
            let came = case.store.layers().apply(&bytes[..], &options, &case.lease).expect("applied");
            assert_eq!((came.diff_id, came.size_bytes), (made.diff_id, made.size_bytes));
            assert_eq!(case.tar(came.id), tar);
        }
    }
    let wrong = Exact::Received { expected: Some(EMPTY_LAYER_DIFF_ID) };
    let options = ApplyOptions { exact: wrong, limits: Limits::default() };
    let refused = case.store.layers().apply(&tar[..], &options, &case.lease);
    assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
}

fn removed(case: &Case) {
    let base = case.layer(&[], |tree| tree.write("x", "x"));
    let id = case.prepare("gone", &[base.id]);
    case.open(&id).mkdir("a/b/c");
    case.store.snapshots().remove(&id).expect("removed");
    case.store.snapshots().remove(&id).expect("removing what is gone");
    assert!(matches!(case.store.snapshots().usage(&id), Err(Error::NoSuchSnapshot(_))));
    let mut none = String::new();
    assert!(
        case.store
            .content()
            .open(&base.diff_id)
            .and_then(|mut file| { file.read_to_string(&mut none).map_err(Error::Input) })
            .is_err()
    );
    assert_eq!(case.store.collect().expect("collected").layers, [], "the lease holds it");
    case.lease.release_layer(base.id).expect("released");
    assert_eq!(case.store.collect().expect("collected").layers, [base.id]);
    case.store.empty_trash().expect("emptied");
    let inventory = case.store.inventory().expect("the inventory");
    assert_eq!(inventory.findings, [""; 0]);
    let left: Vec<_> = inventory.owned.iter().filter(|owned| owned.holders.is_empty()).collect();
    assert!(left.is_empty(), "{left:?}");
}
