//! Namespaces: making, entering, and the little set-up that a fresh one needs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A set of namespace kinds (`CLONE_NEW*` bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u64);

impl Kinds {
    /// No namespace.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Cgroup paths.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// IPC.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Users.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Processes.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every kind of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    fn int(self) -> libc::c_int {
        libc::c_int::try_from(self.0).expect("namespace bits are an int")
    }
}

/// Moves the calling thread into namespaces: of one namespace descriptor (one kind), or of a
/// process given by pidfd (any kinds). PID namespaces apply to children made later.
///
/// # Errors
/// An error number.
pub fn enter(fd: BorrowedFd<'_>, kinds: Kinds) -> Result<(), i32> {
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds.int()) } {
        -1 => Err(crate::process::errno()),
        _ => Ok(()),
    }
}

/// Gives the calling thread new namespaces.
///
/// # Errors
/// An error number.
pub fn unshare(kinds: Kinds) -> Result<(), i32> {
    // SAFETY: only namespace bits can be in the set; descriptors and memory stay shared.
    match unsafe { libc::syscall(libc::SYS_unshare, kinds.int()) } {
        -1 => Err(crate::process::errno()),
        _ => Ok(()),
    }
}

/// Gives the calling thread a root and a working directory of its own, which it shares with the other threads
/// of its process otherwise. A thread may enter a mount namespace only with these.
///
/// # Errors
/// An error number.
pub fn own_directories() -> Result<(), i32> {
    // SAFETY: only the sharing of root, working directory and umask ends; descriptors and memory stay shared.
    match unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_FS) } {
        -1 => Err(crate::process::errno()),
        _ => Ok(()),
    }
}

/// Sets the loopback link of the calling thread's network namespace up.
///
/// # Errors
/// The system's error.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: a plain socket call.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made it for us just now.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: an ifreq of zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("flags are small");
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
