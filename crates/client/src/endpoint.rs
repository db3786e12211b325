//! Where a daemon listens: `unix:///path`, `tcp://host:port`.

use std::fmt;
use std::path::PathBuf;

use crate::Error;

/// A daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port, IPv6 addresses in brackets.
    Tcp(String),
}

impl Endpoint {
    /// Parses what `-H` and `DOCKER_HOST` take; `tcp://` without a port means 2375.
    ///
    /// # Errors
    /// [`Error::Endpoint`] with Docker's text for any other form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Endpoint(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        match scheme {
            "unix" if !rest.is_empty() => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => {
                let authority = rest.split('/').next().unwrap_or("");
                let has_port =
                    authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                match authority {
                    "" => Err(invalid()),
                    _ if has_port => Ok(Self::Tcp(authority.to_owned())),
                    _ => Ok(Self::Tcp(format!("{authority}:2375"))),
                }
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://localhost", "tcp://localhost:2375"),
            ("tcp://[::1]:80/", "tcp://[::1]:80"),
            ("http://h:1", "tcp://h:1"),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).to_string(), want);
        }
        for bad in ["", "unix://", "/run/x", "ftp://x", "tcp://"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?}");
        }
    }
}
