//! Everything of one host's engine that is on the disk and in the kernel, who holds it, and what
//! contradicts the records.
//!
//! | looked at | explained by |
//! | --- | --- |
//! | `containers/<id>`, snapshots of containers | a container's row |
//! | `volumes/<name>` | a volume's row |
//! | `c/<id>`, shims, control groups | a container that runs or is between two runs |
//! | `b/<id>`, `net/<id>` | a build step of the running daemon |
//! | mounts below either root | nothing: no container has a mount on the host |
//! | links, rules, published ports | a sandbox's row, the daemon itself |
//!
//! It only reads, so it works beside the daemon: what that is just making or removing may then show up as
//! a contradiction, and is gone when asked again. [`records`] reads the database, [`disk`] and [`kernel`]
//! compare.

mod disk;
mod kernel;
mod records;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use records::Records;

/// Where one daemon's things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// What lasts.
    pub data_root: PathBuf,
    /// What lives while shims do.
    pub exec_root: PathBuf,
    /// The parent of the containers' control groups; `None` is `/gantry`, which daemons share.
    pub cgroup_parent: Option<String>,
}

/// Who looks after the places now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caretaker {
    /// This process: what is half done, it does.
    Daemon(u32),
    /// Nobody: what is half done stays so until the next start.
    Nobody,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What sort of thing, in a word: `container`, `volume`, `shim`, `cgroup`, `link`, ….
    pub kind: &'static str,
    /// Its path or name.
    pub name: String,
    /// Why it is there, in words.
    pub holder: String,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// What is there and explained.
    pub owned: Vec<Owned>,
    /// What contradicts the records, each in a sentence that says what to do.
    pub findings: Vec<String>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

impl Inventory {
    fn own(&mut self, kind: &'static str, name: impl ToString, holder: impl ToString) {
        self.owned.push(Owned { kind, name: name.to_string(), holder: holder.to_string() });
    }

    fn find(&mut self, finding: impl ToString) {
        self.findings.push(finding.to_string());
    }
}

/// Looks at everything. `snapshots` are the names of those that the store has; `None` where it cannot say.
///
/// # Errors
/// The engine database cannot be read, without which nothing can be explained; in words.
pub fn inspect(
    places: &Places,
    caretaker: Caretaker,
    snapshots: Option<&BTreeSet<String>>,
) -> Result<Inventory, String> {
    let records = Records::read(&places.data_root)?;
    let mut inventory = Inventory::default();
    let looking = Looking { places, caretaker, records: &records };
    looking.containers(snapshots, &mut inventory);
    looking.volumes(&mut inventory);
    looking.run_directories(&mut inventory);
    let shims = looking.processes(&mut inventory);
    looking.truth(&shims, &mut inventory);
    looking.cgroups(&mut inventory);
    looking.mounts(&mut inventory);
    looking.network(&mut inventory);
    Ok(inventory)
}

/// What all parts look at.
struct Looking<'a> {
    places: &'a Places,
    caretaker: Caretaker,
    records: &'a Records,
}

impl Looking<'_> {
    /// What is to be done about something that a start finishes.
    fn advice(&self) -> &'static str {
        match self.caretaker {
            Caretaker::Daemon(_) => "restart the daemon, which removes it",
            Caretaker::Nobody => "the next start removes it",
        }
    }
}
