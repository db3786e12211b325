//! What a container shares with others: their namespaces, opened while they run.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Start;
use crate::containers::{Error, View};
use crate::sandboxes::Attached;

/// What is joined of other containers.
#[derive(Default)]
pub(super) struct Joined {
    pub(super) net: Option<OwnedFd>,
    pub(super) ipc: Option<OwnedFd>,
    pub(super) pid: Option<OwnedFd>,
    /// The other's network, if that is shared.
    pub(super) owner: Option<Arc<Attached>>,
    /// The other's `hosts`, `hostname` and `resolv.conf`, if the network is shared.
    pub(super) files: Option<PathBuf>,
    /// The other's `/dev/shm`, if IPC is shared.
    pub(super) shm: Option<PathBuf>,
}

impl Start {
    /// Opens what is to be joined.
    ///
    /// # Errors
    /// [`Error`] in Docker's words where the other is not there, does not run or does not share.
    pub(super) fn joined(&self) -> Result<Joined, Error> {
        let host = &self.record.host;
        let mut joined = Joined::default();
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            let found = self.core.index.find(other).map_err(|error| {
                Error::Internal(format!("joining network namespace of container: {error}"))
            })?;
            if found.id == self.record.id {
                return Err(Error::Internal("cannot join own network namespace".into()));
            }
            let view = found.view();
            let (name, status) = (&view.record.name, view.state.status.as_str());
            let text = format!(
                "cannot join network namespace of a non running container: container {name} is {status}"
            );
            joined.net = Some(namespace_of(&view, "net").ok_or(Error::Conflict(text))?);
            joined.files = Some(view.record.directory.clone());
            joined.owner = Some(Arc::clone(&view.network));
        }
        if let Some(other) = host.namespaces.pid.strip_prefix("container:") {
            joined.pid = Some(self.shared(other, "pid", "PID")?.1);
        }
        if let Some(other) = host.namespaces.ipc.strip_prefix("container:") {
            if let Ok(found) = self.core.index.find(other) {
                let view = found.view();
                if view.state.is_running() && view.record.host.namespaces.ipc != "shareable" {
                    let id = &view.record.id;
                    return Err(Error::Conflict(format!(
                        "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                    )));
                }
            }
            let (view, namespace) = self.shared(other, "ipc", "IPC")?;
            joined.ipc = Some(namespace);
            joined.shm = Some(self.core.host.shim_directory(&view.record.id).join("shm"));
        }
        Ok(joined)
    }

    fn shared(&self, other: &str, file: &str, what: &str) -> Result<(Arc<View>, OwnedFd), Error> {
        let failed = |why: String| format!("failed to join {what} namespace: {why}");
        if other.is_empty() {
            return Err(Error::Invalid(failed("invalid name or ID supplied: \"\"".into())));
        }
        let found =
            self.core.index.find(other).map_err(|error| Error::NotFound(failed(error.to_string())))?;
        let view = found.view();
        let not_running = failed(format!("container {} is not running", view.record.id));
        let namespace = namespace_of(&view, file).ok_or(Error::Internal(not_running))?;
        Ok((view, namespace))
    }

    /// Refuses a name that the kernel would, in the words of Docker's runtime.
    pub(super) fn check_hostname(&self, hostname: &str) -> Result<(), Error> {
        /// `__NEW_UTS_LEN`.
        const MOST: usize = 64;
        if hostname.len() <= MOST || self.record.host.namespaces.uts == "host" {
            return Ok(());
        }
        let text = crate::containers::journal::launch_text("sethostname: invalid argument");
        Err(Error::Launch { text, exit_code: 128 })
    }
}

/// Opens a namespace of a container's process, and makes sure that it is still that process; `None` where it does
/// not run.
fn namespace_of(view: &View, file: &str) -> Option<OwnedFd> {
    if !view.state.is_running() {
        return None;
    }
    let opened = std::fs::File::open(format!("/proc/{}/ns/{file}", view.state.pid)).ok()?;
    let pid = i32::try_from(view.state.pid).ok()?;
    gantry_runtime::Process::adopt(pid, view.state.start_time_ticks).ok()?;
    Some(opened.into())
}
