//! One of the two daemons, and a case run against it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::case::{Act, Call, Case, Step};
use crate::command::{Done, finish, in_path, wait};
use crate::terminal::Terminal;

/// The images that cases name, and what they are built from over BusyBox.
const IMAGES: [(&str, &str); 2] = [
    ("compare/web", "FROM compare/bb\nEXPOSE 80\nCMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/www\"]\n"),
    (
        "compare/set",
        "FROM compare/bb\nLABEL tier=web owner=\"a team\"\nENV ONE=1 TWO=\"two words\"\nEXPOSE 80/tcp 53/udp\n\
         VOLUME /data\nWORKDIR /work\nUSER app\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"echo\",\"entry\"]\nCMD [\"command\"]\n",
    ),
];

/// The longest that one call may take; a call that hangs is ended, with code 124.
const PATIENCE: &str = "60";

/// How many cases may be under way at a time: most of the time they wait for a daemon.
pub const AT_ONCE: usize = 3;

/// A daemon under comparison.
#[derive(Debug)]
pub struct Side {
    host: String,
    program: PathBuf,
    /// Where each case's directory is; of equal length on both sides.
    directory: PathBuf,
    /// The first of the two ports that cases publish, for each case that is under way at a time.
    ports: Vec<u16>,
    data_root: String,
    bridge: String,
}

/// What one compared call printed, with the side's own directory, ports and data root turned back
/// into their variables.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Side {
    /// Sets up the images on a daemon; cases publish the first free ports from one on, two for each of
    /// [`AT_ONCE`].
    ///
    /// # Errors
    /// What the machine lacks, or what the daemon refused.
    pub fn new(host: &str, directory: &Path, ports_from: u16) -> Result<Self, String> {
        let program = in_path("docker").ok_or("no stock docker CLI in PATH")?;
        Self::with(program, host, directory, ports_from)
    }

    /// The same with another client than the stock CLI.
    ///
    /// # Errors
    /// What the machine lacks, or what the daemon refused.
    pub fn with(program: PathBuf, host: &str, directory: &Path, ports_from: u16) -> Result<Self, String> {
        let ports: Vec<u16> = free_ports(ports_from).take(AT_ONCE).collect();
        if ports.len() < AT_ONCE {
            return Err("too few free ports side by side".to_owned());
        }
        fs::create_dir_all(directory.join("config")).map_err(|error| error.to_string())?;
        let mut side = Self {
            host: host.to_owned(),
            program,
            directory: directory.to_owned(),
            ports,
            data_root: String::new(),
            bridge: String::new(),
        };
        let tar = crate::image::busybox_tar().ok_or("no busybox: apt-get install busybox-static")?;
        let archive = directory.join("busybox.tar");
        fs::write(&archive, tar).map_err(|error| error.to_string())?;
        let archive = archive.to_string_lossy().into_owned();
        side.ok(&["import", "-c", "CMD [\"sh\"]", &archive, "compare/bb"])?;
        for (name, dockerfile) in IMAGES {
            let context = directory.join(name);
            fs::create_dir_all(&context).map_err(|error| error.to_string())?;
            fs::write(context.join("Dockerfile"), dockerfile).map_err(|error| error.to_string())?;
            side.ok(&["build", "-q", "-t", name, &context.to_string_lossy()])?;
        }
        side.data_root = side.ok(&["info", "-f", "{{.DockerRootDir}}"])?;
        let bridge = r#"{{index .Options "com.docker.network.bridge.name"}}"#;
        side.bridge = side.ok(&["network", "inspect", "-f", bridge, "bridge"])?;
        Ok(side)
    }

    /// The daemon's version.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&self) -> Result<String, String> {
        self.ok(&["version", "-f", "{{.Server.Version}}"])
    }

    fn command(&self, args: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args.iter().map(AsRef::as_ref));
        self.within(&mut command);
        command
    }

    /// The same, ended after a minute.
    fn patient(&self, args: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", PATIENCE]).arg(&self.program).args(args.iter().map(AsRef::as_ref));
        self.within(&mut command);
        command
    }

    fn within(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", self.directory.join("config"))
            .env("DOCKER_CLI_HINTS", "false")
            .env("DOCKER_BUILDKIT", "0");
    }

    fn ok(&self, args: &[&str]) -> Result<String, String> {
        let done = finish(self.patient(args).stdin(Stdio::null()));
        if done.code == 0 {
            Ok(done.stdout.trim_end().to_owned())
        } else {
            Err(format!("{args:?}: {done:?}"))
        }
    }

    /// Runs a case and removes what it made. No other case whose name begins with this one's, or the other way
    /// round, may be under way, and no other with this `worker`, a number below [`AT_ONCE`].
    ///
    /// # Errors
    /// A preparation failed; what is compared has no errors, only output.
    pub fn run(&self, case: &Case, worker: usize) -> Result<Vec<Observed>, String> {
        let directory = self.directory.join(&case.name);
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let port = self.ports[worker];
        let ran = self.steps(case, &directory, port);
        let cleared = self.clear(case);
        let _ = fs::remove_dir_all(&directory);
        let observed = ran?;
        cleared?;
        Ok(observed)
    }

    fn steps(&self, case: &Case, directory: &Path, port: u16) -> Result<Vec<Observed>, String> {
        let fill = |text: &str| self.fill(text, case, directory, port);
        let mut all = Vec::new();
        for step in &case.steps {
            match step {
                Step::File(name, text) => {
                    let path = directory.join(name);
                    let parent = path.parent().unwrap_or(directory);
                    fs::create_dir_all(parent).map_err(|error| error.to_string())?;
                    fs::write(path, fill(text)).map_err(|error| error.to_string())?;
                }
                Step::Prepare(args) => {
                    let args: Vec<String> = args.iter().map(|arg| fill(arg)).collect();
                    self.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
                }
                Step::Until(want, args) => {
                    let args: Vec<String> = args.iter().map(|arg| fill(arg)).collect();
                    self.until(&fill(want), &args)?;
                }
                Step::Call(call) => {
                    let args: Vec<String> = call.args.iter().map(|arg| fill(arg)).collect();
                    let done = match &call.terminal {
                        Some(acts) => self.on_terminal(&args, acts)?,
                        None => self.piped(&args, call, &fill),
                    };
                    all.push(Observed {
                        code: done.code,
                        stdout: self.unfill(&done.stdout, directory, port),
                        stderr: self.unfill(&done.stderr, directory, port),
                    });
                }
            }
        }
        Ok(all)
    }

    fn piped(&self, args: &[String], call: &Call, fill: &impl Fn(&str) -> String) -> Done {
        let mut command = self.patient(args);
        let Some(input) = &call.input else { return finish(command.stdin(Stdio::null())) };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("timeout is part of every system");
        let mut stdin = child.stdin.take().expect("input was asked for as a pipe");
        let input = fill(input);
        let writer = std::thread::spawn(move || {
            // A program may end before it has read everything.
            let _ = stdin.write_all(input.as_bytes());
        });
        let done = wait(child);
        let _ = writer.join();
        done
    }

    fn on_terminal(&self, args: &[String], acts: &[Act]) -> Result<Done, String> {
        let mut terminal = Terminal::start(&self.command(args)).ok_or("no setsid")?;
        let mut stdout = String::new();
        for act in acts {
            match act {
                Act::Type(keys) => terminal.send(keys),
                Act::Await(text) => match terminal.reads(text) {
                    Some(seen) => stdout.push_str(&seen),
                    None => break,
                },
            }
        }
        let (code, rest) = terminal.finish();
        stdout.push_str(&rest);
        Ok(Done { code, stdout, stderr: String::new() })
    }

    fn until(&self, want: &str, args: &[String]) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let done = finish(self.patient(args).stdin(Stdio::null()));
            if done.stdout.trim() == want {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{args:?} does not come to {want:?}: {done:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Replaces the variables of a case.
    fn fill(&self, text: &str, case: &Case, directory: &Path, port: u16) -> String {
        let directory = directory.to_string_lossy();
        let (port, next) = (port.to_string(), (port + 1).to_string());
        let name = format!("cmp-{}", case.name);
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('@') {
            out.push_str(before);
            let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            match &after[..end] {
                "c" => out.push_str(&name),
                "bb" => out.push_str("compare/bb"),
                "web" => out.push_str("compare/web"),
                "set" => out.push_str("compare/set"),
                "dir" => out.push_str(&directory),
                "port" => out.push_str(&port),
                "port2" => out.push_str(&next),
                "root" => out.push_str(&self.data_root),
                other => {
                    out.push('@');
                    out.push_str(other);
                }
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        out
    }

    fn unfill(&self, text: &str, directory: &Path, port: u16) -> String {
        let named =
            if self.bridge.is_empty() { text.to_owned() } else { text.replace(&self.bridge, "@bridge") };
        let named = named.replace(&*directory.to_string_lossy(), "@dir").replace(&self.data_root, "@root");
        let named = with_number(&named, port, "@port");
        with_number(&named, port + 1, "@port2")
    }

    /// Removes what a case made: what is called as it is. A container that goes by itself may be on its
    /// way while it is removed, so this goes on until none is left.
    fn clear(&self, case: &Case) -> Result<(), String> {
        let name = format!("cmp-{}", case.name);
        let begins = format!("name={name}");
        let tags = format!("reference={name}*");
        for (list, remove) in [
            (&["ps", "-aq", "--filter", begins.as_str()][..], &["rm", "-fv"][..]),
            (&["volume", "ls", "-q", "--filter", begins.as_str()], &["volume", "rm", "-f"]),
            (&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &tags], &["rmi", "-f"]),
        ] {
            let begun = Instant::now();
            loop {
                let found = self.ok(list)?;
                if found.is_empty() {
                    break;
                }
                let mut args = remove.to_vec();
                args.extend(found.split_whitespace());
                let removed = self.ok(&args);
                if begun.elapsed() > Duration::from_secs(20) {
                    removed?;
                }
            }
        }
        Ok(())
    }

    /// Removes the images.
    pub fn leave(&self) {
        for name in ["compare/set", "compare/web", "compare/bb"] {
            let _ = self.ok(&["rmi", "-f", name]);
        }
    }
}

/// Replaces a number where it stands alone: not within a longer one, nor within an id.
fn with_number(text: &str, number: u16, name: &str) -> String {
    let number = number.to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&number) {
        let (before, after) = (&rest[..at], &rest[at + number.len()..]);
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let within = word(before.chars().next_back()) || word(after.chars().next());
        out.push_str(before);
        out.push_str(if within { &number } else { name });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The first of each two ports side by side, from one on, that nobody holds.
fn free_ports(from: u16) -> impl Iterator<Item = u16> {
    let free = |port: u16| {
        std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
            && std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok()
    };
    (from..from + 1000).step_by(2).filter(move |&port| free(port) && free(port + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_turned_back_where_it_stands_alone() {
        for (text, want) in [
            ("0.0.0.0:25000->80/tcp", "0.0.0.0:@port->80/tcp"),
            ("25000", "@port"),
            ("125000 250001 a25000 25000b", "125000 250001 a25000 25000b"),
            ("25000,25000", "@port,@port"),
        ] {
            assert_eq!(with_number(text, 25_000, "@port"), want, "{text}");
        }
    }
}
