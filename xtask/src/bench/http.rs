//! A blocking HTTP client over a Unix socket, thin enough not to be part of what is measured: one
//! connection a request, chunked or sized replies, and the raw stream after a hijack.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A reply whose head is read and whose body is not.
pub(crate) struct Reply {
    stream: BufReader<UnixStream>,
    status: u16,
    chunked: bool,
    length: Option<usize>,
}

/// Sends a request and reads the reply's head.
pub(crate) fn send(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&str>,
    hijack: bool,
) -> Result<Reply> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
    let upgrade = if hijack { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "Connection: close\r\n" };
    let body = body.unwrap_or("");
    let head = format!(
        "{method} /v1.41{path} HTTP/1.1\r\nHost: bench\r\n{upgrade}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    read_head(BufReader::new(stream)).with_context(|| format!("{method} {path}"))
}

/// Sends a request, reads the whole reply, and fails where its status is not a success.
pub(crate) fn call(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Result<String> {
    let reply = send(socket, method, path, body, false)?;
    let status = reply.status;
    let text = reply.body()?;
    if status >= 400 {
        bail!("{method} {path} answered {status}: {text}");
    }
    Ok(text)
}

fn read_head(mut stream: BufReader<UnixStream>) -> Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("not an HTTP reply")?;
    let (mut chunked, mut length) = (false, None);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            return Ok(Reply { stream, status, chunked, length });
        }
        chunked |= header == "transfer-encoding: chunked";
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
}

impl Reply {
    /// Reads a chunked body to its end and counts its bytes.
    pub(crate) fn drain(mut self) -> Result<u64> {
        if !self.chunked {
            bail!("the body is not chunked");
        }
        let mut read = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).context("not a chunk's size")?;
            // With its line feed.
            let mut chunk = (&mut self.stream).take(size + 2);
            if std::io::copy(&mut chunk, &mut std::io::sink())? < size + 2 {
                bail!("the body is torn");
            }
            read += size;
            if size == 0 {
                return Ok(read);
            }
        }
    }

    /// Reads the body: chunked, sized, or until the other side closes (a hijacked stream).
    pub(crate) fn body(mut self) -> Result<String> {
        let mut body = Vec::new();
        if self.chunked {
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).context("not a chunk's size")?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.stream.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = self.length {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        } else if self.status != 204 && self.status != 304 {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
