//! Values about containers that several layers share.

use serde::{Deserialize, Serialize};

/// What happens when a container's process exits. Applied by the shim, so it needs no daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays stopped.
    #[default]
    No,
    /// It starts again, also after a reboot, unless stopped by hand until the daemon next starts.
    Always,
    /// As `Always`, but a stop by hand holds across daemon starts.
    UnlessStopped,
    /// It starts again after a non-zero exit.
    OnFailure {
        /// How many times in a row; 0 means without limit.
        max_retries: u32,
    },
}

/// What a container is to be: restart policy and recovery act on this, not on the last exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// A user started it and did not stop it.
    Running,
    /// Never started, stopped by hand, or its policy is exhausted.
    Stopped,
}

/// The name of a container's state, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process exited and policy will start it again.
    Restarting,
    /// Its process exited.
    Exited,
    /// It is going away.
    Removing,
    /// It could not be removed whole; `rm` may be tried again.
    Dead,
}

impl Status {
    /// Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }
}

/// A transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Docker's word for it: `tcp`, `udp`, `sctp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = InvalidProtocol;
    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(InvalidProtocol(text.into())),
        }
    }
}

/// Says why a text is not a protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {0}")]
pub struct InvalidProtocol(pub String);

/// Whether a kernel setting (`kernel.shmmax`, with dots) belongs to an IPC namespace, so that a container that has one
/// of its own may set it.
#[must_use]
pub fn is_sysctl_of_ipc(name: &str) -> bool {
    const SINGLE: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    SINGLE.contains(&name) || name.starts_with("fs.mqueue.")
}
