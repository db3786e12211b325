//! `start`, `kill`, `delete`, `pause`, `resume`, `update`.

use std::io::Read;
use std::os::fd::AsFd;

use gantry_runtime::Reason;
use gantry_runtime::launch::start_detached;
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::create::{chain, launch_failure};
use crate::hooks;
use crate::options::{Globals, Options};
use crate::output::{Failure, warning};
use crate::state::{Container, Status};

/// `start ID`
pub(crate) fn start(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    match container.status() {
        Status::Created => start_one(globals, &container).map(|()| 0),
        Status::Stopped => Err("cannot start a container that has stopped".into()),
        Status::Running | Status::Paused => Err("cannot start an already running container".into()),
    }
}

/// Lets a created container go.
pub(crate) fn start_one(globals: &Globals, container: &Container) -> Result<(), Failure> {
    match start_detached(&container.dir) {
        Ok(()) => {}
        // As with runc, it has been started then: it wrote why to its standard error, and ended with 255.
        Err(error) if error.reason == Reason::ExecFailed => warning(globals, &error.text),
        Err(error) => return Err(launch_failure(&error, "start failed")),
    }
    for fifo in ["start", "report"] {
        std::fs::remove_file(container.dir.join(fifo))?;
    }
    if let Err(error) = hooks::after_start(&container.spec()?, container) {
        warning(globals, &error.text);
    }
    Ok(())
}

/// `kill ID [SIGNAL]`
pub(crate) fn kill(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    let name = options.arguments.get(1).map_or("SIGTERM", String::as_str);
    let number = signal(name).ok_or_else(|| format!("unknown signal {name:?}"))?;
    if options.has(&["all", "a"]) {
        if number == libc::SIGKILL {
            container.cgroup()?.kill_all()?;
            return Ok(0);
        }
        for pid in container.cgroup()?.procs()? {
            // One that is gone needs no signal.
            let _ = gantry_sys::signal::send(pid, number);
        }
        return Ok(0);
    }
    let process = container.process().ok_or("container not running")?;
    process.signal(number)?;
    if number == libc::SIGKILL && container.status() == Status::Paused {
        // A frozen process of v1 dies only when it is thawed.
        container.cgroup()?.thaw()?;
    }
    Ok(0)
}

/// A signal by name, with or without `SIG`, or by number.
fn signal(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = name.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => 34 + offset(rest)?,
        (_, Some(rest)) => 64 + offset(rest)?,
        _ => return None,
    };
    (34..=64).contains(&real_time).then_some(real_time)
}

/// `delete [--force] ID`
pub(crate) fn delete(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let force = options.has(&["force", "f"]);
    let container = match Container::load(globals, options.id()?) {
        Err(_) if force => {
            // Half of one, left by a create that was killed.
            let dir = crate::state::directory(globals, options.id()?)?;
            if dir.exists() {
                std::fs::remove_dir_all(dir)?;
            }
            return Ok(0);
        }
        container => container?,
    };
    match container.status() {
        Status::Stopped => {}
        Status::Created => stop(&container)?,
        Status::Running | Status::Paused if force => stop(&container)?,
        status => {
            return Err(format!(
                "cannot delete container {} that is not stopped: {}",
                container.record.id,
                status.as_str()
            )
            .into());
        }
    }
    delete_one(globals, &container).map(|()| 0)
}

fn stop(container: &Container) -> Result<(), Failure> {
    let Some(process) = container.process() else { return Ok(()) };
    let _ = process.signal(libc::SIGKILL);
    container.cgroup()?.kill_all()?;
    let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    if poll(&mut watched, Some(&limit))? == 0 {
        return Err("the container's process does not die within ten seconds".into());
    }
    Ok(())
}

/// Removes one that has ended.
pub(crate) fn delete_one(globals: &Globals, container: &Container) -> Result<(), Failure> {
    let spec = container.spec();
    let document = container.document("stopped");
    container.remove()?;
    if let Ok(spec) = spec
        && let Err(error) = hooks::after_stop(&spec, &document)
    {
        warning(globals, &error.text);
    }
    Ok(())
}

/// `pause ID`
pub(crate) fn pause(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    match container.status() {
        Status::Running | Status::Created => container.cgroup()?.freeze()?,
        _ => return Err("container not running or created".into()),
    }
    Ok(0)
}

/// `resume ID`
pub(crate) fn resume(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    if container.status() != Status::Paused {
        return Err("container not paused".into());
    }
    container.cgroup()?.thaw()?;
    Ok(0)
}

/// `update --resources FILE ID`
pub(crate) fn update(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    let path = options.value(&["resources", "r"]).ok_or("--resources FILE is needed")?;
    let mut text = String::new();
    if path == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path)?;
    }
    let resources: LinuxResources = serde_json::from_str(&text)?;
    let mut cgroup = container.cgroup()?;
    cgroup.update(&resources).map_err(|error| chain(&error))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (name, number) in [
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("sigusr1", Some(10)),
            ("15", Some(15)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("NOPE", None),
            ("65", None),
        ] {
            assert_eq!(signal(name), number, "{name}");
        }
    }
}
