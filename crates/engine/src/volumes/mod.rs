//! Volumes: named and anonymous directories that outlive containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_model::filter::Filters;
use gantry_model::{ErrorKind, Timestamp};
use serde::{Deserialize, Serialize};

/// All volumes. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name; 64 hexadecimal digits for an anonymous one.
    pub name: String,
    /// Always `local` yet.
    pub driver: String,
    /// Where its files are: `volumes/<name>/_data`.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Whether it was made for a container without being named.
    pub anonymous: bool,
}

/// What `volume create` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeRequest {
    /// Empty makes an anonymous one.
    pub name: String,
    /// Empty is `local`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

impl Volumes {
    /// Makes a volume; one that is there already is given back unchanged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name; [`Error::Conflict`] if it is there with another driver.
    pub async fn create(&self, _request: VolumeRequest) -> Result<Arc<Volume>, Error> {
        unimplemented!("filled next")
    }

    /// All volumes by name. Filters: `name`, `driver`, `label`, `dangling`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn list(&self, _filters: &Filters) -> Result<Vec<Arc<Volume>>, Error> {
        unimplemented!("filled next")
    }

    /// Finds a volume by name.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn inspect(&self, _name: &str) -> Result<Arc<Volume>, Error> {
        unimplemented!("filled next")
    }

    /// Removes a volume; with `force`, one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a container uses it.
    pub async fn remove(&self, _name: &str, _force: bool) -> Result<(), Error> {
        unimplemented!("filled next")
    }

    /// Removes unused anonymous volumes (all unused with filter `all=true`); returns names and bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(&self, _filters: &Filters) -> Result<(Vec<String>, u64), Error> {
        unimplemented!("filled next")
    }

    /// Bytes that a volume's files take, and how many containers refer to it, for `system df`. Slow.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn usage(&self, _name: &str) -> Result<(u64, usize), Error> {
        unimplemented!("filled next")
    }
}

/// Says why an operation on a volume failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// It is in use.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The host failed.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchVolume(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}
