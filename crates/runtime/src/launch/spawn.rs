//! Cloning a child and listening to it until it is set up: the same for first processes and execs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gantry_sys::ns::{self, Kinds};
use gantry_sys::process;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::init::ChildStage;
use crate::init::plan::ProgramPlan;
use crate::init::report::{Heard, hear, parse};
use crate::launch::{Created, Supervise};
use crate::process::Exit;
use crate::{LaunchError, Process, Reason};

/// How the child is cloned.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    /// New namespaces.
    pub(crate) kinds: Kinds,
    /// v2: the cgroup to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The process namespace to be born into: its descriptor, or the pidfd of a process in it.
    pub(crate) pid_namespace: Option<BorrowedFd<'a>>,
    pub(crate) program: &'a ProgramPlan,
    pub(crate) supervise: Supervise<'a>,
}

/// How a created process is started.
#[derive(Debug)]
pub(crate) enum Control {
    Socket(OwnedFd),
    Fifos(PathBuf),
}

fn setup(step: &str, error: impl std::fmt::Display) -> LaunchError {
    LaunchError::new(Reason::Setup, format!("{step}: {error}"))
}

/// Clones, runs `body` in the child, and listens until the child is set up.
pub(crate) fn spawn(
    spawn: &Spawn<'_>,
    body: &mut dyn FnMut(ChildStage<'_>) -> i32,
) -> Result<Created, LaunchError> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| setup("socketpair", error))?;
    let fifos = match spawn.supervise {
        Supervise::Detached { dir } => Some(make_fifos(dir)?),
        Supervise::Child | Supervise::Unbound => None,
    };
    let dies_with_maker = matches!(spawn.supervise, Supervise::Child);
    let mut ours = Some(ours);
    let mut child = || {
        // The child's copy: without it, the end of the maker ends the child's wait.
        drop(ours.take());
        body(ChildStage {
            program: spawn.program,
            control: theirs.as_fd(),
            fifos: fifos.as_ref().map(|(start, report)| (start.as_fd(), report.as_fd())),
            dies_with_maker,
        })
    };
    let cloned = clone_into(spawn, &mut child);
    let (pid, pidfd) = cloned.map_err(|error| setup("clone3", error))?;
    drop(theirs);
    let ours = ours.take().expect("only the child took it, from its own memory");
    let mut warnings = Vec::new();
    if let Some(value) = spawn.program.oom_score_adj
        && let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), value.to_string())
    {
        // A process may not lower it below its maker's without CAP_SYS_RESOURCE.
        if error.raw_os_error() != Some(libc::ESRCH) {
            warnings.push(format!("oom_score_adj {value} cannot be set: {error}"));
        }
    }
    let process = Process::of_child(pid, pidfd);
    let terminal = listen(&ours, &process, &mut warnings)?;
    let control = match spawn.supervise {
        Supervise::Detached { dir } => Control::Fifos(dir.to_owned()),
        Supervise::Child | Supervise::Unbound => Control::Socket(ours),
    };
    Ok(Created { process, terminal, warnings, control })
}

fn clone_into(spawn: &Spawn<'_>, child: &mut dyn FnMut() -> i32) -> io::Result<(i32, OwnedFd)> {
    let Some(namespace) = spawn.pid_namespace else {
        return process::clone_child(spawn.kinds, spawn.cgroup, child);
    };
    // Only children are born into it; the calling thread itself stays, and is put back for its next ones.
    let before = File::open("/proc/thread-self/ns/pid_for_children")?;
    ns::enter(namespace, Kinds::PID).map_err(io::Error::from_raw_os_error)?;
    let cloned = process::clone_child(spawn.kinds, spawn.cgroup, child);
    let back = ns::enter(before.as_fd(), Kinds::PID).map_err(io::Error::from_raw_os_error);
    let cloned = cloned?;
    back?;
    Ok(cloned)
}

fn listen(
    socket: &OwnedFd,
    process: &Process,
    warnings: &mut Vec<String>,
) -> Result<Option<OwnedFd>, LaunchError> {
    let mut terminal = None;
    loop {
        let heard =
            hear(socket).unwrap_or_else(|error| Heard::Failed(setup("listening to the child", error)));
        match heard {
            Heard::Ready => return Ok(terminal),
            Heard::Warning(text) => warnings.push(text),
            Heard::Terminal(master) => terminal = Some(master),
            Heard::Failed(error) => {
                reap(process);
                return Err(error);
            }
            Heard::Closed => {
                let end = match reap(process) {
                    Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
                    Some(Exit::Code(code)) => format!("exit code {code}"),
                    None => "unknown end".into(),
                };
                return Err(setup("the container's process ended before it was set up", end));
            }
        }
    }
}

/// Makes sure that a failed child is gone.
fn reap(process: &Process) -> Option<Exit> {
    // It ends by itself; this is for one that could not even report.
    let _ = process.signal(libc::SIGKILL);
    process.wait().ok()
}

/// Lets a created process go, and waits until it has executed its program.
pub(crate) fn start(process: Process, control: Control) -> Result<Process, LaunchError> {
    let result = match control {
        Control::Fifos(dir) => return start_by_fifos(&dir).map(|()| process),
        Control::Socket(socket) => match rustix::io::write(&socket, b"G") {
            Ok(_) => hear(&socket),
            // It is dead: what the exit says is all there is to say.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(Heard::Closed),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(Heard::Failed(error)) => {
            reap(&process);
            Err(error)
        }
        Err(error) => {
            reap(&process);
            Err(setup("starting", error))
        }
        Ok(_) => Ok(process),
    }
}

const START: &str = "start";
const REPORT: &str = "report";

fn make_fifos(dir: &Path) -> Result<(OwnedFd, OwnedFd), LaunchError> {
    let make = |name: &str| {
        let path = dir.join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // Both ways, so that neither opening it blocks nor an early end of the other side ends a read.
        rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    };
    let make = |name: &str| {
        make(name).map_err(|error| setup(&format!("making {}", dir.join(name).display()), error))
    };
    Ok((make(START)?, make(REPORT)?))
}

/// Starts a process that waits at FIFOs.
pub(crate) fn start_by_fifos(dir: &Path) -> Result<(), LaunchError> {
    let open = |name: &str, flags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::open(dir.join(name), flags, Mode::empty()).map_err(|error| match error {
            // Nobody has it open for reading: the process has ended.
            Errno::NXIO => setup("cannot start a container that has stopped", error),
            error => setup("cannot start the container", error),
        })
    };
    let report = open(REPORT, OFlags::RDONLY)?;
    let start = open(START, OFlags::WRONLY)?;
    rustix::io::write(&start, b"G").map_err(|error| setup("starting", error))?;
    rustix::fs::fcntl_setfl(&report, OFlags::empty()).map_err(|error| setup("starting", error))?;
    let mut bytes = [0; 1024];
    let count = loop {
        match rustix::io::read(&report, &mut bytes) {
            Err(Errno::INTR) => {}
            result => break result.map_err(|error| setup("starting", error))?,
        }
    };
    match parse(&bytes[..count], None) {
        Heard::Failed(error) => Err(error),
        _ => Ok(()),
    }
}
