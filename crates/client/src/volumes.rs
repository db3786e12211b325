//! Volumes.

use crate::api::model::filter::Filters;
use crate::api::volume::{CreateRequest, ListResponse, PruneResponse, Volume};
use crate::api::{Method, filters};
use crate::{Client, Error, segment};

impl Client {
    /// `GET /volumes`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn volume_list(&self, narrowed: &Filters) -> Result<ListResponse, Error> {
        self.request(Method::Get, "/volumes").optional("filters", &filters::encode(narrowed)).send()?.json()
    }

    /// `GET /volumes/{name}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn volume_inspect(&self, name: &str) -> Result<Volume, Error> {
        self.request(Method::Get, format!("/volumes/{}", segment(name))).send()?.json()
    }

    /// `POST /volumes/create`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn volume_create(&self, request: &CreateRequest) -> Result<Volume, Error> {
        self.request(Method::Post, "/volumes/create").json(request).send()?.json()
    }

    /// `DELETE /volumes/{name}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn volume_remove(&self, name: &str, force: bool) -> Result<(), Error> {
        self.request(Method::Delete, format!("/volumes/{}", segment(name)))
            .flag("force", force)
            .send()
            .map(drop)
    }

    /// `POST /volumes/prune`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn volume_prune(&self, narrowed: &Filters) -> Result<PruneResponse, Error> {
        self.request(Method::Post, "/volumes/prune")
            .optional("filters", &filters::encode(narrowed))
            .send()?
            .json()
    }
}
