//! Images and containers as archives: `save`, `load`, `export`, and `commit` and `diff`, which look at what a
//! container changed; and archives that travel between this daemon and real ones.

use std::path::Path;
use std::process::{Command, Stdio};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{Bench, Cli, Client, Daemon, both, command, skip, until};
use serde_json::{Value, json};

/// Builds an image that nobody else has, with a name.
fn build(bench: &Bench, tag: &str) -> String {
    let text = format!(
        "FROM {BUSYBOX}\nRUN echo {tag} > /marked && ln /marked /linked\nENV MARK={tag}\nCMD [\"cat\", \"/marked\"]\n"
    );
    let done = bench.cli.with_input(&["build", "-q", "-t", tag, "-"], text.as_bytes());
    assert_eq!(done.code, 0, "{done:?}");
    bench.inspect(tag, "/Id").as_str().expect("an id").to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

both! {
    fn save_and_load(bench) {
        let (one, two) = (bench.name("saved") + ":1", bench.name("saved") + ":2");
        let id = build(bench, &one);
        bench.cli.ok(&["tag", &one, &two]);
        let layers = bench.inspect(&one, "/RootFS/Layers");
        let directory = bench.directory();
        let (file, by_id) = (directory.path().join("x.tar"), directory.path().join("y.tar"));
        bench.cli.ok(&["save", "-o", text(&file), &bench.name("saved")]);
        bench.cli.ok(&["save", "-o", text(&by_id), &id]);
        assert!(bench.cli.fails(1, &["save", "-o", text(&directory.path().join("z")), "nosuch:1"]).contains("reference does not exist"));
        bench.cli.ok(&["rmi", &one, &two]);
        assert_eq!(bench.cli.ok(&["load", "-i", text(&file)]), format!("Loaded image: {one}\nLoaded image: {two}"));
        assert_eq!((bench.inspect(&two, "/Id"), bench.inspect(&two, "/RootFS/Layers")), (json!(id), layers));
        assert_eq!(bench.cli.ok(&["run", "--rm", "--net", "none", &one]), one);
        // By its id it has no name to give; and a name that another image has moves.
        bench.cli.ok(&["rmi", &one, &two]);
        assert_eq!(bench.cli.ok(&["load", "-i", text(&by_id)]), format!("Loaded image ID: {id}"));
        bench.cli.ok(&["tag", BUSYBOX, &one]);
        let before = bench.inspect(&one, "/Id");
        let said = bench.cli.ok(&["load", "-i", text(&file)]);
        let moved = format!("The image {one} already exists, renaming the old one with ID {} to empty string", before.as_str().expect("an id"));
        assert_eq!(said, format!("{moved}\nLoaded image: {one}\nLoaded image: {two}"));
        bench.cli.ok(&["rmi", &one, &two]);
    }

    fn bad_archives_are_refused(bench) {
        let tag = bench.name("bad") + ":1";
        build(bench, &tag);
        let directory = bench.directory();
        let file = directory.path().join("x.tar");
        bench.cli.ok(&["save", "-o", text(&file), &tag]);
        bench.cli.ok(&["rmi", &tag]);
        let whole = std::fs::read(&file).expect("it was written");
        // The layers and no list of images: the archive ends too soon.
        for bytes in [&whole[..whole.len() / 2], b"this is no archive at all"] {
            let done = bench.cli.with_input(&["load"], bytes);
            assert!(done.code == 1 && done.stderr.contains("unexpected EOF"), "{done:?}");
        }
        assert!(bench.cli.fails(1, &["inspect", &tag]).contains("No such object"));
        bench.cli.ok(&["load", "-q", "-i", text(&file)]);
        bench.cli.ok(&["rmi", &tag]);
    }

    fn commit_and_diff(bench) {
        let (name, tag) = (bench.name("changed"), bench.name("committed") + ":1");
        let script = "echo a > /added; mkdir -p /new/dir; rm /bin/wget; chmod 755 /bin/busybox; mknod /dev-node c 1 3; echo up; sleep 600";
        bench.cli.ok(&["run", "-d", "--name", &name, "--net", "none", "-e", "A=b", BUSYBOX, "sh", "-c", script]);
        until("it has written", 20, || bench.cli.run(&["logs", &name]).stdout.contains("up"));
        let mut changes: Vec<String> = bench.cli.ok(&["diff", &name]).lines().map(str::to_owned).collect();
        changes.sort();
        assert_eq!(changes, ["A /added", "A /dev-node", "A /new", "A /new/dir", "C /bin", "D /bin/wget"], "what was copied and not changed is not told");
        let id = bench.cli.ok(&["commit", "-m", "a note", "-a", "me", "-c", "ENV C=d", "-c", "CMD [\"cat\", \"/added\"]", &name, &tag]);
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("running"), "it was thawed");
        assert_eq!(bench.inspect(&tag, "/Id"), json!(id));
        assert_eq!((bench.inspect(&tag, "/Comment"), bench.inspect(&tag, "/Author")), (json!("a note"), json!("me")));
        let environment = bench.inspect(&tag, "/Config/Env");
        assert!(environment.as_array().is_some_and(|all| all.contains(&json!("A=b")) && all.contains(&json!("C=d"))), "{environment}");
        let (below, layers) = (bench.inspect(BUSYBOX, "/RootFS/Layers"), bench.inspect(&tag, "/RootFS/Layers"));
        assert_eq!(layers.as_array().map(Vec::len), below.as_array().map(|below| below.len() + 1));
        assert_eq!(bench.cli.ok(&["run", "--rm", "--net", "none", &tag]), "a");
        let said = bench.cli.ok(&["run", "--rm", "--net", "none", &tag, "sh", "-c", "ls /bin/wget /new 2>&1; stat -c %t /dev-node"]);
        assert!(said.contains("No such file") && said.contains("dir") && said.ends_with('1'), "{said}");
        // A container that changed nothing makes an image of the same layers; one that is frozen stays so.
        bench.cli.ok(&["pause", &name]);
        bench.cli.ok(&["commit", "--pause=false", &name, &tag]);
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("paused"));
        bench.cli.ok(&["rm", "-f", &name]);
        bench.cli.ok(&["create", "--name", &name, BUSYBOX]);
        assert_eq!(bench.cli.ok(&["diff", &name]), "");
        bench.cli.ok(&["commit", &name, &tag]);
        assert_eq!(bench.inspect(&tag, "/RootFS/Layers"), below);
        assert!(bench.cli.fails(1, &["commit", "nosuch", &tag]).contains("No such container: nosuch"));
        assert!(bench.cli.fails(1, &["commit", "-c", "RUN true", &name, &tag]).contains("is not a valid change command"));
        bench.cli.ok(&["rm", &name]);
        bench.cli.ok(&["rmi", &tag]);
        bench.cli.ok(&["rmi", &id]);
    }

    fn export_is_what_a_container_sees(bench) {
        let (name, tag) = (bench.name("exported"), bench.name("again") + ":1");
        bench.cli.ok(&["run", "-d", "--name", &name, "--net", "none", "--tmpfs", "/t", BUSYBOX, "sh", "-c", "echo x > /t/hidden; echo y > /shown; rm /bin/wget; echo up; sleep 600"]);
        until("it has written", 20, || bench.cli.run(&["logs", &name]).stdout.contains("up"));
        let directory = bench.directory();
        let file = directory.path().join("x.tar");
        bench.cli.ok(&["export", "-o", text(&file), &name]);
        bench.cli.ok(&["rm", "-f", &name]);
        bench.cli.ok(&["import", text(&file), &tag]);
        let said = bench.cli.ok(&["run", "--rm", "--net", "none", &tag, "sh", "-c", "cat /shown; ls /t; ls /bin/wget 2>&1 || true"]);
        assert!(said.starts_with("y\n") && said.ends_with("No such file or directory") && !said.contains("hidden"), "{said}");
        bench.cli.ok(&["rmi", &tag]);
    }
}

/// A dockerd of the distribution, without a network of its own; ended with the guard.
struct Dockerd {
    child: std::process::Child,
    _root: tempfile::TempDir,
    host: String,
}

impl Dockerd {
    fn start() -> Option<Self> {
        let program = command::in_path("dockerd")?;
        let root = tempfile::Builder::new()
            .prefix(&format!("gantry-e2e-{}-dockerd-", std::process::id()))
            .tempdir_in("/tmp")
            .ok()?;
        let at = |name: &str| root.path().join(name).display().to_string();
        let host = format!("unix://{}", at("sock"));
        let log = std::fs::File::create(root.path().join("log")).ok()?;
        let child = Command::new(program)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "-p", &at("pid"), "-H", &host])
            .args(["--bridge", "none", "--iptables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().ok()?)
            .stderr(log)
            .spawn()
            .ok()?;
        Some(Self { child, _root: root, host })
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Images go to a real Docker and come back, with their ids, and run on both sides.
fn exchange(bench: &Bench, docker: &Cli, who: &str) {
    let tag = bench.name("travels") + ":1";
    let id = build(bench, &tag);
    let directory = bench.directory();
    let (ours, theirs) = (directory.path().join("ours.tar"), directory.path().join("theirs.tar"));
    bench.cli.ok(&["save", "-o", text(&ours), &tag]);
    assert_eq!(docker.ok(&["load", "-i", text(&ours)]), format!("Loaded image: {tag}"), "{who}");
    let inspect =
        |name: &str| -> Value { serde_json::from_str(&docker.ok(&["inspect", name])).expect("JSON") };
    assert_eq!(inspect(&tag)[0]["Id"], json!(id), "{who}");
    assert_eq!(docker.ok(&["run", "--rm", "--net", "none", &tag]), tag, "{who}");
    // Theirs has a layer that we never saw, and comes here.
    let theirs_tag = bench.name("arrives") + ":1";
    let name = bench.name("there");
    docker.ok(&[
        "run",
        "--name",
        &name,
        "--net",
        "none",
        &tag,
        "sh",
        "-c",
        "echo there > /marked; rm /linked; mkdir /there",
    ]);
    docker.ok(&["commit", "-c", "CMD [\"cat\", \"/marked\"]", &name, &theirs_tag]);
    docker.ok(&["rm", &name]);
    docker.ok(&["save", "-o", text(&theirs), &theirs_tag]);
    let (there, layers) =
        (inspect(&theirs_tag)[0]["Id"].clone(), inspect(&theirs_tag)[0]["RootFS"]["Layers"].clone());
    docker.ok(&["rmi", "-f", &theirs_tag, &tag]);
    assert_eq!(bench.cli.ok(&["load", "-i", text(&theirs)]), format!("Loaded image: {theirs_tag}"), "{who}");
    assert_eq!(bench.inspect(&theirs_tag, "/Id"), there, "{who}");
    assert_eq!(bench.cli.ok(&["run", "--rm", "--net", "none", &theirs_tag]), "there", "{who}");
    assert!(
        !bench.cli.ok(&["run", "--rm", "--net", "none", &theirs_tag, "ls", "/"]).contains("linked"),
        "{who}"
    );
    // What we save of it is, layer by layer, what came.
    bench.cli.ok(&["save", "-o", text(&ours), &theirs_tag]);
    bench.cli.ok(&["rmi", &tag, &theirs_tag]);
    assert_eq!(docker.ok(&["load", "-i", text(&ours)]), format!("Loaded image: {theirs_tag}"), "{who}");
    assert_eq!(
        (&inspect(&theirs_tag)[0]["Id"], &inspect(&theirs_tag)[0]["RootFS"]["Layers"]),
        (&there, &layers),
        "{who}"
    );
    docker.ok(&["rmi", &theirs_tag]);
}

#[test]
fn images_travel_to_real_dockers_and_back() {
    if gantry_testkit::against_dockerd() {
        return skip("it is about both at once");
    }
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Docker) else { return };
    match std::env::var("GANTRY_COMPARE_SOCKET") {
        Ok(socket) => match Cli::find(Client::Docker, &format!("unix://{socket}")) {
            Some(docker) => exchange(&bench, &docker, "the dockerd that comparisons use"),
            None => skip("no stock docker CLI in PATH"),
        },
        Err(_) => skip("no dockerd of today: GANTRY_COMPARE_SOCKET names one"),
    }
    match Dockerd::start() {
        Some(dockerd) => {
            let docker = Cli::find(Client::Docker, &dockerd.host).expect("found above");
            until("dockerd answers", 60, || docker.run(&["version"]).code == 0);
            exchange(&bench, &docker, "the distribution's dockerd");
        }
        None => skip("no dockerd: apt-get install docker.io"),
    }
    bench.clear();
    gantry_testkit::leak::check(&bench.daemon);
}
