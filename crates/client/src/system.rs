//! The daemon itself.

use crate::api::event::EventMessage;
use crate::api::model::filter::Filters;
use crate::api::system::{DiskUsage, Info, Version};
use crate::api::{ApiVersion, Method, filters};
use crate::{Client, Error, Lines};

/// What `_ping` tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ping {
    /// The daemon's newest version.
    pub api_version: Option<ApiVersion>,
    /// `linux`.
    pub os_type: String,
    /// `1` for the classic builder, `2` for BuildKit.
    pub builder_version: String,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// The daemon's name and version.
    pub server: String,
}

impl Client {
    /// Asks whether the daemon is there.
    ///
    /// # Errors
    /// [`Error`].
    pub fn ping(&self) -> Result<Ping, Error> {
        let response = self.request(Method::Head, "/_ping").send()?;
        let text = |name| response.header(name).unwrap_or("").to_owned();
        Ok(Ping {
            api_version: response.api_version(),
            os_type: text("Ostype"),
            builder_version: text("Builder-Version"),
            experimental: response.header("Docker-Experimental") == Some("true"),
            server: text("Server"),
        })
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn server_version(&self) -> Result<Version, Error> {
        self.request(Method::Get, "/version").send()?.json()
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn info(&self) -> Result<Info, Error> {
        self.request(Method::Get, "/info").send()?.json()
    }

    /// `GET /system/df`; both the older and the newer half may be there.
    ///
    /// # Errors
    /// [`Error`].
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.request(Method::Get, "/system/df").param("verbose", "1").send()?.json()
    }

    /// `GET /events`: as they happen, until `until`. Times are as Docker's client sends them.
    ///
    /// # Errors
    /// [`Error`].
    pub fn events(
        &self,
        since: &str,
        until: &str,
        narrowed: &Filters,
    ) -> Result<Lines<'_, EventMessage>, Error> {
        let request = self.request(Method::Get, "/events").optional("since", since).optional("until", until);
        Ok(request.optional("filters", &filters::encode(narrowed)).send()?.body.lines())
    }
}
