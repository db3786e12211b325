//! Processes, control groups, mounts, links and rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gantry_model::container::Status;
use gantry_net::owned::{self, Owned};
use gantry_net::{Host, Identity, ports};
use gantry_runtime::Process;
use gantry_runtime::cgroup;
use gantry_runtime::shim::census::{self, Kind};
use gantry_runtime::shim::connection::SOCKET_NAME;

use super::disk::names;
use super::{Caretaker, Inventory, Looking};
use crate::containers::core::CGROUP_PARENT;

/// The shims of containers, by the container's id.
pub(super) type Shims = BTreeMap<String, i32>;

impl Looking<'_> {
    /// The shims that live in our directories.
    pub(super) fn processes(&self, inventory: &mut Inventory) -> Shims {
        let home = self.places.exec_root.join("c");
        // As the kernel names it.
        let home = home.canonicalize().unwrap_or(home);
        let mut shims = Shims::new();
        for shim in census::living() {
            if shim.kind == Kind::Ephemeral {
                if let Caretaker::Daemon(daemon) = self.caretaker
                    && parent_of(shim.pid) == Some(daemon)
                {
                    inventory.own("shim", shim.pid, format!("a build step of daemon {daemon}"));
                }
                continue;
            }
            let Some(id) = shim.id_below(&home) else { continue };
            match self.records.name(id) {
                Some(holder) if self.records.is_up(id) || self.caretaker == Caretaker::Nobody => {
                    let socket = home.join(id).join(SOCKET_NAME);
                    if self.records.is_up(id) && !socket.exists() {
                        inventory.find(format!(
                            "{} is gone, without which the next daemon ends {holder}: restart the container",
                            socket.display()
                        ));
                    }
                    inventory.own("shim", shim.pid, holder);
                    shims.insert(id.to_owned(), shim.pid);
                }
                _ => inventory.find(format!(
                    "process {} is a shim in {}, which no running container has: {}",
                    shim.pid,
                    home.join(id).display(),
                    self.advice()
                )),
            }
        }
        shims
    }

    /// Whether what the records say of processes is so.
    pub(super) fn truth(&self, shims: &Shims, inventory: &mut Inventory) {
        let boot = gantry_sys::process::boot_id().unwrap_or_default();
        for (id, row) in &self.records.containers {
            let (name, state) = (&row.record.name, &row.state);
            let is_live = state.is_running();
            let waits = state.status == Status::Restarting && !shims.contains_key(id.as_str());
            if !is_live && !waits {
                continue;
            }
            let process = i32::try_from(state.pid).ok();
            let lives = row.boot == boot
                && process.is_some_and(|pid| Process::adopt(pid, state.start_time_ticks).is_ok());
            match (self.caretaker, shims.contains_key(id.as_str())) {
                (_, true) if lives => inventory.own("process", state.pid, format!("container {name}")),
                // Its end waits in the journal.
                (Caretaker::Nobody, true) => {}
                (Caretaker::Nobody, false) if self.places.exec_root.join("c").join(id.as_str()).exists() => {
                    inventory.own("record", name, "its shim's journal, which the next start reads");
                }
                (Caretaker::Nobody, false) => inventory.find(format!(
                    "container {name} is recorded as {} and has no shim: the next start records its end",
                    state.status.as_str()
                )),
                // Between two runs after its shim died, the daemon itself waits for the time.
                (Caretaker::Daemon(_), false) if !is_live => {}
                (Caretaker::Daemon(_), _) => inventory.find(format!(
                    "container {name} is recorded as {} and does not run: restart the daemon",
                    state.status.as_str()
                )),
            }
        }
    }

    pub(super) fn cgroups(&self, inventory: &mut Inventory) {
        let layout = match cgroup::detect() {
            Ok(layout) => layout,
            Err(error) => return inventory.unseen.push(format!("control groups: {}", crate::chain(&error))),
        };
        let parent = self.places.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT);
        let steps: BTreeSet<String> = names(&self.places.exec_root.join("b"))
            .iter()
            .filter_map(|name| {
                let path = self.places.exec_root.join("b").join(name).join("cgroup");
                Some(fs::read_to_string(path).ok()?.rsplit('/').next()?.to_owned())
            })
            .collect();
        let mounts = layout.hierarchies.iter().map(|hierarchy| &hierarchy.mount).chain(&layout.unified);
        for mount in mounts {
            let directory = mount.join(parent.trim_start_matches('/'));
            for name in directories(&directory) {
                let path = directory.join(&name);
                if let Some(holder) = self.records.name(&name) {
                    if self.records.is_up(&name) || self.caretaker == Caretaker::Nobody {
                        inventory.own("cgroup", path.display(), holder);
                    } else {
                        let advice = self.advice();
                        inventory.find(format!("cgroup {} is left of {holder}: {advice}", path.display()));
                    }
                } else if steps.contains(&name) {
                    inventory.own("cgroup", path.display(), "a build step");
                } else if parent != CGROUP_PARENT || is_empty(&path) {
                    // In the shared parent, one with processes is another daemon's.
                    inventory.find(format!("cgroup {} is nobody's: remove it with rmdir", path.display()));
                }
            }
        }
    }

    /// Mounts below places where no container's are. What an operator mounted elsewhere (a volume's disk) is
    /// shown.
    pub(super) fn mounts(&self, inventory: &mut Inventory) {
        let table = match fs::read_to_string("/proc/self/mountinfo") {
            Ok(table) => table,
            Err(error) => return inventory.unseen.push(format!("mounts: {error}")),
        };
        let (data, exec) = (&self.places.data_root, &self.places.exec_root);
        let ours: Vec<PathBuf> = ["layers", "snapshots", "containers", "trash", "tmp", "builds"]
            .iter()
            .map(|name| data.join(name))
            .chain(["c", "b", "net"].iter().map(|name| exec.join(name)))
            .collect();
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)) {
            let path = Path::new(point);
            if ours.iter().any(|place| path.starts_with(place)) {
                inventory.find(format!("{point} is a mount on the host: unmount it"));
            } else if (path.starts_with(data) && path != data) || (path.starts_with(exec) && path != exec) {
                inventory.own("mount", point, "the operator");
            }
        }
    }

    pub(super) fn network(&self, inventory: &mut Inventory) {
        let found = Host::open(Identity::from_exec_root(&self.places.exec_root))
            .map_err(|error| crate::chain(&error))
            .and_then(|host| {
                let things = owned::list(&host).map_err(|error| crate::chain(&error))?;
                let ports = ports::list(&host).map_err(|error| crate::chain(&error))?;
                let strangers = owned::strangers(&host).map_err(|error| crate::chain(&error))?;
                Ok((things, ports, strangers))
            });
        let (things, published, strangers) = match found {
            Ok(found) => found,
            Err(error) => return inventory.unseen.push(format!("the network: {error}")),
        };
        strangers.into_iter().for_each(|finding| inventory.find(finding));
        let advice = self.advice();
        for thing in &things {
            match thing {
                Owned::Endpoint { name, owner } => {
                    if let Some(sandbox) = self.records.sandboxes.get(owner) {
                        let holder = self.records.name(&sandbox.owner);
                        inventory.own("link", name, holder.unwrap_or_else(|| format!("sandbox {owner}")));
                    } else if self.places.exec_root.join("net").join(owner).exists() {
                        inventory.own("link", name, "a build step");
                    } else {
                        inventory.find(format!("link {name} is no sandbox's: {advice}"));
                    }
                }
                Owned::Bridge { name, owner } => match self.records.networks.get(owner) {
                    Some(network) => inventory.own("link", name, format!("network {network}")),
                    None => inventory.find(format!("bridge {name} is no network's: {advice}")),
                },
                Owned::Table { name, ports } => {
                    inventory.own("nft table", name, format!("the daemon; {ports} published ports"));
                }
                Owned::ForeignRule { chain, bridge } => {
                    inventory.own("rule", chain, format!("bridge {bridge}"));
                }
            }
        }
        self.sandboxes(inventory);
        let has_table = things.iter().any(|thing| matches!(thing, Owned::Table { .. }));
        let wanted = self.records.publications();
        for port in &published {
            let text = format!("{}:{}/{}", port.address, port.port, port.protocol.as_str());
            if wanted.contains(port) {
                inventory.own("published port", text, port.target);
            } else {
                inventory.find(format!("port {text} is published and no sandbox's: {advice}"));
            }
        }
        // A daemon that leaves the firewall alone has no table.
        for port in wanted.iter().filter(|port| has_table && !published.contains(port)) {
            inventory.find(format!(
                "port {}:{}/{} is recorded and not published: restart the daemon",
                port.address,
                port.port,
                port.protocol.as_str()
            ));
        }
    }

    fn sandboxes(&self, inventory: &mut Inventory) {
        for (id, sandbox) in &self.records.sandboxes {
            let Some(owner) = self.records.name(&sandbox.owner) else {
                if sandbox.members == 0 {
                    inventory.find(format!("sandbox {id} is recorded and nobody's: {}", self.advice()));
                }
                continue;
            };
            let between = self.caretaker == Caretaker::Nobody || sandbox.members > 1;
            if self.records.is_up(&sandbox.owner) || between {
                inventory.own("sandbox", id, owner);
            } else {
                inventory.find(format!("sandbox {id} is left of {owner}: {}", self.advice()));
            }
        }
    }
}

fn directories(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| directory.join(name).is_dir()).collect()
}

fn is_empty(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
}

fn parent_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
