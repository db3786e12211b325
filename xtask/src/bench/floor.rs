//! What the stock CLI itself takes: its time against a server that answers everything at once.
//!
//! A ratio cannot fall below this time divided by the peer's, however fast a daemon is; the bench prints it
//! beside the case that is near it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stats::median;
use crate::workspace::read;

/// Times the stock CLI with these arguments against such a server at a new socket, which stays until the bench ends;
/// the median.
pub(crate) fn against_nobody(socket: &Path, arguments: &[&str], runs: u32) -> Result<Duration> {
    let _ = std::fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    // Its threads end with the process; there is nothing in them to be finished.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let host = format!("unix://{}", socket.display());
    let mut times = Vec::new();
    for run in 0..=runs {
        let started = Instant::now();
        read(Command::new("docker").env("DOCKER_BUILDKIT", "0").args(["-H", &host]).args(arguments))?;
        if run > 0 {
            times.push(started.elapsed());
        }
    }
    Ok(median(&times))
}

/// Answers requests until the client hangs up or says something that is not HTTP.
fn serve(stream: UnixStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let request = line(&mut reader)?;
        let mut chunked = false;
        loop {
            let header = line(&mut reader)?;
            if header.is_empty() {
                break;
            }
            chunked |= header.eq_ignore_ascii_case("transfer-encoding: chunked");
        }
        if chunked {
            skip_chunks(&mut reader)?;
        }
        let image =
            "{\"stream\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\\n\"}\r\n";
        let (status, body) = if request.contains("/build?") {
            ("200 OK", image)
        } else if request.contains("/commit?") {
            ("201 Created", "{\"Id\":\"sha256:0\"}\n")
        } else {
            ("200 OK", "")
        };
        let reply = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.48\r\nOstype: linux\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{}",
            body.len(),
            if request.starts_with("HEAD") { "" } else { body }
        );
        reader.get_mut().write_all(reply.as_bytes()).ok()?;
    }
}

/// The next line without its end; `None` at the connection's.
fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

fn skip_chunks(reader: &mut impl BufRead) -> Option<()> {
    loop {
        let bytes = u64::from_str_radix(&line(reader)?, 16).ok()?;
        std::io::copy(&mut reader.by_ref().take(bytes), &mut std::io::sink()).ok()?;
        line(reader)?;
        if bytes == 0 {
            return Some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_request_is_answered_at_once() {
        let (mut client, server) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || serve(server));
        let request = "HEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1.41/build?q=1 HTTP/1.1\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n\r\n0\r\n\r\nPOST /v1.41/commit?repo=x HTTP/1.1\r\n\r\n";
        client.write_all(request.as_bytes()).expect("sent");
        client.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut replies = String::new();
        client.read_to_string(&mut replies).expect("replies");
        assert_eq!(replies.matches("200 OK").count(), 2, "{replies}");
        assert!(replies.contains("\\n\"}\r\n"), "{replies}");
        assert!(replies.ends_with("{\"Id\":\"sha256:0\"}\n"), "{replies}");
        thread.join().expect("no panic");
    }
}
