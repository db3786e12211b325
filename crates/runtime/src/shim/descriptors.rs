//! The descriptor store: what keeps namespaces and published ports alive without a daemon.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::protocol::{Refusal, RefusalKind};
use crate::launch::Joined;

/// Held descriptors by name, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: Vec<(Box<str>, OwnedFd)>,
}

impl Held {
    /// Takes descriptors; an equal name's old one is closed.
    pub(super) fn put(&mut self, names: Vec<String>, descriptors: Vec<OwnedFd>) {
        for (name, descriptor) in names.into_iter().zip(descriptors) {
            match self.entries.iter_mut().find(|entry| *entry.0 == *name) {
                Some(entry) => entry.1 = descriptor,
                None => self.entries.push((name.into(), descriptor)),
            }
        }
    }

    /// Closes some.
    pub(super) fn release(&mut self, names: &[String]) {
        self.entries.retain(|entry| !names.iter().any(|name| **name == *entry.0));
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.0.to_string()).collect()
    }

    /// Looks some up.
    pub(super) fn get(&self, names: &[String]) -> Result<Vec<BorrowedFd<'_>>, Refusal> {
        names
            .iter()
            .map(|name| {
                self.find(name).ok_or_else(|| {
                    Refusal::new(RefusalKind::NotFound, format!("no descriptor called {name:?} is held"))
                })
            })
            .collect()
    }

    fn find(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.entries.iter().find(|entry| *entry.0 == *name).map(|entry| entry.1.as_fd())
    }

    /// Those that a container joins.
    pub(super) fn joined(&self) -> Joined<'_> {
        Joined {
            net: self.find("net"),
            ipc: self.find("ipc"),
            uts: self.find("uts"),
            pid: self.find("pid"),
            user: self.find("user"),
            cgroup: self.find("cgroup"),
        }
    }
}
