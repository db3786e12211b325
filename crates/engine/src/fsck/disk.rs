//! Directories of containers, volumes, shims and build steps.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use gantry_model::ContainerId;

use super::{Caretaker, Inventory, Looking};

/// How the directory of a volume that is being removed begins.
use crate::volumes::DOOMED;

/// What a container's directory has.
const CONTAINER_PARTS: [&str; 4] = ["hostname", "hosts", "log", "resolv.conf"];

/// What a volume's directory has.
const VOLUME_PARTS: [&str; 2] = ["_data", "volume.json"];

/// What an exec root has.
const RUN_PARTS: [&str; 4] = ["b", "c", "lock", "net"];

impl Looking<'_> {
    pub(super) fn containers(&self, snapshots: Option<&BTreeSet<String>>, inventory: &mut Inventory) {
        let advice = self.advice();
        let directory = self.places.data_root.join("containers");
        let there: BTreeSet<String> = names(&directory).into_iter().collect();
        for name in &there {
            let path = directory.join(name);
            match self.records.name(name) {
                Some(holder) => {
                    strangers(&path, &CONTAINER_PARTS, inventory);
                    inventory.own("container", path.display(), holder);
                }
                None if is_id(name) => {
                    inventory.find(format!("{} is no container's: {advice}", path.display()));
                }
                None => stranger(&path, inventory),
            }
        }
        for id in &self.records.unreadable {
            inventory.find(format!(
                "the record of container {id} cannot be read, and what it has is left alone: start the gantryd that wrote it"
            ));
        }
        for (id, row) in &self.records.containers {
            if !there.contains(id.as_str()) {
                inventory.find(format!("container {} has lost its directory: remove it", row.record.name));
            }
            if snapshots.is_some_and(|snapshots| !snapshots.contains(id.as_str())) {
                inventory.find(format!(
                    "container {} has no writable layer, because it was being made or removed: {advice}",
                    row.record.name
                ));
            }
        }
        // Others are the builder's.
        for snapshot in snapshots.into_iter().flatten().filter(|name| is_id(name)) {
            if self.records.name(snapshot).is_none() {
                inventory.find(format!("snapshot {snapshot} is no container's: {advice}"));
            }
        }
    }

    pub(super) fn volumes(&self, inventory: &mut Inventory) {
        let directory = self.places.data_root.join("volumes");
        let mut there = BTreeSet::new();
        for name in names(&directory) {
            let path = directory.join(&name);
            if let Some(name) = name.strip_prefix(DOOMED) {
                inventory.find(format!(
                    "{} is left of the removal of volume {name}: {}",
                    path.display(),
                    self.advice()
                ));
            } else if !path.is_dir() {
                stranger(&path, inventory);
            } else if self.records.volumes.contains(&name) {
                strangers(&path, &VOLUME_PARTS, inventory);
                let users = self.records.containers.values().filter(|row| {
                    row.record.mounts.iter().any(|point| point.name == name && !point.name.is_empty())
                });
                let users: Vec<_> = users.map(|row| format!("container {}", row.record.name)).collect();
                let holder = if users.is_empty() { "its record".into() } else { users.join(", ") };
                inventory.own("volume", path.display(), holder);
            } else {
                inventory.find(format!(
                    "{} is a volume without a record: create a volume of this name to take it up",
                    path.display()
                ));
            }
            there.insert(name);
        }
        for name in self.records.volumes.difference(&there) {
            inventory.find(format!("volume {name} has lost its directory: the next use makes an empty one"));
        }
    }

    /// `c`, `b` and `net` of the exec root.
    pub(super) fn run_directories(&self, inventory: &mut Inventory) {
        let root = &self.places.exec_root;
        for path in names(root).into_iter().map(|name| root.join(name)) {
            // Sockets and pidfiles are where the daemon was told to have them.
            let is_socket = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
            let is_pidfile = path.ends_with("pid") || path.extension().is_some_and(|word| word == "pid");
            if !is_socket && !is_pidfile && !RUN_PARTS.iter().any(|part| path.ends_with(part)) {
                inventory.find(format!("{} is not ours: move it elsewhere", path.display()));
            }
        }
        for name in names(&root.join("c")) {
            let path = root.join("c").join(&name);
            if !is_id(&name) {
                stranger(&path, inventory);
                continue;
            }
            match self.records.name(&name) {
                Some(holder) if self.records.is_up(&name) => {
                    inventory.own("shim directory", path.display(), holder);
                }
                // Of a start or an end that the journal tells the next daemon of.
                Some(holder) if self.caretaker == Caretaker::Nobody => {
                    inventory.own(
                        "shim directory",
                        path.display(),
                        format!("{holder}: its journal is unread"),
                    );
                }
                Some(holder) => {
                    inventory.find(format!("{} is left of {holder}: {}", path.display(), self.advice()));
                }
                None => inventory.find(format!("{} is no container's: {}", path.display(), self.advice())),
            }
        }
        for (directory, kind) in [("b", "build step"), ("net", "network of a build step")] {
            for name in names(&root.join(directory)) {
                let path = root.join(directory).join(name);
                match self.caretaker {
                    Caretaker::Daemon(pid) => inventory.own(kind, path.display(), format!("daemon {pid}")),
                    Caretaker::Nobody => inventory.find(format!(
                        "{} is left of a build that its daemon did not outlive: {}",
                        path.display(),
                        self.advice()
                    )),
                }
            }
        }
    }
}

fn is_id(name: &str) -> bool {
    name.parse::<ContainerId>().is_ok()
}

fn stranger(path: &Path, inventory: &mut Inventory) {
    inventory.find(format!("{} is not ours: move it elsewhere", path.display()));
}

/// Finds what lies in a directory of ours and is none of its parts.
fn strangers(directory: &Path, parts: &[&str], inventory: &mut Inventory) {
    for name in names(directory).iter().filter(|name| !parts.contains(&name.as_str())) {
        stranger(&directory.join(name), inventory);
    }
}

/// The names in a directory; none where there is no such directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
