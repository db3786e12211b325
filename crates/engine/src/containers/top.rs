//! The processes of a container, as `top` shows them.

use super::{Containers, Error};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Containers {
    /// Lists processes with the host's `ps` columns; arguments are `ps`'s (empty is `-ef`).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn top(&self, _container: &str, _arguments: &str) -> Result<Processes, Error> {
        unimplemented!("filled next")
    }
}
