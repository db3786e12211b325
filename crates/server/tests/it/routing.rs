//! Statuses, headers and bodies.

use gantry_server::Limits;

use crate::rig::{Rig, small_limits};

async fn check(rig: &Rig, head: &str, body: &str, status: &str, reply: &str) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let text = rig.exchange(format!("{head} HTTP/1.1\r\nHost: x\r\n{length}\r\n{body}").as_bytes()).await;
    let (head_of_reply, body_of_reply) = text.split_once("\r\n\r\n").expect("a reply");
    assert!(head_of_reply.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {text}");
    assert_eq!(body_of_reply, reply, "{head}");
}

#[tokio::test]
async fn refusals_are_dockers() {
    let rig = Rig::start(Limits::default()).await;
    check(&rig, "GET /_ping", "", "200 OK", "OK").await;
    check(&rig, "GET /v1.41/_ping", "", "200 OK", "OK").await;
    check(&rig, "OPTIONS /_ping", "", "200", "").await;
    check(&rig, "GET /v1.41//_ping?a=b", "", "301", "").await;
    let moved = rig.exchange(b"GET /v1.41//_ping?a=b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(moved.to_ascii_lowercase().contains("\r\nlocation: /v1.41/_ping?a=b\r\n"), "{moved}");
    check(&rig, "GET /nope", "", "404", "{\"message\":\"page not found\"}\n").await;
    check(&rig, "GET /v1.23/_ping", "", "400", "{\"message\":\"client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\"}\n").await;
    check(&rig, "GET /swarm", "", "501", "{\"message\":\"GET /swarm is not implemented by this daemon\"}\n")
        .await;
    check(
        &rig,
        "POST /containers/a/kill",
        "",
        "500",
        "{\"message\":\"the daemon failed; its log says why\"}\n",
    )
    .await;
    check(
        &rig,
        "POST /containers/create",
        "{}",
        "400",
        "{\"message\":\"unsupported Content-Type header (): must be 'application/json'\"}\n",
    )
    .await;
    check(&rig, "POST /containers/create", "", "200", "null\n").await;
    let json = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8";
    let bad = rig.exchange(format!("{json}\r\nContent-Length: 4\r\n\r\n{{}}{{}}").as_bytes()).await;
    assert!(bad.ends_with("{\"message\":\"unexpected content after JSON\"}\n"), "{bad}");
}

#[tokio::test]
async fn every_reply_tells_the_version() {
    let rig = Rig::start(Limits::default()).await;
    for path in ["/_ping", "/nope"] {
        let text = rig.exchange(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert!(
            text.contains("\r\nApi-Version: 1.55\r\n") && text.contains("\r\nServer: Test\r\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn bodies_come_whole_in_chunks_or_not_at_all() {
    let rig = Rig::start(small_limits()).await;
    let head = "POST /build HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let text = rig.exchange(format!("{head}3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n").as_bytes()).await;
    assert!(text.ends_with("\r\n\r\n8\n"), "{text}");
    // Broken off: the handler is told, not given a short body.
    let text = rig.exchange(format!("{head}3\r\nabc\r\n5\r\nde").as_bytes()).await;
    assert!(!text.contains("200 OK"), "{text}");
    let json = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let long =
        rig.exchange(format!("{json}Content-Length: 2000\r\n\r\n{}", " ".repeat(2000)).as_bytes()).await;
    assert!(long.starts_with("HTTP/1.1 413"), "{long}");
}
