//! Replies of a running daemon against the reference document, in its own version.

use gantry_testkit::bench::{self, BUSYBOX};
use gantry_testkit::reference::Reference;
use gantry_testkit::{Bench, Client, http};
use serde_json::Value;

/// Asks, and lists what is wrong with the reply.
fn check(bench: &Bench, reference: &Reference, pattern: &str, name: &str) -> Vec<String> {
    let path = pattern.replace("{id}", name).replace("{name}", name);
    let query = if pattern.ends_with("/containers/json") { "?all=1&size=1" } else { "" };
    let asked = format!("/v1.55{path}{query}");
    let (status, body) = http::ask(bench.daemon.socket(), "GET", &asked, "").expect("the daemon answers");
    assert_eq!(status, 200, "{asked}: {body}");
    let reply: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{asked}: {error}: {body}"));
    // Docker writes these as null, whatever its document says.
    const NULL: [&str; 3] = [".HostConfig.MemorySwappiness:", ".HostConfig.OomKillDisable:", ".Labels:"];
    let known =
        |wrong: &&String| !NULL.iter().any(|key| wrong.contains(key) && wrong.contains(": null is not a "));
    let wrong = reference.check("GET", pattern, status, &reply);
    wrong.iter().filter(known).map(|wrong| format!("{asked}{wrong}")).collect()
}

fn replies(bench: &Bench) {
    let Some(reference) = Reference::load() else { return };
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("the document is for version 1.55, which this dockerd does not speak");
    }
    let (running, ended, volume) = (bench.name("running"), bench.name("ended"), bench.name("volume"));
    bench.cli.ok(&[
        "run",
        "-d",
        "--name",
        &running,
        "-P",
        "--expose",
        "80",
        "-p",
        "127.0.0.1::81/udp",
        "-v",
        &format!("{volume}:/v"),
        "-v",
        "/tmp:/t:ro",
        "--tmpfs",
        "/m",
        "-l",
        "a=b",
        "--memory",
        "64m",
        "--ulimit",
        "nofile=100:200",
        "--device",
        "/dev/null",
        "--restart",
        "always",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    bench.cli.ok(&["run", "--name", &ended, "--net", "none", BUSYBOX, "true"]);
    let mut wrong = Vec::new();
    for (pattern, name) in [
        ("/containers/json", ""),
        ("/containers/{id}/json", &running),
        ("/containers/{id}/json", &ended),
        ("/containers/{id}/top", &running),
        ("/images/json", ""),
        ("/images/{name}/json", BUSYBOX),
        ("/images/{name}/history", BUSYBOX),
        ("/networks", ""),
        ("/networks/{id}", "bridge"),
        ("/networks/{id}", "none"),
        ("/volumes", ""),
        ("/volumes/{name}", &volume),
        ("/info", ""),
        ("/version", ""),
        ("/system/df", ""),
    ] {
        wrong.extend(check(bench, &reference, pattern, name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bench.cli.ok(&["rm", "-f", "-v", &running, &ended]);
    bench.cli.ok(&["volume", "rm", &volume]);
}

#[test]
fn replies_are_as_the_reference_document_says() {
    bench::run(Client::Docker, replies);
}
