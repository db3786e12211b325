//! The old packet filter (`iptables-legacy`): only the question whether it drops what is forwarded.
//!
//! Its rules are in no netlink list; the kernel gives them as one block through socket options, as
//! `iptables-legacy-save` reads it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const IPT_SO_GET_INFO: libc::c_int = 64;
const IPT_SO_GET_ENTRIES: libc::c_int = 65;
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, valid hooks, 5 hook entries, 5 underflows, number of entries, size.
const INFO: usize = NAME + 4 + 5 * 4 + 5 * 4 + 4 + 4;
const UNDERFLOW_FORWARD: usize = NAME + 4 + 5 * 4 + 2 * 4;
const SIZE: usize = INFO - 4;
/// `struct ipt_get_entries` begins with the name and the size and is aligned to 8.
const ENTRIES: usize = 40;
/// `struct ipt_entry` is 112 bytes; the offset of its target is at 88.
const TARGET_OFFSET: usize = 88;
/// `struct xt_entry_target` is 32 bytes, then comes the standard target's verdict.
const VERDICT: usize = 32;
/// A table of more than this is not read.
const LIMIT: usize = 64 << 20;

/// Whether the legacy `filter` table exists and its FORWARD chain's policy is to drop.
///
/// Where no legacy table is in use the kernel's module is not even loaded by asking.
///
/// # Errors
/// What the kernel said.
pub fn drops_forwarded() -> io::Result<bool> {
    match std::fs::read_to_string("/proc/thread-self/net/ip_tables_names") {
        Ok(names) if names.lines().any(|name| name == "filter") => {}
        _ => return Ok(false),
    }
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::RAW,
        rustix::net::SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::RAW),
    )?;
    let mut info = vec![0; INFO];
    info[..6].copy_from_slice(b"filter");
    get(&socket, IPT_SO_GET_INFO, &mut info)?;
    let size = word(&info, SIZE);
    let underflow = word(&info, UNDERFLOW_FORWARD);
    if size > LIMIT {
        return Err(io::Error::other("the legacy filter table is too large to read"));
    }
    let mut block = vec![0; ENTRIES + size];
    block[..6].copy_from_slice(b"filter");
    block[NAME..NAME + 4].copy_from_slice(&info[SIZE..SIZE + 4]);
    get(&socket, IPT_SO_GET_ENTRIES, &mut block)?;
    Ok(policy_drops(&block[ENTRIES..], underflow))
}

/// Reads the verdict of the entry at `at`, which is a chain's policy. Verdicts are stored as `-verdict - 1`.
fn policy_drops(entries: &[u8], at: usize) -> bool {
    const DROP: i32 = -1;
    let target = entries
        .get(at + TARGET_OFFSET..at + TARGET_OFFSET + 2)
        .map_or(usize::MAX, |b| at + usize::from(u16::from_ne_bytes([b[0], b[1]])) + VERDICT);
    let verdict = target.checked_add(4).and_then(|end| entries.get(target..end));
    verdict.is_some_and(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]) == DROP)
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

fn get(socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_the_underflow_entrys_verdict() {
        for (verdict, drops) in [(-1_i32, true), (-2, false)] {
            let mut entries = vec![0; 2 * (112 + 40)];
            let at = 112 + 40;
            entries[at + TARGET_OFFSET] = 112;
            entries[at + 112 + VERDICT..at + 112 + VERDICT + 4].copy_from_slice(&verdict.to_ne_bytes());
            assert_eq!(policy_drops(&entries, at), drops);
        }
        assert!(!policy_drops(&[0; 20], 0), "a block cut short says nothing");
    }
}
