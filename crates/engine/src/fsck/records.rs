//! What the engine database says, read beside whoever writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gantry_model::ContainerId;
use gantry_model::container::Status;
use gantry_net::ports::Publication;
use gantry_state::Database;

use crate::containers::core::{self, Row};
use crate::database::LedgerError;
use crate::sandboxes::{self, Attached};

/// The rows.
pub struct Records {
    pub(super) containers: BTreeMap<ContainerId, Row>,
    pub(super) volumes: BTreeSet<String>,
    /// By id: who made it, what it has, and how many live in it.
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) networks: BTreeMap<String, String>,
}

pub(super) struct Sandbox {
    pub(super) owner: String,
    pub(super) attached: Attached,
    pub(super) members: i64,
}

impl Records {
    /// Reads all. A root in which no engine ever was has none.
    ///
    /// # Errors
    /// In words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut records = Self {
            containers: BTreeMap::new(),
            volumes: BTreeSet::new(),
            sandboxes: BTreeMap::new(),
            networks: BTreeMap::new(),
        };
        if !path.exists() {
            return Ok(records);
        }
        let database = Database::open_to_read(path).map_err(|error| crate::chain(&error))?;
        database
            .read::<_, LedgerError>(|transaction| {
                for row in core::all(transaction)? {
                    records.containers.insert(row.record.id.clone(), row);
                }
                let mut names = transaction.prepare("SELECT name FROM volumes")?;
                for name in names.query_map([], |row| row.get::<_, String>(0))? {
                    records.volumes.insert(name?);
                }
                let mut networks = transaction.prepare("SELECT id, name FROM networks")?;
                for network in networks.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
                    let (id, name) = network?;
                    records.networks.insert(id, name);
                }
                let mut all = transaction.prepare(
                    "SELECT id, owner, record, (SELECT count(*) FROM sandbox_members WHERE sandbox = id)
                     FROM sandboxes",
                )?;
                let rows = all.query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
                })?;
                for row in rows {
                    let (id, owner, record, members): (String, String, String, i64) = row?;
                    let attached = serde_json::from_str(&record)?;
                    records.sandboxes.insert(id, Sandbox { owner, attached, members });
                }
                Ok(())
            })
            .map_err(|error| crate::chain(&error))?;
        Ok(records)
    }

    /// How a container is called for people.
    pub(super) fn name(&self, id: &str) -> Option<String> {
        let row = self.containers.get(&id.parse::<ContainerId>().ok()?)?;
        Some(format!("container {} ({})", row.record.name, row.state.status.as_str()))
    }

    /// Whether a container's row says that a shim has it.
    pub(super) fn is_up(&self, id: &str) -> bool {
        let row = id.parse::<ContainerId>().ok().and_then(|id| self.containers.get(&id));
        row.is_some_and(|row| {
            matches!(row.state.status, Status::Running | Status::Paused | Status::Restarting)
        })
    }

    /// All published ports.
    pub(super) fn publications(&self) -> Vec<Publication> {
        self.sandboxes.values().flat_map(|sandbox| sandboxes::publications(&sandbox.attached)).collect()
    }
}
