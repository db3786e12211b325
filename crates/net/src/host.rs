//! The host as this daemon sees it: its identity, and the kernel sockets that calls share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_model::ErrorKind;
use gantry_sys::netlink::route::Route;

use crate::flows::Flows;
use crate::identity::Identity;
use crate::table::Table;

/// An open conversation with the kernel of one host. Shared by reference among threads; calls take turns
/// only for as long as the kernel itself needs.
///
/// While it lives, the nft table is owned by it where the kernel can (Linux 6.9): `nft flush ruleset` skips
/// the table and nobody else changes it. When it is dropped, or its process is killed, the table stays as it
/// is, with all ports working, and the next `Host` of the same identity takes it over.
///
/// It speaks to the network namespace of the thread that opened it; its methods are to be called from threads
/// in the same one.
pub struct Host {
    identity: Identity,
    table: Mutex<Table>,
    idle: Mutex<Vec<Route>>,
    flows: Arc<Flows>,
}

impl Host {
    /// Opens the sockets. Makes nothing yet; a table left by an earlier daemon is taken over at the first call
    /// that needs it.
    ///
    /// # Errors
    /// [`HostError`] where the kernel has no netlink for us (not built in, out of descriptors).
    pub fn open(identity: Identity) -> Result<Self, HostError> {
        let table = Table::open(identity.table_name())
            .map_err(|source| HostError::Socket { protocol: "netfilter", source })?;
        let route = Route::open().map_err(|source| HostError::Socket { protocol: "route", source })?;
        Ok(Self { identity, table: Mutex::new(table), idle: Mutex::new(vec![route]), flows: Arc::default() })
    }

    /// Whose things it makes.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits until what calls left to be done beside them is done: old UDP flows are forgotten. For tests, and for
    /// an orderly end; up to 50 ms.
    pub fn settle(&self) {
        self.flows.wait();
    }

    pub(crate) fn flows(&self) -> &Arc<Flows> {
        &self.flows
    }

    /// Our table, for the length of one transaction. A panic of another holder left no half of
    /// one: transactions are the kernel's.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `speak` a socket for links that nobody else uses meanwhile.
    pub(crate) fn with_route<T>(&self, speak: impl FnOnce(&mut Route) -> T) -> std::io::Result<T> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut route = match taken {
            Some(route) => route,
            None => Route::open()?,
        };
        let result = speak(&mut route);
        idle().push(route);
        Ok(result)
    }
}

/// Why the host's network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A netlink socket could not be had.
    #[error("opening a netlink socket ({protocol}) failed")]
    Socket {
        /// `route` or `netfilter`.
        protocol: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl HostError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
