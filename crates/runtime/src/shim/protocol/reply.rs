//! What a shim answers.

use gantry_model::Timestamp;
use gantry_model::container::{RestartPolicy, Status};
use serde::{Deserialize, Serialize};

use super::Descriptors;

/// What a request is answered with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// To `Hello`.
    Hello(Hello),
    /// To `Launch` and `Start`.
    Launched(ProcessId),
    /// To `Exec`.
    ExecStarted(ProcessId),
    /// To `State`.
    State(State),
    /// To `Descriptors`; the descriptors come with it.
    Descriptors(Descriptors),
    /// To all others.
    Done,
}

/// Who the shim is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The version that both speak from here on.
    pub protocol: u32,
    /// The shim's version.
    pub build: String,
    /// What it can do beyond protocol 1, by name.
    #[serde(default)]
    pub features: Vec<String>,
    /// The shim's own process id.
    pub shim_pid: i32,
    /// How things are. The events of the journal that follow lead up to this state.
    pub state: State,
}

/// A process, for as long as this boot lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Seen from the host.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_time_ticks: u64,
}

/// How things are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// As launched; empty before.
    pub container: String,
    /// How often it was started; the current start's number.
    pub generation: u64,
    /// `created` until started, then `running`, `paused`, `restarting` (waits for its next start) or
    /// `exited` (for good).
    pub status: Status,
    /// The container's init, while it lives.
    pub process: Option<ProcessId>,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// The last exit, if any.
    pub exit: Option<Exit>,
    /// How often policy has restarted it.
    pub restart_count: u32,
    /// Whether a stop is under way.
    pub stopping: bool,
    /// The policy in force.
    pub restart: RestartPolicy,
    /// The last sequence number given out.
    pub last_seq: u64,
    /// Running execs.
    pub execs: Vec<ExecState>,
}

/// A running exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecState {
    /// Which.
    pub exec_id: String,
    /// Its process.
    pub process: ProcessId,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255; 128 + n after signal n.
    pub code: i32,
    /// Whether the kernel's out-of-memory killer took any process of the container in this start.
    pub oom: bool,
    /// When it was noticed.
    pub time: Timestamp,
}

/// Why a request was not done.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What sort.
    pub kind: RefusalKind,
    /// For people; of a launch, in runc's words.
    pub text: String,
    /// Of a launch: Docker's exit code, 125, 126 or 127.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

impl Refusal {
    /// A refusal without an exit code.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), exit_code: None }
    }
}

/// Sorts of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// This shim is older than the operation.
    UnknownOperation,
    /// The arguments cannot be read, or descriptors lack.
    Invalid,
    /// No common protocol version.
    Protocol,
    /// The present state forbids it.
    Conflict,
    /// No such exec.
    NotFound,
    /// An earlier start was meant.
    StaleGeneration,
    /// The process could not be started.
    Launch,
    /// The kernel refused.
    #[serde(other)]
    Internal,
}
