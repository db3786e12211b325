//! `create` and `run`.
//!
//! | step | if a later one fails |
//! | --- | --- |
//! | make the state directory | remove it |
//! | make the cgroup | kill what is in it, remove it |
//! | make the process | it dies with the cgroup |
//! | hand the terminal over, run hooks, write state and pid | – |

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use gantry_model::Timestamp;
use gantry_model::mount::RootMount;
use gantry_runtime::cgroup::{self, Cgroup};
use gantry_runtime::launch::{self, Created, Joined, Launch, Stdio, Supervise};
use gantry_runtime::{LaunchError, Reason};
use oci_spec::runtime::Spec;

use crate::options::{Globals, Options};
use crate::output::{Failure, warning};
use crate::state::{Container, Record, boot_id, bundle_spec, directory};
use crate::{hooks, lifecycle, terminal};

pub(crate) const FLAGS: &[&str] = &["no-pivot", "no-new-keyring", "detach", "d", "keep", "no-subreaper"];
pub(crate) const VALUES: &[&str] =
    &["bundle", "b", "console-socket", "pid-file", "preserve-fds", "pidfd-socket"];

/// `create ID`
pub(crate) fn create(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let made = make(globals, options)?;
    if let Some(master) = made.created.terminal {
        hand_over(options, &master).inspect_err(|_| undo(&made.container))?;
    }
    Ok(0)
}

/// `run ID`
pub(crate) fn run(globals: &Globals, options: &Options) -> Result<i32, Failure> {
    let detach = options.has(&["detach", "d"]);
    let mut made = make(globals, options)?;
    let container = made.container;
    let master = made.created.terminal.take();
    let socket = options.value(&["console-socket"]).is_some();
    if let Some(master) = master.as_ref().filter(|_| detach || socket) {
        hand_over(options, master).inspect_err(|_| undo(&container))?;
    }
    lifecycle::start_one(globals, &container).inspect_err(|_| undo(&container))?;
    if detach {
        return Ok(0);
    }
    let process = &made.created.process;
    let code = terminal::attend(process, master.filter(|_| !socket))?;
    if !options.has(&["keep"]) {
        lifecycle::delete_one(globals, &container)?;
    }
    Ok(code)
}

struct Made {
    container: Container,
    created: Created,
}

fn make(globals: &Globals, options: &Options) -> Result<Made, Failure> {
    if options.value(&["preserve-fds"]).is_some_and(|count| count != "0") {
        return Err("--preserve-fds is not supported yet".into());
    }
    let id = options.id()?;
    let bundle = std::path::absolute(options.value(&["bundle", "b"]).unwrap_or("."))?;
    let spec = bundle_spec(&bundle)?;
    hooks::check(&spec)?;
    let dir = directory(globals, id)?;
    DirBuilder::new().recursive(true).mode(0o711).create(&globals.root)?;
    DirBuilder::new().mode(0o711).create(&dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => "container with given ID already exists".to_owned(),
        _ => format!("{}: {error}", dir.display()),
    })?;
    let root = spec.root().as_ref().map(|root| bundle.join(root.path())).ok_or("root must be set")?;
    let record = Record {
        id: id.into(),
        bundle,
        rootfs: root.clone(),
        pid: 0,
        start_time_ticks: 0,
        boot_id: boot_id(),
        created: Timestamp::from_system(std::time::SystemTime::now()).to_string(),
        cgroup: cgroup_path(&spec, id),
    };
    let mut container = Container { dir, record };
    let result = make_process(globals, options, &spec, &root, &mut container);
    result.inspect_err(|_| undo(&container)).map(|created| Made { container, created })
}

fn make_process(
    globals: &Globals,
    options: &Options,
    spec: &Spec,
    root: &Path,
    container: &mut Container,
) -> Result<Created, Failure> {
    std::fs::write(container.dir.join("config.json"), serde_json::to_vec(spec)?)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let cgroup = Cgroup::create(&cgroup::detect()?, &container.record.cgroup, resources)
        .map_err(|error| format!("unable to apply cgroup configuration: {}", chain(&error)))?;
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    let created = launch::create(Launch {
        spec,
        root: &RootMount::Bind { source: root.to_owned() },
        namespaces: Joined::default(),
        stdio: if terminal { terminal::size(spec.process().as_ref()) } else { own_streams()? },
        cgroup: Some(&cgroup),
        supervise: Supervise::Detached { dir: &container.dir },
        init: None,
    })
    .map_err(|error| launch_failure(&error, "create failed: unable to start container process"))?;
    for text in cgroup.warnings().iter().chain(&created.warnings) {
        warning(globals, text);
    }
    container.record.pid = created.process.pid;
    container.record.start_time_ticks = created.process.start_time_ticks;
    container.save()?;
    hooks::before_start(spec, container)?;
    write_pid(options, created.process.pid)?;
    Ok(created)
}

/// Takes back what a failed create has made; the first error is the one to tell.
fn undo(container: &Container) {
    if let Ok(cgroup) = container.cgroup() {
        let _ = cgroup.kill_all();
        let _ = cgroup.remove();
    }
    let _ = std::fs::remove_dir_all(&container.dir);
}

fn cgroup_path(spec: &Spec, id: &str) -> PathBuf {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    match given.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Path::new("/").join(path),
        None => Path::new("/").join(id),
    }
}

/// Our own standard streams, for the container.
pub(crate) fn own_streams() -> Result<Stdio, Failure> {
    let [stdin, stdout, stderr] = gantry_sys::process::standard_streams();
    Ok(Stdio::Fds {
        stdin: stdin.try_clone_to_owned()?,
        stdout: stdout.try_clone_to_owned()?,
        stderr: stderr.try_clone_to_owned()?,
    })
}

/// Sends the terminal to whoever listens at `--console-socket`.
pub(crate) fn hand_over(options: &Options, master: &OwnedFd) -> Result<(), Failure> {
    let path = options.value(&["console-socket"]);
    let path = path.ok_or("cannot allocate tty if runc will detach without setting console socket")?;
    terminal::send(Path::new(path), master.as_fd())
}

/// Writes `--pid-file`, whole or not at all.
pub(crate) fn write_pid(options: &Options, pid: i32) -> Result<(), Failure> {
    let Some(path) = options.value(&["pid-file"]) else { return Ok(()) };
    let path = Path::new(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    std::fs::write(&temporary, pid.to_string())?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}

/// A failed launch in runc's words, which callers look into.
pub(crate) fn launch_failure(error: &LaunchError, before: &str) -> Failure {
    let inside = if error.reason == Reason::Invalid { "" } else { "error during container init: " };
    let code = match error.reason {
        Reason::NotFound | Reason::NotExecutable | Reason::ExecFailed => {
            u8::try_from(error.exit_code()).unwrap_or(255)
        }
        Reason::User | Reason::Invalid | Reason::Setup => 1,
    };
    Failure { text: format!("runc {before}: {inside}{error}"), code }
}

/// An error with all its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
