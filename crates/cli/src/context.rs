//! Which daemon is meant: `-H`, else `GANTRY_HOST`, else `DOCKER_HOST`, else our own socket. `-c` is
//! taken for compatibility; there are no contexts.

use std::cell::OnceCell;

use crate::api::Api;
use crate::failure::{Failure, Outcome};
use crate::flags::Parsed;

/// Our daemon's socket where nothing else is said.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/gantry/gantry.sock";

/// What every verb may ask about how it was called.
pub(crate) struct Context {
    /// The daemon's address as given: `unix://…`, `tcp://…`.
    pub(crate) host: String,
    /// `-D`.
    pub(crate) debug: bool,
    api: OnceCell<Api>,
}

impl Context {
    /// Reads the flags before the verb, and the environment.
    ///
    /// # Errors
    /// More than one `-H`.
    pub(crate) fn new(global: &Parsed) -> Outcome<Self> {
        let hosts = global.list("host");
        if hosts.len() > 1 {
            return Err(Failure::plain("specify only one -H"));
        }
        let of_environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = match hosts.first() {
            // A bare name is a machine, as in Docker.
            Some(host) if !host.contains("://") => format!("tcp://{host}"),
            Some(host) => (*host).to_owned(),
            None => of_environment("GANTRY_HOST")
                .or_else(|| of_environment("DOCKER_HOST"))
                .unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        };
        Ok(Self { host, debug: global.is("debug"), api: OnceCell::new() })
    }

    /// The connection, made at its first use.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn api(&self) -> Outcome<&Api> {
        if self.api.get().is_none() {
            let api = Api::new(&self.host)?;
            let _ = self.api.set(api);
        }
        self.api.get().ok_or_else(|| Failure::plain("the connection was not set up"))
    }
}
