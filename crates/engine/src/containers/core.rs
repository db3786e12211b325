//! What every container's task needs, and the rows that tasks write.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_model::ContainerId;
use gantry_runtime::cgroup;
use gantry_store::Store;
use oci_spec::runtime::Capability;
use rusqlite::{OptionalExtension, Transaction};

use super::exec::Execs;
use super::index::Index;
use super::record::{Record, State};
use crate::Settings;
use crate::database::{Ledger, LedgerError};
use crate::events::Events;
use crate::networks::Networks;
use crate::sandboxes::Sandboxes;
use crate::volumes::Volumes;

/// The collaborators of containers.
pub(crate) struct Core {
    pub(crate) ledger: Ledger,
    pub(crate) store: Arc<Store>,
    pub(crate) events: Events,
    pub(crate) index: Arc<Index>,
    pub(crate) networks: Networks,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) volumes: Volumes,
    pub(crate) host: HostFacts,
    pub(crate) execs: Execs,
}

/// What is read once at start.
pub(crate) struct HostFacts {
    pub(crate) settings: Settings,
    /// The cgroup hierarchies.
    pub(crate) cgroups: cgroup::Layout,
    /// Capabilities that containers can have at most.
    pub(crate) capabilities: Vec<Capability>,
    /// Names this boot.
    pub(crate) boot_id: String,
    /// `gantry-shim`.
    pub(crate) shim: PathBuf,
    /// `gantry-init`.
    pub(crate) init: PathBuf,
    /// Processors that are online.
    pub(crate) cpus: usize,
}

/// The group that all containers' groups are in, where nothing else is said. Daemons of one host share it.
pub(crate) const CGROUP_PARENT: &str = "/gantry";

impl HostFacts {
    /// Where a container's shim lives: `<exec-root>/c/<id>`.
    pub(crate) fn shim_directory(&self, id: &ContainerId) -> PathBuf {
        self.settings.exec_root.join("c").join(id.as_str())
    }

    /// The cgroup of a container, below each hierarchy's root.
    pub(crate) fn cgroup(&self, record: &Record) -> PathBuf {
        let parent = match record.host.resources.cgroup_parent.as_str() {
            "" => self.settings.defaults.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT),
            given => given,
        };
        PathBuf::from(format!("/{}", parent.trim_matches('/'))).join(record.id.as_str())
    }

    /// A container's cgroup as it is, to read or to kill.
    pub(crate) fn open_cgroup(&self, record: &Record) -> cgroup::Cgroup {
        cgroup::Cgroup::open(&self.cgroups, &self.cgroup(record))
    }
}

/// A container's row.
pub(crate) struct Row {
    pub(crate) record: Record,
    pub(crate) state: State,
    /// The last journal record in `state`.
    pub(crate) seq: u64,
    /// The boot in which `state` was written.
    pub(crate) boot: String,
}

/// Inserts a row.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    record: &Record,
    state: &State,
    boot: &str,
) -> Result<(), LedgerError> {
    transaction.prepare_cached("INSERT INTO containers VALUES (?1, ?2, ?3, 0, ?4, ?5)")?.execute((
        record.id.as_str(),
        &record.name,
        boot,
        serde_json::to_string(record)?,
        serde_json::to_string(state)?,
    ))?;
    Ok(())
}

/// Writes a state together with the number of the last journal record that is in it.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn update_state(
    transaction: &Transaction<'_>,
    id: &ContainerId,
    state: &State,
    seq: u64,
    boot: &str,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached("UPDATE containers SET state = ?2, seq = ?3, boot = ?4 WHERE id = ?1")?
        .execute((
            id.as_str(),
            serde_json::to_string(state)?,
            i64::try_from(seq).unwrap_or(i64::MAX),
            boot,
        ))?;
    Ok(())
}

/// Writes a record after rename or update.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn update_record(transaction: &Transaction<'_>, record: &Record) -> Result<(), LedgerError> {
    transaction.prepare_cached("UPDATE containers SET name = ?2, record = ?3 WHERE id = ?1")?.execute((
        record.id.as_str(),
        &record.name,
        serde_json::to_string(record)?,
    ))?;
    Ok(())
}

/// Deletes a row and what refers to volumes.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn delete(transaction: &Transaction<'_>, id: &ContainerId) -> Result<(), LedgerError> {
    transaction.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Who has a name.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn owner_of(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<Option<ContainerId>, LedgerError> {
    let mut statement = transaction.prepare_cached("SELECT id FROM containers WHERE name = ?1")?;
    let id = statement.query_row([name], |row| row.get::<_, String>(0)).optional()?;
    Ok(id.and_then(|id| id.parse().ok()))
}

/// A container's row.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn one(transaction: &Transaction<'_>, id: &ContainerId) -> Result<Option<Row>, LedgerError> {
    let mut statement =
        transaction.prepare_cached("SELECT boot, seq, record, state FROM containers WHERE id = ?1")?;
    let row = statement
        .query_row([id.as_str()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
            ))
        })
        .optional()?;
    let Some((boot, seq, record, state)) = row else { return Ok(None) };
    let (record, state) = (serde_json::from_str(&record)?, serde_json::from_str(&state)?);
    Ok(Some(Row { record, state, seq: u64::try_from(seq).unwrap_or(0), boot }))
}

/// Who has a row, also one that cannot be read.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn ids(transaction: &Transaction<'_>) -> Result<BTreeSet<ContainerId>, LedgerError> {
    let mut statement = transaction.prepare("SELECT id FROM containers")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let ids = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.into_iter().filter_map(|id| id.parse().ok()).collect())
}

/// All rows; one that cannot be read is left out with a warning.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<Row>, LedgerError> {
    let mut statement = transaction.prepare("SELECT id, boot, seq, record, state FROM containers")?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, String>(4)?,
        ))
    })?;
    let mut all = Vec::new();
    for row in rows {
        let (id, boot, seq, record, state) = row?;
        match (serde_json::from_str(&record), serde_json::from_str(&state)) {
            (Ok(record), Ok(state)) => {
                all.push(Row { record, state, seq: u64::try_from(seq).unwrap_or(0), boot });
            }
            (record, state) => {
                let error = record.err().or(state.err());
                tracing::error!("the record of container {id} cannot be read and is left alone: {error:?}");
            }
        }
    }
    Ok(all)
}
