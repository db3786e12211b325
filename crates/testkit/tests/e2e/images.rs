//! Images and the daemon itself: version, info, import, lists, history, tags, removal, bootstrap.

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{Bench, Client, Daemon, both, command, http, image, skip, until};
use serde_json::{Value, json};

both! {
    fn version_and_info(bench) {
        let text = bench.cli.ok(&["version"]);
        assert!(text.starts_with("Client:") && text.contains("\nServer:") && text.contains("API version:"), "{text}");
        let version = bench.cli.ok(&["version", "--format", "{{.Server.APIVersion}}"]);
        assert!(version.starts_with("1."), "{version}");
        let info = bench.cli.ok(&["info"]);
        for line in [" Containers: ", " Images: ", " Server Version: ", " Storage Driver: ", " Cgroup Version: ", " Kernel Version: ", " Docker Root Dir: "] {
            assert!(info.contains(line), "{line:?} in {info}");
        }
        let all: Value = serde_json::from_str(&bench.cli.ok(&["info", "--format", "{{json .}}"])).expect("JSON");
        assert_eq!(all["OSType"], json!("linux"));
        assert!(all["NCPU"].as_i64() > Some(0) && all["MemTotal"].as_i64() > Some(0), "{all}");
    }

    fn import_and_list(bench) {
        let tar = image::busybox_tar().expect("the bench has imported it");
        let tag = bench.name("imported") + ":one";
        let done = bench.cli.with_input(&["import", "-m", "by hand", "-c", "ENV A=b", "-c", "EXPOSE 80", "-", &tag], tar);
        assert_eq!(done.code, 0, "{done:?}");
        let id = done.stdout.trim().to_owned();
        assert_eq!(bench.inspect(&tag, "/Id"), json!(id));
        assert_eq!(bench.inspect(&tag, "/Config/Env"), json!(["A=b"]));
        assert_eq!(bench.inspect(&tag, "/Comment"), json!("by hand"));
        let listed = bench.cli.ok(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
        assert!(listed.lines().any(|line| line == format!("{tag} {id}")), "{listed}");
        assert!(bench.cli.ok(&["images"]).starts_with("REPOSITORY"));
        assert_eq!(bench.cli.ok(&["images", "-q", "--no-trunc", &tag]), id);
        let history = bench.cli.ok(&["history", &tag]);
        assert!(history.starts_with("IMAGE") && history.contains("by hand"), "{history}");
        // From a file, and packed: the same tree has the same layer.
        let directory = bench.directory();
        let file = directory.path().join("x.tar");
        std::fs::write(&file, tar).expect("the file can be written");
        let other = bench.name("imported") + ":two";
        bench.cli.ok(&["import", file.to_str().expect("a plain path"), &other]);
        assert_eq!(bench.inspect(&tag, "/RootFS/Layers"), bench.inspect(&other, "/RootFS/Layers"));
        bench.cli.ok(&["rmi", &tag, &other]);
        assert!(bench.cli.fails(1, &["inspect", &tag]).contains("No such object"));
        let done = bench.cli.with_input(&["import", "-", &tag], b"this is no archive at all");
        assert!(done.code == 1 && done.stderr.contains("Error"), "{done:?}");
    }

    fn tags_and_removal(bench) {
        let (one, two) = (bench.name("tag") + ":1", bench.name("tag") + ":2");
        bench.cli.ok(&["tag", BUSYBOX, &one]);
        bench.cli.ok(&["tag", &one, &two]);
        assert_eq!(bench.inspect(&one, "/Id"), bench.inspect(&two, "/Id"));
        assert_eq!(bench.cli.ok(&["rmi", &one]), format!("Untagged: {one}"));
        assert!(bench.cli.fails(1, &["rmi", &one]).contains(&format!("No such image: {one}")));
        assert!(bench.cli.fails(1, &["tag", "nosuch", &one]).contains("No such image: nosuch:latest"));
        assert!(bench.cli.fails(1, &["tag", BUSYBOX, "Upper"]).contains("repository name"));
        bench.cli.ok(&["rmi", &two]);
    }

    fn an_image_in_use_stays(bench) {
        let tag = bench.name("used");
        let text = format!("FROM busybox\nLABEL only={tag}\n");
        assert_eq!(bench.cli.with_input(&["build", "-t", &tag, "-"], text.as_bytes()).code, 0);
        let name = bench.name("user");
        let id = bench.cli.ok(&["run", "-d", "--name", &name, &tag, "sleep", "600"]);
        let said = bench.cli.fails(1, &["rmi", &tag]);
        assert!(said.contains("conflict: unable to remove repository reference") && said.contains(&id[..12]), "{said}");
        let image = bench.inspect(&tag, "/Id");
        let said = bench.cli.fails(1, &["rmi", "-f", image.as_str().expect("an id")]);
        assert!(said.contains("image is being used by running container"), "{said}");
        bench.cli.ok(&["rm", "-f", &name]);
        let removed = bench.cli.ok(&["rmi", &tag]);
        assert!(removed.starts_with("Untagged: ") && removed.contains("Deleted: sha256:"), "{removed}");
    }

    fn volumes_are_managed(bench) {
        let volume = bench.name("v");
        assert_eq!(bench.cli.ok(&["volume", "create", "--label", "a=b", &volume]), volume);
        assert!(bench.cli.ok(&["volume", "ls"]).starts_with("DRIVER    VOLUME NAME"));
        let all: Value = serde_json::from_str(&bench.cli.ok(&["volume", "inspect", &volume])).expect("JSON");
        assert_eq!((&all[0]["Driver"], &all[0]["Labels"]), (&json!("local"), &json!({"a": "b"})));
        let name = bench.name("holder");
        bench.cli.ok(&["create", "--name", &name, "-v", &format!("{volume}:/x"), BUSYBOX]);
        let said = bench.cli.fails(1, &["volume", "rm", &volume]);
        assert!(said.contains("volume is in use"), "{said}");
        bench.cli.ok(&["rm", &name]);
        assert_eq!(bench.cli.ok(&["volume", "rm", &volume]), volume);
        assert!(bench.cli.fails(1, &["volume", "inspect", &volume]).contains("no such volume"));
    }
}

/// A base image from the signed archive has the same digest twice; on it nginx is built and served, and
/// a shell runs on a terminal.
#[test]
fn bootstrap_and_build_on_it() {
    if gantry_testkit::against_dockerd() {
        return skip("image bootstrap is gantry's own");
    }
    if command::in_path("mmdebstrap").is_none() {
        return skip("no mmdebstrap: apt-get install mmdebstrap");
    }
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let first = bench.cli.ok(&["image", "bootstrap", "debian:bookworm"]);
    assert_eq!(
        bench.cli.ok(&["image", "bootstrap", "debian:bookworm"]),
        first,
        "the same packages give the same image"
    );
    // The newest package's time: neither 1970, nor the clock.
    let created = bench.cli.ok(&["inspect", "--format", "{{.Created}}", "debian:bookworm"]);
    let file = bench.cli.ok(&[
        "run",
        "--rm",
        "debian:bookworm",
        "date",
        "-u",
        "-r",
        "/etc/passwd",
        "+%Y-%m-%dT%H:%M:%SZ",
    ]);
    assert!(created.as_str() > "2023" && created == file, "{created} {file}");
    let Some(docker) = gantry_testkit::Cli::find(Client::Docker, &bench.daemon.host()) else {
        return skip("no stock docker CLI in PATH");
    };
    let terminal = gantry_testkit::terminal::Terminal::start(&docker.command(&[
        "run",
        "--rm",
        "-it",
        "debian:bookworm",
        "bash",
    ]));
    if let Some(mut terminal) = terminal {
        terminal.send("echo $BASH_VERS''ION; grep PRETTY /etc/os-release\n");
        terminal.expect("Debian GNU/Linux 12");
        terminal.send("exit 3\n");
        assert_eq!(terminal.wait(), 3);
    }
    let text = b"FROM debian:bookworm\nRUN apt-get update && apt-get install -y --no-install-recommends nginx-light\n\
        RUN echo from-nginx > /var/www/html/index.html\nEXPOSE 80\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    let done = docker.with_input(&["build", "-t", "nginx", "-"], text);
    assert_eq!(done.code, 0, "{done:?}");
    docker.ok(&["run", "-d", "-P", "--name", "nginx", "nginx"]);
    let address = bench.address("nginx", "80");
    until("nginx serves", 20, || http::get(&address, "/").is_some_and(|body| body == "from-nginx\n"));
    bench.clear();
    gantry_testkit::leak::check(&bench.daemon);
}
