//! A real terminal for a command: the test holds the other side of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{self, OpenptFlags};
use rustix::termios::{Winsize, tcsetwinsize};

/// A command on a terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs a command on a new terminal of 24 rows and 80 columns. `None` without `setsid`, which
    /// makes it the command's controlling terminal.
    ///
    /// # Panics
    /// The kernel refuses a terminal.
    #[must_use]
    pub fn start(command: &Command) -> Option<Self> {
        let setsid = crate::command::in_path("setsid")?;
        let (master, slave) = open();
        let mut wrapped = Command::new(setsid);
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        let share = |fd: &OwnedFd| fd.try_clone().expect("a descriptor can be shared");
        wrapped.stdin(share(&slave)).stdout(share(&slave)).stderr(share(&slave));
        let child = wrapped.spawn().expect("setsid was found a moment ago");
        drop(slave);
        let (sender, output) = channel();
        let mut reader = master.try_clone().expect("a descriptor can be shared");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails once nobody holds the other side.
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Some(Self { master, child, output, seen: String::new() })
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until a text appears, and takes everything up to its end.
    ///
    /// # Panics
    /// It does not within 20 seconds.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.reads(text).unwrap_or_else(|| panic!("{text:?} does not appear in {:?}", self.seen))
    }

    /// The same, and `None` if it does not appear within 20 seconds.
    pub fn reads(&mut self, text: &str) -> Option<String> {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                return Some(self.seen.drain(..at + text.len()).collect());
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return None;
            }
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(100)) {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// Waits for the command's end: its exit code (124 if it had to be killed after 20 seconds), and
    /// what it wrote that nobody took.
    #[must_use]
    pub fn finish(mut self) -> (i32, String) {
        let begun = Instant::now();
        let mut code = None;
        while code.is_none() && begun.elapsed() < Duration::from_secs(20) {
            match self.output.recv_timeout(Duration::from_millis(20)) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                // The last holder of the other side is gone; the command's end is at most a moment away.
                Err(_) => {
                    code = self.child.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
                }
            }
        }
        if code.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // All of it is there once the reader is done, which a busy machine may let wait.
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(1)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (code.unwrap_or(124), self.seen)
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).expect("a terminal has a size");
    }

    /// Waits for the command's end: its exit code.
    ///
    /// # Panics
    /// It does not end within 20 seconds.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code().unwrap_or(-1);
            }
            if begun.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("the command on the terminal does not end; it said {:?}", self.seen);
            }
            while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn open() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = pty::openpt(flags).expect("the kernel has a terminal left");
    pty::grantpt(&master).expect("the terminal is ours");
    pty::unlockpt(&master).expect("the terminal is ours");
    let name = pty::ptsname(&master, Vec::new()).expect("a terminal has a name");
    let slave = rustix::fs::open(
        name.as_c_str(),
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .expect("the terminal's other side can be opened");
    tcsetwinsize(&master, size(24, 80)).expect("a terminal has a size");
    (File::from(master), slave)
}
