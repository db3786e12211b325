//! Loading a seccomp filter.

/// One classic BPF instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// How a filter is loaded: bits of `SECCOMP_FILTER_FLAG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// All threads of the process.
    pub const TSYNC: Self = Self(1);
    /// All actions but allow are logged.
    pub const LOG: Self = Self(2);
    /// No mitigation of speculative store bypass.
    pub const SPEC_ALLOW: Self = Self(4);
    /// The supervised process waits killably.
    pub const WAIT_KILLABLE_RECV: Self = Self(32);
}

/// Loads a filter for the calling thread, for good. Does not allocate.
///
/// # Errors
/// An error number: `EACCES` without `CAP_SYS_ADMIN` or no-new-privileges, `EINVAL` for a filter that
/// is malformed or longer than 4096 instructions.
pub fn load(filter: &[Instruction], flags: Flags) -> Result<(), i32> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }
    let Ok(len) = u16::try_from(filter.len()) else { return Err(libc::EINVAL) };
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: `program` points to `len` instructions; the kernel copies and verifies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, &raw const program)
    };
    if result == -1 { Err(crate::process::errno()) } else { Ok(()) }
}

/// Reads the filter that a process was given first, by stopping it for a moment as a debugger.
///
/// # Errors
/// The system's: `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` if there is no filter, `EIO` or `EINVAL` where the
/// kernel was built without checkpointing.
pub fn filter_of(pid: i32) -> std::io::Result<Vec<Instruction>> {
    use std::io::Error;
    const GET_FILTER: libc::c_uint = 0x420c;
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: attaching changes no memory of ours.
    if unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, nothing, nothing) } == -1 {
        return Err(Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    // SAFETY: with a null pointer only the number of instructions is asked for.
    let count = unsafe { libc::ptrace(GET_FILTER, pid, nothing, nothing) };
    let mut filter = Vec::new();
    let mut result = if count < 0 { Err(Error::last_os_error()) } else { Ok(()) };
    if let Ok(count) = usize::try_from(count) {
        filter = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; count];
        // SAFETY: the buffer has room for as many instructions as the kernel said; a filter never changes.
        if unsafe { libc::ptrace(GET_FILTER, pid, nothing, filter.as_mut_ptr()) } < 0 {
            result = Err(Error::last_os_error());
        }
    }
    // SAFETY: as for attaching.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, nothing, nothing) };
    result.map(|()| filter)
}
