//! Which daemon is meant: `-H`, else `--context`, else `GANTRY_HOST`, else `DOCKER_HOST`, else
//! `DOCKER_CONTEXT` or the configuration's current context, else our own socket. The context
//! `default` stands for the last.

use std::cell::OnceCell;

use crate::api::Api;
use crate::config::Config;
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
    config: Config,
    api: OnceCell<Api>,
}

fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Context {
    /// Reads the flags before the verb, the environment and the user's configuration.
    ///
    /// # Errors
    /// More than one `-H`, a context that is none, a logging level that is none, or TLS.
    pub(crate) fn new(global: &Parsed) -> Outcome<Self> {
        let level = global.text("log-level");
        if !["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"].contains(&level) {
            return Err(Failure::plain(format!("Unable to parse logging level: {level}")));
        }
        if ["tls", "tlsverify"].iter().any(|flag| global.is(flag)) {
            return Err(Failure::plain(
                "Failed to initialize: TLS is not supported yet: forward the socket with ssh -L, and use unix:// or tcp://",
            ));
        }
        let config = Config::read(global.given_text("config"));
        let host = host(global, &config)?;
        Ok(Self { host, debug: global.is("debug"), config, api: OnceCell::new() })
    }

    /// The user's configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// `--detach-keys`, else the configured ones; nothing for the default ones.
    pub(crate) fn detach_keys<'a>(&'a self, flags: &'a Parsed) -> &'a str {
        flags.given_text("detach-keys").unwrap_or_else(|| self.config.text("detachKeys"))
    }

    /// The connection, made at its first use.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn api(&self) -> Outcome<&Api> {
        if self.api.get().is_none() {
            let api = Api::new(&self.host, self.config.pairs("HttpHeaders"))?;
            let _ = self.api.set(api);
        }
        self.api.get().ok_or_else(|| Failure::plain("the connection was not set up"))
    }
}

fn host(global: &Parsed, config: &Config) -> Outcome<String> {
    let hosts = global.list("host");
    if hosts.len() > 1 {
        return Err(Failure::plain(
            "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
        ));
    }
    match hosts.first() {
        // A bare name is a machine, as in Docker.
        Some(host) if !host.contains("://") => return Ok(format!("tcp://{host}")),
        Some(host) => return Ok((*host).to_owned()),
        None => {}
    }
    let (chosen, of_environment_host) = match global.given_text("context") {
        Some(name) => (Some(name.to_owned()), None),
        None => (None, of_environment("GANTRY_HOST").or_else(|| of_environment("DOCKER_HOST"))),
    };
    if let Some(host) = of_environment_host {
        return Ok(host);
    }
    let current = || Some(config.text("currentContext").to_owned());
    match chosen.or_else(|| of_environment("DOCKER_CONTEXT")).or_else(current).as_deref() {
        None | Some("" | "default") => Ok(of_environment("GANTRY_HOST")
            .or_else(|| of_environment("DOCKER_HOST"))
            .unwrap_or_else(|| DEFAULT_HOST.to_owned())),
        Some(name) => config.host_of_context(name),
    }
}
