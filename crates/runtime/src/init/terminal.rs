//! A pseudo-terminal of the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::rooted;
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::init::report::{Report, Step};

/// The magic number of devpts.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Opens a new terminal for `uid`, hands its master side to the maker and gives the other side.
pub(crate) fn open(root: BorrowedFd<'_>, size: (u16, u16), uid: u32, report: Report<'_>) -> Step<OwnedFd> {
    make(root, size, uid, report)
        .map_err(|error| report.failed(error, format_args!("creating new pty from /dev/pts/ptmx")))
}

fn make(
    root: BorrowedFd<'_>,
    (rows, cols): (u16, u16),
    uid: u32,
    report: Report<'_>,
) -> Result<OwnedFd, Errno> {
    let master = rooted::open(root, c"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
    // An image could have put anything there.
    if rustix::fs::fstatfs(&master)?.f_type != DEVPTS_MAGIC {
        return Err(Errno::NODEV);
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if rows != 0 || cols != 0 {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size)?;
    }
    if uid != 0 {
        rustix::fs::fchown(&terminal, Some(Uid::from_raw(uid)), None::<Gid>)?;
    }
    report.terminal(master.as_fd())?;
    Ok(terminal)
}
