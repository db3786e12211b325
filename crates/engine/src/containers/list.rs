//! Lists and prune.

use std::sync::Arc;

use gantry_model::ContainerId;
use gantry_model::filter::Filters;

use super::{Containers, Error, View};

/// Which containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest n, running or not; 0 is no limit.
    pub limit: usize,
    /// Docker's: id, name, label, status, exited, ancestor, before, since, volume, network, publish,
    /// expose, health, isolation, is-task.
    pub filters: Filters,
}

/// What prune removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Which containers.
    pub containers: Vec<ContainerId>,
    /// Bytes that became free.
    pub reclaimed_bytes: u64,
}

impl Containers {
    /// Containers, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or a wrong value; [`Error::NoSuchContainer`] for `before` and `since`.
    pub fn list(&self, _options: &ListOptions) -> Result<Vec<Arc<View>>, Error> {
        unimplemented!("filled next")
    }

    /// Removes all that do not run; filters: `label`, `label!`, `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(&self, _filters: &Filters) -> Result<Pruned, Error> {
        unimplemented!("filled next")
    }

    /// How many there are: (running, paused, stopped), for `info`.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        unimplemented!("filled next")
    }
}
