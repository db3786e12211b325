//! A typed client of the Docker API: for our own CLI, and for whatever sees a host only by its API.
//!
//! Blocking, on threads where two things happen at once: a command line spends its life in one or two
//! round trips, and starting an async runtime costs more than those. It knows HTTP/1.1 as far as a
//! Docker daemon speaks it, over unix and plain TCP sockets, and nothing of any particular daemon: a
//! real dockerd at the other end is as good as ours.
//!
//! Reading order: [`host`] (addresses), [`Client`], [`request`] (one exchange), [`body`] (reading a
//! reply), [`stream`] (a connection, also after its hijacking), then a file of methods per resource.

pub mod body;
mod containers;
pub mod error;
pub mod host;
mod images;
mod networks;
pub mod request;
pub mod stream;
mod system;
mod volumes;

use std::sync::Mutex;

pub use gantry_api as api;

pub use body::{Body, Lines};
pub use containers::{AttachOptions, LogOptions, RemoveOptions};
pub use error::Error;
pub use host::Host;
pub use images::ImportOptions;
pub use request::{Request, Response};
pub use stream::{Hijacked, Stream};
pub use system::Ping;

use api::{ApiVersion, Method};
use stream::Connection;

/// A daemon, by its address. May be shared between threads; one idle connection is kept for the next
/// request.
#[derive(Debug)]
pub struct Client {
    host: Host,
    version: Option<ApiVersion>,
    user_agent: String,
    idle: Mutex<Option<Connection>>,
}

impl Client {
    /// A client of the daemon at `host`. Nothing is connected yet. Paths have no version prefix, which
    /// means the daemon's newest, until [`Client::with_version`] or [`Client::negotiate`].
    #[must_use]
    pub fn new(host: Host) -> Self {
        let user_agent = format!("Gantry-Client/{} (linux)", env!("CARGO_PKG_VERSION"));
        Self { host, version: None, user_agent, idle: Mutex::new(None) }
    }

    /// The same speaking this version.
    #[must_use]
    pub fn with_version(mut self, version: ApiVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// The same telling this as its name.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Asks the daemon for its newest version and speaks the lower of that and ours from now on.
    ///
    /// # Errors
    /// [`Error`] where the daemon does not answer.
    pub fn negotiate(&mut self) -> Result<ApiVersion, Error> {
        let theirs = self.ping()?.api_version;
        let version = theirs.map_or(api::version::MAX, |theirs| theirs.min(api::version::MAX));
        self.version = Some(version);
        Ok(version)
    }

    /// The address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The version in paths; `None` is the daemon's newest.
    #[must_use]
    pub fn version(&self) -> Option<ApiVersion> {
        self.version
    }

    /// Begins a request. `path` has no version prefix, and its segments are escaped already
    /// ([`segment`]).
    pub fn request(&self, method: Method, path: impl Into<String>) -> Request<'_> {
        Request::new(self, method, path.into())
    }
}

/// Escapes a name for one segment of a path. A slash that it begins with, as names in inspect do, goes.
#[must_use]
pub fn segment(name: &str) -> String {
    let name = name.strip_prefix('/').unwrap_or(name);
    let mut escaped = String::with_capacity(name.len());
    api::query::encode_into(name, &mut escaped);
    escaped
}

/// Escapes an image's name for a path: its slashes and colons stay, as Docker's own client has it.
#[must_use]
pub fn image_path(name: &str) -> String {
    name.strip_prefix('/')
        .unwrap_or(name)
        .split('/')
        .map(|part| {
            part.split(':').map(|piece| segment(piece).replace("%40", "@")).collect::<Vec<_>>().join(":")
        })
        .collect::<Vec<_>>()
        .join("/")
}
