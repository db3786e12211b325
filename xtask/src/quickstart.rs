//! `cargo xtask quickstart`: from a fresh checkout to a page served by a container, and back.
//!
//! | step | undo |
//! | --- | --- |
//! | install what is missing | kept: it is the machine's now |
//! | build the release programs | kept: `target/dist` |
//! | start a daemon with a data root of its own | stop it, remove its data |
//! | make a base image, build an image from a Dockerfile | go with the data |
//! | run it with a published port, fetch a page | `rm -f` |

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::{output, read};
use crate::{busybox, dist, host};

const DOCKERFILE: &str = "FROM busybox\nENV GREETING=hello\nCOPY index.html /www/\nEXPOSE 80\n\
    CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n";
/// What a reader may try next, with a daemon that stays.
const NEXT: &str = "
To go on, with a daemon that stays:
  target/dist/gantry system start                         starts gantryd, if none runs
  target/dist/gantry image bootstrap debian:bookworm      a base image from the signed Debian archive
  target/dist/gantry run --rm -it debian:bookworm bash    a shell in a container of it
  source <(target/dist/gantry completion bash)            names and flags complete
The stock docker CLI works too: export DOCKER_HOST=unix:///run/gantry/gantry.sock DOCKER_BUILDKIT=0";

const PAGE: &str = "<h1>Lifted by Gantry</h1>\n";

/// Does it all, cleans up also after a failure, and says what it did.
pub(crate) fn run() -> Result<()> {
    if !host::is_root() {
        bail!("quickstart needs root: namespaces, mounts and the firewall's table are made for real");
    }
    let installed = host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES])?;
    let binaries = dist::run()?;
    let work = tempfile_dir("gantry-quickstart")?;
    let tried = try_it(&binaries, &work);
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    let mut said = tried?;
    if !installed.is_empty() {
        said.insert(0, format!("installed {}", installed.join(" ")));
    }
    println!("\nThe quick start did this, and cleaned up after itself:");
    for line in said {
        println!("  - {line}");
    }
    println!("{NEXT}");
    Ok(())
}

fn tempfile_dir(name: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

fn try_it(binaries: &Path, work: &Path) -> Result<Vec<String>> {
    let daemon = Daemon::start(binaries, work)?;
    let mut said = vec![format!("started {}", binaries.join("gantryd").display())];
    make_base(&daemon, work)?;
    said.push("made a base image from /bin/busybox (gantry import)".into());

    let context = work.join("web");
    fs::create_dir(&context)?;
    fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    fs::write(context.join("index.html"), PAGE)?;
    let started = Instant::now();
    let built = daemon.gantry(&["build", "-q", "-t", "web", &context.to_string_lossy()])?;
    said.push(format!("built image web from a Dockerfile in {:.0?}: {built}", started.elapsed()));

    let started = Instant::now();
    daemon.gantry(&["run", "-d", "-P", "--name", "web", "web"])?;
    said.push(format!("ran it with a published port in {:.1?}", started.elapsed()));
    let address = daemon.gantry(&["port", "web", "80"])?;
    let address = address.lines().next().context("no port is published")?.replace("0.0.0.0", "127.0.0.1");
    let page = fetch(&address)?;
    if !page.ends_with(PAGE) {
        bail!("http://{address}/ answered {page:?}");
    }
    said.push(format!("fetched http://{address}/: {}", PAGE.trim()));
    daemon.gantry(&["rm", "-f", "web"])?;
    said.push("removed the container, stopped the daemon, removed its data".into());
    Ok(said)
}

/// Makes image `busybox` from the host's static BusyBox.
fn make_base(daemon: &Daemon, work: &Path) -> Result<()> {
    let archive = busybox::archive(work)?;
    daemon.gantry(&["import", "-c", "CMD [\"sh\"]", &archive.to_string_lossy(), "busybox"])?;
    Ok(())
}

/// Fetches `/` over plain HTTP/1.0, trying for five seconds, and returns head and body.
fn fetch(address: &str) -> Result<String> {
    use std::io::{Read, Write};
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let tried = std::net::TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        });
        match tried {
            Ok(page) => return Ok(page),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("cannot fetch http://{address}/"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A daemon of our own, stopped when dropped.
struct Daemon {
    process: Child,
    gantry: PathBuf,
    socket: String,
}

impl Daemon {
    fn start(binaries: &Path, work: &Path) -> Result<Self> {
        let socket = format!("unix://{}", work.join("gantry.sock").display());
        let log = fs::File::create(work.join("gantryd.log"))?;
        let process = Command::new(binaries.join("gantryd"))
            .arg("--data-root")
            .arg(work.join("data"))
            .arg("--exec-root")
            .arg(work.join("exec"))
            .arg("--pidfile")
            .arg(work.join("gantryd.pid"))
            .args(["-H", &socket])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start gantryd")?;
        let mut daemon = Self { process, gantry: binaries.join("gantry"), socket };
        let deadline = Instant::now() + Duration::from_secs(10);
        while daemon.gantry(&["version"]).is_err() {
            if Instant::now() > deadline || daemon.process.try_wait()?.is_some() {
                let log = fs::read_to_string(work.join("gantryd.log"))?;
                bail!("gantryd does not answer; it said:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    fn gantry(&self, arguments: &[&str]) -> Result<String> {
        read(Command::new(&self.gantry).args(["-H", &self.socket]).args(arguments))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What a failed try left running goes too; a second failure adds nothing to the first.
        if let Ok(ids) = self.gantry(&["ps", "-aq"]) {
            for id in ids.lines() {
                self.gantry(&["rm", "-f", id]).ok();
            }
        }
        output(Command::new("kill").arg(self.process.id().to_string())).ok();
        self.process.wait().ok();
    }
}
