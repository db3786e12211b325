//! A sandbox's namespaces, made by a short-lived thread and held as descriptors.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use gantry_sys::ns::{self, Kinds};

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

/// Namespaces that a thread of its own is making, so that the caller stays where it is and may do
/// something else meanwhile. If this is dropped, what was made goes.
#[derive(Debug)]
pub struct Making(std::thread::JoinHandle<Result<Namespaces, SandboxError>>);

impl Making {
    /// Waits until they are made.
    ///
    /// # Errors
    /// [`SandboxError`]; nothing remains then.
    pub fn finish(self) -> Result<Namespaces, SandboxError> {
        self.0.join().unwrap_or_else(|_| Err(not_begun(io::Error::other("the thread panicked"))))
    }
}

/// Begins to make namespaces.
///
/// # Errors
/// [`SandboxError`] if there is no thread for it.
pub fn begin(spec: SandboxSpec) -> Result<Making, SandboxError> {
    let thread = std::thread::Builder::new().name("sandbox".into()).stack_size(64 << 10);
    thread.spawn(move || in_thread(&spec)).map(Making).map_err(not_begun)
}

/// Makes namespaces.
///
/// # Errors
/// [`SandboxError`]; nothing remains then.
pub fn create(spec: SandboxSpec) -> Result<Namespaces, SandboxError> {
    begin(spec)?.finish()
}

fn not_begun(source: io::Error) -> SandboxError {
    SandboxError::Step { step: "starting a thread", source }
}

fn in_thread(spec: &SandboxSpec) -> Result<Namespaces, SandboxError> {
    let step = |step| move |source: io::Error| SandboxError::Step { step, source };
    let wanted = [(spec.net, Kinds::NET), (spec.ipc, Kinds::IPC), (spec.uts.is_some(), Kinds::UTS)];
    let kinds = wanted.iter().filter(|(want, _)| *want).fold(Kinds::NONE, |all, (_, kind)| all.and(*kind));
    if !kinds.is_empty() {
        ns::unshare(kinds).map_err(io::Error::from_raw_os_error).map_err(step("unshare"))?;
    }
    if let Some(names) = &spec.uts {
        if !names.hostname.is_empty() {
            rustix::system::sethostname(names.hostname.as_bytes())
                .map_err(|error| step("sethostname")(error.into()))?;
        }
        if !names.domainname.is_empty() {
            rustix::system::setdomainname(names.domainname.as_bytes())
                .map_err(|error| step("setdomainname")(error.into()))?;
        }
    }
    if spec.net {
        ns::loopback_up().map_err(step("loopback"))?;
    }
    let open = |want: bool, path: &str| {
        let file = want.then(|| File::open(path)).transpose().map_err(step("opening a namespace"))?;
        Ok(file.map(OwnedFd::from))
    };
    Ok(Namespaces {
        net: open(spec.net, "/proc/thread-self/ns/net")?,
        ipc: open(spec.ipc, "/proc/thread-self/ns/ipc")?,
        uts: open(spec.uts.is_some(), "/proc/thread-self/ns/uts")?,
    })
}
