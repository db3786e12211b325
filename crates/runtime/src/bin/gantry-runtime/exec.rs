//! `exec`.

use gantry_runtime::exec::{self, Exec};
use gantry_runtime::launch::Supervise;
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

use crate::create::{hand_over, launch_failure, own_streams, write_pid};
use crate::options::{Globals, Options};
use crate::output::{Failure, warning};
use crate::state::{Container, Status};
use crate::terminal;

pub(crate) const FLAGS: &[&str] =
    &["tty", "t", "detach", "d", "no-new-privs", "no-subreaper", "ignore-paused"];
pub(crate) const VALUES: &[&str] = &[
    "process",
    "p",
    "cwd",
    "env",
    "e",
    "user",
    "u",
    "additional-gids",
    "g",
    "cap",
    "c",
    "pid-file",
    "console-socket",
    "preserve-fds",
    "cgroup",
    "pidfd-socket",
    "process-label",
    "apparmor",
];

/// `exec ID [COMMAND…]`
pub(crate) fn exec(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let container = Container::load(globals, options.id()?)?;
    match container.status() {
        Status::Stopped => return Err("cannot exec in a stopped container".into()),
        Status::Paused if !options.has(&["ignore-paused"]) => {
            return Err("cannot exec in a paused container (use --ignore-paused to override)".into());
        }
        _ => {}
    }
    let spec = container.spec()?;
    let process = process(options, &spec)?;
    let target = container.process().ok_or("cannot exec in a stopped container")?;
    let cgroup = container.cgroup()?;
    let annotations = spec.annotations().clone().unwrap_or_default();
    let terminal = process.terminal().unwrap_or(false);
    let mut created = exec::exec(Exec {
        target: &target,
        process: &process,
        annotations: &annotations,
        stdio: if terminal { terminal::size(Some(&process)) } else { own_streams()? },
        cgroup: Some(&cgroup),
        seccomp: spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
        supervise: Supervise::Unbound,
    })
    .map_err(|error| launch_failure(&error, "exec failed: unable to start container process"))?;
    for text in &created.warnings {
        warning(globals, text);
    }
    let detach = options.has(&["detach", "d"]);
    let socket = options.value(&["console-socket"]).is_some();
    let master = created.terminal.take();
    if let Some(master) = master.as_ref().filter(|_| detach || socket) {
        hand_over(options, master)?;
    }
    write_pid(options, created.process.pid)?;
    let process = created.start().map_err(|error| launch_failure(&error, "exec failed"))?;
    if detach { Ok(0) } else { terminal::attend(&process, master.filter(|_| !socket)) }
}

/// The process: a file, or the container's own changed by options.
fn process(options: &Options, spec: &Spec) -> Result<Process, Failure> {
    if let Some(path) = options.value(&["process", "p"]) {
        return Ok(serde_json::from_slice(&std::fs::read(path)?)?);
    }
    if options.arguments.len() < 2 {
        return Err("exec args cannot be empty".into());
    }
    let mut value: Value =
        serde_json::to_value(spec.process().as_ref().ok_or("the container has no process")?)?;
    value["args"] = json!(options.arguments[1..]);
    value["terminal"] = json!(options.has(&["tty", "t"]));
    if let Some(cwd) = options.value(&["cwd"]) {
        value["cwd"] = json!(cwd);
    }
    for entry in options.all(&["env", "e"]) {
        match value["env"].as_array_mut() {
            Some(list) => list.push(json!(entry)),
            None => value["env"] = json!([entry]),
        }
    }
    if let Some(user) = options.value(&["user", "u"]) {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        value["user"]["uid"] = json!(uid.parse::<u32>()?);
        if !gid.is_empty() {
            value["user"]["gid"] = json!(gid.parse::<u32>()?);
        }
    }
    let groups: Result<Vec<u32>, _> = options.all(&["additional-gids", "g"]).map(str::parse).collect();
    let groups = groups?;
    if !groups.is_empty() {
        value["user"]["additionalGids"] = json!(groups);
    }
    for cap in options.all(&["cap", "c"]) {
        for set in ["bounding", "effective", "permitted"] {
            match value["capabilities"][set].as_array_mut() {
                Some(list) => list.push(json!(cap)),
                None => value["capabilities"][set] = json!([cap]),
            }
        }
    }
    if options.has(&["no-new-privs"]) {
        value["noNewPrivileges"] = json!(true);
    }
    Ok(serde_json::from_value(value)?)
}
