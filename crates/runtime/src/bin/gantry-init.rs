//! `gantry-init [-v] [--] PROGRAM [ARGUMENT…]`: process 1 of a container with `--init`.
//!
//! It starts the program, passes every signal on to it, reaps whatever is orphaned, and ends with the
//! program's exit code (128 + the signal that killed it; 127 not found, 126 not executable).

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use gantry_sys::signal;
use rustix::process::{Pid, WaitOptions, wait};

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // Flags of docker-init that change nothing here.
    while arguments.next_if(|flag| flag == "-v" || flag == "-s").is_some() {}
    let _ = arguments.next_if(|flag| flag == "--");
    let Some(program) = arguments.next() else {
        eprintln!("usage: gantry-init [--] PROGRAM [ARGUMENT...]");
        std::process::exit(125);
    };
    // Blocked before the child is made: none gets lost in between. The child starts with none blocked.
    signal::block_all();
    if rustix::process::getpid() != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    }
    let child = match Command::new(&program).args(arguments).process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("exec {} failed: {error}", program.display());
            std::process::exit(if error.kind() == ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let [stdin, ..] = gantry_sys::process::standard_streams();
    if let Some(group) = pid_of(&child) {
        // Ctrl-C at the terminal is for the program. Without a terminal this fails, and nothing is lost.
        let _ = rustix::termios::tcsetpgrp(stdin, group);
    }
    std::process::exit(serve(&child));
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().cast_signed())
}

/// Passes signals on and reaps, until the child ends.
fn serve(child: &Child) -> i32 {
    let pid = child.id().cast_signed();
    loop {
        match signal::wait() {
            Ok(libc::SIGCHLD) => {
                if let Some(code) = reap(pid) {
                    return code;
                }
            }
            // The terminal's opinion of us, not of the program.
            Ok(libc::SIGTTIN | libc::SIGTTOU) | Err(_) => {}
            Ok(other) => {
                let _ = signal::send(pid, other);
            }
        }
    }
}

/// Reaps all that ended; the child's exit code if it is among them.
fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == child {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            code = status.exit_status().or(signal);
        }
    }
    code
}
