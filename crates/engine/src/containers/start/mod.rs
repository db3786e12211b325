//! Starting a container.
//!
//! | | step | undone by |
//! | --- | --- | --- |
//! | 1 | address and host ports are taken | giving them back |
//! | 2 | intent and sandbox are recorded in one transaction | the sandbox's row goes, the failure is recorded |
//! | 3 | the shim is spawned in its directory `c/<id>` | `Shutdown`, which kills; the directory goes |
//! | 4 | beside it hosts, hostname and resolv.conf are written | – (the next start writes them anew) |
//! | 5 | the shim is asked for the cgroup; the namespaces, begun before 1, are there by then | as 3; closing their descriptors |
//! | 6 | the launch is sent: the shim makes the process, which waits | as 3 |
//! | 7 | link and ports are made, while the shim works | ports are unpublished; the link goes with 4 |
//! | 8 | the shim is told to let the process go | as 3 |
//!
//! Steps 1 to 8 are taken by one blocking thread, one after the other; two short-lived ones make the
//! namespaces and write the files meanwhile. The thread never waits for the shim unless it must undo. Then the task takes over the
//! connection and hears how it went. Undoing goes on where a part of it fails.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::SnapshotId;
use gantry_model::container::{Desired, Status};
use gantry_model::failpoint::{Point, reached};
use gantry_runtime::sandbox;
use gantry_runtime::shim::connection::{Connection, ConnectionError};
use gantry_runtime::shim::protocol::{self, HelloRequest, Prepare, Request, Shutdown, TerminalSize};
use gantry_runtime::shim::spawn::{self, Lifetime};

use super::adopt::kill_cgroup;
use super::config::DeviceRequest;
use super::core::{self, Core};
use super::index::Entry;
use super::link::{Asked, Link, reap_later};
use super::record::{Record, State};
use super::remove::Removal;
use super::spec::{self, Facts};
use super::stop::Afterwards;
use super::stopwatch::Stopwatch;
use super::task::{Answerer, Message, Phase, Task};
use super::{Containers, Error, check, endpoints, supervise};
use crate::sandboxes::{self, Attached};

mod joined;
mod surroundings;

use joined::Joined;

/// How long a shim may take to answer while a start is undone.
pub(super) const UNDO_PATIENCE: Duration = Duration::from_secs(10);

/// Request ids of a start, in the order in which they are sent.
const HELLO: u64 = 1;
const PREPARE: u64 = 2;
const LAUNCH: u64 = 3;
const START: u64 = 4;

impl Containers {
    /// Starts it and returns when its process runs. The start goes on if the caller vanishes.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] if it runs; [`Error::Launch`] with Docker's text if the process could
    /// not be made: it is `exited` (`created` before the first start) with exit code 126, 127 or 128 then.
    pub async fn start(&self, container: &str) -> Result<(), Error> {
        if let Ok(entry) = self.core.index.find(container) {
            entry.clients_have_come().await;
        }
        self.ask(container, Message::Start).await
    }
}

/// What the thread needs.
struct Start {
    core: Arc<Core>,
    entry: Arc<Entry>,
    record: Arc<Record>,
    /// With the intent in it.
    state: State,
    seq: u64,
    clients: Vec<(protocol::Attach, OwnedFd)>,
}

/// A start that is in the shim's hands.
pub(crate) struct Begun {
    connection: Connection,
    pidfd: OwnedFd,
    network: Attached,
    stopwatch: Stopwatch,
    rest: tokio::sync::OwnedMutexGuard<()>,
}

impl Task {
    pub(super) fn on_start(&mut self, answer: Answerer<()>) {
        match self.known.state.status {
            Status::Paused => {
                let text = "cannot start a paused container, try unpause instead";
                return drop(answer.send(Err(Error::Conflict(text.into()))));
            }
            Status::Dead | Status::Removing => {
                let text = "container is marked for removal and cannot be started";
                return drop(answer.send(Err(Error::Conflict(text.into()))));
            }
            _ if self.phase == Phase::Up => return drop(answer.send(Err(Error::AlreadyStarted))),
            _ => {}
        }
        self.restart_at = None;
        self.callers.afterwards = Afterwards::Rests;
        self.known.state.restart_count = 0;
        self.callers.starts.push(answer);
        self.begin();
    }

    /// Lets a thread take the steps.
    pub(super) fn begin(&mut self) {
        if self.phase != Phase::Idle {
            return;
        }
        self.phase = Phase::Starting;
        let mut state = self.known.state.clone();
        state.desired = Desired::Running;
        self.known.state.desired = Desired::Running;
        let start = Start {
            core: Arc::clone(&self.core),
            entry: Arc::clone(&self.entry),
            record: Arc::clone(&self.known.record),
            state,
            seq: self.known.seq,
            clients: std::mem::take(&mut self.callers.clients),
        };
        let stopwatch = Stopwatch::start();
        tokio::task::spawn_blocking(move || {
            let message = match supervise::guard_result(|| start.run(stopwatch)) {
                Ok(begun) => Message::Begun(Box::new(begun)),
                Err(error) => Message::BeginFailed(error),
            };
            if start.entry.tell(message).is_err() {
                tracing::warn!("the start of {} ended after its task", start.record.id);
            }
        });
    }

    pub(super) fn on_begun(&mut self, begun: Begun) {
        reap_later(begun.pidfd);
        self.callers.stopwatch = Some(begun.stopwatch);
        self.callers.rest = Some(begun.rest);
        self.known.network = Arc::new(begun.network);
        self.publish_network("connect");
        self.publish_volumes("mount");
        match Link::new(begun.connection, START, &[(LAUNCH, Asked::Launch), (START, Asked::Start)]) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                tracing::error!("a shim's connection cannot be watched: {error}");
                self.shim_died();
            }
        }
    }

    /// The shim let the process go.
    pub(super) fn on_started(&mut self) {
        reached(Point::StartAnswered);
        if let Some(stopwatch) = self.callers.stopwatch.take() {
            stopwatch.log("the shim's answer");
        }
        for answer in std::mem::take(&mut self.callers.starts) {
            let _ = answer.send(Ok(()));
        }
        let ended = self.known.state.status == Status::Exited;
        self.callers.rest = None;
        self.enter(Phase::Up);
        // It may have ended before the answer was read.
        if ended && self.phase == Phase::Up {
            self.on_final();
        }
    }

    /// The shim could not make the process; its journal has said so, and the state has it.
    pub(super) fn on_refused(&mut self, refusal: &protocol::Refusal) {
        if self.known.state.error.is_empty() {
            // Not a launch that failed, but one that was not understood.
            self.record_failure(&Error::Internal(refusal.text.clone()));
        }
        let error =
            Error::Launch { text: self.known.state.error.clone(), exit_code: self.known.state.exit_code };
        self.fail_start(&error);
    }

    pub(super) fn on_begin_failed(&mut self, error: Error) {
        self.record_failure(&error);
        self.fail_start(&error);
    }

    pub(super) fn record_failure(&mut self, error: &Error) {
        let state = &mut self.known.state;
        if state.status != Status::Created {
            state.status = Status::Exited;
            state.finished = Some(crate::events::now());
        }
        state.exit_code = 128;
        state.error = error.to_string();
        state.desired = Desired::Stopped;
        self.save();
        self.show();
    }

    fn fail_start(&mut self, error: &Error) {
        for answer in std::mem::take(&mut self.callers.starts) {
            let _ = answer.send(Err(error.clone()));
        }
        self.callers.clients.clear();
        if self.known.record.host.auto_remove && self.callers.removal.is_none() {
            self.callers.removal = Some(Removal::automatic());
        }
        self.on_exit();
        self.settle();
    }
}

/// What a container starts in.
struct Surroundings<'a> {
    joined: &'a Joined,
    network: &'a Attached,
    sockets: &'a [(String, OwnedFd)],
    hostname: String,
}

/// A step that failed, with what must be undone.
struct Failure {
    error: Error,
    recorded: Option<Attached>,
    shim: Option<(Connection, OwnedFd)>,
}

impl Start {
    fn run(&self, stopwatch: Stopwatch) -> Result<Begun, Error> {
        self.steps(stopwatch).map_err(|failure| {
            self.undo(failure.shim, failure.recorded.as_ref());
            failure.error
        })
    }

    fn steps(&self, mut stopwatch: Stopwatch) -> Result<Begun, Box<Failure>> {
        stopwatch.lap("a thread");
        let early = |error| Box::new(Failure { error, recorded: None, shim: None });
        // Whoever looks at its files while it is at rest comes first.
        let rest = Arc::clone(&self.entry.rest).blocking_lock_owned();
        devices(&self.record.host.device_requests).map_err(early)?;
        super::propagation::check(&self.record, &self.core.host.settings.data_root).map_err(early)?;
        super::propagation::check_devices(&self.record.mounts).map_err(early)?;
        super::subpath::check(&self.record.mounts).map_err(early)?;
        let joined = self.joined().map_err(early)?;
        let hostname = super::hostname(&self.core, &self.record);
        self.check_hostname(&hostname).map_err(early)?;
        let namespaces = sandbox::begin(self.sandbox_spec(&hostname))
            .map_err(|error| early(Error::Internal(crate::chain(&error))))?;
        let (network, sockets) = self.record_sandbox(&joined).map_err(early)?;
        stopwatch.lap("address and record");
        reached(Point::StartRecorded);
        let recorded =
            |error: Error| Box::new(Failure { error, recorded: Some(network.clone()), shim: None });
        let directory = self.shim_directory().map_err(recorded)?;
        reached(Point::StartDirectory);
        let (written, spawned) = std::thread::scope(|scope| {
            let files = scope.spawn(|| self.write_files(&network, &hostname));
            let spawned = spawn::spawn(&self.core.host.shim, Lifetime::Container(&directory));
            let written = files.join().unwrap_or_else(|_| Err(Error::Internal("a thread panicked".into())));
            (written, spawned)
        });
        let spawned = spawned.map_err(|error| recorded(Error::Internal(crate::chain(&error))))?;
        stopwatch.lap("shim and files");
        reached(Point::StartSpawned);
        let mut connection = spawned.connection;
        let around = Surroundings { joined: &joined, network: &network, sockets: &sockets, hostname };
        match written.and_then(|()| self.launch(&mut connection, around, namespaces, &mut stopwatch)) {
            Ok(()) => Ok(Begun { connection, pidfd: spawned.pidfd, network, stopwatch, rest }),
            Err(error) => {
                let shim = Some((connection, spawned.pidfd));
                Err(Box::new(Failure { error, recorded: Some(network), shim }))
            }
        }
    }

    /// Steps 4 to 8.
    fn launch(
        &self,
        connection: &mut Connection,
        around: Surroundings<'_>,
        namespaces: sandbox::Making,
        stopwatch: &mut Stopwatch,
    ) -> Result<(), Error> {
        let internal = |error: &dyn std::error::Error| Error::Internal(crate::chain(error));
        let Surroundings { joined, network, sockets, hostname } = around;
        reached(Point::StartFiles);
        let mut launch = self.launch_request(joined, hostname)?;
        connection
            .request(HELLO, Request::Hello(HelloRequest::new(self.seq)), &[])
            .and_then(|()| self.prepare(connection, &launch))
            .map_err(|error| internal(&error))?;
        stopwatch.lap("specification");
        let namespaces = namespaces.finish().map_err(|error| internal(&error))?;
        stopwatch.lap("namespaces");
        reached(Point::StartNamespaces);
        let mut descriptors: Vec<(String, BorrowedFd<'_>)> = Vec::new();
        let own = [("net", &namespaces.net), ("ipc", &namespaces.ipc), ("uts", &namespaces.uts)];
        let of_others = [("net", &joined.net), ("ipc", &joined.ipc), ("pid", &joined.pid)];
        for (name, namespace) in own.into_iter().chain(of_others) {
            descriptors.extend(namespace.iter().map(|namespace| (name.to_owned(), namespace.as_fd())));
        }
        descriptors.extend(sockets.iter().map(|(name, socket)| (name.clone(), socket.as_fd())));
        launch.descriptors = descriptors.iter().map(|(name, _)| name.clone()).collect();
        let mut fds: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, descriptor)| *descriptor).collect();
        fds.extend(self.clients.iter().map(|(_, client)| client.as_fd()));
        connection
            .request(LAUNCH, Request::Launch(Box::new(launch)), &fds)
            .map_err(|error| internal(&error))?;
        stopwatch.lap("launch");
        reached(Point::StartLaunched);
        if let Some(namespace) = &namespaces.net {
            self.core
                .sandboxes
                .connect(network, namespace.as_fd())
                .map_err(|error| Error::Internal(error.to_string()))?;
        }
        stopwatch.lap("link and rules");
        reached(Point::StartConnected);
        connection.request(START, Request::Start, &[]).map_err(|error| internal(&error))?;
        reached(Point::StartAsked);
        Ok(())
    }

    /// Has the shim make the cgroup while namespaces and files are made here.
    fn prepare(&self, connection: &mut Connection, launch: &protocol::Launch) -> Result<(), ConnectionError> {
        let Some(cgroup) = launch.cgroup.clone() else { return Ok(()) };
        let resources = launch.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
        let prepare = Prepare { cgroup, hierarchies: launch.hierarchies.clone(), resources };
        connection.request(PREPARE, Request::Prepare(Box::new(prepare)), &[])
    }

    /// Steps 1 and 2: takes what the network needs, or joins another container's sandbox, and records it.
    fn record_sandbox(&self, joined: &Joined) -> Result<(Attached, Vec<(String, OwnedFd)>), Error> {
        let Record { id, .. } = &*self.record;
        let (ledger, boot) = (&self.core.ledger, &self.core.host.boot_id);
        endpoints::check_together(&self.record.host.network_mode, &self.record.endpoints).map_err(|why| {
            Error::Launch { text: format!("failed to set up container networking: {why}"), exit_code: 128 }
        })?;
        if let Some(owner) = &joined.owner {
            let sandbox = owner.sandbox.clone();
            ledger.write(|transaction| {
                if let Some(sandbox) = &sandbox {
                    sandboxes::join(transaction, sandbox, id)?;
                }
                core::update_state(transaction, id, &self.state, self.seq, boot)
            })?;
            return Ok((Attached { sandbox, ..Attached::default() }, Vec::new()));
        }
        let reserved = self.core.sandboxes.reserve(&self.record).map_err(|error| match error {
            sandboxes::Error::NoSuchNetwork(_) => {
                Error::NotFound(format!("failed to set up container networking: {error}"))
            }
            sandboxes::Error::Setup(text) => Error::Launch { text, exit_code: 128 },
        })?;
        ledger.write(|transaction| {
            sandboxes::insert(transaction, &reserved, id)?;
            core::update_state(transaction, id, &self.state, self.seq, boot)
        })?;
        Ok(reserved.recorded())
    }

    fn shim_directory(&self) -> Result<PathBuf, Error> {
        let directory = self.core.host.shim_directory(&self.record.id);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::Internal(format!("cannot make {}: {error}", directory.display())))
            }
            _ => Ok(directory),
        }
    }

    /// All but the descriptors' names.
    fn launch_request(&self, joined: &Joined, hostname: String) -> Result<protocol::Launch, Error> {
        let (record, host) = (&*self.record, &self.core.host);
        let defaults = &host.settings.defaults;
        let facts = Facts {
            cgroup_v2: host.cgroups.version == gantry_runtime::cgroup::Version::V2,
            host_capabilities: &host.capabilities,
            devices: spec::scan_devices(&record.host)?,
            block_io: spec::block_io(&record.host.resources)?,
            network_files: Some(joined.files.clone().unwrap_or_else(|| record.directory.clone())),
            shared_shm: self.shared_shm(joined)?,
            hostname,
            defaults,
        };
        let snapshot = SnapshotId::from(&record.id);
        let root = self
            .core
            .store
            .snapshots()
            .mount_to_run(&snapshot)
            .map_err(|error| Error::Internal(crate::chain(&error)))?;
        let stop_signal =
            if record.config.stop_signal.is_empty() { "TERM" } else { &record.config.stop_signal };
        Ok(protocol::Launch {
            container: record.id.to_string(),
            last_generation: self.state.generation,
            last_seq: self.seq,
            spec: spec::spec(record, &facts)?,
            root,
            cgroup: Some(host.cgroup(record).to_string_lossy().into_owned()),
            hierarchies: Some(host.cgroups.clone()),
            init: record.host.init.unwrap_or(defaults.init).then(|| host.init.clone()),
            terminal_size: TerminalSize {
                rows: record.host.console_size.0,
                cols: record.host.console_size.1,
            },
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log: super::log_driver::config(record)?,
            restart: record.host.restart,
            restart_count: self.state.restart_count,
            stop_signal: stop_signal.parse().or_else(|_| check::signal(stop_signal))?,
            stop_timeout_s: record.config.stop_timeout_s.unwrap_or(10).max(-1),
            descriptors: Vec::new(),
            attach: self.clients.iter().map(|(attach, _)| attach.clone()).collect(),
            then_start: false,
        })
    }

    /// Undoes what was done, the last first.
    fn undo(&self, shim: Option<(Connection, OwnedFd)>, network: Option<&Attached>) {
        if let Some((mut connection, pidfd)) = shim {
            let deadline = Some(Instant::now() + UNDO_PATIENCE);
            let shutdown = Request::Shutdown(Shutdown { kill: true });
            // Answers to the start's own requests come first and count for nothing.
            let id = START + 1;
            let mut ended = connection.request(id, shutdown, &[]).is_ok();
            while ended {
                match connection.recv_until(deadline) {
                    Ok((protocol::Frame::Reply(reply), _)) if reply.id == id => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!("a shim did not end: {}", crate::chain(&error));
                        ended = false;
                    }
                }
            }
            // It has answered, and ends in a moment.
            reap_later(pidfd);
            if !ended {
                // It died amid the launch: nobody else removes what it had made.
                kill_cgroup(&self.core, &self.record);
            }
        }
        if let Some(network) = network {
            for failure in super::remove::leave(&self.core, &self.record, network) {
                tracing::warn!("undoing a start: {failure}");
            }
        }
        let directory = self.core.host.shim_directory(&self.record.id);
        if directory.exists()
            && let Err(error) = std::fs::remove_dir_all(&directory)
        {
            tracing::warn!("{} was not removed: {error}", directory.display());
        }
    }
}

/// Refuses what `--gpus` asks for, in Docker's words: no driver gives devices.
fn devices(requests: &[DeviceRequest]) -> Result<(), Error> {
    let Some(DeviceRequest { driver, capabilities, devices }) = requests.first() else { return Ok(()) };
    if driver == "cdi" {
        let devices = devices.join(", ");
        return Err(Error::Internal(format!(
            "CDI device injection failed: unresolvable CDI devices {devices}"
        )));
    }
    let all: Vec<String> = capabilities.iter().map(|group| format!("[{}]", group.join(" "))).collect();
    let all = all.join(" ");
    Err(Error::Internal(format!("could not select device driver {driver:?} with capabilities: [{all}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_driver_gives_devices() {
        let request = |capabilities: &[&[&str]]| DeviceRequest {
            driver: String::new(),
            devices: Vec::new(),
            capabilities: capabilities
                .iter()
                .map(|all| all.iter().map(|one| (*one).into()).collect())
                .collect(),
        };
        let refused = |requests: &[DeviceRequest]| devices(requests).err().map(|error| error.to_string());
        assert_eq!(refused(&[]), None);
        let text = "could not select device driver \"\" with capabilities: [[gpu]]";
        assert_eq!(refused(&[request(&[&["gpu"]])]).as_deref(), Some(text));
        let text = "could not select device driver \"\" with capabilities: [[gpu nvidia] [tpu]]";
        assert_eq!(refused(&[request(&[&["gpu", "nvidia"], &["tpu"]])]).as_deref(), Some(text));
    }
}
