//! A connection that becomes a raw stream.

use gantry_server::Limits;
use tokio::io::AsyncWriteExt as _;

use crate::rig::{Rig, read_all, read_until};

async fn check(headers: &str, status: &str) {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    // The first bytes of the stream come with the request, as an eager client sends them.
    let request = format!(
        "POST /containers/a/attach?stream=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}\r\nearly "
    );
    client.write_all(request.as_bytes()).await.expect("sent");
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
    assert!(head.contains("Content-Type: application/vnd.docker.raw-stream\r\n"), "{head}");
    assert!(head.contains("Api-Version: 1.55\r\n"), "{head}");
    assert_eq!(read_until(&mut client, "early ").await, "early ");
    client.write_all(b"GET /_ping HTTP/1.1\r\n\r\n").await.expect("sent");
    read_until(&mut client, "GET /_ping HTTP/1.1\r\n\r\n").await;
    client.shutdown().await.expect("half-closed");
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn an_upgrade_is_answered_with_101() {
    check("Connection: Upgrade\r\nUpgrade: tcp\r\n", "101 UPGRADED").await;
}

#[tokio::test]
async fn a_bare_stream_is_answered_with_200() {
    check("", "200 OK").await;
}

#[tokio::test]
async fn a_connection_that_served_requests_before_is_taken_over_too() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    read_until(&mut client, "\r\n\r\nOK").await;
    let request = "POST /containers/a/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("sent");
    read_until(&mut client, "\r\n\r\n").await;
    // A mebibyte through, so that more than one buffer is needed.
    let (mut reader, mut writer) = client.into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(&vec![b'x'; 1 << 20]).await.expect("sent");
        writer.shutdown().await.expect("half-closed");
    });
    let mut back = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut back).await.expect("the echo");
    sending.await.expect("sent");
    assert_eq!(back.len(), 1 << 20);
}
