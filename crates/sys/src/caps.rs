//! Capabilities: the calling thread's sets, by the numbers of `linux/capability.h`.

use crate::process::errno;

/// The capabilities by number; index 0 is `CAP_CHOWN`. Linux 5.9 to 6.18 know these 41.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit n is capability n.
pub type Set = u64;

/// The bit of a capability's name (`CAP_CHOWN`).
#[must_use]
pub fn bit(name: &str) -> Option<Set> {
    NAMES.iter().position(|known| *known == name).map(|number| 1 << number)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The calling thread's effective, permitted and inheritable sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// What is in force.
    pub effective: Set,
    /// What may be put in force.
    pub permitted: Set,
    /// What a program with file capabilities may keep.
    pub inheritable: Set,
}

/// Reads the calling thread's sets.
///
/// # Errors
/// An error number.
pub fn get() -> Result<Sets, i32> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads a header and writes two data elements.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) } == -1 {
        return Err(errno());
    }
    let join = |pick: fn(&Data) -> u32| u64::from(pick(&data[0])) | u64::from(pick(&data[1])) << 32;
    Ok(Sets {
        effective: join(|d| d.effective),
        permitted: join(|d| d.permitted),
        inheritable: join(|d| d.inheritable),
    })
}

/// Sets the calling thread's sets. Capabilities that the kernel does not know are ignored by it.
///
/// # Errors
/// An error number; `EPERM` where a set would grow beyond what is permitted.
pub fn set(sets: Sets) -> Result<(), i32> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |set: Set, shift: u32| u32::try_from(set >> shift & 0xffff_ffff).expect("32 bits");
    let part = |shift| Data {
        effective: half(sets.effective, shift),
        permitted: half(sets.permitted, shift),
        inheritable: half(sets.inheritable, shift),
    };
    let data = [part(0), part(32)];
    // SAFETY: version 3 reads a header and two data elements.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } == -1 {
        return Err(errno());
    }
    Ok(())
}

/// Drops every capability that is not in `keep` from the bounding set.
///
/// # Errors
/// An error number.
pub fn limit_bounding(keep: Set) -> Result<(), i32> {
    for number in 0..64_u64 {
        if keep & 1 << number != 0 {
            continue;
        }
        // SAFETY: prctl with plain numbers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        if result == -1 {
            match errno() {
                // The first number that this kernel does not know.
                libc::EINVAL => break,
                error => return Err(error),
            }
        }
    }
    Ok(())
}

/// Replaces the ambient set. Each must be permitted and inheritable.
///
/// # Errors
/// An error number.
pub fn set_ambient(set: Set) -> Result<(), i32> {
    // SAFETY: prctl with plain numbers.
    if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) } == -1 {
        return Err(errno());
    }
    for number in (0..64_u64).filter(|number| set & 1 << number != 0) {
        // SAFETY: prctl with plain numbers.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } == -1 {
            return Err(errno());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_kernel_numbers() {
        for (name, number) in
            [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_SYSLOG", 34), ("CAP_CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(bit(name), Some(1 << number), "{name}");
        }
        assert_eq!(bit("CAP_NONSENSE"), None);
    }

    #[test]
    fn sets_are_read() {
        let sets = get().expect("capget");
        assert_eq!(sets.effective & !sets.permitted, 0);
    }
}
