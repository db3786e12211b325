//! Making processes: `clone3`, `execve`, and the process attributes that the standard library lacks.
//!
//! Between [`clone_child`] and [`execve`] the child shares nothing with the other threads of its
//! parent but what they had locked at that moment. Hence the rule for the closure: no allocation,
//! no lock, no standard output. All functions here keep to it, and call the kernel directly where
//! the C library would take part (it would send `setuid` to threads that do not exist).

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The kernel's id of this boot: 36 characters. What lives in the kernel alone does so in one boot.
///
/// # Errors
/// `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    if let Some(given) = gantry_model::failpoint::boot_id() {
        return Ok(given);
    }
    let mut id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    id.truncate(id.trim_end().len());
    Ok(id)
}

/// Namespaces that a new process gets of its own, as `CLONE_NEW*` bits.
pub use crate::ns::Kinds;

/// Makes a child process by `clone3` and runs `body` in it; the value is its exit code. It gets a copy of the
/// memory and all descriptors. Call [`reset_signals`] in it.
///
/// `cgroup` is a directory of the v2 hierarchy to be born in. Returns the pid and the pidfd.
///
/// `body` must not allocate, lock or panic; what it breaks of this stays in the child.
///
/// # Errors
/// What `clone3` says; where it is not allowed, `clone` is tried.
pub fn clone_child(
    kinds: Kinds,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> i32,
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    let mut flags = kinds.bits() | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    let mut into = 0;
    if let Some(fd) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        into = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    let args = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        cgroup: into,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a valid clone_args of the size given; without CLONE_VM the child runs on a
    // copy of this stack, so both sides return here soundly.
    let mut result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if result == -1 && errno() == libc::ENOSYS && into == 0 {
        // A container's seccomp filter cannot look into clone3's arguments, and so forbids it.
        let flags = kinds.bits() | libc::CLONE_PIDFD as u64 | args.exit_signal;
        // SAFETY: as above; the old call stores the pidfd through its third argument.
        result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    }
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            IN_CHILD.store(true, Ordering::Relaxed);
            let code = body();
            exit_now(code)
        }
        pid => {
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((i32::try_from(pid).expect("a pid fits"), pidfd))
        }
    }
}

/// Set in the memory of a child alone.
static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// For tests, as the global allocator: the system's, but a child that allocates or frees before `execve` is
/// aborted, so that no such thing stays unnoticed.
#[derive(Debug)]
pub struct NotInChild;

impl NotInChild {
    fn check() {
        if IN_CHILD.load(Ordering::Relaxed) {
            let text = b"gantry: a child used the allocator before execve\n";
            // SAFETY: plain system calls on valid memory.
            unsafe {
                libc::write(2, text.as_ptr().cast(), text.len());
                libc::abort()
            }
        }
    }
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for NotInChild {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Ends the process at once: no destructors, no exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit is always sound.
    unsafe { libc::_exit(code) }
}

/// An array of C strings ended by a null pointer, as `execve` wants it; room is made in advance.
#[derive(Debug)]
pub struct StringArray<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> StringArray<'a> {
    /// Room for `capacity` strings.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut pointers = Vec::with_capacity(capacity + 1);
        pointers.push(std::ptr::null());
        Self { pointers, strings: PhantomData }
    }

    /// Appends a string. Does not allocate within the capacity.
    pub fn push(&mut self, string: &'a CStr) {
        let last = self.pointers.len() - 1;
        self.pointers[last] = string.as_ptr();
        self.pointers.push(std::ptr::null());
    }
}

/// Executes a program; returns only the reason why not.
#[must_use]
pub fn execve(path: &CStr, args: &StringArray<'_>, env: &StringArray<'_>) -> i32 {
    // SAFETY: all pointers are to live C strings, and both arrays end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    errno()
}

/// The calling thread's last error number.
#[must_use]
pub fn errno() -> i32 {
    // SAFETY: the location is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

fn check(result: libc::c_long) -> Result<(), i32> {
    if result == -1 { Err(errno()) } else { Ok(()) }
}

/// Sets the signal that the calling thread's process gets when its parent thread ends.
///
/// # Errors
/// An error number.
pub fn set_parent_death_signal(signal: i32) -> Result<(), i32> {
    // SAFETY: prctl with plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }.into())
}

/// Gives every signal its default action and unblocks all of them.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action for every signal; SIGKILL and SIGSTOP are refused harmlessly.
        unsafe {
            let action = KernelSigaction::default();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, std::ptr::null_mut::<u8>(), 8);
        }
    }
    let none = 0_u64;
    // SAFETY: an 8-byte mask, as the kernel's sigset_t is.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            8,
        );
    }
}

#[repr(C)]
#[derive(Default)]
struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Replaces the supplementary groups of the calling thread.
///
/// # Errors
/// An error number.
pub fn set_groups(groups: &[u32]) -> Result<(), i32> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Sets real, effective and saved group id of the calling thread.
///
/// # Errors
/// An error number.
pub fn set_gid(gid: u32) -> Result<(), i32> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// Sets real, effective and saved user id of the calling thread.
///
/// # Errors
/// An error number.
pub fn set_uid(uid: u32) -> Result<(), i32> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Whether capabilities survive a change of user.
///
/// # Errors
/// An error number.
pub fn set_keep_caps(keep: bool) -> Result<(), i32> {
    // SAFETY: prctl with plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) }.into())
}

/// Forbids gaining privileges by `execve`, for good.
///
/// # Errors
/// An error number.
pub fn set_no_new_privs() -> Result<(), i32> {
    // SAFETY: prctl with plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Sets an execution domain (`personality`).
///
/// # Errors
/// An error number.
pub fn set_personality(persona: u64) -> Result<(), i32> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

/// A resource limit: soft and hard value, `u64::MAX` meaning none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// The value in force.
    pub soft: u64,
    /// How far the process itself may raise it.
    pub hard: u64,
}

/// Sets a resource limit (`RLIMIT_*`) of the calling process.
///
/// # Errors
/// An error number; `EPERM` where the hard limit would be raised without the right to.
pub fn set_rlimit(resource: u32, limit: Rlimit) -> Result<(), i32> {
    let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `value` is a valid rlimit64, and no old value is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const value,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

/// Reads a resource limit of the calling process.
///
/// # Errors
/// An error number.
pub fn rlimit(resource: u32) -> Result<Rlimit, i32> {
    let mut value = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `value` is a valid rlimit64 to be written.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut value)
    })?;
    Ok(Rlimit { soft: value.rlim_cur, hard: value.rlim_max })
}

/// Marks every descriptor from `first` on to be closed by `execve`.
///
/// # Errors
/// An error number.
pub fn close_on_exec_from(first: u32) -> Result<(), i32> {
    // SAFETY: plain numbers; nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Puts a copy of `fd` at the number `to`, without the close-on-exec flag, even if they are the same.
/// The number must be one that nothing in this process owns (0, 1, 2 in a child before `execve`).
///
/// # Errors
/// An error number.
pub fn place_fd(fd: BorrowedFd<'_>, to: i32) -> Result<(), i32> {
    if fd.as_raw_fd() == to {
        // SAFETY: a descriptor's flags.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }.into());
    }
    // SAFETY: both are numbers; what was at `to` is closed, as documented.
    check(unsafe { libc::dup3(fd.as_raw_fd(), to, 0) }.into())
}

/// Descriptors 0, 1 and 2. In a child before `execve` they are the program's to be.
#[must_use]
pub fn standard_streams() -> [BorrowedFd<'static>; 3] {
    // SAFETY: these numbers are never closed for good; where nothing is open, system calls say so.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// A copy of `fd` at a number of at least `minimum`, closed by `execve`.
///
/// # Errors
/// An error number.
pub fn duplicate_above(fd: BorrowedFd<'_>, minimum: i32) -> Result<OwnedFd, i32> {
    // SAFETY: a plain descriptor operation.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, minimum) };
    if new == -1 {
        return Err(errno());
    }
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_runs_its_body_and_its_exit_code_is_seen() {
        let (_, pidfd) = clone_child(Kinds::NONE, None, &mut || 42).expect("clone3");
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        )
        .expect("waitid")
        .expect("a status");
        assert_eq!(status.exit_status(), Some(42));
    }

    #[test]
    fn execve_reports_its_error() {
        let args = StringArray::with_capacity(0);
        assert_eq!(execve(c"/nonexistent/program", &args, &args), libc::ENOENT);
    }
}
