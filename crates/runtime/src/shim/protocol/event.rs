//! What a shim tells unasked.

use gantry_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::ProcessId;

/// One line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// `/proc/sys/kernel/random/boot_id` of the boot in which it was written.
    pub boot_id: String,
    /// The start that it is about; 0 before the first.
    pub generation: u64,
    /// Rises by one from record to record over the container's life.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The process waits before its `execve`.
    Created(ProcessId),
    /// It runs; also after each restart by policy.
    Started(ProcessId),
    /// It could not be made, or its `execve` failed. After this nothing more happens by itself.
    StartFailed {
        /// In runc's words.
        text: String,
        /// 125, 126 or 127.
        exit_code: i32,
    },
    /// The kernel killed something in it for want of memory; told at once, and before `Exited` at the latest.
    OomKilled,
    /// It ended, and its output is spooled.
    Exited {
        /// 0 to 255; 128 + n after signal n.
        code: i32,
        /// Whether `OomKilled` came in this start.
        oom: bool,
        /// Whether `Restarting` follows.
        restarting: bool,
    },
    /// Policy will start it again.
    Restarting {
        /// In so many milliseconds.
        delay_ms: u64,
        /// How often it was restarted, this time included.
        count: u32,
    },
    /// A stop or kill ended the wait for a restart: it stays exited.
    RestartCancelled,
    /// A stop began.
    Stopping {
        /// The signal sent.
        signal: i32,
        /// Seconds until SIGKILL; -1: never.
        timeout_s: i64,
    },
    /// A signal was sent by `Kill`, or SIGKILL by a stop whose time was over.
    Killed {
        /// Which.
        signal: i32,
    },
    /// An exec runs.
    ExecStarted {
        /// Which.
        exec_id: String,
        /// Its process.
        process: ProcessId,
    },
    /// An exec ended, and its client has its output.
    ExecExited {
        /// Which.
        exec_id: String,
        /// 0 to 255; 128 + n after signal n.
        code: i32,
    },
    /// A client pressed its detach keys.
    Detached {
        /// The exec's, or `None` of the container's own streams.
        exec_id: Option<String>,
    },
    /// All processes are frozen.
    Paused,
    /// And thawed.
    Resumed,
    /// Something asked for was left out or lowered, such as a limit that may not be raised.
    Warning {
        /// A sentence.
        text: String,
    },
    /// Output was lost: the log could not be written.
    LogGap {
        /// How many bytes.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// Stands for records of restarts that became too many while no daemon read them; its number is the last
    /// one's.
    Coalesced(Coalesced),
    /// Something that this code does not know. Acknowledge it.
    #[serde(other)]
    Unknown,
}

/// What is left of records that were made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Coalesced {
    /// How often it exited and was started again.
    pub exits: u64,
    /// The code of the last of these exits.
    pub code: i32,
    /// How often the kernel killed something in it for want of memory.
    pub oom_kills: u64,
    /// Bytes of output that were lost.
    pub lost_bytes: u64,
}

impl Coalesced {
    /// What a record contributes; `None` of one that is kept as it is, because somebody asked for what it says or
    /// because nothing more follows by itself.
    pub(in crate::shim) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Coalesced(sum) => Some(*sum),
            Event::Exited { code, restarting: true, .. } => {
                Some(Self { exits: 1, code: *code, ..Self::default() })
            }
            Event::OomKilled => Some(Self { oom_kills: 1, ..Self::default() }),
            Event::LogGap { bytes, .. } => Some(Self { lost_bytes: *bytes, ..Self::default() }),
            Event::Created(_)
            | Event::Started(_)
            | Event::Restarting { .. }
            | Event::ExecStarted { .. }
            | Event::ExecExited { .. }
            | Event::Detached { .. }
            | Event::Warning { .. } => Some(Self::default()),
            Event::StartFailed { .. }
            | Event::Exited { .. }
            | Event::RestartCancelled
            | Event::Stopping { .. }
            | Event::Killed { .. }
            | Event::Paused
            | Event::Resumed
            | Event::Unknown => None,
        }
    }

    /// Adds what came later.
    pub(in crate::shim) fn add(&mut self, later: Self) {
        if later.exits > 0 {
            self.code = later.code;
        }
        self.exits += later.exits;
        self.oom_kills += later.oom_kills;
        self.lost_bytes += later.lost_bytes;
    }
}
