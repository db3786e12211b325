//! The little HTTP that tests need themselves: a ping of a socket, a GET of a published port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Sends a request over a daemon's socket and returns status and body. The connection is closed
/// behind it, so the body is what comes until the end (still in chunks, if it came so).
#[must_use]
pub fn ask(socket: &Path, method: &str, path: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}{headers}\r\n")
        .ok()?;
    answer(&mut stream)
}

/// Sends a request with a JSON body (none where it is empty) and returns status and body, in chunks if it came so
/// only where the reply is a stream.
#[must_use]
pub fn send(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    answer(&mut stream)
}

/// Whether a daemon answers at this socket.
#[must_use]
pub fn pings(socket: &Path) -> bool {
    ask(socket, "GET", "/_ping", "").is_some_and(|(status, _)| status == 200)
}

/// Gets a path from a web server; `None` if nothing answers within two seconds.
#[must_use]
pub fn get(address: &str, path: &str) -> Option<String> {
    let address: SocketAddr = address.parse().ok()?;
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    answer(&mut stream).filter(|(status, _)| *status == 200).map(|(_, body)| body)
}

fn answer(stream: &mut impl Read) -> Option<(u16, String)> {
    let mut bytes = Vec::new();
    // What came before a timeout is judged all the same.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
