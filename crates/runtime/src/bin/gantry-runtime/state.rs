//! What is remembered of a container between calls.
//!
//! ```text
//! ROOT/ID/state.json    what this module reads and writes
//! ROOT/ID/config.json   the specification as it was at create
//! ROOT/ID/start,report  FIFOs at which the process waits; gone once it was started
//! ```

use std::path::{Path, PathBuf};

use gantry_runtime::Process;
use gantry_runtime::cgroup::{self, Cgroup};
use gantry_runtime::process::is_running;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::inspect::SPEC_VERSION;
use crate::options::Globals;
use crate::output::Failure;

/// A container's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) pid: i32,
    pub(crate) start_time_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) created: String,
    pub(crate) cgroup: PathBuf,
}

/// A container on disk.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) dir: PathBuf,
    pub(crate) record: Record,
}

/// The states of the specification, and paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of a container; the id must be a plain name.
pub(crate) fn directory(globals: &Globals, id: &str) -> Result<PathBuf, Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(good) {
        return Err(format!("invalid id format: {id:?}").into());
    }
    Ok(globals.root.join(id))
}

/// Tells this boot from others.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

impl Container {
    /// Reads one.
    pub(crate) fn load(globals: &Globals, id: &str) -> Result<Self, Failure> {
        let dir = directory(globals, id)?;
        let text = match std::fs::read(dir.join("state.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err("container does not exist".into());
            }
            text => text?,
        };
        Ok(Self { dir, record: serde_json::from_slice(&text)? })
    }

    /// Writes it, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let temporary = self.dir.join("state.json.new");
        std::fs::write(&temporary, serde_json::to_vec(&self.record)?)?;
        std::fs::rename(&temporary, self.dir.join("state.json"))?;
        Ok(())
    }

    /// The specification that it was created with.
    pub(crate) fn spec(&self) -> Result<Spec, Failure> {
        Ok(serde_json::from_slice(&std::fs::read(self.dir.join("config.json"))?)?)
    }

    /// Its cgroup.
    pub(crate) fn cgroup(&self) -> Result<Cgroup, Failure> {
        Ok(Cgroup::open(&cgroup::detect()?, &self.record.cgroup))
    }

    pub(crate) fn alive(&self) -> bool {
        self.record.boot_id == boot_id() && is_running(self.record.pid, self.record.start_time_ticks)
    }

    /// Its first process, if it lives.
    pub(crate) fn process(&self) -> Option<Process> {
        self.alive().then(|| Process::adopt(self.record.pid, self.record.start_time_ticks).ok()).flatten()
    }

    pub(crate) fn status(&self) -> Status {
        if !self.alive() {
            return Status::Stopped;
        }
        if self.dir.join("start").exists() {
            return Status::Created;
        }
        match self.cgroup() {
            Ok(cgroup) if cgroup.is_frozen() => Status::Paused,
            _ => Status::Running,
        }
    }

    /// The specification's state document.
    pub(crate) fn document(&self, status: &str) -> Value {
        let spec = self.spec().ok();
        let annotations = spec.as_ref().and_then(|spec| spec.annotations().clone());
        json!({
            "ociVersion": SPEC_VERSION,
            "id": self.record.id,
            "pid": if status == "stopped" { 0 } else { self.record.pid },
            "status": status,
            "bundle": self.record.bundle,
            "rootfs": self.record.rootfs,
            "created": self.record.created,
            "annotations": annotations,
            "owner": "",
        })
    }

    /// Removes cgroup and directory of one that has ended.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        let cgroup = self.cgroup()?;
        // With the host's processes visible, the end of the first is not the end of all.
        cgroup.kill_all()?;
        cgroup.remove()?;
        std::fs::remove_dir_all(&self.dir)?;
        Ok(())
    }
}

/// All containers below the root, in the order of their names.
pub(crate) fn all(globals: &Globals) -> Result<Vec<Container>, Failure> {
    let mut names: Vec<String> = match std::fs::read_dir(&globals.root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
    };
    names.sort();
    Ok(names.iter().filter_map(|name| Container::load(globals, name).ok()).collect())
}

/// Reads a bundle's specification, its relative paths made absolute.
pub(crate) fn bundle_spec(bundle: &Path) -> Result<Spec, Failure> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "JSON specification file config.json not found".to_owned(),
        _ => format!("{}: {error}", path.display()),
    })?;
    let mut spec: Spec = serde_json::from_slice(&text)?;
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let bind = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let Some(source) = mount.source().clone().filter(|source| bind && source.is_relative()) {
            mount.set_source(Some(bundle.join(source)));
        }
    }
    Ok(spec)
}
