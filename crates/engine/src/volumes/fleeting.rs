//! Volumes whose existence hangs on work in progress: anonymous ones of a container that is being made, or
//! that is being removed together with its volumes.
//!
//! The mark is a field of the record. It is set before the work begins and taken away when a container has
//! been made; a start finds what is marked still, removes what no container refers to, and takes the mark
//! from the rest. So a crash amid `create` leaves no volume that nobody ever had, and one amid `rm -v` none
//! that was to go.

use std::collections::BTreeSet;

use gantry_model::ContainerId;
use rusqlite::Transaction;

use super::Volumes;
use crate::database::LedgerError;

/// Whether anonymous volumes go if the work is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// They do.
    Fleeting,
    /// They stay until they are removed.
    Lasting,
}

/// Marks the anonymous volumes of a container.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn mark(
    transaction: &Transaction<'_>,
    container: &ContainerId,
    mark: Mark,
) -> Result<(), LedgerError> {
    let sql = "UPDATE volumes SET record = json_set(record, '$.fleeting', json(?2))
        WHERE json_extract(record, '$.anonymous')
        AND name IN (SELECT volume FROM container_volumes WHERE container = ?1)";
    let value = if mark == Mark::Fleeting { "true" } else { "false" };
    transaction.prepare_cached(sql)?.execute((container.as_str(), value))?;
    Ok(())
}

/// The containers that have a marked volume: their making or removal was interrupted.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn users_of_fleeting(transaction: &Transaction<'_>) -> Result<BTreeSet<ContainerId>, LedgerError> {
    let sql = "SELECT DISTINCT container FROM container_volumes JOIN volumes ON name = volume
        WHERE json_extract(record, '$.fleeting')";
    let mut statement = transaction.prepare(sql)?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

impl Volumes {
    /// At start, when every container's row is known to be true: finishes what was interrupted.
    pub(crate) fn sweep_fleeting(&self) {
        let all = match self.all() {
            Ok(all) => all,
            Err(error) => return tracing::warn!("volumes were not looked through: {error}"),
        };
        for (volume, users) in all.into_iter().filter(|(volume, _)| volume.fleeting) {
            if users > 0 {
                self.keep(&volume.name);
            } else if let Err(error) = self.remove_now(&volume) {
                tracing::warn!("volume {} is left of an interrupted work: {error}", volume.name);
            } else {
                tracing::info!("volume {} was of a container that was being made or removed", volume.name);
            }
        }
    }

    /// Takes the mark from one that another container uses.
    pub(crate) fn keep(&self, name: &str) {
        let kept = self.ledger.write(|transaction| -> Result<(), LedgerError> {
            let sql = "UPDATE volumes SET record = json_remove(record, '$.fleeting') WHERE name = ?1";
            transaction.prepare_cached(sql)?.execute([name])?;
            Ok(())
        });
        if let Err(error) = kept {
            tracing::warn!("volume {name}: {error}");
        }
    }
}
