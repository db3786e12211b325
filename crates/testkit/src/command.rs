//! Running a command line, and what came of it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Which command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The stock one, found in `PATH`.
    Docker,
    /// Ours.
    Gantry,
}

/// A command line with the daemon that it drives.
#[derive(Debug, Clone)]
pub struct Cli {
    /// Which.
    pub client: Client,
    program: PathBuf,
    host: String,
}

/// A command's end.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit code; 128 and the signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cli {
    /// Finds the program; `None` if there is none.
    #[must_use]
    pub fn find(client: Client, host: &str) -> Option<Self> {
        let program = match client {
            Client::Docker => in_path("docker")?,
            Client::Gantry => crate::daemon::binary("gantry")?,
        };
        Some(Self { client, program, host: host.to_owned() })
    }

    /// A command that can still be changed.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("GANTRY_HOST");
        command
    }

    /// Runs it to its end without input.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        finish(self.command(args).stdin(Stdio::null()))
    }

    /// Runs it, expects code 0, and gives its trimmed output.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{:?} {args:?}: {done:?}", self.client);
        done.stdout.trim_end().to_owned()
    }

    /// Runs it, expects a code, and gives what it said on standard error.
    ///
    /// # Panics
    /// It ends with another code.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(&self, code: i32, args: &[S]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, code, "{:?} {args:?}: {done:?}", self.client);
        done.stderr
    }

    /// Runs it with input.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Done {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().expect("input was asked for as a pipe");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A program may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let done = wait(child);
        let _ = writer.join();
        done
    }

    /// Starts it with all three streams as pipes.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program was found a moment ago")
    }
}

/// Waits for a child whose output is piped.
///
/// # Panics
/// Its output cannot be read.
#[must_use]
pub fn wait(child: Child) -> Done {
    let output = child.wait_with_output().expect("a child's output can be read");
    done(&output)
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started.
pub fn finish(command: &mut Command) -> Done {
    let shown = format!("{command:?}");
    done(&command.output().unwrap_or_else(|error| panic!("{shown}: {error}")))
}

fn done(output: &std::process::Output) -> Done {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = || output.status.signal().map_or(-1, |signal| 128 + signal);
    Done {
        code: output.status.code().unwrap_or_else(signal),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program of the search path.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| Path::is_file(file))
}
