//! The last steps, the same for a container's first process and for an exec: streams, limits, working
//! directory, filter, user, look-up of the program, the wait, and `execve`.

use std::ffi::{CStr, CString};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::process::{self, StringArray};
use gantry_sys::rooted::{self, PathBuffer};
use gantry_sys::seccomp;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::Reason;
use crate::init::identity::{self, Identity, Room};
use crate::init::plan::ProgramPlan;
use crate::init::report::{Report, Step, exec_error_text};
use crate::init::rootfs::Shown;

/// How the child waits for its start.
#[derive(Debug)]
pub(crate) enum Gate<'a> {
    /// For a byte from the socket to its maker, who also hears what `execve` says.
    Socket(BorrowedFd<'a>),
    /// For a byte from a FIFO; a second one tells whoever starts it what `execve` says.
    Fifos { start: BorrowedFd<'a>, report: BorrowedFd<'a> },
}

/// The child's surroundings in the last steps.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a ProgramPlan,
    pub(crate) report: Report<'a>,
    pub(crate) gate: Gate<'a>,
    pub(crate) dies_with_maker: bool,
    pub(crate) root: BorrowedFd<'a>,
}

/// Puts the standard streams in place.
pub(crate) fn place_streams(streams: [&OwnedFd; 3], report: Report<'_>) -> Step {
    // Above 2 first, so that none is overwritten before it is copied.
    let mut copies = [const { None }; 3];
    for (copy, stream) in copies.iter_mut().zip(streams) {
        let moved = process::duplicate_above(stream.as_fd(), 3)
            .map_err(|error| report.failed(error, format_args!("duplicating a standard stream")))?;
        *copy = Some(moved);
    }
    for (number, copy) in (0..).zip(&copies) {
        let Some(copy) = copy else { continue };
        process::place_fd(copy.as_fd(), number)
            .map_err(|error| report.failed(error, format_args!("placing a standard stream")))?;
    }
    Ok(())
}

/// Runs the program; returns only if it could not.
pub(crate) fn run<'a>(
    stage: &Stage<'a>,
    identity: Identity,
    room: &'a Room,
    args: &StringArray<'a>,
    mut env: ManuallyDrop<StringArray<'a>>,
) -> Step<i32> {
    let Stage { plan, report, .. } = *stage;
    if let Ok(home) = CStr::from_bytes_with_nul(&room.home) {
        env.push(home);
    }
    identity::own_streams(stage.root, identity);
    // Before the limits: one of few open files leaves no descriptor for the directory.
    let entered = enter_directory(stage.root, &plan.cwd);
    identity::limit(plan, report)?;
    if let Some(persona) = plan.personality {
        process::set_personality(persona)
            .map_err(|error| report.failed(error, format_args!("personality")))?;
    }
    if plan.no_new_privs {
        process::set_no_new_privs()
            .map_err(|error| report.failed(error, format_args!("set no_new_privs")))?;
    } else {
        // Loading a filter is a privilege that goes with the capabilities.
        load_filter(plan, report)?;
    }
    identity::assume(plan, identity, room, report)?;
    if let Err(error) = entered {
        // The directory may be the user's alone, on a file system where root is nobody.
        enter_directory(stage.root, &plan.cwd).map_err(|_| {
            report.failed(
                error,
                format_args!("chdir to cwd (\"/{}\") set in config.json failed", Shown(&plan.cwd)),
            )
        })?;
    }
    let umask = Mode::from_raw_mode(plan.umask.unwrap_or(0o022));
    rustix::process::umask(umask);
    let program = find(&plan.args[0], &plan.path, report)?;
    if stage.dies_with_maker {
        // Changing the user cleared it.
        process::set_parent_death_signal(libc::SIGKILL)
            .map_err(|error| report.failed(error, format_args!("set the parent-death signal")))?;
    }
    process::close_on_exec_from(3 + plan.preserve_fds)
        .map_err(|error| report.failed(error, format_args!("close_range")))?;
    report.ready();
    let Some(report) = wait(&stage.gate) else { return Ok(255) };
    if plan.no_new_privs {
        load_filter(plan, report)?;
    }
    let error = process::execve(program.as_c_str(), args, &env);
    tell(&plan.args[0], error);
    let _ = report.refused(Reason::ExecFailed, error, format_args!("exec {}", Shown(&plan.args[0])));
    Ok(255)
}

/// Docker's text on the container's own standard error.
fn tell(program: &CStr, error: i32) {
    let text = exec_error_text(error).unwrap_or("execve failed");
    let [_, _, stderr] = process::standard_streams();
    for part in [b"exec ", program.to_bytes(), b": ", text.as_bytes(), b"\n"] {
        let _ = rustix::io::write(stderr, part);
    }
}

fn enter_directory(root: BorrowedFd<'_>, cwd: &CString) -> Result<(), Errno> {
    // Never through a magic link: it could lead out of the root (CVE-2024-21626).
    let directory = rooted::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY)?;
    rustix::process::fchdir(&directory)
}

fn load_filter(plan: &ProgramPlan, report: Report<'_>) -> Step {
    let Some((filter, flags)) = &plan.seccomp else { return Ok(()) };
    seccomp::load(filter, *flags)
        .map_err(|error| report.failed(error, format_args!("unable to init seccomp")))
}

/// Waits for the start; `None` if whoever could give it is gone.
fn wait<'a>(gate: &Gate<'a>) -> Option<Report<'a>> {
    let (from, report) = match gate {
        Gate::Socket(fd) => (*fd, *fd),
        Gate::Fifos { start, report } => (*start, *report),
    };
    let mut byte = [0_u8];
    loop {
        match rustix::io::read(from, &mut byte) {
            Ok(1) if byte[0] == b'G' => return Some(Report::new(report)),
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
}

/// Finds the program as Go's `exec.LookPath` does, and says what it says.
fn find(name: &CStr, path: &[u8], report: Report<'_>) -> Step<PathBuffer> {
    let shown = Shown(name);
    let bytes = name.to_bytes();
    let refused = |error: Errno| {
        let error = error.raw_os_error();
        match error {
            libc::ENOENT => {
                report.refused(Reason::NotFound, error, format_args!("exec: \"{shown}\": stat {shown}"))
            }
            libc::ENOTDIR => {
                report.refused(Reason::NotExecutable, error, format_args!("exec: \"{shown}\": stat {shown}"))
            }
            // Docker's text, which names both what it is and what that means.
            libc::EISDIR => report.refused(
                Reason::NotExecutable,
                libc::EACCES,
                format_args!("exec: \"{shown}\": is a directory"),
            ),
            _ => report.refused(Reason::NotExecutable, error, format_args!("exec: \"{shown}\"")),
        }
    };
    if bytes.contains(&b'/') {
        let program = PathBuffer::new(&[bytes]).map_err(refused)?;
        return executable(program.as_c_str()).map(|()| program).map_err(refused);
    }
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let Ok(program) = PathBuffer::new(&[directory, b"/", bytes]) else { continue };
        if !bytes.is_empty() && executable(program.as_c_str()).is_ok() {
            return Ok(program);
        }
    }
    Err(report.refused(
        Reason::NotFound,
        0,
        format_args!("exec: \"{shown}\": executable file not found in $PATH"),
    ))
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Errno::ISDIR);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A filter may not know faccessat2(2); then the mode decides.
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        result => result,
    }
}
