//! Further processes in a running container. Execs are kept in memory: they end with their container,
//! and what they were is of no use afterwards.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::container::Status;
use gantry_model::{ContainerId, ExecId};
use gantry_runtime::shim::protocol::{
    self, Framing, RefusalKind, Reply, Request, ResizeTty, Streams, TerminalSize,
};
use gantry_runtime::user;
use parking_lot::Mutex;

use super::attach::{detach_keys, frame};
use super::record::View;
use super::spec::{self, Facts};
use super::{Containers, Error};

/// How long an exec that ended can be inspected.
const KEPT: Duration = Duration::from_secs(300);

/// What `exec` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    /// The command; at least one word.
    pub command: Vec<String>,
    /// Streams that will be attached.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Empty is the container's.
    pub user: String,
    /// Empty is the container's.
    pub working_dir: String,
    /// All capabilities.
    pub privileged: bool,
    /// Empty is `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// Initial rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// How an exec is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecStartOptions {
    /// Nobody attaches.
    pub detach: bool,
    /// Whether the client expects a terminal's raw stream.
    pub tty: bool,
    /// Rows and columns, where the client gave them.
    pub console_size: Option<(u16, u16)>,
}

/// What inspect of an exec shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Where it runs.
    pub container: ContainerId,
    /// What was asked for.
    pub request: Arc<ExecRequest>,
    /// Whether it runs; from its start on, also while there is no process yet.
    pub running: bool,
    /// `None` until it ended.
    pub exit_code: Option<i32>,
    /// On the host; 0 before it runs.
    pub pid: u32,
}

/// All execs.
#[derive(Default)]
pub(crate) struct Execs {
    table: Mutex<HashMap<ExecId, Known>>,
}

struct Known {
    view: ExecView,
    started: bool,
    ended: Option<Instant>,
}

impl Execs {
    fn insert(&self, view: ExecView) {
        let mut table = self.table.lock();
        table.retain(|_, known| known.ended.is_none_or(|ended| ended.elapsed() < KEPT));
        table.insert(view.id.clone(), Known { view, started: false, ended: None });
    }

    fn get(&self, id: &str) -> Result<ExecView, Error> {
        let table = self.table.lock();
        let known = id.parse().ok().and_then(|id: ExecId| table.get(&id));
        known.map(|known| known.view.clone()).ok_or_else(|| Error::NoSuchExec(id.into()))
    }

    /// Marks it as started, once. It counts as running from now on: a client that has been answered may ask at once,
    /// and one that polls until it does not run must not see it before it does.
    fn claim(&self, id: &ExecId) -> Result<(), Error> {
        let mut table = self.table.lock();
        let known = table.get_mut(id).ok_or_else(|| Error::NoSuchExec(id.to_string()))?;
        if std::mem::replace(&mut known.started, true) {
            let text = match known.view.exit_code {
                Some(_) => format!("exec command {id} has already run"),
                None => format!("exec command {id} is already running"),
            };
            return Err(Error::Conflict(text));
        }
        known.view.running = true;
        Ok(())
    }

    /// It was claimed, and no process came of it.
    fn unstarted(&self, id: &ExecId) {
        if self.get(id.as_str()).is_ok_and(|view| view.running && view.pid == 0) {
            self.exited(id.as_str(), NOT_STARTED);
        }
    }

    /// The shim says that it runs.
    pub(super) fn started(&self, id: &str, pid: u32) {
        self.change(id, |known| {
            known.view.running = known.view.exit_code.is_none();
            known.view.pid = pid;
        });
    }

    /// The shim says that it ended; its id, if it is one of ours.
    pub(super) fn exited(&self, id: &str, code: i32) -> Option<String> {
        self.change(id, |known| {
            known.view.running = false;
            known.view.exit_code = Some(code);
            known.ended = Some(Instant::now());
        })
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Known)) -> Option<String> {
        let id: ExecId = id.parse().ok()?;
        let mut table = self.table.lock();
        change(table.get_mut(&id)?);
        Some(id.to_string())
    }

    /// What still ran was killed with its container.
    pub(super) fn container_ended(&self, container: &ContainerId) {
        for known in self.table.lock().values_mut() {
            if known.view.container == *container && known.view.running {
                (known.view.running, known.view.exit_code) = (false, Some(137));
                known.ended = Some(Instant::now());
            }
        }
    }

    /// Forgets a container's.
    pub(super) fn container_removed(&self, container: &ContainerId) {
        self.table.lock().retain(|_, known| known.view.container != *container);
    }

    /// Those that run in a container.
    pub(super) fn running_in(&self, container: &ContainerId) -> Vec<ExecId> {
        let table = self.table.lock();
        let running = table.values().filter(|known| known.view.container == *container && known.view.running);
        running.map(|known| known.view.id.clone()).collect()
    }
}

/// The exit code of an exec that could not be started for a reason of ours: a shell's for what cannot be run.
const NOT_STARTED: i32 = 126;

impl Drop for ExecSession {
    fn drop(&mut self) {
        self.containers.core.execs.unstarted(&self.exec.id);
    }
}

/// A checked exec, waiting for its connection.
pub struct ExecSession {
    containers: Containers,
    exec: ExecView,
    options: ExecStartOptions,
}

impl ExecSession {
    /// Whether output is framed in Docker's multiplexed form: what the start says of a terminal decides, not the
    /// exec's own, so that a client which says nothing there is sent frames from a terminal too.
    #[must_use]
    pub fn multiplexed(&self) -> bool {
        !self.options.tty
    }

    /// Starts it over the hijacked connection. If it cannot be started, Docker's text is written to the
    /// client and returned. The connection closes when the process ends.
    ///
    /// # Errors
    /// [`Error::Launch`], [`Error::Conflict`].
    pub async fn connect(self, connection: OwnedFd, early: Vec<u8>) -> Result<(), Error> {
        let request = &self.exec.request;
        let connection = super::attach::head_read(connection).await;
        // A copy, to tell the client should it fail; the shim closes the connection itself.
        let copy = connection.try_clone().map_err(|error| Error::Internal(error.to_string()))?;
        let attach = protocol::Attach {
            streams: Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
            framing: if self.multiplexed() { Framing::Multiplexed } else { Framing::Raw },
            detach_keys: detach_keys(&request.detach_keys)?,
            early,
        };
        let tty = !self.multiplexed();
        let started = self.containers.run_exec(&self.exec, self.options, Some((attach, connection))).await;
        if let Err(error) = &started {
            let mut text = Vec::new();
            frame(&mut text, format!("{error}\r\n").as_bytes(), false, tty);
            let mut socket = std::os::unix::net::UnixStream::from(copy);
            // A client that has gone does not need to be told; a few bytes always fit.
            if socket.set_nonblocking(true).and_then(|()| socket.write_all(&text)).is_ok() {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
        started
    }
}

impl Containers {
    /// Notes an exec.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the container does not run or is paused; [`Error::Invalid`] without a command.
    pub async fn exec_create(&self, container: &str, request: ExecRequest) -> Result<ExecId, Error> {
        let view = self.core.index.find(container)?.view();
        check_running(&view, container)?;
        if request.command.is_empty() {
            return Err(Error::Invalid("No exec command specified".into()));
        }
        // Docker has another word for them here than at attach.
        detach_keys(&request.detach_keys)
            .map_err(|_| Error::Invalid(format!("Invalid escape keys ({}) provided", request.detach_keys)))?;
        if !request.user.is_empty() {
            let (view, user) = (Arc::clone(&view), request.user.clone());
            crate::blocking(move || check_user(&view, &user)).await?;
        }
        let id = ExecId::from_random(crate::random());
        let action = action("exec_create", &request.command);
        self.core.execs.insert(ExecView {
            id: id.clone(),
            container: view.record.id.clone(),
            request: Arc::new(request),
            running: false,
            exit_code: None,
            pid: 0,
        });
        super::publish(&self.core, &view.record, &action, vec![("execID", id.to_string())]);
        Ok(id)
    }

    /// Checks that an exec can be started with an attached client.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`]; [`Error::Conflict`] if it was started before or the container does not run.
    pub async fn exec_attach(&self, exec: &str, options: ExecStartOptions) -> Result<ExecSession, Error> {
        let exec = self.claim_exec(exec)?;
        Ok(ExecSession { containers: self.clone(), exec, options })
    }

    /// Starts an exec that nobody attaches to; returns when its process runs.
    ///
    /// # Errors
    /// As [`Containers::exec_attach`], and [`Error::Launch`].
    pub async fn exec_detached(&self, exec: &str, options: ExecStartOptions) -> Result<(), Error> {
        let exec = self.claim_exec(exec)?;
        let started = self.run_exec(&exec, options, None).await;
        if started.is_err() {
            self.core.execs.unstarted(&exec.id);
        }
        started
    }

    /// The present view of an exec. Execs are forgotten some minutes after they ended.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`].
    pub fn exec_inspect(&self, exec: &str) -> Result<ExecView, Error> {
        self.core.execs.get(exec)
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`].
    pub async fn exec_resize(&self, exec: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let exec = self.core.execs.get(exec)?;
        let entry = self.core.index.find(exec.container.as_str())?;
        let size = TerminalSize { rows, cols: columns };
        let request = Request::ResizeTty(ResizeTty { exec_id: Some(exec.id.to_string()), size });
        let answer = self.forward(&entry, request, None).await?;
        answer.map(drop).map_err(|refusal| Error::NotFound(refusal.text))
    }

    fn claim_exec(&self, exec: &str) -> Result<ExecView, Error> {
        let exec = self.core.execs.get(exec)?;
        let view = self.core.index.find(exec.container.as_str())?.view();
        check_running(&view, view.record.id.as_str())?;
        self.core.execs.claim(&exec.id)?;
        Ok(exec)
    }

    async fn run_exec(
        &self,
        exec: &ExecView,
        options: ExecStartOptions,
        client: Option<(protocol::Attach, OwnedFd)>,
    ) -> Result<(), Error> {
        let entry = self.core.index.find(exec.container.as_str())?;
        let view = entry.view();
        let (attach, client) = client.unzip();
        let size = options.console_size.or(exec.request.console_size).unwrap_or_default();
        let users = [exec.request.user.as_str(), view.record.config.user.as_str(), "0"];
        let user = users.into_iter().find(|user| !user.is_empty()).unwrap_or_default();
        let request = Request::Exec(Box::new(protocol::Exec {
            exec_id: exec.id.to_string(),
            generation: 0,
            process: self.exec_process(&view, &exec.request)?,
            user: user.to_owned(),
            terminal_size: TerminalSize { rows: size.0, cols: size.1 },
            attach,
        }));
        let action = action("exec_start", &exec.request.command);
        super::publish(&self.core, &view.record, &action, vec![("execID", exec.id.to_string())]);
        match self.forward(&entry, request, client).await? {
            Ok(Reply::ExecStarted(process)) => {
                self.core.execs.started(exec.id.as_str(), u32::try_from(process.pid).unwrap_or(0));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(refusal) => {
                let code = super::journal::exec_exit_code(refusal.exit_code.unwrap_or(126), &refusal.text);
                self.core.execs.exited(exec.id.as_str(), code);
                Err(match refusal.kind {
                    RefusalKind::Launch => {
                        Error::Launch { text: super::journal::exec_text(&refusal.text), exit_code: code }
                    }
                    RefusalKind::Conflict => Error::Conflict(refusal.text),
                    _ => Error::Internal(refusal.text),
                })
            }
        }
    }

    fn exec_process(&self, view: &View, request: &ExecRequest) -> Result<oci_spec::runtime::Process, Error> {
        let record = &view.record;
        let facts = Facts {
            cgroup_v2: false,
            host_capabilities: &self.core.host.capabilities,
            devices: Vec::new(),
            block_io: None,
            network_files: None,
            shared_shm: None,
            hostname: super::hostname(&self.core, record),
            defaults: &self.core.host.settings.defaults,
        };
        spec::exec_process(record, request, &facts)
    }
}

/// Looks a user up in the files of a running container, so that one that it does not have is told before there is an
/// exec. What counts is what the shim finds when it starts; files that cannot be read are left to it.
fn check_user(view: &View, user: &str) -> Result<(), Error> {
    let Ok(root) = std::fs::File::open(format!("/proc/{}/root", view.state.pid)) else { return Ok(()) };
    let pid = i32::try_from(view.state.pid).unwrap_or(0);
    if gantry_runtime::Process::adopt(pid, view.state.start_time_ticks).is_err() {
        return Ok(());
    }
    let (mut passwd, mut group) = (vec![0; user::FILE_LIMIT], vec![0; user::FILE_LIMIT]);
    let passwd = user::read_file(root.as_fd(), c"etc/passwd", &mut passwd);
    let group = user::read_file(root.as_fd(), c"etc/group", &mut group);
    let (Ok(passwd), Ok(group)) = (passwd, group) else { return Ok(()) };
    let found = user::resolve(user::Files { passwd, group }, user, &mut Vec::new());
    found.map(drop).map_err(|error| Error::Invalid(error.to_string()))
}

fn check_running(view: &View, named: &str) -> Result<(), Error> {
    let id = &view.record.id;
    match view.state.status {
        Status::Running => Ok(()),
        Status::Paused => {
            Err(Error::Conflict(format!("Container {named} is paused, unpause the container before exec")))
        }
        Status::Restarting => {
            Err(Error::Conflict(format!("container {id} is restarting, wait until the container is running")))
        }
        _ => Err(Error::Conflict(format!("container {id} is not running"))),
    }
}

/// An event's action: Docker writes the blank behind the program also where no arguments follow.
fn action(name: &str, command: &[String]) -> String {
    let (program, arguments) =
        command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    format!("{name}: {program} {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_written_as_docker_writes_them() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(action("exec_create", &words("sh -c x")), "exec_create: sh -c x");
        assert_eq!(action("exec_start", &words("true")), "exec_start: true ");
    }
}
