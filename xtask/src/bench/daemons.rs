//! The two sides: a Gantry and a Docker, each with a data root of its own on one file system.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http;
use crate::busybox;
use crate::workspace::{self, output, read};

/// A daemon under measurement.
pub(crate) struct Side {
    /// Its API's socket.
    pub(crate) socket: PathBuf,
    /// Whether it is ours: then `gantry` is its own CLI, else `docker` is.
    pub(crate) own_cli: PathBuf,
    /// Whether this is Gantry.
    pub(crate) is_gantry: bool,
    /// The buildx plug-in, where there is one: how the peer builds with BuildKit.
    pub(crate) buildx: Option<PathBuf>,
    contexts: PathBuf,
    process: RefCell<Option<Child>>,
    log: PathBuf,
}

/// What every container that the bench makes is called by; images that it makes are called so too.
const PREFIX: &str = "bench-";

impl Side {
    /// Starts gantryd with its defaults.
    pub(crate) fn gantry(binaries: &Path, work: &Path) -> Result<Self> {
        let mut command = Command::new(binaries.join("gantryd"));
        command.env("GANTRY_LOG", "warn,gantry_engine::start=debug");
        Self::start(command, "gantry", binaries.join("gantry"), work, &[])
    }

    /// Stops the daemon, starts it anew, and returns how long it takes until it answers.
    pub(crate) fn gantry_anew(&mut self, binaries: &Path, work: &Path) -> Result<Duration> {
        if let Some(mut process) = self.process.borrow_mut().take() {
            output(Command::new("kill").arg(process.id().to_string()))?;
            process.wait()?;
        }
        let started = Instant::now();
        let anew = Self::gantry(binaries, work)?;
        let took = started.elapsed();
        self.process.replace(anew.process.take());
        Ok(took)
    }

    /// Starts Debian's dockerd with its defaults.
    pub(crate) fn docker(work: &Path) -> Result<Self> {
        Self::start(Command::new("dockerd"), "docker", "docker".into(), work, &[])
    }

    /// Takes a dockerd that somebody else runs, and removes what an interrupted bench has left in it.
    pub(crate) fn running(socket: &Path, work: &Path) -> Result<Self> {
        let side = Self {
            socket: socket.to_owned(),
            own_cli: "docker".into(),
            is_gantry: false,
            buildx: None,
            contexts: work.join("contexts"),
            process: RefCell::new(None),
            log: PathBuf::new(),
        };
        side.clear()?;
        Ok(side)
    }

    /// Removes every container and image that the bench made.
    fn clear(&self) -> Result<()> {
        let ids = self.stock(&["ps", "-aq", "--filter", &format!("name=^/?{PREFIX}")])?;
        let ids: Vec<&str> = ids.lines().collect();
        for some in ids.chunks(100) {
            self.stock(&[&["rm", "-f"], some].concat())?;
        }
        let images = self.stock(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        for image in images.lines().filter(|image| image.starts_with(PREFIX)) {
            self.stock(&["rmi", "-f", image])?;
        }
        Ok(())
    }

    /// Whether there is an image of that name.
    fn has_image(&self, name: &str) -> bool {
        self.stock(&["image", "inspect", "--format", "{{.Id}}", name]).is_ok()
    }

    fn start(mut command: Command, name: &str, own_cli: PathBuf, work: &Path, more: &[&str]) -> Result<Self> {
        let socket = work.join(format!("{name}.sock"));
        let log = work.join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let process = command
            .arg("--data-root")
            .arg(work.join(format!("{name}-data")))
            .arg("--exec-root")
            .arg(work.join(format!("{name}-exec")))
            .arg("--pidfile")
            .arg(work.join(format!("{name}.pid")))
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .args(more)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start the {name} daemon"))?;
        let is_gantry = name == "gantry";
        let side = Self {
            socket,
            own_cli,
            is_gantry,
            buildx: None,
            contexts: work.join("contexts"),
            process: RefCell::new(Some(process)),
            log,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while http::call(&side.socket, "GET", "/_ping", None).is_err() {
            if Instant::now() > deadline {
                bail!("the {name} daemon does not answer; it said:\n{}", fs::read_to_string(&side.log)?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(side)
    }

    /// Name and version, for the table's head.
    pub(crate) fn version(&self) -> Result<String> {
        let version = self.stock(&["version", "--format", "{{.Server.Version}}"])?;
        Ok(format!("{} {version}", if self.is_gantry { "Gantry" } else { "Docker" }))
    }

    /// The daemon's process id, where we started it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.borrow().as_ref().map(Child::id)
    }

    /// Runs the stock CLI against this side.
    pub(crate) fn stock(&self, arguments: &[&str]) -> Result<String> {
        self.cli(Path::new("docker"), arguments)
    }

    /// Runs this side's own CLI against it.
    pub(crate) fn own(&self, arguments: &[&str]) -> Result<String> {
        self.cli(&self.own_cli, arguments)
    }

    fn cli(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.socket.display());
        read(Command::new(program).env("DOCKER_BUILDKIT", "0").args(["-H", &host]).args(arguments))
    }

    /// Runs the stock CLI and counts the bytes that it prints.
    pub(crate) fn stock_bytes(&self, arguments: &[&str]) -> Result<u64> {
        let host = format!("unix://{}", self.socket.display());
        let mut child =
            Command::new("docker").args(["-H", &host]).args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut printed = child.stdout.take().context("it was piped")?;
        let bytes = std::io::copy(&mut printed, &mut std::io::sink())?;
        if !child.wait()?.success() {
            bail!("docker {arguments:?} failed");
        }
        Ok(bytes)
    }

    /// Builds with BuildKit where there is a plug-in for it, which is to say on the peer; else as the stock CLI
    /// does.
    pub(crate) fn buildkit(&self, arguments: &[&str]) -> Result<String> {
        let Some(buildx) = &self.buildx else { return self.stock(arguments) };
        let host = format!("unix://{}", self.socket.display());
        read(Command::new(buildx).env("DOCKER_HOST", host).args(arguments))
    }

    /// Imports BusyBox, builds a small web server of it, and starts the container that `exec` uses.
    pub(crate) fn prepare(&self, work: &Path) -> Result<()> {
        // A Docker that others use too may have one; theirs stays.
        if !self.has_image("busybox:latest") {
            let archive = busybox::archive(work)?;
            self.stock(&["import", "-c", "CMD [\"sh\"]", &archive.to_string_lossy(), "busybox:latest"])?;
        }
        let contexts = &self.contexts;
        write_context(
            &contexts.join("web"),
            "FROM busybox\nEXPOSE 80\nCMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/\"]\n",
        )?;
        write_context(&contexts.join("ten"), &format!("FROM busybox\n{}", "RUN true\n".repeat(10)))?;
        for directory in 0..100 {
            let directory = self.many_files().join(format!("d{directory}"));
            fs::create_dir_all(&directory)?;
            for file in 0..100 {
                let line = format!("{} {file}\n", directory.display());
                fs::write(directory.join(format!("f{file}")), line.repeat(1000 / line.len()))?;
            }
        }
        self.stock(&["build", "-q", "-t", "web", &contexts.join("web").to_string_lossy()])?;
        self.stock(&["run", "-d", "--name", "bench-exec", "busybox", "sleep", "1000000"])?;
        Ok(())
    }

    /// The Debian image's name.
    pub(crate) const DEBIAN: &str = "bench-debian:1";

    /// Where the Debian image lies as a peer of this version has saved it. It outlives the bench, because making it
    /// takes longer than most cases.
    pub(crate) fn debian_archive(&self) -> Result<PathBuf> {
        let saver = self.version()?.replace([' ', '/'], "-");
        Ok(workspace::target_dir().join("bench").join(format!("debian-saved-by-{saver}.tar")))
    }

    /// Where it is saved to for the time that it takes.
    pub(crate) fn saved(&self) -> PathBuf {
        self.contexts.join("saved.tar")
    }

    /// The build context of ten `RUN true`.
    pub(crate) fn ten_steps(&self) -> PathBuf {
        self.contexts.join("ten")
    }

    /// A tree of 10,000 files of a kilobyte.
    pub(crate) fn many_files(&self) -> PathBuf {
        self.contexts.join("many")
    }

    /// Where that tree is copied to for the n-th time.
    pub(crate) fn copied_files(&self, number: u32) -> PathBuf {
        self.contexts.join(format!("copied-{number}"))
    }

    /// Prints where the time of a start goes, step by step, as the daemon logged it: medians of the last
    /// starts over a bridge.
    pub(crate) fn print_steps_of_a_start(&self) -> Result<()> {
        let log = fs::read_to_string(&self.log)?;
        let steps = super::stats::steps_of_a_start(&log);
        if !steps.is_empty() {
            println!("\nwhere the time of one start over a bridge goes (ms, medians)");
        }
        for (step, ms) in steps {
            println!("{step:<52} {ms:>11.2}");
        }
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.borrow_mut().take() {
            if let Ok(ids) = self.stock(&["ps", "-aq"]) {
                for id in ids.lines() {
                    self.stock(&["rm", "-f", id]).ok();
                }
            }
            output(Command::new("kill").arg(process.id().to_string())).ok();
            process.wait().ok();
        } else if !self.is_gantry {
            self.clear().ok();
        }
    }
}

/// Has both sides load a Debian image of about 170 MB from one archive, which a peer wrote when it was first needed.
pub(crate) fn prepare_debian(gantry: &Side, peer: &Side) -> Result<()> {
    let archive = peer.debian_archive()?;
    if !archive.exists() {
        make_debian(peer, &archive)?;
    }
    for side in [gantry, peer] {
        if !side.has_image(Side::DEBIAN) {
            side.stock(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        }
    }
    Ok(())
}

/// Makes the image and has the peer save it. The archive has its name only once it is whole.
fn make_debian(peer: &Side, archive: &Path) -> Result<()> {
    fs::create_dir_all(archive.parent().context("it lies in a directory")?)?;
    let (root, saving) = (archive.with_extension("root.tar"), archive.with_extension("new"));
    read(Command::new("mmdebstrap").args(["--variant=minbase", "bookworm"]).arg(&root))?;
    peer.stock(&["import", "-c", "CMD [\"bash\"]", &root.to_string_lossy(), Side::DEBIAN])?;
    fs::remove_file(&root)?;
    peer.stock(&["save", "-o", &saving.to_string_lossy(), Side::DEBIAN])?;
    fs::rename(&saving, archive)?;
    Ok(())
}

/// Ends the daemons of benches that were interrupted, with their containers, and removes what these kept below
/// `temporary`.
pub(crate) fn clear_interrupted(binaries: &Path, temporary: &Path) -> Result<()> {
    for entry in fs::read_dir(temporary)? {
        let work = entry?.path();
        let name = work.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(bench) = name.strip_prefix(super::WORK_PREFIX) else { continue };
        if Path::new("/proc").join(bench).exists() {
            continue;
        }
        eprintln!("{} is left of a bench that was interrupted: it goes now", work.display());
        for directory in [work.clone(), work.join("startup")] {
            end_daemons(&directory, binaries)
                .with_context(|| format!("cannot clear {}", directory.display()))?;
        }
        fs::remove_dir_all(&work)?;
    }
    Ok(())
}

/// Daemons whose records lie in `work` are ended; one of each is started once more, to remove its containers.
fn end_daemons(work: &Path, binaries: &Path) -> Result<()> {
    for name in ["gantry", "docker"] {
        if let Ok(pid) = fs::read_to_string(work.join(format!("{name}.pid"))) {
            let pid = pid.trim();
            output(Command::new("kill").arg(pid))?;
            while Path::new("/proc").join(pid).exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    if work.join("gantry-data").exists() {
        drop(Side::gantry(binaries, work)?);
    }
    if work.join("docker-data").exists() {
        drop(Side::docker(work)?);
    }
    Ok(())
}

fn write_context(directory: &Path, dockerfile: &str) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("Dockerfile"), dockerfile)?;
    Ok(())
}
