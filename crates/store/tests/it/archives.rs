//! Archives from strangers: the hostile ones are refused with nothing left, the odd ones are read.
//!
//! With `GANTRY_TEST_FULL=1` the bombs come at full size against the default limits; otherwise both are
//! small, in the same proportion.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use gantry_model::ErrorKind;
use gantry_store::archive::Limits;
use gantry_store::layer::{ApplyOptions, Exact};
use gantry_store::{Error, Layer, Lease, Options, Store};
use tar::EntryType;

use crate::Scratch;
use crate::tarball::{Tarball, header};

struct Target {
    scratch: Scratch,
    store: Store,
    lease: Lease,
}

impl Target {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let store = Store::open(&scratch.0.join("root"), &Options::default()).expect("a store");
        let lease = store.leases().temporary("test").expect("a lease");
        Self { scratch, store, lease }
    }

    fn apply(&self, tar: impl Read + Send, limits: Limits) -> Result<Layer, Error> {
        self.store.layers().apply(tar, &ApplyOptions { exact: Exact::Normalised, limits }, &self.lease)
    }

    fn unpack(&self, tar: &[u8]) -> (Layer, std::path::PathBuf) {
        let layer = self.apply(tar, Limits::default()).expect("unpacked");
        let path = self.store.root().join(format!("layers/{}/fs", layer.id));
        (layer, path)
    }

    /// The archive is refused with this text, and nothing of it stays.
    fn refused(&self, tar: impl Read + Send, limits: Limits, text: &str) {
        let error = self.apply(tar, limits).expect_err(text);
        let Error::Archive(archive) = &error else { panic!("{text}: {error}") };
        let chain = match std::error::Error::source(archive) {
            Some(source) => format!("{archive}: {source}"),
            None => archive.to_string(),
        };
        assert!(chain.contains(text), "{chain:?} does not say {text:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{chain}");
        self.store.empty_trash().expect("the trash is emptied");
        let inventory = self.store.inventory().expect("the inventory");
        // The lease is the test's own.
        let left = inventory.owned.iter().filter(
            |owned| !matches!(&owned.holders[..], [holder] if holder == "the store" || holder == "test"),
        );
        let left: Vec<_> = left.map(|owned| &owned.path).collect();
        assert!(
            left.is_empty() && inventory.findings.is_empty(),
            "{text}: {left:?} {:?}",
            inventory.findings
        );
        assert_eq!(fs::read_dir(&self.scratch.0).expect("the scratch directory").count(), 1, "{text}");
    }
}

fn full() -> bool {
    std::env::var_os("GANTRY_TEST_FULL").is_some()
}

#[test]
fn what_could_reach_outside_is_refused() {
    if crate::skipped() {
        return;
    }
    let target = Target::new("outside");
    let good = || Tarball::default().directory("d").file("d/x", "x");
    let name = "names that start with .wh.";
    let cases: [(Tarball, &str); 20] = [
        (good().file("/etc/passwd", "x"), "must not be absolute"),
        (good().file("../x", "x"), "must not contain .."),
        (good().file("d/../../x", "x"), "must not contain .."),
        (good().file("d/..", "x"), "must not contain .."),
        (good().pax(&[("path", b"../x")]).file("y", "x"), "must not contain .."),
        (good().pax(&[("path", b"a\0b")]).file("y", "x"), "zero byte"),
        (good().hard_link("y", "/etc/passwd"), "must not be absolute"),
        (good().hard_link("y", "../../etc/passwd"), "must not contain .."),
        (good().hard_link("y", "nothing"), "cannot unpack \"y\""),
        (good().hard_link("y", "d"), "cannot unpack \"y\""),
        (good().symlink("y", "../../etc"), "leads out of the root"),
        (good().symlink("d/y", "x/../../../etc"), "leads out of the root"),
        (good().symlink("y", ""), "empty"),
        (good().device("y", 0, 0), "stands for a removed file"),
        (good().file("d/.wh..", ""), "names nothing to remove"),
        (good().file("d/.wh...", ""), "names nothing to remove"),
        (good().file(".wh.d/x", "x"), name),
        (good().add(&header("x", EntryType::new(b'Z'), 0), b""), "unknown type 'Z'"),
        (good().symlink("l1", "l2").symlink("l2", "l1").file("l1/x", "x"), "cannot unpack \"l1/x\""),
        (good().file("d/x/y", "x"), "cannot unpack \"d/x/y\""),
    ];
    for (tar, text) in cases {
        target.refused(&tar.end()[..], Limits::default(), text);
    }
}

#[test]
fn links_are_followed_inside_the_root_only() {
    if crate::skipped() {
        return;
    }
    let target = Target::new("links");
    let outside = target.scratch.0.join("outside");
    fs::create_dir(&outside).expect("a directory");
    let absolute = outside.to_str().expect("a text");
    // Through a link to an absolute path; through a directory that was open and then became a link; through
    // a link that replaces another; and a device, a fifo and a link that are overwritten by files.
    let tar = Tarball::default()
        .symlink("a", absolute)
        .directory(absolute.trim_start_matches('/'))
        .file("a/one", "one")
        .directory("b")
        .file("b/old", "old")
        .symlink("b", "/c")
        .directory("c")
        .file("b/two", "two")
        .symlink("f", &format!("{absolute}/three"))
        .file("f", "three")
        .device("null", 1, 3)
        .file("null", "four")
        .add(&header("fifo", EntryType::Fifo, 0), b"")
        .file("fifo", "five")
        .directory("e")
        .file("e/deep", "x")
        .file("e", "now a file")
        .hard_link("g", "null")
        .file("null", "six")
        .end();
    let (_, root) = target.unpack(&tar);
    assert_eq!(fs::read_dir(&outside).expect("the directory").count(), 0, "something was written outside");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    assert_eq!(read(&format!("{}/one", absolute.trim_start_matches('/'))), "one");
    assert_eq!(
        (read("c/two"), read("f"), read("null"), read("fifo")),
        ("two".into(), "three".into(), "six".into(), "five".to_owned(),)
    );
    assert_eq!((read("e"), read("g")), ("now a file".into(), "four".to_owned()), "a link to the old one");
    assert!(!root.join("b/old").exists());
}

#[test]
fn what_is_damaged_is_refused() {
    if crate::skipped() {
        return;
    }
    let target = Target::new("damaged");
    let whole = Tarball::default().file("x", &"x".repeat(1000)).end();
    for (length, text) in
        [(100, "ends within a header"), (700, "ends within a file"), (512, "ends within a file")]
    {
        target.refused(&whole[..length], Limits::default(), text);
    }
    // The last file's padding is missing where the stock CLI replaced the Dockerfile: all its data are there.
    let unpadded = Target::new("unpadded");
    let (_, root) = unpadded.unpack(&whole[..512 + 1000]);
    assert_eq!(fs::read(root.join("x")).expect("it was unpacked").len(), 1000);
    let mut wrong = whole.clone();
    wrong[0] = b'y';
    target.refused(&wrong[..], Limits::default(), "not a tar header");
    target.refused(
        &b"PK\x03\x04 no tar at all, and long enough for one header to be read".repeat(20)[..],
        Limits::default(),
        "not a tar header",
    );
    let mut gzip = flate2::read::GzEncoder::new(&whole[..], flate2::Compression::fast());
    let mut packed = Vec::new();
    gzip.read_to_end(&mut packed).expect("gzip");
    target.refused(&packed[..packed.len() / 2], Limits::default(), "cannot decompress");
    let checksum = packed.len() - 6;
    packed[checksum] ^= 0xff;
    target.refused(&packed[..], Limits::default(), "cannot decompress");
    for records in [&b"garbage"[..], b"99 a=b\n", b"5 ab\n"] {
        let tar = Tarball::default().add(&header("p", EntryType::XHeader, records.len() as u64), records);
        target.refused(&tar.file("x", "x").end()[..], Limits::default(), "extended header is malformed");
    }
    let sparse = |map: &'static [u8]| {
        let records: [(&str, &[u8]); 3] =
            [("GNU.sparse.map", map), ("GNU.sparse.size", b"100"), ("GNU.sparse.numblocks", b"1")];
        Tarball::default().pax(&records).file("x", "12345").end()
    };
    for map in [&b"0,6"[..], b"5", b"98,5", b"50,2,40,3", b"18446744073709551615,5", b"a,b"] {
        target.refused(&sparse(map)[..], Limits::default(), "its sparse");
    }
    // Without an end mark, and with nothing at all, it is read like tar reads it.
    let (layer, _) = target.unpack(&whole[..whole.len() - 1024]);
    assert_eq!(layer.entries, 1);
    assert_eq!(target.unpack(b"").0.entries, 0);
}

/// Entries one after the other, made when they are read.
struct Endless<F> {
    entry: F,
    left: u64,
    block: Vec<u8>,
    at: usize,
}

impl<F: FnMut(u64) -> Vec<u8>> Endless<F> {
    fn new(count: u64, entry: F) -> Self {
        Self { entry, left: count, block: Vec::new(), at: 0 }
    }
}

impl<F: FnMut(u64) -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.left -= 1;
            self.block = (self.entry)(self.left);
            self.at = 0;
        }
        let length = buffer.len().min(self.block.len() - self.at);
        buffer[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn entries(target: &Target) {
    let (count, limits) = if full() {
        (10_000_000, Limits::default())
    } else {
        (50_000, Limits { entries: 5_000, ..Limits::default() })
    };
    let archive = Endless::new(count, |n| {
        header(&format!("{:02x}/{n:08x}", n % 199), EntryType::Regular, 0).as_bytes().to_vec()
    });
    target.refused(archive, limits, "entries exceed the limit");
    // Headers about entries count too, although none of them makes a file.
    let pax = Tarball::default().pax(&[("comment", b"again")]).0;
    let limits = Limits { entries: 20_000, ..Limits::default() };
    target.refused(Endless::new(100_000, |_| pax.clone()), limits, "entries exceed the limit");
}

fn zeros(size: u64) -> impl Read {
    let head = header("zeros", EntryType::Regular, 0);
    let mut head = head;
    head.set_size(size);
    head.set_cksum();
    io::Cursor::new(head.as_bytes().to_vec()).chain(io::repeat(0).take(size + 1024))
}

fn bombs(target: &Target) {
    let (size, limits) = if full() {
        (20 << 30, Limits::default())
    } else {
        (200 << 20, Limits { ratio_allowance_bytes: 10 << 20, ..Limits::default() })
    };
    let text = "bytes unpacked for each byte of the archive";
    target.refused(flate2::read::GzEncoder::new(zeros(size), flate2::Compression::best()), limits, text);
    let zstd = zstd::stream::read::Encoder::new(io::BufReader::new(zeros(size)), 3).expect("zstd");
    target.refused(zstd, limits, text);
    // After the end mark.
    let tail = io::repeat(0).take(size);
    target.refused(flate2::read::GzEncoder::new(tail, flate2::Compression::best()), limits, text);
    // Holes cost the archive nothing.
    let hole = |size: &'static str| {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", size.as_bytes())];
        Tarball::default().pax(&records).file("x", "12345").end()
    };
    target.refused(&hole("100000000000")[..], limits, text);
    target.refused(&hole("9000000000000000000")[..], limits, "bytes unpacked exceed the limit");
    let mut huge = zstd::stream::read::Encoder::new(&b"x"[..], 3).expect("zstd");
    huge.long_distance_matching(true).and_then(|()| huge.window_log(27)).expect("a large window");
    target.refused(huge, limits, "cannot decompress");
}

fn headers(target: &Target) {
    let limits = Limits::default();
    let claim = |kind: u8| {
        let mut head = header("x", EntryType::new(kind), 0);
        head.set_size(8 << 30);
        head.set_cksum();
        io::Cursor::new(head.as_bytes().to_vec()).chain(io::repeat(b'1').take(8 << 30))
    };
    for kind in *b"xgLK" {
        target.refused(claim(kind), limits, "bytes of an extended header exceed the limit");
    }
    let global = |n: u64| {
        let records: [(&str, &[u8]); 1] = [(&format!("key{n}"), &[b'v'; 100_000])];
        let mut tar = Tarball::default().pax(&records);
        tar.0[156] = b'g';
        let mut head = tar::Header::new_old();
        head.as_mut_bytes().copy_from_slice(&tar.0[..512]);
        head.set_cksum();
        tar.0[..512].copy_from_slice(head.as_bytes());
        tar.0
    };
    target.refused(Endless::new(100, global), limits, "bytes of global headers exceed the limit");
    let deep = "d/".repeat(2100);
    let long = Tarball::default().pax(&[("path", deep.as_bytes())]).file("x", "x").end();
    target.refused(&long[..], limits, "bytes of a path exceed the limit");
    let name = "n".repeat(256);
    let long = Tarball::default().pax(&[("path", name.as_bytes())]).file("x", "x").end();
    target.refused(&long[..], limits, "more than 255 bytes");
    let devices = |n: u64| Tarball::default().device(&format!("dev{n}"), 1, 3).0;
    target.refused(Endless::new(1_000_000, devices), limits, "device nodes exceed the limit");
    // As deep as a path can be.
    let deep = format!("{}f", "d/".repeat(2047));
    let (layer, _) =
        target.unpack(&Tarball::default().pax(&[("path", deep.as_bytes())]).file("x", "x").end());
    assert_eq!(layer.entries, 2048);
}

/// Each in a process of its own, whose memory is measured.
#[test]
fn bombs_are_refused_in_little_memory() {
    if crate::skipped() {
        return;
    }
    const CASE: &str = "GANTRY_STORE_TEST_BOMB";
    type Bomb = fn(&Target);
    let cases: [(&str, Bomb); 3] = [("entries", entries), ("bombs", bombs), ("headers", headers)];
    if let Ok(case) = std::env::var(CASE) {
        let (name, bomb) = cases.into_iter().find(|(name, _)| *name == case).expect("a case");
        bomb(&Target::new(name));
        let status = fs::read_to_string("/proc/self/status").expect("the status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < 64 << 10, "{name} took {peak} kB");
        return;
    }
    for (name, _) in cases {
        let program = std::env::current_exe().expect("this program");
        let test = "archives::bombs_are_refused_in_little_memory";
        let output = Command::new(program).args(["--exact", test]).env(CASE, name).output().expect("a child");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn only_attributes_of_the_image_are_set() {
    if crate::skipped() {
        return;
    }
    let target = Target::new("xattrs");
    let records: [(&str, &[u8]); 6] = [
        ("SCHILY.xattr.user.note", b"=\n\0"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.security.selinux", b"label"),
        ("SCHILY.xattr.security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("mtime", b"-1.5"),
    ];
    let tar = Tarball::default().pax(&records[..4]).directory("d").pax(&records).file("d/x", "x").end();
    let (_, root) = target.unpack(&tar);
    let list = |path: &Path| {
        let mut buffer = vec![0; 4096];
        let length = rustix::fs::llistxattr(path, &mut buffer[..]).expect("attributes");
        let mut names: Vec<_> =
            buffer[..length].split(|&b| b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort();
        names
    };
    assert_eq!(list(&root.join("d")), [b"user.note".to_vec()]);
    assert_eq!(list(&root.join("d/x")), [b"security.capability".to_vec(), b"user.note".to_vec()]);
    let stat = fs::metadata(root.join("d/x")).expect("the file");
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 500_000_000));
}

/// What GNU tar makes in each of its forms comes out as it went in.
#[test]
fn gnu_tars_archives_are_read() {
    if crate::skipped() {
        return;
    }
    let target = Target::new("gnu");
    let from = target.scratch.0.join("from");
    let name = "n".repeat(200);
    let script = format!(
        "mkdir -p from/d/{name} && cd from && echo hello >d/{name}/{name} && ln -s {name}/{name} d/link \
         && ln d/{name}/{name} d/hard && mkfifo d/fifo && mknod d/zero c 1 5 \
         && truncate -s 3M d/sparse && printf data | dd of=d/sparse bs=1 seek=1000000 conv=notrunc status=none \
         && printf end | dd of=d/sparse bs=1 seek=2999997 conv=notrunc status=none \
         && i=0 && while [ $i -lt 40 ]; do printf x | dd of=d/many bs=1 seek=$((i*65536)) conv=notrunc status=none; i=$((i+1)); done \
         && setfattr -n user.a -v b d/sparse 2>/dev/null; chown 3000000:7 d/many; chmod 4751 d/many; touch -d @12345.678 d/fifo d/{name}"
    );
    let status =
        Command::new("sh").args(["-c", &script]).current_dir(&target.scratch.0).status().expect("sh");
    assert!(status.success());
    let forms: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0", "--xattrs"],
        &["--format=posix", "--sort=name", "--numeric-owner"],
    ];
    let mut diff_ids = Vec::new();
    for form in forms {
        let tar =
            Command::new("tar").arg("-C").arg(&from).args(form).args(["-c", "d"]).output().expect("tar");
        assert!(tar.status.success(), "{form:?}: {}", String::from_utf8_lossy(&tar.stderr));
        let (layer, root) = target.unpack(&tar.stdout);
        for file in ["d/sparse", "d/many", &format!("d/{name}/{name}"), "d/hard", "d/link"] {
            let read = |base: &Path| fs::read(base.join(file)).expect(file);
            assert!(read(&from) == read(&root), "{form:?} {file}");
        }
        let stat = |path: &str| fs::symlink_metadata(root.join(path)).expect(path);
        assert_eq!(
            (stat("d/many").uid(), stat("d/many").gid(), stat("d/many").mode() & 0o7777),
            (3_000_000, 7, 0o4751)
        );
        assert_eq!((stat("d/fifo").mtime(), stat(&format!("d/{name}")).mtime()), (12345, 12345), "{form:?}");
        assert!(stat("d/fifo").file_type().is_fifo() && stat("d/zero").file_type().is_char_device());
        assert_eq!(stat("d/zero").rdev(), rustix::fs::makedev(1, 5));
        assert_eq!(stat("d/hard").nlink(), 2);
        if form.contains(&"--sparse") {
            assert!(stat("d/sparse").blocks() * 512 < 1 << 20, "{form:?} filled the holes");
        }
        if !form.contains(&"--xattrs") {
            diff_ids.push(layer.diff_id);
        }
    }
    assert!(diff_ids.iter().all(|id| *id == diff_ids[0]), "the same files in other forms: {diff_ids:?}");
}
