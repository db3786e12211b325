//! Replies of a running daemon against the reference document, in its own version: of what shows things, of what changes
//! them, and of what is refused.

use gantry_testkit::bench::{self, BUSYBOX};
use gantry_testkit::reference::Reference;
use gantry_testkit::{Bench, Client, http};
use serde_json::{Value, json};

/// What is wrong with a reply, but for what Docker writes as null, whatever its document says.
fn found(
    reference: &Reference,
    method: &str,
    pattern: &str,
    status: u16,
    reply: &Value,
) -> impl Iterator<Item = String> {
    const NULL: [&str; 4] =
        [".HostConfig.MemorySwappiness:", ".HostConfig.OomKillDisable:", ".Labels:", ".ExitCode:"];
    let known =
        |wrong: &String| NULL.iter().any(|key| wrong.contains(key) && wrong.contains(": null is not a "));
    reference.check(method, pattern, status, reply).into_iter().filter(move |wrong| !known(wrong))
}

/// Asks, and lists what is wrong with the reply.
fn check(bench: &Bench, reference: &Reference, pattern: &str, name: &str) -> Vec<String> {
    let path = pattern.replace("{id}", name).replace("{name}", name);
    let query = if pattern.ends_with("/containers/json") { "?all=1&size=1" } else { "" };
    let asked = format!("/v1.55{path}{query}");
    let (status, body) = http::ask(bench.daemon.socket(), "GET", &asked, "").expect("the daemon answers");
    assert_eq!(status, 200, "{asked}: {body}");
    let reply: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{asked}: {error}: {body}"));
    found(reference, "GET", pattern, status, &reply).map(|wrong| format!("{asked}{wrong}")).collect()
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

/// One call: method, pattern, what stands for its name, query, body, the status that is due.
struct Call<'c>(&'c str, &'c str, &'c str, &'c str, Value, u16);

/// Sends a call, and lists what is wrong with the reply. Gives the reply.
fn call(bench: &Bench, reference: &Reference, wrong: &mut Vec<String>, call: &Call<'_>) -> Value {
    let Call(method, pattern, name, query, body, due) = call;
    let path = format!("/v1.55{}{query}", pattern.replace("{id}", name).replace("{name}", name));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, text) = http::send(bench.daemon.socket(), method, &path, &body).expect("the daemon answers");
    if status != *due {
        wrong.push(format!("{method} {path}: {status}, not {due}: {text}"));
        return Value::Null;
    }
    // What may take long comes in chunks, whose lengths stand around it.
    let json = text.find(['{', '[']).and_then(|from| Some(&text[from..=text.rfind(['}', ']'])?]));
    let reply: Value = match json {
        None => Value::Null,
        Some(json) => {
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
        }
    };
    let found = found(reference, method, pattern, status, &reply);
    wrong.extend(found.map(|what| format!("{method} {path} {status}{what}")));
    reply
}

fn calls(bench: &Bench) {
    let Some(reference) = Reference::load() else { return };
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("the document is for version 1.55, which this dockerd does not speak");
    }
    let (one, other, volume, image) =
        (bench.name("one"), bench.name("other"), bench.name("volume"), bench.name("image"));
    let mut wrong = Vec::new();
    let none = Value::Null;
    let create = json!({"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "HostConfig": {"Memory": 64 << 20}});
    let named = format!("?name={one}");
    let mut ask = |call_: Call<'_>| call(bench, &reference, &mut wrong, &call_);
    ask(Call("POST", "/containers/create", "", &named, create.clone(), 201));
    ask(Call("POST", "/containers/create", "", &named, create, 409));
    ask(Call("POST", "/containers/create", "", "?name=a%20b", json!({"Image": BUSYBOX}), 400));
    ask(Call("POST", "/containers/create", "", "", json!({"Image": bench.name("nosuch")}), 404));
    for (verb, query, body, due) in [
        ("start", "", none.clone(), 204),
        ("start", "", none.clone(), 304),
        ("update", "", json!({"Memory": 128 << 20, "MemorySwap": 256 << 20}), 200),
        ("pause", "", none.clone(), 204),
        ("unpause", "", none.clone(), 204),
        ("rename", &*format!("?name={other}"), none.clone(), 204),
    ] {
        ask(Call("POST", &format!("/containers/{{id}}/{verb}"), &one, query, body, due));
    }
    let exec = json!({"Cmd": ["sleep", "1000"], "AttachStdout": true});
    let exec = ask(Call("POST", "/containers/{id}/exec", &other, "", exec, 201));
    let exec = exec["Id"].as_str().unwrap_or_default().to_owned();
    ask(Call("POST", "/exec/{id}/start", &exec, "", json!({"Detach": true}), 200));
    ask(Call("POST", "/exec/{id}/start", &exec, "", json!({"Detach": true}), 409));
    ask(Call("GET", "/exec/{id}/json", &exec, "", none.clone(), 200));
    ask(Call("GET", "/exec/{id}/json", "nosuch", "", none.clone(), 404));
    ask(Call("GET", "/containers/{id}/changes", &other, "", none.clone(), 200));
    ask(Call("GET", "/containers/{id}/changes", "nosuch", "", none.clone(), 404));
    ask(Call("GET", "/containers/{id}/stats", &other, "?stream=false&one-shot=true", none.clone(), 200));
    let changed = format!("?container={other}&repo={image}&changes=LABEL%20a=b");
    ask(Call("POST", "/commit", "", &changed, none.clone(), 201));
    ask(Call("POST", "/images/{name}/tag", &image, &format!("?repo={image}&tag=v1"), none.clone(), 201));
    ask(Call("POST", "/images/{name}/tag", &image, "?repo=Not", none.clone(), 400));
    ask(Call("DELETE", "/images/{name}", &format!("{image}:v1"), "", none.clone(), 200));
    ask(Call("DELETE", "/images/{name}", &image, "", none.clone(), 200));
    ask(Call("DELETE", "/images/{name}", &image, "", none.clone(), 404));
    ask(Call("POST", "/volumes/create", "", "", json!({"Name": volume, "Labels": {"a": "b"}}), 201));
    ask(Call("DELETE", "/volumes/{name}", &volume, "", none.clone(), 204));
    ask(Call("DELETE", "/volumes/{name}", &volume, "", none.clone(), 404));
    ask(Call("DELETE", "/containers/{id}", &other, "", none.clone(), 409));
    for (verb, query, due) in [
        ("kill", "?signal=KILL", 204),
        ("wait", "", 200),
        ("kill", "", 409),
        ("start", "", 204),
        ("restart", "?t=0", 204),
        ("stop", "?t=0", 204),
        ("stop", "?t=0", 304),
        ("wait", "?condition=nosuch", 400),
    ] {
        ask(Call("POST", &format!("/containers/{{id}}/{verb}"), &other, query, none.clone(), due));
        ask(Call(
            "POST",
            &format!("/containers/{{id}}/{verb}"),
            "nosuch",
            query,
            none.clone(),
            if due == 400 { 400 } else { 404 },
        ));
    }
    ask(Call("DELETE", "/containers/{id}", &other, "", none.clone(), 204));
    for kind in ["containers", "images", "volumes", "networks", "build"] {
        ask(Call("POST", &format!("/{kind}/prune"), "", "", none.clone(), 200));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn replies_to_calls_that_change_things_are_as_the_reference_document_says() {
    bench::run(Client::Docker, calls);
}
