//! Networks.

use crate::api::model::filter::Filters;
use crate::api::network::{CreateRequest, CreateResponse, Network, PruneResponse};
use crate::api::{Method, filters};
use crate::{Client, Error, segment};

impl Client {
    /// `GET /networks`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_list(&self, narrowed: &Filters) -> Result<Vec<Network>, Error> {
        self.request(Method::Get, "/networks").optional("filters", &filters::encode(narrowed)).send()?.json()
    }

    /// `GET /networks/{id}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_inspect(&self, name: &str) -> Result<Network, Error> {
        self.request(Method::Get, format!("/networks/{}", segment(name))).send()?.json()
    }

    /// The same as the daemon wrote it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_inspect_raw(&self, name: &str) -> Result<serde_json::Value, Error> {
        self.request(Method::Get, format!("/networks/{}", segment(name))).send()?.json()
    }

    /// `POST /networks/create`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_create(&self, request: &CreateRequest) -> Result<CreateResponse, Error> {
        self.request(Method::Post, "/networks/create").json(request).send()?.json()
    }

    /// `DELETE /networks/{id}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_remove(&self, name: &str) -> Result<(), Error> {
        self.request(Method::Delete, format!("/networks/{}", segment(name))).send().map(drop)
    }

    /// `POST /networks/prune`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn network_prune(&self, narrowed: &Filters) -> Result<PruneResponse, Error> {
        self.request(Method::Post, "/networks/prune")
            .optional("filters", &filters::encode(narrowed))
            .send()?
            .json()
    }
}
