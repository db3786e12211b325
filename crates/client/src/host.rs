//! Addresses of daemons: `unix:///path` and `tcp://host:port`, as `DOCKER_HOST` and `-H` have them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

impl Default for Host {
    /// Gantry's own socket.
    fn default() -> Self {
        Self::Unix("/run/gantry/gantry.sock".into())
    }
}

/// Says why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// It has no scheme that is known.
    #[error("unable to parse docker host `{0}`: expected unix:///path or tcp://host:port")]
    Scheme(String),
    /// An encrypted or remote-shell address.
    #[error("{0} is not supported yet: forward the socket with ssh -L and use unix:// or tcp://")]
    Unsupported(String),
}

impl FromStr for Host {
    type Err = InvalidHost;
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) if !address.is_empty() => {
                let address = address.trim_end_matches('/');
                // Without a port Docker's is meant; a bracketed IPv6 address has colons of its own.
                let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::Tcp(if has_port { address.to_owned() } else { format!("{address}:2375") }))
            }
            Some(("https" | "ssh" | "fd" | "npipe", _)) => Err(InvalidHost::Unsupported(text.into())),
            _ => Err(InvalidHost::Scheme(text.into())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_dockers() {
        for (text, want) in [
            ("unix:///run/x.sock", Host::Unix("/run/x.sock".into())),
            ("tcp://127.0.0.1:2375", Host::Tcp("127.0.0.1:2375".into())),
            ("tcp://[::1]:99", Host::Tcp("[::1]:99".into())),
            ("tcp://box", Host::Tcp("box:2375".into())),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for bad in ["", "/run/x", "unix://", "tcp://", "https://x", "ssh://x"] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?} was taken");
        }
    }
}
