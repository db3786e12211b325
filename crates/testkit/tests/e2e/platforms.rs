//! Images of several platforms behind one index, through the stock CLI: loaded, run, saved as they came, loaded
//! elsewhere, and gone without a trace.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{Bench, Client, Daemon, skip};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// What a program makes of bytes.
fn through(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(program);
    let mut input = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("it reads"));
        child.wait_with_output().expect("it ends")
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

fn digest(bytes: &[u8]) -> String {
    let line = String::from_utf8(through("sha256sum", &[], bytes)).expect("text");
    format!("sha256:{}", line.split(' ').next().expect("a word"))
}

fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("its data");
        found.insert(entry.path().expect("a path").display().to_string(), data);
    }
    found
}

fn blobs(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let blobs = files(bytes).into_iter().filter(|(path, _)| path.starts_with("blobs/sha256/"));
    blobs.filter(|(path, _)| path.len() > "blobs/sha256/".len()).collect()
}

/// An OCI layout in the making.
#[derive(Default)]
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn add(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.0.insert(format!("blobs/sha256/{}", &digest["sha256:".len()..]), bytes);
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size})
    }

    /// An image that prints its architecture: a layer of ours over one that all have, packed.
    fn image(&mut self, architecture: &str, base: &[u8]) -> Value {
        let own = tarball(&[("platform", format!("{architecture}\n").as_bytes())]);
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["cat", "/platform"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(base), digest(&own)]}});
        let layers = [
            self.add("layer.v1.tar", base.to_vec()),
            self.add("layer.v1.tar+gzip", through("gzip", &["-n"], &own)),
        ];
        let config = self.add("config.v1+json", config.to_string().into_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut described = self.add("manifest.v1+json", serde_json::to_vec_pretty(&manifest).expect("JSON"));
        described["platform"] = json!({"os": "linux", "architecture": architecture});
        described
    }

    fn end(&self, entry: &Value) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut all: Vec<(&str, &[u8])> =
            self.0.iter().map(|(path, bytes)| (&path[..], &bytes[..])).collect();
        all.extend([("index.json", index.as_bytes()), ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)]);
        tarball(&all)
    }
}

fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, path, *bytes).expect("memory");
    }
    tar.into_inner().expect("memory")
}

#[test]
fn an_index_lives_from_load_to_rmi() {
    if gantry_testkit::against_dockerd() {
        return skip("Docker's classic store keeps one platform of an index");
    }
    let Some(bench) = Daemon::start(&[]).and_then(|daemon| Bench::new(daemon, Client::Docker)) else {
        return;
    };
    let Some(elsewhere) = Daemon::start(&[]).and_then(|daemon| Bench::new(daemon, Client::Docker)) else {
        return;
    };
    let directory = bench.directory();
    let file = |name: &str| directory.path().join(name);
    bench.cli.ok(&["save", "-o", text(&file("base.tar")), BUSYBOX]);
    let base = files(&std::fs::read(file("base.tar")).expect("saved"));
    let list: Value = serde_json::from_slice(&base["manifest.json"]).expect("JSON");
    let base = &base[list[0]["Layers"][0].as_str().expect("a path")];
    let host = bench.cli.ok(&["version", "-f", "{{.Server.Arch}}"]);
    let foreign = if host == "arm64" { "amd64" } else { "arm64" };
    let mut layout = Layout::default();
    // The other platform first, and one that is listed alone. Its programs are this machine's, so that it runs.
    let (there, here) = (layout.image(foreign, base), layout.image(&host, base));
    let absent = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"absent"),
        "size": 6, "platform": {"os": "linux", "architecture": "s390x"}});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [there, absent, here]});
    let mut entry = layout.add("index.v1+json", serde_json::to_vec_pretty(&index).expect("JSON"));
    let target = entry["digest"].as_str().expect("a digest").to_owned();
    let tag = "example.org/several:1";
    entry["annotations"] = json!({"io.containerd.image.name": tag});
    let archive = layout.end(&entry);
    std::fs::write(file("layout.tar"), &archive).expect("written");

    assert_eq!(
        bench.cli.ok(&["load", "-q", "-i", text(&file("layout.tar"))]),
        format!("Loaded image: {tag}")
    );
    let listed = bench.cli.ok(&["images", "-a", "-q", "--no-trunc", "example.org/several"]);
    let id = bench.inspect(tag, "/Id").as_str().expect("an id").to_owned();
    assert_eq!(listed, id, "one line");
    assert_eq!(bench.cli.ok(&["images", "-q", "-f", "dangling=true"]), "");
    assert_eq!(bench.inspect(&target, "/Id"), json!(id));
    assert_eq!(bench.inspect(there["digest"].as_str().expect("text"), "/Architecture"), json!(foreign));
    assert_eq!(
        bench.cli.ok(&[
            "image",
            "inspect",
            "--platform",
            &format!("linux/{foreign}"),
            "-f",
            "{{.Architecture}}",
            tag
        ]),
        foreign
    );
    let run = |platform: &[&str]| {
        let arguments = [&["run", "--rm", "--net", "none"], platform, &[tag]].concat();
        bench.cli.run(&arguments)
    };
    assert_eq!(run(&[]).stdout.trim(), host);
    assert_eq!(run(&["--platform", &format!("linux/{foreign}")]).stdout.trim(), foreign);
    let refused = run(&["--platform", "linux/s390x", "--pull", "never"]);
    assert!(
        refused.code == 125 && refused.stderr.contains("does not match the specified platform"),
        "{refused:?}"
    );

    // A container of the platform that is not listed is shown with the name, and keeps the image.
    let user = bench.name("user");
    bench.cli.ok(&["create", "--name", &user, "--platform", &format!("linux/{foreign}"), tag]);
    assert_eq!(bench.cli.ok(&["ps", "-a", "--format", "{{.Image}}", "-f", &format!("ancestor={tag}")]), tag);
    assert!(bench.cli.fails(1, &["rmi", tag]).contains("is using its referenced image"));
    assert!(bench.cli.ok(&["image", "prune", "-a", "-f"]).contains("Total reclaimed space"));
    assert_eq!(bench.inspect(tag, "/Id"), json!(id), "it was not pruned");
    bench.cli.ok(&["rm", &user]);

    // A build takes the platform of it that is asked for.
    let from = |flag: &str, platform: &[&str]| {
        let context = directory.path().join("context");
        std::fs::create_dir_all(&context).expect("made");
        let dockerfile =
            format!("FROM {flag} {tag}\nRUN cat /platform > /built\nCMD [\"cat\", \"/built\"]\n");
        std::fs::write(context.join("Dockerfile"), dockerfile).expect("written");
        bench.cli.ok(&[&["build", "-q", "-t", "built:1"], platform, &[text(&context)]].concat());
        let built = bench.inspect("built:1", "/Architecture").as_str().expect("text").to_owned();
        let printed = bench.cli.ok(&["run", "--rm", "--net", "none", "built:1"]);
        bench.cli.ok(&["rmi", "built:1"]);
        (built, printed)
    };
    let expected = |architecture: &str| (architecture.to_owned(), architecture.to_owned());
    assert_eq!(from("", &[]), expected(&host));
    assert_eq!(from(&format!("--platform=linux/{foreign}"), &[]), expected(foreign));
    assert_eq!(from("", &["--platform", &format!("linux/{foreign}")]), expected(foreign));
    bench.cli.ok(&["builder", "prune", "-a", "-f"]);

    // Out as it came, and in again elsewhere with everything.
    bench.cli.ok(&["save", "-o", text(&file("saved.tar")), tag]);
    let saved = std::fs::read(file("saved.tar")).expect("saved");
    assert_eq!(blobs(&saved), blobs(&archive));
    let written: Value = serde_json::from_slice(&files(&saved)["index.json"]).expect("JSON");
    assert_eq!(written["manifests"][0]["digest"], json!(target));
    let inventory = |bench: &Bench| {
        // What is left of the base image is none of ours.
        bench.cli.run(&["rmi", BUSYBOX]);
        bench.cli.ok(&["image", "prune", "-a", "-f"]);
        let data = bench.daemon.root().expect("our own").join("data");
        ["content/blobs/sha256", "layers", "snapshots"].map(|kind| {
            let there = std::fs::read_dir(data.join(kind)).expect("there").count();
            format!("{kind} {there}")
        })
    };
    let empty = inventory(&elsewhere);
    assert_eq!(
        elsewhere.cli.ok(&["load", "-q", "-i", text(&file("saved.tar"))]),
        format!("Loaded image: {tag}")
    );
    elsewhere.cli.ok(&["save", "-o", text(&file("again.tar")), tag]);
    assert_eq!(std::fs::read(file("again.tar")).expect("saved"), saved, "byte by byte");
    // A copy of the name has the same target, one platform goes by itself.
    elsewhere.cli.ok(&["tag", tag, "copy:1"]);
    assert_eq!(elsewhere.inspect(&format!("copy@{target}"), "/Id"), json!(id));
    elsewhere.cli.ok(&[
        "save",
        "--platform",
        &format!("linux/{foreign}"),
        "-o",
        text(&file("one.tar")),
        "copy:1",
    ]);
    assert_eq!(blobs(&std::fs::read(file("one.tar")).expect("saved")).len(), 4);
    let refused = elsewhere
        .cli
        .fails(1, &["save", "--platform", "linux/s390x", "-o", text(&file("none.tar")), "copy:1"]);
    assert!(refused.contains("no suitable export target found for platform linux/s390x"), "{refused}");
    elsewhere.cli.ok(&["rmi", tag, "copy:1"]);
    for one in [&bench, &elsewhere] {
        one.cli.run(&["rmi", tag]);
        assert_eq!(inventory(one), empty, "nothing is left in the data root");
        one.clear();
        gantry_testkit::leak::check(&one.daemon);
    }
}
