//! Starting a program the cheap way: `clone(CLONE_VM | CLONE_VFORK)`, which copies no page tables,
//! so that its cost does not depend on how big the caller is (a daemon with 100 MB mapped pays a
//! millisecond for a plain fork), and which gives a pidfd in the same call.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::descriptors;

/// What to run, with which descriptors.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program's path, not searched for.
    pub program: &'a CStr,
    /// All arguments, the first being the name.
    pub arguments: &'a [&'a CStr],
    /// `NAME=value` each; the whole environment.
    pub environment: &'a [&'a CStr],
    /// Where it starts; `None`: where the caller is.
    pub directory: Option<&'a CStr>,
    /// These become descriptors 3, 4, … in order. 0, 1 and 2 are `/dev/null`. No other is inherited.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// A started child of the calling process, in a session of its own.
#[derive(Debug)]
pub struct Child {
    /// Its process id, valid until reaped.
    pub pid: i32,
    /// A descriptor that names the process and nothing else ever; readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Where the child's set-up stands; shared with it, since it runs in the caller's memory.
struct Plan {
    program: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    directory: *const c_char,
    descriptors: *mut RawFd,
    descriptor_count: c_int,
    mask: libc::sigset_t,
    /// Of descriptors; null leaves the caller's.
    limit: *const libc::rlimit64,
    failed: c_int,
}

const STACK_BYTES: usize = 32 * 1024;
const FIRST: c_int = 3;

/// Starts a program. The caller waits only until the program's `execve` is done or has failed.
///
/// # Errors
/// clone(2)'s, execve(2)'s or chdir(2)'s; no child is left then.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Child> {
    let pointers = |texts: &[&CStr]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(what.arguments), pointers(what.environment));
    let mut descriptors: Vec<RawFd> = what.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let limit =
        descriptors::given_limit().map(|given| libc::rlimit64 { rlim_cur: given.soft, rlim_max: given.hard });
    let mut plan = Plan {
        program: what.program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        directory: what.directory.map_or(ptr::null(), CStr::as_ptr),
        descriptors: descriptors.as_mut_ptr(),
        descriptor_count: c_int::try_from(descriptors.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        // SAFETY: an all-zero sigset_t is the empty set: the program starts with no signal blocked.
        mask: unsafe { std::mem::zeroed() },
        limit: limit.as_ref().map_or(ptr::null(), ptr::from_ref),
        failed: 0,
    };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / 16);
    let mut pidfd: RawFd = -1;
    // A signal that the caller blocks stays blocked for it; the child starts with none blocked.
    // SAFETY: the child gets a stack of its own (16-byte aligned, its top one past the allocation),
    // and `plan` and everything it points to outlive it, because CLONE_VFORK suspends this thread
    // until the child has called execve or _exit. All signals are blocked meanwhile, so no handler
    // of the caller runs in the child. The child uses only async-signal-safe raw calls.
    let pid = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::clone(
            child,
            stack.as_mut_ptr().add(STACK_BYTES / 16).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw mut plan).cast(),
            &raw mut pidfd,
        );
        let error = if pid < 0 { *libc::__errno_location() } else { 0 };
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        if pid < 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        pid
    };
    // SAFETY: the kernel stored a new descriptor there, since clone succeeded.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: a volatile read of memory that the child may have written before it exited.
    let failed = unsafe { ptr::read_volatile(&raw const plan.failed) };
    if failed != 0 {
        reap(&pidfd);
        return Err(io::Error::from_raw_os_error(failed));
    }
    Ok(Child { pid, pidfd })
}

fn reap(pidfd: &OwnedFd) {
    use std::os::fd::AsFd;
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        )
    });
}

/// The child's side. Runs in the parent's memory on a small stack: no allocation, no panic, no locks.
extern "C" fn child(argument: *mut c_void) -> c_int {
    let plan = argument.cast::<Plan>();
    // SAFETY: `argument` is the parent's live Plan (see `spawn`), its pointers are valid and
    // null-terminated where execve wants that, and every call is async-signal-safe. Writing
    // `failed` races with nobody: the parent is suspended. errno is the parent's, which is fine
    // for the same reason.
    unsafe {
        // Signal handlers were copied, not shared (no CLONE_SIGHAND); only SIGPIPE, which Rust's
        // start-up ignores, would survive execve.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::setsid();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const (*plan).mask, ptr::null_mut());
        // Sources may lie where targets go, so all are first lifted above the targets.
        let above = FIRST + (*plan).descriptor_count;
        let mut at = 0;
        while at < (*plan).descriptor_count {
            let slot = (*plan).descriptors.offset(at as isize);
            *slot = libc::fcntl(*slot, libc::F_DUPFD, above);
            if *slot < 0 {
                return fail(plan);
            }
            at += 1;
        }
        at = 0;
        while at < (*plan).descriptor_count {
            if libc::dup2(*(*plan).descriptors.offset(at as isize), FIRST + at) < 0 {
                return fail(plan);
            }
            at += 1;
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null < 0 || libc::dup2(null, 0) < 0 || libc::dup2(null, 1) < 0 || libc::dup2(null, 2) < 0 {
            return fail(plan);
        }
        libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, 0);
        if !(*plan).directory.is_null() && libc::chdir((*plan).directory) < 0 {
            return fail(plan);
        }
        // Last: what it lowers is in the way of duplicating.
        if !(*plan).limit.is_null()
            && libc::syscall(
                libc::SYS_prlimit64,
                0,
                libc::RLIMIT_NOFILE,
                (*plan).limit,
                ptr::null_mut::<libc::rlimit64>(),
            ) < 0
        {
            return fail(plan);
        }
        libc::execve((*plan).program, (*plan).argv, (*plan).envp);
        fail(plan)
    }
}

/// Tells the parent why, and ends.
///
/// # Safety
/// `plan` is the parent's live Plan.
unsafe fn fail(plan: *mut Plan) -> c_int {
    // SAFETY: as said above; _exit runs no handlers of the parent.
    unsafe {
        ptr::write_volatile(&raw mut (*plan).failed, *libc::__errno_location());
        libc::_exit(127)
    }
}

/// Takes a descriptor that this process was started with, such as those of [`Spawn::descriptors`], and
/// marks it close-on-exec. To be called once for each, before anything else is opened.
///
/// # Errors
/// `EBADF` where there is none of that number.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with a number only; nothing is dereferenced.
    if number < FIRST || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and by this function's contract nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes an argument list's item; for callers that have texts.
///
/// # Errors
/// `InvalidInput` for a text with a zero byte.
pub fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(script: &CStr, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        spawn(&Spawn {
            program: c"/bin/sh",
            arguments: &[c"sh", c"-c", script],
            environment: &[c"A=b", c"PATH=/bin:/usr/bin"],
            directory: Some(c"/usr"),
            descriptors,
        })
    }

    #[test]
    fn only_the_given_descriptors_arrive_in_order() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let null = std::fs::File::open("/dev/null").expect("null");
        let child = run(c"exec >&4; echo $A $PWD; ls /proc/$$/fd; true", &[null.as_fd(), writer.as_fd()])
            .expect("started");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "b /usr\n0\n1\n2\n3\n4\n");
        reap(&child.pidfd);
    }

    #[test]
    fn a_child_has_the_limit_that_its_parent_was_given() {
        use crate::process::rlimit;
        let before = rlimit(libc::RLIMIT_NOFILE).expect("readable");
        descriptors::raise_limit().expect("up to the hard one");
        let raised = rlimit(libc::RLIMIT_NOFILE).expect("readable");
        assert_eq!((raised.soft, raised.hard), (before.hard, before.hard));
        descriptors::raise_limit().expect("and again");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let child = run(c"ulimit -Sn >&3", &[writer.as_fd()]).expect("started");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text.trim().parse(), Ok(before.soft));
        reap(&child.pidfd);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_and_no_child() {
        let error = spawn(&Spawn {
            program: c"/proc/self/nosuch",
            arguments: &[c"nosuch"],
            environment: &[],
            directory: None,
            descriptors: &[],
        })
        .expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
