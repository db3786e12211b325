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
    /// Who has a row that cannot be read.
    pub(super) unreadable: BTreeSet<ContainerId>,
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
    /// The database is lost, damaged, or cannot be read; in words.
    pub fn read(data_root: &Path) -> Result<Self, String> {
        let mut records = Self {
            containers: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            volumes: BTreeSet::new(),
            sandboxes: BTreeMap::new(),
            networks: BTreeMap::new(),
        };
        let path = data_root.join("engine.db");
        let opened = Database::find(&path, &[data_root.join("containers")]).and_then(|is_there| {
            let database = is_there.then(|| Database::open_to_read(&path)).transpose()?;
            database.iter().try_for_each(Database::check)?;
            Ok(database)
        });
        let Some(database) = opened.map_err(|error| crate::chain(&error))? else { return Ok(records) };
        database
            .read::<_, LedgerError>(|transaction| {
                records.unreadable = core::ids(transaction)?;
                for row in core::all(transaction)? {
                    records.unreadable.remove(&row.record.id);
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
        let id = id.parse::<ContainerId>().ok()?;
        if self.unreadable.contains(&id) {
            return Some(format!("container {id}, whose record cannot be read"));
        }
        let row = self.containers.get(&id)?;
        Some(format!("container {} ({})", row.record.name, row.state.status.as_str()))
    }

    /// Whether a container's row says that a shim has it, or may say so.
    pub(super) fn is_up(&self, id: &str) -> bool {
        let Ok(id) = id.parse::<ContainerId>() else { return false };
        let is_up =
            |row: &Row| matches!(row.state.status, Status::Running | Status::Paused | Status::Restarting);
        // Of one that cannot be read nobody knows.
        self.containers.get(&id).map_or_else(|| self.unreadable.contains(&id), is_up)
    }

    /// All published ports.
    pub(super) fn publications(&self) -> Vec<Publication> {
        self.sandboxes.values().flat_map(|sandbox| sandboxes::publications(&sandbox.attached)).collect()
    }
}
