//! The golden digests of `docs/layer-format-v1.md`. If one of these changes, every digest of every image
//! changes: that needs a new version of the format.

use std::io::Write;
use std::process::{Command, Stdio};

use gantry_store::archive::Limits;
use gantry_store::layer::{ApplyOptions, Exact};
use gantry_store::{DriverChoice, Options, Store};
use tar::EntryType;

use crate::Scratch;
use crate::tarball::{Tarball, header};

const HELLO: &str = "78c573893496f74177ec114a7e74ffc3b4c4e85ec254a867190220688546de98";
const ALL: &str = "f7182a75924a7ae0c54de230ee024d70cf79033ed8f21a377760c170b9510d37";

/// Everything that the format has a rule for, in an order that is not the format's.
fn everything() -> Vec<u8> {
    let long = format!("z{}", "/long-directory".repeat(9));
    let target = "t/".repeat(60);
    let mut big_ids = header("big-ids", EntryType::Regular, 3);
    big_ids.set_mode(0o4755);
    big_ids.set_cksum();
    let mut root = header("./", EntryType::Directory, 0);
    root.set_mode(0o751);
    root.set_uid(5);
    root.set_cksum();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: [(&str, &[u8]); 6] = [
        ("uid", b"3000000"),
        ("gid", b"4000000000"),
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.user.b", b"line\n=\0"),
        ("SCHILY.xattr.user.a", b""),
        ("SCHILY.xattr.security.capability", &capability),
    ];
    let sparse: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"0,2,600,3"), ("GNU.sparse.size", b"1000")];
    Tarball::default()
        .file("a.b", "dot")
        .file("a/x", "in a")
        .add(&root, b"")
        .directory("a")
        .file("a-b", "minus")
        .file("a/.wh.gone", "")
        .file("a/.wh..wh..opq", "")
        .file(".wh.also-gone", "")
        .pax(&[("path", format!("{long}/file").as_bytes())])
        .file("y", "far below")
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("link", "x")
        .symlink("b", "/absolute")
        .pax(&records)
        .add(&big_ids, b"ids")
        .hard_link("Z-link", "big-ids")
        .device("null", 1, 3)
        .add(&header("fifo", EntryType::Fifo, 0), b"")
        .pax(&sparse)
        .file("sparse", "12345")
        .pax(&[("path", "ü\u{1f600}".as_bytes())])
        .file("u", "unicode")
        .file("empty", "")
        .file("one-block", &"x".repeat(512))
        .pax(&[("mtime", b"9000000000")])
        .file("late", "after 2242")
        .end()
}

fn check(name: &str, tar: &[u8], golden: &str) -> Vec<u8> {
    let mut written = Vec::new();
    for driver in [DriverChoice::Overlay, DriverChoice::Vfs] {
        let scratch = Scratch::new(&format!("format-{name}-{driver:?}"));
        let store = Store::open(&scratch.0, &Options { driver }).expect("a store");
        let lease = store.leases().temporary("test").expect("a lease");
        let options = ApplyOptions { exact: Exact::Normalised, limits: Limits::default() };
        let layer = store.layers().apply(tar, &options, &lease).expect("applied");
        assert_eq!(layer.diff_id.hex(), golden, "{name} by {driver:?}");
        written.clear();
        store.layers().write_tar(layer.id, &mut written).expect("written");
        let again = store.layers().apply(&written[..], &options, &lease).expect("applied");
        assert_eq!(again.diff_id, layer.diff_id, "what was written is read as what it was");
    }
    written
}

#[test]
fn golden_digests_hold() {
    if crate::skipped() {
        return;
    }
    check("nothing", &[0; 1024], "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    let hello = Tarball::default().file("hello", "hello\n").end();
    check("hello", &hello, HELLO);
    check("everything", &everything(), ALL);
}

/// The form is a tar that others read, in the order that the specification says.
#[test]
fn gnu_tar_reads_it() {
    if crate::skipped() {
        return;
    }
    let written = check("order", &everything(), ALL);
    if let Some(path) = std::env::var_os("GANTRY_TEST_KEEP_LAYER") {
        std::fs::write(path, &written).expect("the file asked for");
    }
    let mut tar = Command::new("tar")
        .args(["--list", "--quoting-style=literal", "--file=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar");
    tar.stdin.take().expect("its input").write_all(&written).expect("written");
    let output = tar.wait_with_output().expect("tar");
    assert!(output.status.success());
    let names = String::from_utf8(output.stdout).expect("names");
    let long: Vec<String> = (0..=9).map(|depth| format!("z{}/", "/long-directory".repeat(depth))).collect();
    let mut expected =
        vec!["./", ".wh.also-gone", "Z-link", "a/", "a/.wh..wh..opq", "a/.wh.gone", "a/x", "a-b"];
    expected.extend(["a.b", "b", "big-ids", "empty", "fifo", "late", "link", "null", "one-block", "sparse"]);
    expected.extend(long.iter().map(String::as_str));
    let file = format!("{}file", long[9]);
    expected.extend([file.as_str(), "ü\u{1f600}"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
}
