//! `gantry-init [-v] [--] PROGRAM [ARGUMENT…]`: process 1 of a container with `--init`.
//!
//! It starts the program, passes every signal on to it, reaps whatever is orphaned, and ends with the
//! program's exit code (128 + the signal that killed it; 127 not found, 126 not executable).

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gantry_sys::ns::Kinds;
use gantry_sys::process::{self, StringArray};
use gantry_sys::signal;
use rustix::process::{Pid, WaitOptions, wait};

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // Flags of docker-init that change nothing here.
    while arguments.next_if(|flag| flag == "-v" || flag == "-s").is_some() {}
    let _ = arguments.next_if(|flag| flag == "--");
    // What comes from the system as arguments and environment has no zero byte.
    let arguments: Vec<CString> = arguments.filter_map(|text| CString::new(text.into_vec()).ok()).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let Some(program) = arguments.first() else {
        eprintln!("usage: gantry-init [--] PROGRAM [ARGUMENT...]");
        std::process::exit(125);
    };
    // Blocked before the child is made: none gets lost in between.
    signal::block_all();
    if rustix::process::getpid() != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    }
    let candidates = candidates(program, &std::env::var_os("PATH").unwrap_or_default());
    let (args, env) = (array(&arguments), array(&environment));
    let mut child = || start(program, &candidates, &args, &env);
    match process::clone_child(Kinds::NONE, None, &mut child) {
        Ok((pid, _)) => std::process::exit(serve(pid)),
        Err(error) => {
            eprintln!("gantry-init: cannot make a process: {error}");
            std::process::exit(125);
        }
    }
}

fn array(strings: &[CString]) -> StringArray<'_> {
    let mut array = StringArray::with_capacity(strings.len());
    strings.iter().for_each(|string| array.push(string));
    array
}

/// The paths under which the program may be, in order.
fn candidates(program: &CStr, path: &OsStr) -> Vec<CString> {
    if program.to_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    let directories = path.as_bytes().split(|byte| *byte == b':');
    directories.filter_map(|dir| CString::new([dir, b"/", program.to_bytes()].concat()).ok()).collect()
}

/// In the child: the program in a process group of its own, which Ctrl-C at the terminal is for.
fn start(program: &CStr, candidates: &[CString], args: &StringArray<'_>, env: &StringArray<'_>) -> i32 {
    let [stdin, _, stderr] = process::standard_streams();
    let _ = rustix::process::setpgid(None, None);
    // While signals are blocked, so that a background group may do this. Without a terminal nothing is lost.
    let _ = rustix::termios::tcsetpgrp(stdin, rustix::process::getpid());
    process::reset_signals();
    let mut error = libc::ENOENT;
    for candidate in candidates {
        match process::execve(candidate, args, env) {
            libc::ENOENT | libc::ENOTDIR => {}
            other => error = other,
        }
    }
    let reason: &[u8] =
        if error == libc::ENOENT { b": no such file or directory\n" } else { b": cannot be executed\n" };
    for part in [b"exec ", program.to_bytes(), reason] {
        let _ = rustix::io::write(stderr, part);
    }
    if error == libc::ENOENT { 127 } else { 126 }
}

/// Passes signals on and reaps, until the child ends.
fn serve(pid: i32) -> i32 {
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
