//! A throwaway root file system of BusyBox, and containers in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_model::mount::RootMount;
use gantry_runtime::cgroup::{self, Cgroup, Layout};
use gantry_runtime::launch::{self, Created, Joined, Launch, Stdio, Supervise};
use gantry_runtime::{LaunchError, Process};
use oci_spec::runtime::{LinuxResources, Spec};
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Says why a test cannot run here, and counts as skipped.
pub(crate) fn skipped() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "it needs root"
    } else if !Path::new(BUSYBOX).exists() {
        "it needs /bin/busybox (package busybox-static)"
    } else {
        return false;
    };
    eprintln!("skipped: {reason}");
    true
}

/// Directories of one test; removed with it, and nothing of it may be mounted in the host then.
pub(crate) struct Rig {
    pub(crate) base: PathBuf,
    pub(crate) layout: Layout,
    cgroups: Mutex<Vec<PathBuf>>,
}

/// How a container ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) warnings: Vec<String>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("gantry-rt-{}-{number}", std::process::id()));
        for directory in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work", "host"] {
            std::fs::create_dir_all(base.join(directory)).expect("mkdir");
        }
        let lower = base.join("lower");
        std::fs::copy(BUSYBOX, lower.join("bin/busybox")).expect("copy");
        for applet in [
            "sh", "cat", "true", "false", "ls", "id", "mount", "hostname", "sleep", "echo", "stat", "touch",
            "mknod", "dd", "readlink", "env", "pwd", "grep", "ip", "kill", "ps", "unshare", "tty", "stty",
            "wc", "umount", "chmod",
        ] {
            symlink("busybox", lower.join("bin").join(applet)).expect("symlink");
        }
        let write = |path: &str, text: &str| std::fs::write(lower.join(path), text).expect("write");
        write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n");
        write("etc/group", "root:x:0:\nwww:x:34:\naudio:x:29:www\nadm:x:4:www\n");
        write("etc/plain", "not a program\n");
        Self { base, layout: cgroup::detect().expect("cgroups"), cgroups: Mutex::default() }
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.base.join("lower")
    }

    pub(crate) fn overlay(&self) -> RootMount {
        RootMount::Overlay {
            lower: vec![self.lower()],
            upper: Some(self.base.join("upper")),
            work: Some(self.base.join("work")),
        }
    }

    pub(crate) fn cgroup(&self, resources: Option<&LinuxResources>) -> Cgroup {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/gantry-rt-{}-{number}", std::process::id());
        self.cgroups.lock().expect("not poisoned").push(path.clone().into());
        Cgroup::create(&self.layout, Path::new(&path), resources).expect("cgroup")
    }

    /// Runs to the end.
    pub(crate) fn run(&self, spec: &Spec) -> Result<Outcome, LaunchError> {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let cgroup = self.cgroup(resources);
        let result = self.run_in(spec, &self.overlay(), &cgroup);
        cgroup.remove().expect("the cgroup is removed");
        result
    }

    pub(crate) fn run_in(
        &self,
        spec: &Spec,
        root: &RootMount,
        cgroup: &Cgroup,
    ) -> Result<Outcome, LaunchError> {
        let (created, outputs) = self.create(spec, root, cgroup)?;
        let warnings = created.warnings.clone();
        let process = created.start()?;
        Ok(finish(&process, outputs, warnings))
    }

    /// Creates one whose outputs can be read.
    pub(crate) fn create(
        &self,
        spec: &Spec,
        root: &RootMount,
        cgroup: &Cgroup,
    ) -> Result<(Created, [File; 2]), LaunchError> {
        let (stdio, outputs) = pipes();
        let created = launch::create(Launch {
            spec,
            root,
            namespaces: Joined::default(),
            stdio,
            cgroup: Some(cgroup),
            supervise: Supervise::Child,
            init: None,
        })?;
        Ok((created, outputs))
    }

    /// Runs a shell script in a container like Docker's, changed by `change`.
    pub(crate) fn script(&self, script: &str, change: impl FnOnce(&mut Value)) -> Outcome {
        self.run(&spec(&["sh", "-c", script], change)).expect("it runs")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = self.base.to_string_lossy().into_owned();
        let left: Vec<&str> = table.lines().filter(|line| line.contains(&name)).collect();
        let _ = std::fs::remove_dir_all(&self.base);
        for path in self.cgroups.lock().expect("not poisoned").iter() {
            // Only a failed test leaves one.
            let cgroup = Cgroup::open(&self.layout, path);
            assert!(std::thread::panicking() || !cgroup.exists(), "the cgroup {} is left", path.display());
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "mounts are left: {left:?}");
        }
    }
}

/// Standard streams: nothing to read, two pipes to write.
pub(crate) fn pipes() -> (Stdio, [File; 2]) {
    let null: OwnedFd = File::open("/dev/null").expect("null").into();
    let (out_read, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    let (err_read, stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    (Stdio::Fds { stdin: null, stdout, stderr }, [out_read.into(), err_read.into()])
}

/// Reads all and waits.
pub(crate) fn finish(process: &Process, [stdout, stderr]: [File; 2], warnings: Vec<String>) -> Outcome {
    let read = |mut file: File| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (read(stdout), read(stderr));
    Outcome { code: process.wait().expect("wait").code(), stdout, stderr, warnings }
}

/// Docker's specification for a plain container.
pub(crate) fn spec(args: &[&str], change: impl FnOnce(&mut Value)) -> Spec {
    let mut value: Value =
        serde_json::from_str(include_str!("../../examples/bench_true.json")).expect("a specification");
    value["process"]["args"] = json!(args);
    change(&mut value);
    serde_json::from_value(value).expect("still a specification")
}
