//! What is known about a container: its record (what it is), its state (what happened to it) and the
//! view that both make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::container::{Desired, Status};
use gantry_model::mount::{MountKind, MountPoint};
use gantry_model::{ContainerId, Digest, ExecId, Timestamp};
use serde::{Deserialize, Serialize};

use super::config::{Config, EndpointRequest, HostConfig};
use crate::sandboxes::Attached;
use crate::volumes;

/// A consistent picture of one container at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// What it is.
    pub record: Arc<Record>,
    /// What happened to it.
    pub state: State,
    /// Its networks and ports while it runs; endpoints without addresses otherwise.
    pub network: Arc<Attached>,
    /// Execs that run in it.
    pub execs: Vec<ExecId>,
}

/// What a container is. Only rename and update change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image by its id (the config digest).
    pub image: Digest,
    /// The program: first word of entry point and command.
    pub path: String,
    /// The other words.
    pub args: Vec<String>,
    /// The configuration with the image's defaults merged in.
    pub config: Config,
    /// The host configuration with the daemon's defaults filled in (network mode, shm size, ipc and cgroup
    /// namespace modes, log driver).
    pub host: HostConfig,
    /// The client's `Config`, as sent.
    pub config_json: serde_json::Value,
    /// The client's `HostConfig`, as sent, with updates merged.
    pub host_config_json: serde_json::Value,
    /// Endpoints that were asked for.
    pub endpoints: Vec<EndpointRequest>,
    /// Mount points in the order of their destinations.
    pub mounts: Vec<MountPoint>,
    /// Its own directory: `containers/<id>` with `hosts`, `hostname`, `resolv.conf`, `log/`.
    pub directory: PathBuf,
    /// The image's layers, lowest first, for `ancestor` filters and `diff` without the image.
    #[serde(default)]
    pub layers: Vec<gantry_model::LayerId>,
}

impl Record {
    /// The log file that inspect shows; `None` where the driver has none.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        matches!(self.host.log.driver.as_str(), "" | "json-file").then(|| self.directory.join("log/json.log"))
    }

    /// Says where its things are now: a data root may have been moved, or be a copy, since the record was written.
    pub(crate) fn locate(&mut self, data_root: &Path) {
        self.directory = data_root.join("containers").join(self.id.as_str());
        for point in self.mounts.iter_mut().filter(|point| point.kind == MountKind::Volume) {
            point.source = volumes::data_directory(&data_root.join("volumes"), &point.name);
        }
    }
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Docker's state.
    pub status: Status,
    /// What it is to be.
    pub desired: Desired,
    /// The process id on the host; 0 while none runs.
    pub pid: u32,
    /// Of the last exit, or of a failed start.
    pub exit_code: i32,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Why the last start failed or the process was lost; empty otherwise.
    pub error: String,
    /// The last start.
    pub started: Option<Timestamp>,
    /// The last exit.
    pub finished: Option<Timestamp>,
    /// Restarts by policy since the last start by hand.
    pub restart_count: u32,
    /// The n-th start; 0 before the first.
    pub generation: u64,
    /// With the boot id, tells the process from a later one with its pid; see `proc(5)`, field 22.
    #[serde(default)]
    pub start_time_ticks: u64,
}

impl Default for State {
    /// A container that was never started.
    fn default() -> Self {
        Self {
            status: Status::Created,
            desired: Desired::Stopped,
            pid: 0,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started: None,
            finished: None,
            restart_count: 0,
            generation: 0,
            start_time_ticks: 0,
        }
    }
}

impl State {
    /// Whether a process runs (also paused).
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }
}
