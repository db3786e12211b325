//! Clients that close one half, vanish, dawdle, or send too much.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_server::listen::PlainTcp;
use gantry_server::{Address, Limits, ListenError, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Rig, read_all, read_until, small_limits};

const PING: &str = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let rig = Rig::start(Limits::default()).await;
    let text = rig.exchange(format!("{PING}GET /nope HTTP/1.1\r\nHost: x\r\n\r\n{PING}").as_bytes()).await;
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{text}");
}

#[tokio::test]
async fn a_client_that_vanishes_ends_what_was_done_for_it() {
    let mut rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client
        .write_all(b"POST /containers/a/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("sent");
    // Half-closed is not gone.
    client.shutdown().await.expect("half-closed");
    assert!(tokio::time::timeout(Duration::from_millis(100), rig.dropped.recv()).await.is_err());
    drop(client);
    let who = tokio::time::timeout(Duration::from_secs(5), rig.dropped.recv()).await.expect("it is noticed");
    assert_eq!(who, Some("wait"));

    let mut client = rig.connect().await;
    client.write_all(b"GET /containers/a/logs HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    read_until(&mut client, "tick\n").await;
    drop(client);
    let who = tokio::time::timeout(Duration::from_secs(5), rig.dropped.recv()).await.expect("it is noticed");
    assert_eq!(who, Some("logs"));
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_cut_off() {
    let rig = Rig::start(small_limits()).await;
    let begin = Instant::now();
    let mut client = rig.connect().await;
    client.write_all(b"GET /_ping HT").await.expect("sent");
    assert!(!read_all(&mut client).await.contains("200"));
    let mut client = rig.connect().await;
    client.write_all(b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await.expect("sent");
    assert!(!read_all(&mut client).await.contains("200"));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_giant_head_is_refused() {
    let rig = Rig::start(small_limits()).await;
    let text = rig
        .exchange(format!("GET /_ping HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(100_000)).as_bytes())
        .await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    let many = "X: y\r\n".repeat(1000);
    let text = rig.exchange(format!("GET /_ping HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_read_although_the_body_was_not() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    let head = "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("sent");
    let (mut reader, mut writer) = client.into_split();
    let sending = tokio::spawn(async move { writer.write_all(&vec![0; 10_000_000]).await });
    let mut text = Vec::new();
    // The end may be a reset; what matters is what came before it.
    let _ = reader.read_to_end(&mut text).await;
    assert!(String::from_utf8_lossy(&text).starts_with("HTTP/1.1 404"));
    drop(sending.await);
}

#[tokio::test]
async fn one_client_too_many_waits_until_another_has_gone() {
    let rig = Rig::start(Limits { max_connections: 2, ..Limits::default() }).await;
    let mut first = rig.connect().await;
    first.write_all(PING.as_bytes()).await.expect("sent");
    read_until(&mut first, "\r\n\r\nOK").await;
    let second = rig.connect().await;
    let mut third = rig.connect().await;
    third.write_all(PING.as_bytes()).await.expect("sent");
    let mut byte = [0];
    assert!(tokio::time::timeout(Duration::from_millis(100), third.read(&mut byte)).await.is_err());
    drop((first, second));
    read_until(&mut third, "\r\n\r\nOK").await;
}

#[tokio::test]
async fn stopping_finishes_the_present_request_and_takes_no_more() {
    let rig = Rig::start(Limits::default()).await;
    let mut idle = rig.connect().await;
    idle.write_all(PING.as_bytes()).await.expect("sent");
    read_until(&mut idle, "\r\n\r\nOK").await;
    rig.stop.send(true).expect("the server listens");
    assert_eq!(read_all(&mut idle).await, "");
    rig.server.await.expect("it ends");
}

#[tokio::test]
async fn plain_tcp_is_for_this_host_only() {
    let address = |text: &str| text.parse::<Address>().expect(text);
    let open = |text: &'static str, plain| async move { Listener::open(&address(text), plain, None).await };
    assert!(matches!(open("tcp://0.0.0.0:0", PlainTcp::LoopbackOnly).await, Err(ListenError::Exposed(_))));
    assert!(open("tcp://127.0.0.1:0", PlainTcp::LoopbackOnly).await.is_ok());
    assert!(open("tcp://0.0.0.0:0", PlainTcp::Anywhere).await.is_ok());
}

#[tokio::test]
async fn a_socket_in_use_is_not_stolen_and_a_stale_one_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let address = Address::Unix(path.clone());
    let first = Listener::open(&address, PlainTcp::LoopbackOnly, None).await.expect("a socket");
    assert!(matches!(
        Listener::open(&address, PlainTcp::LoopbackOnly, None).await,
        Err(ListenError::InUse(_))
    ));
    drop(first);
    let again = Listener::open(&address, PlainTcp::LoopbackOnly, None).await.expect("the stale one goes");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o660);
    drop(Arc::new(again));
}
