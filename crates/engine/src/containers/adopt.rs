//! Taking up containers of an earlier daemon: shims are talked to again, journals are applied, and what
//! restart policy wants is started.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::ContainerId;
use gantry_model::container::{Desired, RestartPolicy, Status};
use gantry_runtime::shim::census::{self, Shim};
use gantry_runtime::shim::connection::{Connection, ConnectionError};
use gantry_runtime::shim::protocol::{self, Request};

use super::core::{CGROUP_PARENT, Core, Row};
use super::link::{Asked, Link};
use super::record::Record;
use super::task::{Known, Phase, Spawned, Task, protocol_records};
use super::{Error, RemoveOptions, remove};
use crate::sandboxes::Attached;

/// How long a shim may take to say how things are before the engine opens without having heard it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the next record may take once a shim has begun to speak.
const GAP: Duration = Duration::from_millis(100);

/// What was found of a container besides its row.
pub(crate) struct Found {
    pub(crate) row: Row,
    /// The sandbox that its row in the database describes, if it has one.
    pub(crate) network: Option<Attached>,
    /// Whether its writable layer and its directory are there, and none of its volumes is marked as fleeting.
    pub(crate) is_whole: bool,
    /// The shim that was started for it and lives, whether or not it can be reached.
    pub(crate) shim: Option<Shim>,
}

/// Why nothing is known of a container that may be running: we lack what it takes to ask its shim, such as a
/// descriptor. The container is left as it is.
#[derive(Debug, thiserror::Error)]
#[error("the shim of container {name} cannot be asked")]
pub(crate) struct CannotAsk {
    name: String,
    source: io::Error,
}

/// The shims that live in the directories of an exec root, by their containers.
pub(crate) fn living(exec_root: &Path) -> BTreeMap<ContainerId, Shim> {
    // As the kernel names it.
    let Ok(home) = exec_root.join("c").canonicalize() else { return BTreeMap::new() };
    let shims = census::living().into_iter();
    shims.filter_map(|shim| Some((shim.id_below(&home)?.parse().ok()?, shim))).collect()
}

/// Takes up one container. Its task runs when this returns, and its view is true.
///
/// # Errors
/// [`CannotAsk`]; it has no task then.
pub(crate) fn adopt(
    core: &Arc<Core>,
    found: Found,
    runtime: &tokio::runtime::Handle,
) -> Result<(), CannotAsk> {
    let Found { row, network, is_whole, shim } = found;
    if !is_whole && !row.state.is_running() {
        tracing::info!("container {} was being made or removed; it is removed", row.record.id);
        let options = RemoveOptions { force: false, volumes: row.record.host.auto_remove };
        remove::release(core, &row.record, &network.unwrap_or_default());
        for failure in remove::unmake(core, &row.record, options) {
            tracing::error!("container {}: {failure}", row.record.id);
        }
        return Ok(());
    }
    let network = network.unwrap_or_else(|| core.sandboxes.detached(&row.record));
    let boot = row.boot;
    let known =
        Known { record: Arc::new(row.record), state: row.state, network: Arc::new(network), seq: row.seq };
    let mut spawned = Spawned::new(core, known);
    spawned.task().resume(&boot, shim.as_ref())?;
    spawned.run(runtime);
    Ok(())
}

impl Task {
    /// Finds out how things are, before the task runs. `shim` is the one that lives, if one does.
    ///
    /// # Errors
    /// [`CannotAsk`]; nothing was changed.
    pub(super) fn resume(&mut self, boot: &str, shim: Option<&Shim>) -> Result<(), CannotAsk> {
        let directory = self.core.host.shim_directory(&self.known.record.id);
        if boot == self.core.host.boot_id {
            let cannot = |source| CannotAsk { name: self.known.record.name.clone(), source };
            if let Some(connection) = reach(&directory).map_err(cannot)?
                && self.take_up(connection)?
            {
                // What its journal has beyond the row arrives first of all.
                self.phase = Phase::Up;
                self.catch_up();
                return Ok(());
            }
        }
        self.make_out(boot, shim);
        Ok(())
    }

    /// Speaks to a shim that is there already; whether it was still there.
    ///
    /// # Errors
    /// It cannot be listened to.
    pub(super) fn take_up(&mut self, mut connection: Connection) -> Result<bool, CannotAsk> {
        let hello = Request::Hello(protocol::HelloRequest::new(self.known.seq));
        if let Err(error) = connection.request(1, hello, &[]) {
            let id = &self.known.record.id;
            tracing::warn!("the shim of container {id} cannot be talked to: {}", crate::chain(&error));
            return Ok(false);
        }
        let link = Link::new(connection, 1, &[(1, Asked::Hello)]);
        self.link = Some(link.map_err(|source| CannotAsk { name: self.known.record.name.clone(), source })?);
        Ok(true)
    }

    /// Without a shim that answers: makes out from its record and its journal what became of it.
    fn make_out(&mut self, boot: &str, shim: Option<&Shim>) {
        let directory = self.core.host.shim_directory(&self.known.record.id);
        let was_live = self.lives() || self.known.state.status == Status::Restarting;
        let was_starting = !was_live && self.known.state.desired == Desired::Running;
        let rebooted = boot != self.core.host.boot_id;
        // Without its socket nobody will ever reach it. One that has nothing more to run ends by itself.
        if let Some(shim) = shim.filter(|_| was_live || was_starting) {
            self.end_unreachable(shim);
        }
        if !rebooted {
            self.apply_left(&directory);
        }
        if self.lives() {
            // Docker's code for what a reboot took away.
            let (code, error) = if rebooted { (255, "") } else { (137, "shim died") };
            if !rebooted {
                self.kill_cgroup();
            }
            let again = self.is_wanted(was_live, code);
            self.record_loss(code, error, again);
            return self.rest(again);
        }
        if was_starting && self.known.state.desired == Desired::Running {
            if !rebooted {
                self.kill_cgroup();
            }
            let again = self.record_interruption();
            return self.rest(again);
        }
        // Between two runs it was to run again whatever its policy's count says: it is counted already.
        let between = self.known.state.status == Status::Restarting;
        let again = between || self.is_wanted(was_live, self.known.state.exit_code);
        if !again && self.known.state.desired == Desired::Running {
            self.known.state.desired = Desired::Stopped;
            self.save();
        }
        self.rest(again);
    }

    /// Ends a shim whose socket is gone, so that nothing that it holds is left: namespaces, links, ports.
    fn end_unreachable(&self, shim: &Shim) {
        let id = &self.known.record.id;
        tracing::warn!("the shim of container {id} (process {}) cannot be reached and is ended", shim.pid);
        if let Err(error) = shim.kill() {
            tracing::error!("the shim of container {id} (process {}) was not ended: {error}", shim.pid);
        }
    }

    /// Whether its row says that a process of it lives.
    fn lives(&self) -> bool {
        matches!(self.known.state.status, Status::Running | Status::Paused)
    }

    /// Whether its policy wants it to run, now that nothing of it lives and it ended with this code.
    fn is_wanted(&self, was_live: bool, code: i32) -> bool {
        match self.known.record.host.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always => self.known.state.generation > 0 || was_live,
            RestartPolicy::UnlessStopped => self.known.state.desired == Desired::Running,
            RestartPolicy::OnFailure { .. } => {
                was_live && self.known.state.desired == Desired::Running && self.policy_restarts(code)
            }
        }
    }

    /// Nothing of it lives: takes down what is left, and starts it again if that is wanted.
    fn rest(&mut self, again: bool) {
        if again {
            self.restart_at = Some(tokio::time::Instant::now());
        }
        self.show();
        let left = self.known.network.sandbox.is_some()
            || self.core.host.shim_directory(&self.known.record.id).exists();
        let goes = self.known.record.host.auto_remove && self.known.state.status == Status::Exited;
        if left || (goes && !again) {
            self.settle();
        }
    }

    /// Records that a start was not finished, because the daemon ended amid it; whether policy wants it tried again.
    pub(super) fn record_interruption(&mut self) -> bool {
        tracing::info!("the start of container {} was interrupted", self.known.record.id);
        let again = self.policy_restarts(1);
        let state = &mut self.known.state;
        if state.status != Status::Created {
            state.status = Status::Exited;
            state.finished = Some(crate::events::now());
        }
        state.exit_code = 128;
        state.error = "the daemon ended while the container was being started".into();
        state.desired = if again { Desired::Running } else { Desired::Stopped };
        self.save();
        self.show();
        again
    }

    /// Reads what a shim says at once: the answer to `Hello`, then what happened meanwhile, which follows
    /// without a gap. Blocks; only for shims that were there already.
    pub(super) fn catch_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.heard.as_ref().is_none_or(|heard| self.known.seq < heard.last_seq) {
            let left = deadline.saturating_duration_since(Instant::now());
            // What was acknowledged without being committed does not come again.
            let patience = if self.heard.is_some() { left.min(GAP) } else { left };
            if !self.link.as_mut().is_some_and(|link| link.wait_ready(patience)) {
                break;
            }
            while let Some(arrival) = self.link.as_mut().and_then(super::link::Link::ready) {
                self.on_arrival(arrival);
            }
        }
        match self.heard.take() {
            // Its task goes on listening.
            None => tracing::warn!("the shim of container {} does not answer yet", self.known.record.id),
            Some(heard) if self.phase == Phase::Up => self.agree(&heard),
            Some(_) => {}
        }
    }

    /// Makes of a shim's state and the record's one.
    fn agree(&mut self, shim: &protocol::State) {
        match shim.status {
            Status::Created => {
                // The daemon died amid a start: its network may be half made.
                if self.record_interruption() {
                    self.restart_at = Some(tokio::time::Instant::now());
                }
                self.on_final();
            }
            Status::Exited => {
                if self.known.state.is_running() {
                    let code = shim.exit.map_or(137, |exit| exit.code);
                    self.record_loss(code, "", false);
                }
                self.on_final();
            }
            _ => {}
        }
    }

    fn apply_left(&mut self, directory: &Path) {
        let records = protocol_records(directory);
        let news: Vec<_> =
            records.into_iter().filter(|record| record.boot_id == self.core.host.boot_id).collect();
        // Not through `apply`: its effects would settle a container that is only being looked at.
        for record in &news {
            if record.seq <= self.known.seq {
                continue;
            }
            super::journal::apply(&mut self.known.state, record);
            self.known.seq = record.seq;
        }
        if !news.is_empty() {
            self.save();
        }
    }

    pub(super) fn kill_cgroup(&self) {
        kill_cgroup(&self.core, &self.known.record);
    }

    /// Whether policy wants another start after this exit code.
    pub(super) fn policy_restarts(&self, code: i32) -> bool {
        match self.known.record.host.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max_retries } => {
                code != 0 && (max_retries == 0 || self.known.state.restart_count < max_retries)
            }
        }
    }

    /// Records that the container was lost.
    pub(super) fn record_loss(&mut self, code: i32, error: &str, again: bool) {
        let state = &mut self.known.state;
        state.status = if again { Status::Restarting } else { Status::Exited };
        state.restart_count += u32::from(again);
        state.desired = if again { Desired::Running } else { Desired::Stopped };
        (state.pid, state.exit_code, state.finished) = (0, code, Some(crate::events::now()));
        state.error = error.into();
        self.save();
        self.show();
        self.publish("die", vec![("exitCode", code.to_string())]);
        self.on_exit();
    }
}

/// Connects to the shim of a directory; `None` where none takes connections there.
///
/// # Errors
/// It may well be there: we lack descriptors or memory.
fn reach(directory: &Path) -> io::Result<Option<Connection>> {
    match Connection::connect(directory) {
        Ok(connection) => Ok(Some(connection)),
        Err(ConnectionError::Io(error)) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether an error says nothing of what was asked for, but only that we cannot ask.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    lacks.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Kills what lives in a container's cgroup and removes it; for a shim that died.
pub(super) fn kill_cgroup(core: &Core, record: &Record) {
    let cgroup = core.host.open_cgroup(record);
    if let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove()) {
        tracing::warn!("the cgroup of container {} was not removed: {}", record.id, crate::chain(&error));
    }
}

/// Removes what a shim without a row left: nobody knows the container any more.
pub(crate) fn remove_orphan(core: &Core, directory: &Path) -> Result<(), Error> {
    if let Ok(mut connection) = Connection::connect(directory) {
        use gantry_runtime::shim::protocol::{HelloRequest, Request, Shutdown};
        let deadline = Some(std::time::Instant::now() + super::start::UNDO_PATIENCE);
        let hello = Request::Hello(HelloRequest::new(u64::MAX));
        let result = connection
            .request(1, hello, &[])
            .and_then(|()| connection.request(2, Request::Shutdown(Shutdown { kill: true }), &[]))
            .and_then(|()| {
                loop {
                    if let (gantry_runtime::shim::protocol::Frame::Reply(reply), _) =
                        connection.recv_until(deadline)?
                        && reply.id == 2
                    {
                        return Ok(());
                    }
                }
            });
        if let Err(error) = result {
            tracing::warn!("an orphaned shim did not end: {}", crate::chain(&error));
        }
    }
    if let Some(id) = directory.file_name() {
        let parent = core.host.settings.defaults.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT);
        let path = Path::new(parent).join(id);
        let cgroup = gantry_runtime::cgroup::Cgroup::open(&core.host.cgroups, &path);
        if let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove()) {
            tracing::warn!("the cgroup of an orphan was not removed: {}", crate::chain(&error));
        }
    }
    std::fs::remove_dir_all(directory)
        .map_err(|error| Error::Internal(format!("cannot remove {}: {error}", directory.display())))
}
