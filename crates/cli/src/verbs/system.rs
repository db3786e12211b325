//! `system start` and `system fsck`: what must work without a daemon is `gantryd`'s own command,
//! found beside this program.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use crate::api::{Api, Request};
use crate::commands::{Args, Command};
use crate::context::{Context, DEFAULT_HOST};
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, long};

/// How long a daemon may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(30);

/// `system start`.
pub(crate) static START_DAEMON: Command = Command {
    usage: "[-- GANTRYD FLAGS...]",
    about: "Start a daemon if none runs",
    aliases: "",
    flags: &[
        long("data-root", Kind::Text, "Root directory of persistent state"),
        long("exec-root", Kind::Text, "Root directory of execution state"),
        long("log-file", Kind::Text, "Where the daemon's own log goes"),
    ],
    order: Order::FlagsFirst,
    args: Args::AtLeast(0),
    run: start,
};

/// `system fsck`.
pub(crate) static FSCK: Command = Command {
    usage: "[-- GANTRYD FSCK FLAGS...]",
    about: "Check and explain every byte, mount, link and rule that is ours (works without a daemon)",
    aliases: "",
    flags: &[
        long("data-root", Kind::Text, "Root directory of persistent state"),
        long("exec-root", Kind::Text, "Root directory of execution state"),
        long("cgroup-parent", Kind::Text, "Parent control group of all containers"),
    ],
    order: Order::FlagsFirst,
    args: Args::AtLeast(0),
    run: fsck,
};

/// A daemon that was named is asked where its data are, and its lock file says the rest.
fn fsck(context: &Context, flags: &Parsed) -> Outcome {
    let mut arguments = fsck_arguments(flags);
    let is_told =
        arguments.iter().any(|word| word.starts_with("--data-root") || word.starts_with("--config-file"));
    if context.host != DEFAULT_HOST && !is_told {
        let host = &context.host;
        let info = Api::new(host, Vec::new()).and_then(|api| api.get("/info")).map_err(|_| {
            Failure::plain(format!(
                "no daemon answers at {host}, so where its data are is not known: name them with --data-root"
            ))
        })?;
        let root = info["DockerRootDir"].as_str().unwrap_or_default();
        if !Path::new(root).join("lock").is_file() {
            return Err(Failure::plain(format!(
                "the daemon at {host} has its data in {root:?}, which is no data root of gantryd's on this host: name one with --data-root"
            )));
        }
        arguments.push(format!("--data-root={root}"));
    }
    Err(Process::new(gantryd()?).args(arguments).exec().into())
}

fn fsck_arguments(flags: &Parsed) -> Vec<String> {
    let mut arguments = vec!["fsck".to_owned()];
    for name in ["data-root", "exec-root", "cgroup-parent"] {
        arguments.extend(flags.given_text(name).map(|value| format!("--{name}={value}")));
    }
    arguments.extend(flags.args.iter().cloned());
    arguments
}

/// The daemon's program: `GANTRYD` if set, else beside this one, else of the search path.
fn gantryd() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("GANTRYD") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("gantryd");
    if beside.exists() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join("gantryd")).find(|file| file.exists()).ok_or_else(|| {
        Failure::plain("gantryd is neither beside this program nor in PATH: install the whole set (cargo xtask dist), or set GANTRYD")
    })
}

fn answers(host: &str) -> bool {
    Api::new(host, Vec::new()).is_ok_and(|api| api.open(Request::get("/_ping")).is_ok())
}

fn start(context: &Context, flags: &Parsed) -> Outcome {
    // A DOCKER_HOST that is another daemon's is not ours to start; `-H` and GANTRY_HOST are.
    if answers(&context.host) {
        println!("A daemon answers at {}", context.host);
        return Ok(());
    }
    let program = gantryd()?;
    let log_path = match flags.text("log-file") {
        "" => "/var/log/gantryd.log",
        path => path,
    };
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path).map_err(|error| {
        Failure::plain(format!(
            "cannot open the daemon's log {log_path}: {error}; name another with --log-file"
        ))
    })?;
    let mut daemon = Process::new(&program);
    for name in ["data-root", "exec-root"] {
        if let Some(value) = flags.given_text(name) {
            daemon.arg(format!("--{name}")).arg(value);
        }
    }
    if context.host != DEFAULT_HOST {
        daemon.arg("-H").arg(&context.host);
    }
    daemon.args(&flags.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // A process group of its own: what interrupts this terminal is not meant for the daemon.
    daemon.process_group(0);
    let mut child = daemon
        .spawn()
        .map_err(|error| Failure::plain(format!("cannot start {}: {error}", program.display())))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if answers(&context.host) {
            println!("Started gantryd (process {}) at {}", child.id(), context.host);
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(Failure::plain(format!("gantryd ended with {status}; its log says why: {log_path}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Failure::plain(format!(
        "gantryd did not answer at {} within {PATIENCE:?}; its log: {log_path}",
        context.host
    )))
}

#[cfg(test)]
mod tests {
    use super::{FSCK, fsck_arguments};

    #[test]
    fn fsck_hands_its_flags_on() {
        let check = |line: &str, expected: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let parsed = crate::flags::parse(FSCK.flags, FSCK.order, &words).unwrap();
            assert_eq!(fsck_arguments(&parsed).join(" "), expected, "{line}");
        };
        check("--data-root /d --exec-root=/e", "fsck --data-root=/d --exec-root=/e");
        check("--cgroup-parent /c -- --data-root /d", "fsck --cgroup-parent=/c --data-root /d");
    }
}
