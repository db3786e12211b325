//! One exchange: head and body out, head of the reply in.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{ApiVersion, ErrorResponse, Method, Query, gojson};
use crate::body::{Body, Length};
use crate::stream::{Connection, Hijacked};
use crate::{Client, Error};

/// A request that is being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'c> {
    client: &'c Client,
    method: Method,
    path: String,
    query: Query,
    headers: Vec<(String, String)>,
    content: Option<Vec<u8>>,
}

/// Whether the connection is to be taken over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    No,
    Tcp,
}

/// A reply whose body was not read yet.
#[derive(Debug)]
pub struct Response<'c> {
    /// The HTTP status code: 200 to 399.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Body<'c>,
}

impl<'c> Response<'c> {
    /// The first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The daemon's newest version, which every reply tells.
    #[must_use]
    pub fn api_version(&self) -> Option<ApiVersion> {
        self.header("Api-Version")?.parse().ok()
    }

    /// Reads the body whole and interprets it as JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.body.json()
    }
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl<'c> Request<'c> {
    pub(crate) fn new(client: &'c Client, method: Method, path: String) -> Self {
        Self { client, method, path, query: Query::default(), headers: Vec::new(), content: None }
    }

    /// Adds parameters.
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// Adds a parameter.
    pub fn param(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push(key, value);
        self
    }

    /// Adds a parameter if it is not empty.
    pub fn optional(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.param(key, value) }
    }

    /// Adds a parameter `1` if it is set.
    pub fn flag(self, key: &str, set: bool) -> Self {
        if set { self.param(key, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.content = Some(gojson::to_vec(value));
        self.header("Content-Type", "application/json")
    }

    /// Sends the request with whatever the reader gives, in chunks, and reads the reply's head.
    ///
    /// # Errors
    /// As [`Request::send`]; [`Error::Io`] also where the reader fails: the daemon then sees a body that
    /// broke off.
    pub fn send_stream(self, content_type: &str, mut reader: impl Read) -> Result<Response<'c>, Error> {
        let (client, method) = (self.client, self.method);
        let request = self.header("Content-Type", content_type).header("Transfer-Encoding", "chunked");
        let head = request.head(Upgrade::No);
        let mut connection = Connection::open(&client.host)?;
        // A daemon that refuses early answers before it has read everything: its words are worth more
        // than our broken pipe.
        let sent = (&connection.stream).write_all(&head).and_then(|()| send_chunks(&connection, &mut reader));
        let reply = read_head(&mut connection).map_err(|error| sent.err().map_or(error, Error::Io))?;
        reply_of(client, method, connection, reply)
    }

    /// Sends the request and reads the reply's head.
    ///
    /// # Errors
    /// [`Error::Api`] for a status of 400 and above; [`Error::Connect`]; [`Error::Io`].
    pub fn send(self) -> Result<Response<'c>, Error> {
        let client = self.client;
        // What changes nothing may be sent twice; anything else gets a connection that nobody can have
        // closed meanwhile, because a lost reply does not tell whether the request was taken.
        let idle = match self.method {
            Method::Get | Method::Head => {
                client.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
            }
            _ => None,
        };
        let head = self.head(Upgrade::No);
        let mut connection = match idle {
            // The daemon may have closed it meanwhile.
            Some(mut connection) => match self.exchange(&mut connection, &head) {
                Ok(reply) => return reply_of(client, self.method, connection, reply),
                Err(Error::Io(_)) => Connection::open(&client.host)?,
                Err(other) => return Err(other),
            },
            None => Connection::open(&client.host)?,
        };
        let reply = self.exchange(&mut connection, &head)?;
        reply_of(client, self.method, connection, reply)
    }

    /// Sends the request and takes the connection over once the daemon has agreed.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn hijack(self) -> Result<Hijacked, Error> {
        let client = self.client;
        let head = self.head(Upgrade::Tcp);
        let mut connection = Connection::open(&client.host)?;
        let reply = self.exchange(&mut connection, &head)?;
        if !matches!(reply.status, 101 | 200) {
            let status = reply.status;
            reply_of(client, self.method, connection, reply)?;
            return Err(Error::Protocol(format!("status {status} instead of an upgrade")));
        }
        let content_type = header(&reply.headers, "Content-Type").unwrap_or("").to_owned();
        Ok(connection.into_hijacked(content_type))
    }

    fn head(&self, upgrade: Upgrade) -> Vec<u8> {
        let mut head = String::with_capacity(256);
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.encode()) };
        let version = self.client.version.map_or(String::new(), |version| format!("/v{version}"));
        // Writing to a String cannot fail.
        let _ = write!(
            head,
            "{} {version}{}{query} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n",
            self.method.as_str(),
            self.path,
            self.host_header(),
            self.client.user_agent
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {}\r\n", value.replace(['\r', '\n'], " "));
        }
        match &self.content {
            Some(bytes) => drop(write!(head, "Content-Length: {}\r\n", bytes.len())),
            None if header(&self.headers, "Transfer-Encoding").is_some() => {}
            None if matches!(self.method, Method::Post | Method::Put) => {
                head.push_str("Content-Length: 0\r\n")
            }
            None => {}
        }
        if upgrade == Upgrade::Tcp {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn host_header(&self) -> &str {
        match &self.client.host {
            crate::Host::Unix(_) => "gantry",
            crate::Host::Tcp(address) => address,
        }
    }

    fn exchange(&self, connection: &mut Connection, head: &[u8]) -> Result<Head, Error> {
        let body = self.content.as_deref().unwrap_or_default();
        let sent = (&connection.stream).write_all(&[head, body].concat());
        read_head(connection).map_err(|error| sent.err().map_or(error, Error::Io))
    }
}

/// Sends a body of unknown length.
fn send_chunks(connection: &Connection, reader: &mut impl Read) -> io::Result<()> {
    const HEAD: usize = 10;
    let mut stream = &connection.stream;
    let mut chunk = vec![0; 64 << 10];
    let end = chunk.len() - 2;
    loop {
        match reader.read(&mut chunk[HEAD..end]) {
            Ok(0) => return stream.write_all(b"0\r\n\r\n"),
            Ok(read) => {
                // Length, contents and end in one write.
                chunk[..HEAD].copy_from_slice(format!("{read:08x}\r\n").as_bytes());
                chunk[HEAD + read..HEAD + read + 2].copy_from_slice(b"\r\n");
                stream.write_all(&chunk[..HEAD + read + 2])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Without its last chunk the daemon sees that the body is not whole.
            Err(error) => {
                connection.stream.close();
                return Err(error);
            }
        }
    }
}

fn read_head(connection: &mut Connection) -> Result<Head, Error> {
    loop {
        let line = connection.line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or_else(|| Error::Protocol(format!("{line:?} is not HTTP")))?;
        let mut headers = Vec::new();
        loop {
            let line = connection.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        // 100 Continue and its like come before the reply proper.
        if status >= 200 || status == 101 {
            return Ok(Head { status, headers });
        }
    }
}

fn reply_of(
    client: &Client,
    method: Method,
    connection: Connection,
    head: Head,
) -> Result<Response<'_>, Error> {
    let Head { status, headers } = head;
    let chunked =
        header(&headers, "Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = if method == Method::Head || matches!(status, 101 | 204 | 304) {
        Length::Exactly(0)
    } else if chunked {
        Length::Chunked { remaining: 0, first: true }
    } else {
        match header(&headers, "Content-Length").map(str::parse) {
            Some(Ok(length)) => Length::Exactly(length),
            Some(Err(_)) => return Err(Error::Protocol("Content-Length is not a number".into())),
            None => Length::UntilClose,
        }
    };
    let closes = header(&headers, "Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let mut body = Body::new(client, connection, length, !closes);
    if status < 400 {
        return Ok(Response { status, headers, body });
    }
    let mut text = Vec::new();
    (&mut body).take(1 << 20).read_to_end(&mut text)?;
    let message = gojson::from_slice::<ErrorResponse>(&text)
        .map_or_else(|_| String::from_utf8_lossy(&text).trim().to_owned(), |error| error.message);
    let message = if message.is_empty() { format!("request returned status {status}") } else { message };
    Err(Error::Api { status, message })
}
