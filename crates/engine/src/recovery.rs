//! What is done at start: every container of the database is taken up with what is found of it, and
//! what belongs to nobody is swept.
//!
//! | found | done |
//! | --- | --- |
//! | row, shim | its journal beyond the row is applied and acknowledged, its task goes on |
//! | row says running, a shim without its socket | the shim is killed, then as without a shim |
//! | row says running, no shim | its journal file is applied; then exit 137 `shim died`, or 255 after a reboot; policy decides |
//! | row, but no snapshot, no directory, or a volume that is fleeting | it was being made or removed: the removal is finished |
//! | shim's directory, no row | the shim is told to end, its container is killed |
//! | snapshot, directory, link without row | removed |
//!
//! Volumes are never swept, but anonymous ones of a container that was being made or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::{ContainerId, SnapshotId};
use gantry_net::owned::{self, Owned};

use crate::containers::core::{self, Core};
use crate::containers::{CannotAsk, Found, adopt, living, remove_orphan};
use crate::database::LedgerError;
use crate::sandboxes::Attached;
use crate::volumes;

/// Why not everything was taken up. What was not is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    /// The database cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A container may run, and it cannot be found out.
    #[error(transparent)]
    Shim(#[from] CannotAsk),
}

/// Takes up everything. Blocks until every container's state is known.
///
/// # Errors
/// [`RecoveryError`]: nothing is swept then.
pub(crate) fn recover(core: &Arc<Core>, runtime: &tokio::runtime::Handle) -> Result<(), RecoveryError> {
    core.sandboxes.adopt()?;
    let rows = core.ledger.read(core::all)?;
    let mut networks = networks(core)?;
    let mut shims = living(&core.host.settings.exec_root);
    let unfinished = core.ledger.read(volumes::users_of_fleeting)?;
    let snapshots = core.store.snapshots().list();
    let snapshots: Option<BTreeSet<SnapshotId>> = match snapshots {
        Ok(list) => Some(list.into_iter().collect()),
        Err(error) => {
            tracing::error!("snapshots cannot be listed; nothing is swept: {}", crate::chain(&error));
            None
        }
    };
    // What a row is of that cannot be read, perhaps because a newer program wrote it, is left alone.
    let known = core.ledger.read(core::ids)?;
    for mut row in rows {
        row.record.locate(&core.host.settings.data_root);
        let snapshot = SnapshotId::from(&row.record.id);
        let found = Found {
            network: networks.remove(&row.record.id),
            is_whole: snapshots.as_ref().is_none_or(|all| all.contains(&snapshot))
                && row.record.directory.join("log").try_exists().unwrap_or(true)
                && !unfinished.contains(&row.record.id),
            shim: shims.remove(&row.record.id),
            row,
        };
        adopt(core, found, runtime)?;
    }
    reached(Point::RecoverAdopted);
    sweep(core, &known, snapshots.as_ref());
    core.volumes.sweep_fleeting();
    reached(Point::RecoverSwept);
    Ok(())
}

/// The sandboxes by member. A member that is not the owner has no endpoint of its own.
fn networks(core: &Core) -> Result<BTreeMap<ContainerId, Attached>, LedgerError> {
    core.ledger.read(|transaction| {
        let mut statement = transaction.prepare(
            "SELECT m.container, s.owner, s.record FROM sandbox_members m JOIN sandboxes s ON s.id = m.sandbox",
        )?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
        let mut networks = BTreeMap::new();
        for row in rows {
            let (member, owner, record) = row?;
            let attached: Attached = serde_json::from_str(&record)?;
            let attached = if member == owner {
                attached
            } else {
                Attached { sandbox: attached.sandbox, ..Attached::default() }
            };
            if let Ok(member) = member.parse() {
                networks.insert(member, attached);
            }
        }
        Ok(networks)
    })
}

/// Removes what no row knows. Goes on where something fails.
fn sweep(core: &Core, known: &BTreeSet<ContainerId>, snapshots: Option<&BTreeSet<SnapshotId>>) {
    let settings = &core.host.settings;
    for directory in unknown(&settings.exec_root.join("c"), known) {
        tracing::info!("{} belongs to no container and is removed", directory.display());
        if let Err(error) = remove_orphan(core, &directory) {
            tracing::warn!("{error}");
        }
    }
    for directory in unknown(&settings.data_root.join("containers"), known) {
        if let Err(error) = fs::remove_dir_all(&directory) {
            tracing::warn!("{} was not removed: {error}", directory.display());
        }
    }
    let members: BTreeSet<&str> = known.iter().map(ContainerId::as_str).collect();
    for snapshot in snapshots.into_iter().flatten() {
        // Only those that are named as containers are: others are the builder's.
        let ours = snapshot.as_str().parse::<ContainerId>().is_ok();
        if ours
            && !members.contains(snapshot.as_str())
            && let Err(error) = core.store.snapshots().remove(snapshot)
        {
            tracing::warn!("snapshot {snapshot} was not removed: {}", crate::chain(&error));
        }
    }
    sweep_links(core);
    let scratch = settings.exec_root.join("net");
    if scratch.exists()
        && let Err(error) = fs::remove_dir_all(&scratch)
    {
        tracing::warn!("{} was not removed: {error}", scratch.display());
    }
}

fn unknown(parent: &Path, known: &BTreeSet<ContainerId>) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<ContainerId>().ok());
            id.is_some_and(|id| !known.contains(&id))
        })
        .map(|entry| entry.path())
        .collect()
}

/// Removes endpoints whose sandbox is not recorded.
fn sweep_links(core: &Core) {
    let recorded = core.ledger.read(|transaction| {
        let mut statement = transaction.prepare("SELECT id FROM sandboxes")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<Result<BTreeSet<_>, _>>()?)
    });
    let (Ok(recorded), Ok(things)) = (recorded, owned::list(core.networks.host())) else { return };
    for thing in things {
        if let Owned::Endpoint { owner, .. } = &thing
            && !recorded.contains(owner)
            && let Err(error) = owned::remove(core.networks.host(), &thing)
        {
            tracing::warn!("a link was not removed: {}", crate::chain(&error));
        }
    }
}
