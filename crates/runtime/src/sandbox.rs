//! A sandbox's namespaces, made by a short-lived thread and held as descriptors.

use std::os::fd::OwnedFd;

/// Host and domain name of a new UTS namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UtsNames {
    /// At most 64 bytes; empty keeps the host's.
    pub hostname: String,
    /// At most 64 bytes; empty keeps the host's.
    pub domainname: String,
}

/// Which namespaces to make; the rest stay the host's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxSpec {
    /// A network namespace, its loopback link up.
    pub net: bool,
    /// An IPC namespace.
    pub ipc: bool,
    /// A UTS namespace with these names.
    pub uts: Option<UtsNames>,
}

/// The namespaces made. They live while a descriptor (or a process in them) does.
#[derive(Debug)]
pub struct Namespaces {
    /// Network.
    pub net: Option<OwnedFd>,
    /// System V and POSIX message queues, shared memory, semaphores.
    pub ipc: Option<OwnedFd>,
    /// Host and domain name.
    pub uts: Option<OwnedFd>,
}

/// Why no sandbox was made. Nothing remains.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step failed.
    #[error("making a sandbox: {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl SandboxError {
    /// The kind for clients.
    #[must_use]
    pub fn kind(&self) -> gantry_model::ErrorKind {
        gantry_model::ErrorKind::Internal
    }
}

/// Makes namespaces in a thread of its own, so that the caller stays where it is.
///
/// # Errors
/// [`SandboxError`]; nothing remains then.
pub fn create(spec: &SandboxSpec) -> Result<Namespaces, SandboxError> {
    let _ = spec;
    unimplemented!()
}
