//! A shim with a BusyBox root file system, and a daemon that talks to it.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_logs::{Details, Entry, JsonFile, LogConfig};
use gantry_model::container::RestartPolicy;
use gantry_model::mount::RootMount;
use gantry_runtime::shim::connection::Connection;
use gantry_runtime::shim::protocol::{
    Ack, Attach, Event, Exec, Frame, Framing, Hello, HelloRequest, Kill, Launch, Outcome, ProcessId, Record,
    Refusal, Reply, Request, Shutdown, State, Stop, Streams, TerminalSize,
};
use gantry_runtime::shim::spawn::{Lifetime, reap, spawn};
use serde_json::{Value, json};

pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// Nothing that a test waits for takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Says why a test cannot run here, if it cannot.
pub(crate) fn is_unable() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if !Path::new(BUSYBOX).exists() {
        "no /bin/busybox (install busybox-static)"
    } else {
        return false;
    };
    println!("skipped: {reason}");
    true
}

/// Returns from a test that cannot run here.
#[macro_export]
macro_rules! needs_root {
    () => {
        if $crate::harness::is_unable() {
            return;
        }
    };
}

/// A shim under test. Dropping it shuts the shim down, killing the container, and asserts that nothing
/// is left.
pub(crate) struct Shim {
    pub(crate) home: tempfile::TempDir,
    pub(crate) connection: Option<Connection>,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) events: Vec<Record>,
    pub(crate) acknowledges: bool,
    cgroup: String,
    next_id: u64,
}

impl Shim {
    /// Starts one, and says hello.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("gantry-shim-test-").tempdir().expect("a directory");
        for name in ["c", "log", "root/bin", "root/proc", "root/sys", "root/dev", "root/tmp", "root/etc"] {
            std::fs::create_dir_all(home.path().join(name)).expect("made");
        }
        std::fs::copy(BUSYBOX, home.path().join("root/bin/busybox")).expect("copied");
        for applet in [
            "sh", "cat", "true", "sleep", "stty", "tail", "dd", "head", "kill", "id", "ps", "seq", "wc",
            "trap",
        ] {
            std::os::unix::fs::symlink("busybox", home.path().join("root/bin").join(applet)).expect("linked");
        }
        let spawned = spawn(&binary(), Lifetime::Container(&home.path().join("c"))).expect("a shim");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut shim = Self {
            connection: Some(spawned.connection),
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            events: Vec::new(),
            acknowledges: true,
            cgroup: format!("/gantry-shim-test-{}-{number}", std::process::id()),
            home,
            next_id: 0,
        };
        shim.hello(0);
        shim
    }

    /// What launches a shell script, then started; without terminal, stdin or policy.
    pub(crate) fn script(&self, script: &str) -> Launch {
        self.launch_of(&["/bin/sh", "-c", script])
    }

    pub(crate) fn launch_of(&self, args: &[&str]) -> Launch {
        Launch {
            container: "test".into(),
            last_generation: 0,
            last_seq: 0,
            spec: serde_json::from_value(spec(&self.root(), args)).expect("a specification"),
            root: RootMount::Bind { source: self.root() },
            cgroup: Some(self.cgroup.clone()),
            hierarchies: None,
            init: None,
            terminal_size: TerminalSize::default(),
            open_stdin: false,
            stdin_once: false,
            log: LogConfig::JsonFile(JsonFile::new(self.home.path().join("log"))),
            restart: RestartPolicy::No,
            restart_count: 0,
            stop_signal: 15,
            stop_timeout_s: 10,
            descriptors: Vec::new(),
            attach: Vec::new(),
            then_start: true,
        }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.home.path().join("c")
    }

    /// Says hello on the present connection.
    pub(crate) fn hello(&mut self, acknowledged: u64) -> Hello {
        match self.ask(Request::Hello(HelloRequest::new(acknowledged)), &[]) {
            Reply::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// Forgets the connection, as a daemon that dies does.
    pub(crate) fn daemon_dies(&mut self) {
        self.connection = None;
    }

    /// Comes as the next daemon, which has committed up to `acknowledged`.
    pub(crate) fn reconnect(&mut self, acknowledged: u64) -> Hello {
        self.connection = Some(Connection::connect(&self.directory()).expect("reconnected"));
        self.hello(acknowledged)
    }

    /// Asks, and expects that it is done.
    pub(crate) fn ask(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Reply {
        let op = request.op();
        self.try_ask(request, descriptors).unwrap_or_else(|refusal| panic!("{op}: {refusal:?}"))
    }

    /// Asks. Events that come meanwhile are kept.
    pub(crate) fn try_ask(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Reply, Refusal> {
        self.next_id += 1;
        let id = self.next_id;
        let connection = self.connection.as_mut().expect("connected");
        connection.request(id, request, descriptors).expect("sent");
        loop {
            match self.receive(Instant::now() + PATIENCE).expect("a reply") {
                Frame::Reply(reply) => {
                    assert_eq!(reply.id, id);
                    return Outcome::into_result(reply.outcome);
                }
                Frame::Event(record) => self.take(record),
                Frame::Request(_) => panic!("a shim asks nothing"),
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Option<Frame> {
        let connection = self.connection.as_mut().expect("connected");
        connection.recv_until(Some(deadline)).ok().map(|(frame, _)| frame)
    }

    fn take(&mut self, record: Record) {
        if let Some(last) = self.events.last() {
            assert_eq!(record.seq, last.seq + 1, "a gap or a repetition: {last:?} then {record:?}");
        }
        if self.acknowledges {
            let connection = self.connection.as_mut().expect("connected");
            // A shim that was told to end may have closed its side already.
            let _ = connection.request(0, Request::Ack(Ack { seq: record.seq }), &[]);
        }
        self.events.push(record);
    }

    /// Starts a container; the clients' descriptors go with it.
    pub(crate) fn launch(&mut self, launch: Launch, clients: &[BorrowedFd<'_>]) -> ProcessId {
        match self.ask(Request::Launch(Box::new(launch)), clients) {
            Reply::Launched(id) => id,
            other => panic!("not launched: {other:?}"),
        }
    }

    /// Waits for an event, those already seen included.
    pub(crate) fn wait_for(&mut self, what: &str, mut is_it: impl FnMut(&Event) -> bool) -> Record {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            while at < self.events.len() {
                if is_it(&self.events[at].event) {
                    return self.events[at].clone();
                }
                at += 1;
            }
            match self.receive(deadline) {
                Some(Frame::Event(record)) => self.take(record),
                other => panic!("waiting for {what}: {other:?} after {:#?}", self.kinds()),
            }
        }
    }

    /// Waits for the final exit and gives its code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let record =
            self.wait_for("the exit", |event| matches!(event, Event::Exited { restarting: false, .. }));
        match record.event {
            Event::Exited { code, .. } => code,
            _ => unreachable!("waited for an exit"),
        }
    }

    pub(crate) fn kinds(&self) -> Vec<Event> {
        self.events.iter().map(|record| record.event.clone()).collect()
    }

    pub(crate) fn state(&mut self) -> State {
        match self.ask(Request::State, &[]) {
            Reply::State(state) => state,
            other => panic!("not a state: {other:?}"),
        }
    }

    pub(crate) fn stop(&mut self, timeout_s: i64) {
        self.ask(Request::Stop(Stop { timeout_s: Some(timeout_s), ..Stop::default() }), &[]);
    }

    pub(crate) fn kill(&mut self, signal: i32) {
        self.ask(Request::Kill(Kill { signal, cancels_restart: true, ..Kill::default() }), &[]);
    }

    /// Where the log is written.
    pub(crate) fn log_directory(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// The log's lines, decoded and joined by stream.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.path().join("log/json.log")).unwrap_or_default();
        let entries = text.lines().filter_map(|line| Entry::decode(line.as_bytes(), Details::Omitted));
        entries.map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
    }

    /// The cgroup's directories that exist.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups");
        let mut roots: Vec<PathBuf> = mounts.filter_map(|entry| Some(entry.ok()?.path())).collect();
        roots.push("/sys/fs/cgroup".into());
        let inside = roots.into_iter().map(|root| root.join(self.cgroup.trim_start_matches('/')));
        inside.filter(|path| path.exists()).collect()
    }

    /// Waits until the shim's process has ended.
    pub(crate) fn await_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !reap(&self.pidfd) {
            assert!(Instant::now() < deadline, "the shim did not end");
            let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let mut wanted = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
            let _ = rustix::event::poll(&mut wanted, Some(&timeout));
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Ok(text) = std::fs::read_to_string(self.directory().join("panic")) {
                println!("the shim panicked: {text}");
            }
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
            let deadline = Instant::now() + Duration::from_secs(5);
            while !self.cgroups().is_empty() && Instant::now() < deadline {
                for path in self.cgroups() {
                    let _ = std::fs::remove_dir(path);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            return;
        }
        if self.connection.is_some() {
            let _ = self.try_ask(Request::Shutdown(Shutdown { kill: true }), &[]);
            self.await_end();
            let left: Vec<_> = std::fs::read_dir(self.directory()).expect("read").flatten().collect();
            assert!(left.is_empty(), "left over: {left:?}");
        }
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
    }
}

/// The program under test: the one just built, or another (an older one, a release build) that
/// `GANTRY_TEST_SHIM` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("GANTRY_TEST_SHIM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gantry-shim").into()).into()
}

/// A small specification: namespaces of its own, but the host's network.
pub(crate) fn spec(root: &Path, args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": root, "readonly": false },
        "process": process(args),
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
            ],
            "resources": {},
        },
    })
}

/// A process of it, root with few capabilities.
pub(crate) fn process(args: &[&str]) -> Value {
    let capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"];
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
    })
}

/// An exec of a script.
pub(crate) fn exec_of(exec_id: &str, args: &[&str], attach: Option<Attach>) -> Exec {
    Exec {
        exec_id: exec_id.into(),
        generation: 0,
        process: serde_json::from_value(process(args)).expect("a process"),
        user: String::new(),
        terminal_size: TerminalSize::default(),
        attach,
    }
}

/// The launch with a terminal of 24 by 80.
pub(crate) fn with_terminal(mut launch: Launch) -> Launch {
    let mut process = launch.spec.process().clone().expect("a process");
    process.set_terminal(Some(true));
    launch.spec.set_process(Some(process));
    launch.terminal_size = TerminalSize { rows: 24, cols: 80 };
    launch.open_stdin = true;
    launch
}

/// A client of all three streams.
pub(crate) fn client(framing: Framing) -> (UnixStream, UnixStream, Attach) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(PATIENCE)).expect("set");
    let streams = Streams { stdin: true, stdout: true, stderr: true };
    (ours, theirs, Attach { streams, framing, ..Attach::default() })
}

/// Reads until the text has come.
pub(crate) fn read_until(from: &mut UnixStream, text: &str) -> String {
    let mut got = String::new();
    let mut buffer = [0; 4096];
    while !got.contains(text) {
        let count = from.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {got:?}"));
        assert!(count > 0, "the end instead of {text:?}, after {got:?}");
        got.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    got
}

/// Reads multiplexed frames to the end: standard output and standard error.
pub(crate) fn demultiplex(from: &mut UnixStream) -> (Vec<u8>, Vec<u8>) {
    let mut all = Vec::new();
    from.read_to_end(&mut all).expect("read");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = &all[..];
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        match header[0] {
            1 => out.extend_from_slice(&after[..length]),
            2 => err.extend_from_slice(&after[..length]),
            other => panic!("stream {other}"),
        }
        rest = &after[length..];
    }
    assert!(rest.is_empty());
    (out, err)
}

/// Whether a process exists (a zombie does not).
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Borrows descriptors for a request.
pub(crate) fn fds<'a>(sockets: &[&'a UnixStream]) -> Vec<BorrowedFd<'a>> {
    sockets.iter().map(|&socket| socket.as_fd()).collect()
}
