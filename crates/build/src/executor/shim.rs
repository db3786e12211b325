//! The executor over `gantry-shim` in its ephemeral mode: the shim dies with our connection, and takes
//! the container with it.
//!
//! A step's life, with what undoes each part:
//! ```text
//! network namespace      Network::connect or sandbox::create    its guard is dropped, its descriptor closed
//! files for /etc         a directory of the step's own          removed
//! shim                   spawn(Lifetime::Connection)            the connection is dropped; a thread reaps it
//! container              Launch{then_start}                     the shim kills it
//! ```
//! The undoing runs in a thread of its own once the process has ended, so that the next step need not wait.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::RootMount;
use gantry_runtime::cgroup::{self, Cgroup, Layout};
use gantry_runtime::sandbox::{self, SandboxSpec};
use gantry_runtime::shim::connection::{Connection, ConnectionError};
use gantry_runtime::shim::protocol::{
    Attach, Event, Frame, Framing, HelloRequest, Launch, Outcome, Refusal, Request, Streams,
};
use gantry_runtime::shim::spawn::{self, Lifetime, Spawned};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::spec::{EtcFiles, HOSTNAME, NetworkNamespace, specification};
use super::{
    Container, ExecError, Executor, ExitStatus, Handle, Network, NetworkRequest, NetworkSetup, Places,
    Process,
};
use crate::cancel::Cancel;
use crate::event::LogStream;
use crate::request::{NetworkMode, RunOptions};

/// How a [`ShimExecutor`] is made.
pub struct ShimExecutorOptions {
    /// Where things are.
    pub places: Places,
    /// Makes the namespaces of steps with a network.
    pub network: Arc<dyn Network>,
}

/// Runs each step in a container of its own, through one shim each.
pub struct ShimExecutor {
    options: ShimExecutorOptions,
    /// Read once; `None` has every step's shim read it, and say what is wrong.
    hierarchies: Option<Layout>,
}

impl ShimExecutor {
    /// Makes one. Nothing is started; what steps of a daemon that was killed left is removed. Their shims ended with
    /// it, and took the containers along, unless they were killed too.
    #[must_use]
    pub fn new(options: ShimExecutorOptions) -> Self {
        let directory = &options.places.run_directory;
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Ok(cgroup) = std::fs::read_to_string(path.join(CGROUP)) {
                remove_cgroup(&cgroup);
            }
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(directory = %path.display(), %error, "what a step left could not be removed");
            }
        }
        Self { options, hierarchies: cgroup::detect().ok() }
    }

    fn network(&self, container: &Container<'_>) -> Result<StepNetwork, ExecError> {
        let host_resolvers = || std::fs::read("/etc/resolv.conf").unwrap_or_default();
        let setup = match &container.options.network {
            NetworkMode::Host => NetworkSetup {
                net: None,
                resolv_conf: host_resolvers(),
                addresses: Vec::new(),
                guard: Box::new(()),
            },
            NetworkMode::None => {
                let made = sandbox::create(SandboxSpec { net: true, ipc: false, uts: None })
                    .map_err(|error| internal("making a step's network namespace failed", error))?;
                NetworkSetup {
                    net: made.net,
                    resolv_conf: host_resolvers(),
                    addresses: Vec::new(),
                    guard: Box::new(()),
                }
            }
            mode @ (NetworkMode::Default | NetworkMode::Named(_)) => {
                let request = NetworkRequest { id: &container.id, mode };
                self.options.network.connect(&request).map_err(ExecError::Network)?
            }
        };
        Ok(StepNetwork { setup })
    }
}

impl Executor for ShimExecutor {
    fn create(&self, container: Container<'_>) -> Result<Box<dyn Handle>, ExecError> {
        let network = self.network(&container)?;
        let directory = self.options.places.run_directory.join(container.id.short());
        let parent = match container.options.cgroup_parent.as_str() {
            "" => self.options.places.cgroup_parent.as_str(),
            parent => parent,
        };
        let cgroup = format!("{}/{}", parent.trim_end_matches('/'), container.id);
        let etc = Etc::write(directory, &cgroup, container.options, &network.setup)?;
        reached(Point::BuildFiles);
        let shim = spawn::spawn(&self.options.places.shim_binary, Lifetime::Connection)
            .map_err(|error| internal("starting a step's shim failed", error))?;
        reached(Point::BuildSpawned);
        Ok(Box::new(Step {
            cgroup,
            hierarchies: self.hierarchies.clone(),
            id: container.id.to_string(),
            root: container.root,
            options: container.options.clone(),
            parts: Some(Parts { shim, etc, network }),
        }))
    }
}

struct StepNetwork {
    setup: NetworkSetup,
}

/// Where a step's directory says which cgroup is the step's, for whoever must clean up.
const CGROUP: &str = "cgroup";

/// Kills what is in a step's cgroup and removes it. One that the shim has removed is the rule.
fn remove_cgroup(path: &str) {
    let removed = cgroup::detect().and_then(|layout| {
        let cgroup = Cgroup::open(&layout, Path::new(path));
        cgroup.kill_all()?;
        cgroup.remove()
    });
    if let Err(error) = removed {
        tracing::warn!(
            path,
            error = &error as &dyn std::error::Error,
            "a step's cgroup could not be removed"
        );
    }
}

/// The files that stand in a step's `/etc`.
struct Etc {
    directory: PathBuf,
    files: EtcFiles,
}

impl Etc {
    fn write(
        directory: PathBuf,
        cgroup: &str,
        options: &RunOptions,
        setup: &NetworkSetup,
    ) -> Result<Self, ExecError> {
        let failed = |error| internal("writing a step's /etc files failed", error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let path = |name: &str| directory.join(name).display().to_string();
        let files =
            EtcFiles { hosts: path("hosts"), hostname: path("hostname"), resolv_conf: path("resolv.conf") };
        let etc = Self { directory, files };
        std::fs::write(etc.directory.join(CGROUP), cgroup).map_err(failed)?;
        write_readable(&etc.files.hosts, hosts(options, &setup.addresses).as_bytes()).map_err(failed)?;
        write_readable(&etc.files.hostname, format!("{HOSTNAME}\n").as_bytes()).map_err(failed)?;
        write_readable(&etc.files.resolv_conf, &setup.resolv_conf).map_err(failed)?;
        Ok(etc)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        if let Ok(cgroup) = std::fs::read_to_string(self.directory.join(CGROUP)) {
            remove_cgroup(&cgroup);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "a step's files could not be removed");
        }
    }
}

/// Writes a file that everybody may read, whatever the umask.
fn write_readable(path: impl AsRef<Path>, bytes: &[u8]) -> std::io::Result<()> {
    let file = std::fs::File::create(path)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644))?;
    std::io::Write::write_all(&mut &file, bytes)
}

fn hosts(options: &RunOptions, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in &options.extra_hosts {
        if let Some((name, address)) = entry.split_once([':', '=']) {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            text = format!("{text}{address}\t{name}\n");
        }
    }
    // The address is another one each time; programs that resolve their own host name need some line.
    let own = if addresses.is_empty() { "127.0.0.1".into() } else { addresses[0].to_string() };
    format!("{text}{own}\t{HOSTNAME}\n")
}

/// What a step has, in the order in which it goes.
struct Parts {
    shim: Spawned,
    etc: Etc,
    network: StepNetwork,
}

/// How long a shim may take to end after its connection was dropped, before that is logged.
const SHIM_END: Duration = Duration::from_secs(10);

impl Parts {
    /// Takes everything down, and waits for the shim.
    fn end(self) {
        let Self { shim: Spawned { connection, pid, pidfd }, etc, network } = self;
        drop(connection);
        let deadline = Instant::now() + SHIM_END;
        while !spawn::reap(&pidfd) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(pid, "the shim of a build step does not end");
                break;
            }
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
        }
        drop(etc);
        drop(network);
    }
}

struct Step {
    id: String,
    cgroup: String,
    hierarchies: Option<Layout>,
    root: RootMount,
    options: RunOptions,
    parts: Option<Parts>,
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            std::thread::spawn(move || parts.end());
        }
    }
}

const LAUNCH_ID: u64 = 2;
const READ_BYTES: usize = 32 * 1024;

impl Handle for Step {
    fn exec(
        &mut self,
        process: &Process,
        output: &mut dyn FnMut(LogStream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, ExecError> {
        let Some(parts) = &mut self.parts else {
            return Err(internal("running a step failed", std::io::Error::other("its shim has ended")));
        };
        let net = parts.network.setup.net.as_ref();
        let namespace = if net.is_some() { NetworkNamespace::Joined } else { NetworkNamespace::Host };
        let spec = specification(process, &self.options, namespace, &parts.etc.files)
            .map_err(|error| internal("writing a step's specification failed", error))?;
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| internal("making a pipe failed", std::io::Error::from(error)))?;
        let launch = Launch {
            container: self.id.clone(),
            last_generation: 0,
            last_seq: 0,
            spec,
            root: self.root.clone(),
            cgroup: Some(self.cgroup.clone()),
            hierarchies: self.hierarchies.clone(),
            init: None,
            terminal_size: Default::default(),
            open_stdin: false,
            stdin_once: false,
            log: Default::default(),
            restart: Default::default(),
            restart_count: 0,
            stop_signal: 9,
            stop_timeout_s: 0,
            descriptors: net.iter().map(|_| "net".to_owned()).collect(),
            attach: vec![Attach {
                streams: Streams { stdin: false, stdout: true, stderr: true },
                framing: Framing::Multiplexed,
                ..Attach::default()
            }],
            then_start: true,
        };
        let mut descriptors: Vec<BorrowedFd<'_>> = net.iter().map(|net| net.as_fd()).collect();
        descriptors.push(pipe.1.as_fd());
        let connection = &mut parts.shim.connection;
        connection
            .request(1, Request::Hello(HelloRequest::new(0)), &[])
            .and_then(|()| connection.request(LAUNCH_ID, Request::Launch(Box::new(launch)), &descriptors))
            .map_err(|error| internal("asking a step's shim failed", error))?;
        reached(Point::BuildLaunched);
        drop(pipe.1);
        let result = Watch { connection, output: Some(pipe.0), frames: Vec::new() }.until_end(output, cancel);
        if result.is_err()
            && let Some(parts) = self.parts.take()
        {
            // Whoever hears of the failure may remove the snapshot: nothing may run in it any more.
            parts.end();
        }
        result
    }
}

/// Waits for a step's end and passes on its output.
struct Watch<'a> {
    connection: &'a mut Connection,
    /// The reading end; `None` after its end.
    output: Option<OwnedFd>,
    /// Bytes of a frame that is not whole.
    frames: Vec<u8>,
}

impl Watch<'_> {
    fn until_end(
        mut self,
        output: &mut dyn FnMut(LogStream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, ExecError> {
        let mut status = None;
        loop {
            if let Some(status) = status
                && self.output.is_none()
            {
                return Ok(status);
            }
            let readable = self.wait(cancel, status.is_some())?;
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            if readable {
                self.read(output)?;
            }
            if status.is_none() {
                status = self.messages()?;
            }
        }
    }

    /// Waits for output, a message or a cancel; whether there is output.
    fn wait(&mut self, cancel: &Cancel, ended: bool) -> Result<bool, ExecError> {
        let interest =
            if self.connection.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(cancel, PollFlags::IN)];
        if !ended {
            fds.push(PollFd::new(&*self.connection, interest));
        }
        if let Some(pipe) = &self.output {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        loop {
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(internal("waiting for a step failed", std::io::Error::from(error))),
            }
        }
        let readable = self.output.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if self.connection.wants_write() {
            self.connection.flush().map_err(shim_failed)?;
        }
        Ok(readable)
    }

    /// Reads once and passes on the whole frames.
    fn read(&mut self, output: &mut dyn FnMut(LogStream, &[u8])) -> Result<(), ExecError> {
        let Some(pipe) = &self.output else { return Ok(()) };
        let have = self.frames.len();
        self.frames.resize(have + READ_BYTES, 0);
        let result = rustix::io::read(pipe, &mut self.frames[have..]);
        self.frames.truncate(have + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => self.output = None,
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                return Err(internal("reading a step's output failed", std::io::Error::from(error)));
            }
        }
        let mut rest = &self.frames[..];
        while let Some(([stream, _, _, _, a, b, c, d], after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((data, after)) = after.split_at_checked(length) else { break };
            output(if *stream == 2 { LogStream::Stderr } else { LogStream::Stdout }, data);
            rest = after;
        }
        let used = self.frames.len() - rest.len();
        self.frames.drain(..used);
        Ok(())
    }

    /// Handles what the shim said; the exit, if it came.
    fn messages(&mut self) -> Result<Option<ExitStatus>, ExecError> {
        while let Some((frame, _)) = self.connection.try_recv().map_err(shim_failed)? {
            match frame {
                Frame::Event(record) => {
                    if let Event::Exited { code, oom, .. } = record.event {
                        return Ok(Some(ExitStatus { code, oom }));
                    }
                }
                Frame::Reply(reply) => {
                    if let Outcome::Error(refusal) = reply.outcome {
                        return Err(refused(refusal));
                    }
                }
                Frame::Request(_) => {}
            }
        }
        Ok(None)
    }
}

/// Docker's words around what the runtime said.
fn refused(refusal: Refusal) -> ExecError {
    let code = refusal.exit_code.unwrap_or(125);
    // Docker resolves the user before it asks the runtime, so its text stands alone.
    let text = if refusal.text.starts_with("unable to find user")
        || refusal.text.starts_with("unable to find group")
    {
        refusal.text
    } else {
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: \
             runc create failed: unable to start container process: error during container init: {}",
            refusal.text
        )
    };
    ExecError::Start { text, code }
}

fn shim_failed(error: ConnectionError) -> ExecError {
    internal("the shim of a step failed", error)
}

fn internal(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ExecError {
    ExecError::Internal { what: what.into(), source: source.into() }
}
