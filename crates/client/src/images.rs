//! Images and builds.

use std::io::Read;

use crate::api::build::{self, BuildOptions};
use crate::api::image::{DeleteItem, HistoryItem, ImageInspect, ImageSummary, PruneResponse};
use crate::api::model::filter::Filters;
use crate::api::progress::Message;
use crate::api::{Method, filters};
use crate::{Client, Error, Lines, image_path};

/// What `POST /images/create?fromSrc=-` imports, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// `-` for the request's body.
    pub source: String,
    /// The name; empty leaves it without.
    pub repository: String,
    /// The tag; empty is `latest`.
    pub tag: String,
    /// The history's note.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os/arch[/variant]`; empty is the host's.
    pub platform: String,
}

impl Client {
    /// `GET /images/json`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_list(&self, all: bool, narrowed: &Filters) -> Result<Vec<ImageSummary>, Error> {
        let request = self.request(Method::Get, "/images/json").flag("all", all);
        request.optional("filters", &filters::encode(narrowed)).send()?.json()
    }

    /// `GET /images/{name}/json`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_inspect(&self, name: &str) -> Result<ImageInspect, Error> {
        self.request(Method::Get, format!("/images/{}/json", image_path(name))).send()?.json()
    }

    /// The same as the daemon wrote it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_inspect_raw(&self, name: &str) -> Result<serde_json::Value, Error> {
        self.request(Method::Get, format!("/images/{}/json", image_path(name))).send()?.json()
    }

    /// `GET /images/{name}/history`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_history(&self, name: &str) -> Result<Vec<HistoryItem>, Error> {
        self.request(Method::Get, format!("/images/{}/history", image_path(name))).send()?.json()
    }

    /// `POST /images/{name}/tag`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<(), Error> {
        let request = self.request(Method::Post, format!("/images/{}/tag", image_path(name)));
        request.param("repo", repository).optional("tag", tag).send().map(drop)
    }

    /// `DELETE /images/{name}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<DeleteItem>, Error> {
        let request = self.request(Method::Delete, format!("/images/{}", image_path(name)));
        request.flag("force", force).flag("noprune", no_prune).send()?.json()
    }

    /// `POST /images/create` with an archive of a root file system.
    ///
    /// # Errors
    /// [`Error`]; what fails later is a message of the stream.
    pub fn image_import(
        &self,
        options: &ImportOptions,
        archive: impl Read,
    ) -> Result<Lines<'_, Message>, Error> {
        let mut query = crate::api::Query::default();
        query.push("fromSrc", &options.source);
        for (key, value) in [
            ("repo", &options.repository),
            ("tag", &options.tag),
            ("message", &options.message),
            ("platform", &options.platform),
        ] {
            if !value.is_empty() {
                query.push(key, value);
            }
        }
        options.changes.iter().for_each(|change| query.push("changes", change));
        let request = self.request(Method::Post, "/images/create").query(query);
        Ok(request.send_stream("text/plain", archive)?.body.lines())
    }

    /// `POST /images/create` from a registry.
    ///
    /// # Errors
    /// [`Error`]; what fails later is a message of the stream.
    pub fn image_pull(&self, name: &str, tag: &str, platform: &str) -> Result<Lines<'_, Message>, Error> {
        let request = self.request(Method::Post, "/images/create").param("fromImage", name);
        Ok(request.optional("tag", tag).optional("platform", platform).send()?.body.lines())
    }

    /// `POST /images/prune`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_prune(&self, narrowed: &Filters) -> Result<PruneResponse, Error> {
        self.request(Method::Post, "/images/prune")
            .optional("filters", &filters::encode(narrowed))
            .send()?
            .json()
    }

    /// `POST /build` with a context as a tar archive. Dropping the stream withdraws the build.
    ///
    /// # Errors
    /// [`Error`]; what fails later is a message of the stream.
    pub fn build(&self, options: &BuildOptions, context: impl Read) -> Result<Lines<'_, Message>, Error> {
        let request = self.request(Method::Post, "/build").query(options.to_query());
        Ok(request.send_stream("application/x-tar", context)?.body.lines())
    }

    /// `POST /build/prune`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn build_prune(&self, all: bool, narrowed: &Filters) -> Result<build::PruneResponse, Error> {
        let request = self.request(Method::Post, "/build/prune").flag("all", all);
        request.optional("filters", &filters::encode(narrowed)).send()?.json()
    }
}
