//! Everything is used, everything is removed, the daemon ends: the host is as it was, and the data root is empty but
//! for the databases.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::{finish, in_path};
use gantry_testkit::{Bench, Client, Daemon, leak, until};

use crate::survival::{Namespace, files};

/// What a host has that a daemon could leave something in.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    links: BTreeSet<String>,
    rules: String,
    settings: BTreeSet<String>,
    /// Those that name the daemon's root.
    mounts: BTreeSet<String>,
    /// The places of a daemon that nobody told where to go.
    defaults: [bool; 2],
}

impl Host {
    /// As it is now, its network as it is in a name space of the test's own.
    fn now(enter: &str, root: &Path) -> Self {
        let within = |words: &[&str]| finish(Command::new("nsenter").arg(enter).args(words)).stdout;
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = root.display().to_string();
        Self {
            links: lines(within(&["ip", "-o", "link", "show"])),
            rules: within(&["nft", "list", "ruleset"]),
            settings: lines(within(&["sh", "-c", "grep -rs . /proc/sys/net/ipv4"])),
            mounts: mounts.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect(),
            defaults: ["/var/lib/gantry", "/run/gantry"].map(|path| Path::new(path).exists()),
        }
    }
}

fn use_everything(bench: &Bench) {
    let run = |args: &[&str]| bench.cli.ok(&[&["run", "-d"], args, &[BUSYBOX, "sleep", "600"]].concat());
    run(&["--name", "published", "-p", "127.0.0.1::80", "-P", "--expose", "81/udp"]);
    run(&["--name", "restarted", "--restart", "always", "-v", "/anonymous"]);
    run(&["--name", "named", "-v", "named:/v", "--tmpfs", "/t", "--privileged"]);
    run(&["--name", "joined", "--network", "container:published", "--pid", "container:published"]);
    run(&["--name", "apart", "--network", "none", "--init"]);
    run(&["--name", "host", "--network", "host", "--uts", "host", "--ipc", "host"]);
    bench.cli.ok(&["create", "--name", "never", BUSYBOX, "true"]);
    bench.cli.ok(&["exec", "named", "sh", "-c", "echo 1 > /changed"]);
    bench.cli.ok(&["commit", "named", "committed:1"]);
    bench.cli.ok(&["cp", "/etc/hostname", "never:/copied"]);
    bench.cli.ok(&["pause", "apart"]);
    let text = format!("FROM {BUSYBOX}\nRUN echo 1 > /x\nRUN mkdir /y\n");
    let built = bench.cli.with_input(&["build", "-q", "-t", "built:1", "-"], text.as_bytes());
    assert_eq!(built.code, 0, "{built:?}");
    let saved = bench.daemon.root().expect("ours").join("saved.tar").display().to_string();
    bench.cli.ok(&["save", "-o", &saved, "built:1", "committed:1"]);
    bench.cli.ok(&["rmi", "built:1"]);
    bench.cli.ok(&["load", "-q", "-i", &saved]);
    bench.cli.ok(&["run", "--rm", "built:1", "ls", "/y"]);
}

#[test]
fn a_full_clean_up_leaves_the_host_as_it_was() {
    if gantry_testkit::against_dockerd()
        || ["ip", "nft", "nsenter"].iter().any(|name| in_path(name).is_none())
    {
        return gantry_testkit::skip("needs gantryd, ip, nft and nsenter");
    }
    let Some(namespace) = Namespace::make("cleanup") else { return };
    let enter = namespace.enter();
    // A host that forwards nothing yet.
    finish(Command::new("nsenter").args([
        &enter,
        "sh",
        "-c",
        "echo 0 > /proc/sys/net/ipv4/ip_forward; ip link set lo up",
    ]));
    let before = Host::now(&enter, Path::new("/nothing of ours"));
    assert!(before.settings.contains("/proc/sys/net/ipv4/ip_forward:0"), "{before:#?}");
    let Some(daemon) = Daemon::start_within(&["nsenter", &enter], &[]) else { return };
    let root = daemon.root().expect("ours").to_owned();
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    use_everything(&bench);
    // Also what was adopted by another daemon.
    bench.daemon.kill();
    bench.daemon.start_again();
    assert_ne!(Host::now(&enter, &root), before, "there is something to clean up");
    let all = bench.cli.ok(&["ps", "-aq"]);
    bench.cli.ok(&[&["rm", "-fv"][..], &all.split_whitespace().collect::<Vec<_>>()].concat());
    bench.cli.ok(&["system", "prune", "-a", "-f", "--volumes"]);
    bench.cli.ok(&["volume", "prune", "-a", "-f"]);
    for (args, what) in [
        (&["images", "-aq"][..], "images"),
        (&["volume", "ls", "-q"], "volumes"),
        (&["ps", "-aq"], "containers"),
    ] {
        assert_eq!(bench.cli.ok(args), "", "{what}");
    }
    leak::check(&bench.daemon);
    until("no layer, no blob and no volume is there", 20, || {
        files(&bench, "data/layers") == ["0"]
            && files(&bench, "data/content/blobs/sha256").is_empty()
            && files(&bench, "data/volumes").is_empty()
    });
    bench.daemon.stop();
    leak::check_stopped(&bench.daemon);
    assert!(leak::cgroups(&bench.daemon).is_empty());
    let left = Host::now(&enter, &root);
    assert_eq!(left, before);
    assert!(leak::left_of_processes(&bench.daemon).is_empty());
}

/// What others put where our things are is told by name, and what to do with it; the next start takes none of it, but
/// for rules in our own chains.
#[test]
fn what_others_left_is_told() {
    if gantry_testkit::against_dockerd() || ["ip", "nft"].iter().any(|name| in_path(name).is_none()) {
        return gantry_testkit::skip("needs gantryd, ip and nft");
    }
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
    let root = bench.daemon.root().expect("ours").to_owned();
    let bridge = std::fs::read_to_string(root.join("bridge")).expect("it has one");
    let table = format!("gantry-{}", bridge.trim_start_matches("gt").trim_end_matches("b0"));
    let id = bench.cli.ok(&["create", "-v", "named:/v", BUSYBOX, "true"]);
    bench.daemon.kill();
    for words in [
        format!("ip link add {bridge}x type veth peer name {bridge}y"),
        format!("ip link set {bridge}x master {bridge}"),
        format!("nft add chain inet {table} mine"),
        format!("nft add rule inet {table} forward counter"),
    ] {
        let mut words = words.split(' ');
        let done = finish(Command::new(words.next().expect("a program")).args(words));
        assert_eq!(done.code, 0, "{done:?}");
    }
    let files = [
        "data/notes".to_owned(),
        "data/containers/notes".into(),
        format!("data/containers/{id}/notes"),
        "data/volumes/notes".into(),
        "data/volumes/named/notes".into(),
        "data/layers/notes".into(),
        "run/notes".into(),
        "run/c/notes".into(),
    ];
    files.iter().for_each(|path| std::fs::write(root.join(path), "precious").expect("written"));
    let findings = || {
        let said = finish(&mut bench.daemon.command("fsck")).stdout;
        said.lines().filter(|line| line.starts_with("finding: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let told = |findings: &[String], what: &str| {
        assert!(findings.iter().any(|finding| finding.contains(what)), "{what}: {findings:#?}");
    };
    let found = findings();
    assert_eq!(found.len(), files.len() + 3, "{found:#?}");
    told(&found, "chain forward of nft table");
    bench.daemon.start_again();
    let found = findings();
    assert_eq!(found.len(), files.len() + 2, "{found:#?}");
    told(&found, &format!("link {bridge}x is plugged into {bridge} and not ours"));
    told(&found, "chain mine of nft table");
    for path in &files {
        told(&found, &format!("{} is not ours: move it elsewhere", root.join(path).display()));
        std::fs::remove_file(root.join(path)).expect("it is there yet");
    }
    finish(Command::new("ip").args(["link", "delete", &format!("{bridge}x")]));
    // Nobody but the owner changes a table that has one.
    bench.daemon.kill();
    finish(Command::new("nft").args(["delete", "chain", "inet", &table, "mine"]));
    bench.daemon.start_again();
    bench.cli.ok(&["rm", &id]);
    bench.cli.ok(&["volume", "rm", "named"]);
    leak::check(&bench.daemon);
}
