//! Listening sockets, and the loop that accepts from all of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::connection::{self, Service};
use crate::socket::Stream;

/// Where to listen: `unix:///path` or `tcp://address:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP.
    Tcp(String),
}

/// Who may reach an unencrypted TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainTcp {
    /// Only this host.
    #[default]
    LoopbackOnly,
    /// Anybody: whoever reaches it is root here. Only by an explicit flag.
    Anywhere,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be understood.
    #[error("cannot listen on {0:?}: expected unix:///path or tcp://address:port")]
    Address(String),
    /// It would give root to whoever reaches it.
    #[error(
        "refusing to listen on {0}: plain TCP beyond loopback gives root to whoever reaches it; use a unix socket, or --allow-insecure-tcp if that is meant"
    )]
    Exposed(SocketAddr),
    /// A daemon answers there.
    #[error("cannot listen on {0}: something else listens there")]
    InUse(Address),
    /// The host refused.
    #[error("cannot listen on {address}")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
}

impl FromStr for Address {
    type Err = ListenError;
    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", address))
                if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
            {
                // Docker's `tcp://:2375` is every address.
                Ok(Self::Tcp(if address.starts_with(':') {
                    format!("0.0.0.0{address}")
                } else {
                    address.into()
                }))
            }
            _ => Err(ListenError::Address(text.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An open listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// Plain TCP.
    Tcp(TcpListener),
}

impl Listener {
    /// Opens a socket. A unix socket that nobody listens on any more is replaced; its mode is 0660, and
    /// its group `group` where the host has it.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn open(
        address: &Address,
        plain_tcp: PlainTcp,
        group: Option<u32>,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io { address: address.clone(), source };
        match address {
            Address::Unix(path) => Self::open_unix(address, path, group).await,
            Address::Tcp(text) => {
                let candidates: Vec<SocketAddr> =
                    tokio::net::lookup_host(text).await.map_err(failed)?.collect();
                let exposed = candidates.iter().find(|candidate| !candidate.ip().is_loopback());
                if let Some(exposed) = exposed.filter(|_| plain_tcp == PlainTcp::LoopbackOnly) {
                    return Err(ListenError::Exposed(*exposed));
                }
                TcpListener::bind(candidates.as_slice()).await.map(Self::Tcp).map_err(failed)
            }
        }
    }

    async fn open_unix(address: &Address, path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io { address: address.clone(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::InUse(address.clone()));
                }
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // Nobody but us may connect before mode and group are right.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(failed)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self::Unix(listener))
    }

    /// The port of a TCP socket that was opened with port 0.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // A small reply must not wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }),
        }
    }

    /// Accepts connections and serves each in a task of its own, until `stop` is true; then connections
    /// finish the request that they are at, and no new ones are accepted.
    pub async fn serve(self, service: Service, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(service.limits().max_connections));
        loop {
            let next = async {
                // Beyond the limit clients wait in the kernel's queue. The semaphore is never closed.
                let place = places.clone().acquire_owned().await.ok();
                (self.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                next = next => next,
            };
            match accepted {
                Ok(stream) => {
                    let (service, stop) = (service.clone(), stop.clone());
                    tokio::spawn(async move {
                        connection::serve(stream, service, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, or a client that went before it was accepted: neither may end
                    // the loop, and the first must not spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_dockerds() {
        for (text, want) in [
            ("unix:///a/b", Address::Unix("/a/b".into())),
            ("tcp://127.0.0.1:2375", Address::Tcp("127.0.0.1:2375".into())),
            ("tcp://:2375", Address::Tcp("0.0.0.0:2375".into())),
            ("tcp://[::1]:1", Address::Tcp("[::1]:1".into())),
        ] {
            assert_eq!(text.parse::<Address>().expect(text), want);
        }
        for bad in ["", "/a", "unix://a", "tcp://a", "fd://", "tcp://a:99999"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was taken");
        }
    }
}
