//! Fetching over HTTP: files of `ADD`, contexts and imports that are elsewhere.
//!
//! One connection for each request, and none is kept. Redirections are followed; what they lead to is told by the
//! first address, as Docker does. HTTPS comes with registries.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use gantry_build::fetch::{FetchError, Fetched, Fetcher};
use http::header::{HOST, LOCATION, USER_AGENT};
use http::{Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::body::{self, BodyReader};

/// Redirections that are followed: Go's number.
const REDIRECTIONS: usize = 10;
/// How long a server may take to be reached; Go's.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// Bytes of an error's page that are told.
const PAGE_BYTES: usize = 64 << 10;

/// Fetches for threads that may block, such as those of builds.
pub(crate) struct Http(pub(crate) Handle);

impl Fetcher for Http {
    fn fetch(&self, address: &str) -> Result<Fetched, FetchError> {
        let body = self.0.block_on(get(address))?;
        Ok(Fetched { body: Box::new(body) })
    }
}

/// Asks for what an address names, and gives its bytes as they come.
///
/// # Errors
/// Docker's words, which are Go's.
pub(crate) async fn get(address: &str) -> Result<BodyReader, FetchError> {
    let mut at: Uri = address.parse().map_err(|error| FetchError(format!("parse {address:?}: {error}")))?;
    for _ in 0..=REDIRECTIONS {
        let response = once(&at).await.map_err(|why| FetchError(format!("Get {address:?}: {why}")))?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok())
        {
            at = beside(&at, location)
                .ok_or_else(|| FetchError(format!("Get {location:?}: it is no address that is followed")))?;
            continue;
        }
        if status.as_u16() >= 400 {
            let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
            let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
            let reason = reason.or_else(|| status.canonical_reason().map(str::to_owned)).unwrap_or_default();
            let page = page(response).await;
            let code = status.as_u16();
            return Err(FetchError(format!("failed to GET {address} with status {code} {reason}: {page}")));
        }
        return Ok(read(response));
    }
    Err(FetchError(format!("Get {address:?}: stopped after {REDIRECTIONS} redirects")))
}

/// One request.
async fn once(at: &Uri) -> Result<Response<Incoming>, String> {
    match at.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("https is not supported yet: fetch it with a program that is, such as curl".into());
        }
        other => return Err(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())),
    }
    let authority = at.authority().ok_or("http: no Host in request URL")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, authority.port_u16().unwrap_or(80)).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the reply, or when the reply is dropped.
    tokio::spawn(connection);
    let path = at.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let reply = timeout(SILENCE, sender.send_request(request)).await;
    reply.map_err(|_| "i/o timeout".to_owned())?.map_err(|error| match error.is_incomplete_message() {
        true => "EOF".into(),
        false => error.to_string(),
    })
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
    let mut failed = format!("dial tcp: lookup {host}: no such host");
    for place in found {
        failed = match timeout(CONNECT, TcpStream::connect(place)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("dial tcp {place}: connect: {}", reason(&error)),
            Err(_) => format!("dial tcp {place}: i/o timeout"),
        };
    }
    Err(failed)
}

/// An error of the kernel as Go writes it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Where a redirection leads.
fn beside(from: &Uri, location: &str) -> Option<Uri> {
    let whole = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", from.scheme_str()?)
    } else {
        let path = from.path();
        let directory = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        let path = if location.starts_with('/') { location.into() } else { format!("{directory}{location}") };
        format!("{}://{}{path}", from.scheme_str()?, from.authority()?)
    };
    whole.parse().ok()
}

/// The text of an error's page.
async fn page(response: Response<Incoming>) -> String {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < PAGE_BYTES
        && let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await
    {
        bytes.extend(frame.into_data().unwrap_or_default());
    }
    bytes.truncate(PAGE_BYTES);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The bytes of a reply, for a thread that may block.
fn read(response: Response<Incoming>) -> BodyReader {
    let (pump, reader) = body::pipe();
    let mut body = response.into_body();
    tokio::spawn(async move {
        loop {
            let piece = match timeout(SILENCE, body.frame()).await {
                Ok(None) => return,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    // Trailers say nothing of the bytes.
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let last = piece.is_err();
            if !pump.send(piece).await || last {
                return;
            }
        }
    });
    reader
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers so many requests with these replies, in turn; its address.
    fn serve(replies: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    let length = stream.read(&mut buffer).expect("a request");
                    request.extend_from_slice(&buffer[..length]);
                }
                stream.write_all(reply.as_bytes()).expect("answered");
            }
        });
        address
    }

    fn fetched(address: &str) -> Result<String, String> {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let http = Http(runtime.handle().clone());
        let mut body = http.fetch(address).map_err(|error| error.to_string())?.body;
        let mut text = String::new();
        body.read_to_string(&mut text).map_err(|error| format!("broken off: {:?}", error.kind()))?;
        Ok(text)
    }

    #[test]
    fn replies_are_read_and_redirections_followed() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned();
        let moved = "HTTP/1.1 302 Found\r\nLocation: there?x\r\nContent-Length: 0\r\n\r\n".to_owned();
        let address = serve(vec![whole.clone(), moved, whole]);
        assert_eq!(fetched(&format!("{address}/a/b")).as_deref(), Ok("hello"));
        assert_eq!(fetched(&format!("{address}/a/b")).as_deref(), Ok("hello"));
        let ring = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned();
        let address = serve(vec![ring; REDIRECTIONS + 1]);
        let error = fetched(&address).expect_err("a ring");
        assert!(error.ends_with("stopped after 10 redirects"), "{error}");
    }

    #[test]
    fn what_does_not_come_is_an_error() {
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello".to_owned();
        let missing = "HTTP/1.1 404 Nothing here\r\nContent-Length: 7\r\n\r\n a page".to_owned();
        let address = serve(vec![short, missing]);
        assert_eq!(fetched(&address), Err("broken off: UnexpectedEof".into()));
        let want = format!("failed to GET {address}/x with status 404 Nothing here: a page");
        assert_eq!(fetched(&format!("{address}/x")), Err(want));
        // Nobody listens where somebody did: the port was given up with the listener.
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
        let want = format!("Get \"http://{gone}/\": dial tcp {gone}: connect: connection refused");
        assert_eq!(fetched(&format!("http://{gone}/")), Err(want));
        for (address, why) in
            [("ftp://h/x", "unsupported protocol scheme \"ftp\""), ("https://h/x", "https is not")]
        {
            let error = fetched(address).expect_err(address);
            assert!(error.starts_with(&format!("Get {address:?}: {why}")), "{error}");
        }
    }

    #[test]
    fn redirections_lead_beside_where_they_are_said() {
        let from: Uri = "http://h:1/a/b?c".parse().expect("an address");
        for (location, to) in [
            ("x", "http://h:1/a/x"),
            ("/x?y", "http://h:1/x?y"),
            ("//o/x", "http://o/x"),
            ("https://o/x", "https://o/x"),
        ] {
            assert_eq!(beside(&from, location).map(|to| to.to_string()).as_deref(), Some(to), "{location}");
        }
    }
}
