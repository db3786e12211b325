//! Terminals: handing one over, and standing between ours and the container's while it runs.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use gantry_runtime::Process;
use gantry_runtime::launch::Stdio;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::output::Failure;

/// A terminal of the size that the specification says.
pub(crate) fn size(process: Option<&oci_spec::runtime::Process>) -> Stdio {
    let size = process.and_then(|process| process.console_size());
    let number = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    Stdio::Terminal {
        rows: size.map_or(0, |size| number(size.height())),
        cols: size.map_or(0, |size| number(size.width())),
    }
}

/// Sends a descriptor to whoever listens at a socket.
pub(crate) fn send(path: &Path, master: BorrowedFd<'_>) -> Result<(), Failure> {
    let socket = UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(&socket, &[IoSlice::new(b"/dev/pts/ptmx")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Passes signals (and, with a terminal, bytes) between us and the process until it ends; its exit code.
pub(crate) fn attend(process: &Process, master: Option<OwnedFd>) -> Result<i32, Failure> {
    let [stdin, ..] = gantry_sys::process::standard_streams();
    let saved = match &master {
        Some(master) => {
            if let Ok(size) = tcgetwinsize(stdin) {
                tcsetwinsize(master, size)?;
            }
            make_raw(stdin)
        }
        None => None,
    };
    gantry_sys::signal::block_all();
    let result = attend_blocked(process, master);
    if let Some(saved) = saved {
        // Nothing better can be done than to try.
        let _ = tcsetattr(stdin, OptionalActions::Drain, &saved);
    }
    result
}

fn attend_blocked(process: &Process, master: Option<OwnedFd>) -> Result<i32, Failure> {
    let copy = process.pidfd.try_clone()?;
    let size_of = master.as_ref().map(OwnedFd::try_clone).transpose()?;
    // These threads end with this program.
    std::thread::spawn(move || forward_signals(&copy, size_of.as_ref()));
    if let Some(master) = master {
        let mut keys = File::from(master.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut std::io::stdin(), &mut keys));
        let mut screen = File::from(master);
        let mut buffer = [0; 8192];
        // The end of the other side is an error here.
        while let Ok(count @ 1..) = screen.read(&mut buffer) {
            let mut stdout = std::io::stdout();
            stdout.write_all(&buffer[..count])?;
            stdout.flush()?;
        }
    }
    Ok(process.wait()?.code())
}

fn forward_signals(pidfd: &OwnedFd, master: Option<&OwnedFd>) {
    let [stdin, ..] = gantry_sys::process::standard_streams();
    loop {
        match gantry_sys::signal::wait() {
            Ok(libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG) | Err(_) => {}
            Ok(libc::SIGWINCH) => {
                if let (Some(master), Ok(size)) = (master, tcgetwinsize(stdin)) {
                    let _ = tcsetwinsize(master, size);
                }
            }
            Ok(signal) => {
                let _ = gantry_sys::pidfd::send_signal(std::os::fd::AsFd::as_fd(pidfd), signal);
            }
        }
    }
}

fn make_raw(stdin: BorrowedFd<'_>) -> Option<Termios> {
    let saved = tcgetattr(stdin).ok()?;
    let mut raw = saved.clone();
    raw.make_raw();
    tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
    Some(saved)
}
