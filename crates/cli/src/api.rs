//! How a daemon is asked: owned requests over `gantry-client`, and refusals in the words that the
//! user sees.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

use gantry_client::api::Method;
use gantry_client::{Client, Host, Response};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::resource::EmptyName;

pub(crate) use gantry_client::{Hijacked, Stream};

/// The version whose answers and meanings the verbs are written for: the stock client's of Docker 28.
pub(crate) const VERSION: &str = "1.50";

/// A request that may be made before there is a connection.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl Request {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// Asks with GET; names in the path are escaped already ([`crate::resource::Resource`]).
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// Asks with POST.
    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::Post, path)
    }

    /// Asks with HEAD.
    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new(Method::Head, path)
    }

    /// Asks with PUT.
    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::Put, path)
    }

    /// Asks with DELETE.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// Adds to the query.
    pub(crate) fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends JSON.
    pub(crate) fn json(mut self, value: &Value) -> Self {
        self.body = Some(value.clone());
        self
    }

    fn on<'c>(&self, client: &'c Client) -> gantry_client::Request<'c> {
        let mut request = client.request(self.method, self.path.as_str());
        for (key, value) in &self.query {
            request = request.param(key, value.as_str());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.as_str());
        }
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}

/// A request that came to nothing, in the words that the user sees.
#[derive(Debug)]
pub(crate) struct Error {
    status: u16,
    text: String,
}

impl Error {
    /// The HTTP status of a refusal; 0 for every other error.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<gantry_client::Error> for Error {
    fn from(error: gantry_client::Error) -> Self {
        let text = match &error {
            gantry_client::Error::Api { message, .. } => format!("Error response from daemon: {message}"),
            gantry_client::Error::Connect { host, source }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!("permission denied while trying to connect to the Docker daemon socket at {host}")
            }
            gantry_client::Error::Connect { host, .. } => {
                format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")
            }
            gantry_client::Error::Io(source) => format!("error during connect: {source}"),
            other => other.to_string(),
        };
        Self { status: error.status().unwrap_or(0), text }
    }
}

impl From<EmptyName> for Error {
    fn from(error: EmptyName) -> Self {
        Self { status: 0, text: error.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::plain(error.text)
    }
}

impl From<gantry_client::Error> for Failure {
    fn from(error: gantry_client::Error) -> Self {
        Error::from(error).into()
    }
}

/// A daemon. May be shared between threads.
///
/// It is spoken to in [`VERSION`] until it refuses that as too new; then in its own newest, which that
/// very refusal names. So agreeing on a version costs a daemon of today no round trip.
pub(crate) struct Api {
    client: Client,
    /// For a daemon that is older than we are.
    older: OnceLock<Client>,
    host: Host,
    /// Sent with every request: the user's `HttpHeaders`.
    headers: Vec<(String, String)>,
}

impl Api {
    /// Prepares; connects at the first request.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn new(host: &str, headers: Vec<(String, String)>) -> Outcome<Self> {
        let host: Host = host
            .parse()
            .map_err(|error: gantry_client::host::InvalidHost| Failure::plain(error.to_string()))?;
        let wanted = std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty());
        let version = wanted.as_deref().unwrap_or(VERSION).trim_start_matches('v').parse();
        let version = version.map_err(|_| Failure::plain("DOCKER_API_VERSION is no version such as 1.51"))?;
        let client = Client::new(host.clone()).with_version(version);
        Ok(Self { client, older: OnceLock::new(), host, headers })
    }

    fn client(&self) -> &Client {
        self.older.get().unwrap_or(&self.client)
    }

    fn prepare<'c>(&self, request: &Request, client: &'c Client) -> gantry_client::Request<'c> {
        let mut prepared = request.on(client);
        for (name, value) in &self.headers {
            prepared = prepared.header(name, value.as_str());
        }
        prepared
    }

    /// Sends what can be sent twice: a daemon that finds our version too new is asked in its own.
    fn negotiated<'c, T>(
        &'c self,
        send: impl Fn(&'c Client) -> Result<T, gantry_client::Error>,
    ) -> Result<T, gantry_client::Error> {
        match send(self.client()) {
            Err(gantry_client::Error::Api { message, .. }) if newest_of(&message).is_some() => {
                let version = newest_of(&message).unwrap_or_default().parse();
                let Ok(version) = version else {
                    return send(&self.client);
                };
                send(self.older.get_or_init(|| Client::new(self.host.clone()).with_version(version)))
            }
            other => other,
        }
    }

    /// Asks and reads the answer as JSON; an empty answer is null. Refusals keep their status.
    pub(crate) fn ask(&self, request: Request) -> Result<Value, Error> {
        let mut bytes = Vec::new();
        let mut body = self.negotiated(|client| self.prepare(&request, client).send())?.body;
        body.read_to_end(&mut bytes).map_err(gantry_client::Error::Io)?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error { status: 0, text: format!("error reading the daemon's answer: {error}") })
    }

    /// Asks for a header alone. Refusals keep their status.
    pub(crate) fn ask_head(&self, request: Request, header: &str) -> Result<Option<String>, Error> {
        let answer = self.negotiated(|client| self.prepare(&request, client).send())?;
        Ok(answer.header(header).map(str::to_owned))
    }

    /// Asks with GET.
    ///
    /// # Errors
    /// What the user is to see.
    pub(crate) fn get(&self, path: impl Into<String>) -> Outcome<Value> {
        Ok(self.ask(Request::get(path))?)
    }

    /// Asks and leaves the answer's body to be read as it comes.
    ///
    /// # Errors
    /// What the user is to see.
    pub(crate) fn open(&self, request: Request) -> Outcome<Answer<'_>> {
        Ok(Answer(self.negotiated(|client| self.prepare(&request, client).send())?))
    }

    /// Sends a body that is read while it is sent; an error of the reader breaks the request off.
    ///
    /// # Errors
    /// What the user is to see.
    pub(crate) fn upload(
        &self,
        request: Request,
        content_type: &str,
        from: impl Read,
    ) -> Outcome<Answer<'_>> {
        // What is streamed cannot be sent twice, so the version is settled first.
        let ping = Request::get("/_ping");
        self.negotiated(|client| self.prepare(&ping, client).send())?;
        Ok(Answer(self.prepare(&request, self.client()).send_stream(content_type, from)?))
    }

    /// The same with a body that a thread writes.
    ///
    /// # Errors
    /// What the user is to see; the writer's own failure where that is the reason.
    pub(crate) fn upload_written<W>(
        &self,
        request: Request,
        content_type: &str,
        write: W,
    ) -> Outcome<Answer<'_>>
    where
        W: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::sync_channel(8);
        std::thread::spawn(move || {
            let mut out = Chunks { sender, buffer: Vec::with_capacity(CHUNK) };
            let written = write(&mut out).and_then(|()| out.flush());
            // The reader distinguishes the end from an early end by this last message.
            let _ = out.sender.send(written.map(|()| Vec::new()));
        });
        self.upload(request, content_type, FromChunks { receiver, current: io::Cursor::default() })
    }

    /// Asks for a stream in place of an answer.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub(crate) fn hijack(&self, request: Request) -> Result<Hijacked, Error> {
        Ok(self.negotiated(|client| self.prepare(&request, client).hijack())?)
    }
}

/// The newest version that a daemon's refusal of ours names.
fn newest_of(message: &str) -> Option<&str> {
    let (_, newest) = message.split_once("is too new. Maximum supported API version is ")?;
    newest.split(|c: char| !c.is_ascii_digit() && c != '.').next().filter(|version| !version.is_empty())
}

const CHUNK: usize = 256 << 10;

struct Chunks {
    sender: std::sync::mpsc::SyncSender<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.send(Ok(full)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct FromChunks {
    receiver: std::sync::mpsc::Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for FromChunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.current.read(into)?;
        if read > 0 || into.is_empty() {
            return Ok(read);
        }
        match self.receiver.recv() {
            Ok(chunk) => self.current = io::Cursor::new(chunk?),
            Err(_) => return Ok(0),
        }
        self.current.read(into)
    }
}

/// An answer that is read as it comes.
pub(crate) struct Answer<'a>(Response<'a>);

impl Answer<'_> {
    /// The first header of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    /// The rest as JSON.
    ///
    /// # Errors
    /// The connection broke, or it is none.
    pub(crate) fn json(self) -> Outcome<Value> {
        Ok(self.0.json()?)
    }

    /// Calls back with every JSON document of a stream of them, as it comes, until the stream ends.
    ///
    /// # Errors
    /// The connection broke, a document is none, or the callback's.
    pub(crate) fn each_document(self, mut act: impl FnMut(Value) -> Outcome) -> Outcome {
        self.0.body.lines::<Value>().try_for_each(|document| act(document?))
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.body.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;

    #[test]
    fn an_older_daemon_is_spoken_to_in_its_own_version() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        let daemon = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = io::BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = head.next().unwrap();
                let header = head.take_while(|line| !line.is_empty()).any(|line| line == "X-Who: me");
                let (status, body) = if first.starts_with("GET /v1.41/") {
                    ("200 OK", "{}")
                } else {
                    (
                        "400 Bad Request",
                        r#"{"message":"client version 1.50 is too new. Maximum supported API version is 1.41"}"#,
                    )
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                seen.push((first, header));
            }
            seen
        });
        let api = Api::new(&host, vec![("X-Who".into(), "me".into())]).unwrap();
        assert_eq!(api.ask(Request::get("/info")).unwrap(), serde_json::json!({}));
        let want =
            ["GET /v1.50/info HTTP/1.1", "GET /v1.41/info HTTP/1.1"].map(|line| (line.to_owned(), true));
        assert_eq!(daemon.join().unwrap(), want);
    }
}
