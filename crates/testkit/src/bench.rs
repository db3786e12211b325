//! What a case works with: a daemon with a BusyBox image, a command line, names that are its own.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::{Cli, Client, Daemon, image, leak};

/// A case's workplace.
#[derive(Debug)]
pub struct Bench {
    /// The daemon.
    pub daemon: Daemon,
    /// The command line that is tried.
    pub cli: Cli,
    unique: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The name of the BusyBox image.
pub const BUSYBOX: &str = "busybox";

/// Runs a case with a client on a daemon of its own, and looks for leaks afterwards.
///
/// # Panics
/// The case's assertions, or something is left behind.
pub fn run(client: Client, case: fn(&Bench)) {
    run_with(client, &[], case);
}

/// The same with additional flags for the daemon.
///
/// # Panics
/// The case's assertions, or something is left behind.
pub fn run_with(client: Client, flags: &[&str], case: fn(&Bench)) {
    let Some(daemon) = Daemon::start(flags) else { return };
    let Some(bench) = Bench::new(daemon, client) else { return };
    case(&bench);
    bench.clear();
    leak::check(&bench.daemon);
    bench.daemon.stop();
    leak::check_stopped(&bench.daemon);
}

impl Bench {
    /// Sets up a client and the BusyBox image on a daemon; says why not and gives `None` where the
    /// machine lacks something.
    ///
    /// # Panics
    /// The import fails.
    #[must_use]
    pub fn new(daemon: Daemon, client: Client) -> Option<Self> {
        let Some(cli) = Cli::find(client, &daemon.host()) else {
            crate::skip(match client {
                Client::Docker => "no stock docker CLI in PATH",
                Client::Gantry => "gantry was not built",
            });
            return None;
        };
        let Some(tar) = image::busybox_tar() else {
            crate::skip("no busybox: apt-get install busybox-static");
            return None;
        };
        let unique = format!("e2e{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bench = Self { daemon, cli, unique };
        bench.import(tar);
        let bridge = bench.cli.run(&["network", "inspect", "-f", "{{json .Options}}", "bridge"]).stdout;
        let options: Value = serde_json::from_str(&bridge).unwrap_or(Value::Null);
        leak::remember_bridge(
            &bench.daemon,
            options["com.docker.network.bridge.name"].as_str().unwrap_or(""),
        );
        Some(bench)
    }

    /// Imports the image; into a daemon that all cases share only once, for each import is an image of
    /// its own and would break the others' caches.
    fn import(&self, tar: &[u8]) {
        static SHARED: Mutex<bool> = Mutex::new(false);
        let mut imported = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.daemon.root().is_none();
        if shared && *imported {
            return;
        }
        let done = self.cli.with_input(&["import", "-c", "CMD [\"sh\"]", "-", BUSYBOX], tar);
        assert_eq!(done.code, 0, "{done:?}\n{}", self.daemon.log());
        *imported = shared;
    }

    /// A container's name that no other case has.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    /// What inspect says of a container or image, by a JSON pointer such as `/State/OOMKilled`.
    ///
    /// # Panics
    /// There is no such thing.
    #[track_caller]
    pub fn inspect(&self, name: &str, pointer: &str) -> Value {
        let all: Value = serde_json::from_str(&self.cli.ok(&["inspect", name])).expect("inspect prints JSON");
        all[0].pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    /// Runs a shell script in a new container with flags and gives its trimmed output.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn shell(&self, flags: &[&str], script: &str) -> String {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([BUSYBOX, "sh", "-c", script]);
        self.cli.ok(&args)
    }

    /// The first address at which a port of a container is published, on 127.0.0.1.
    ///
    /// # Panics
    /// It is not published.
    #[track_caller]
    pub fn address(&self, name: &str, port: &str) -> String {
        let all = self.cli.ok(&["port", name, port]);
        let line = all
            .lines()
            .find(|line| !line.contains('['))
            .unwrap_or_else(|| panic!("{port} is not published: {all}"));
        line.trim().replace("0.0.0.0", "127.0.0.1")
    }

    /// Removes every container of this case (of a daemon of our own: every container).
    pub fn clear(&self) {
        let filter = format!("name={}", self.unique);
        let mut args = vec!["ps", "-aq"];
        if self.daemon.root().is_none() {
            args.extend(["--filter", &filter]);
        }
        let ids = self.cli.ok(&args);
        if !ids.is_empty() {
            let mut args = vec!["rm", "-fv"];
            args.extend(ids.split_whitespace());
            self.cli.ok(&args);
        }
    }

    /// An empty directory for files of the case, gone with it.
    ///
    /// # Panics
    /// `/tmp` cannot be written.
    #[must_use]
    pub fn directory(&self) -> tempfile::TempDir {
        crate::sweep::directory("files-")
    }
}

/// Writes a file, and the directories above it.
///
/// # Panics
/// It cannot.
pub fn write(path: &Path, text: &str) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("the directory can be made");
    }
    std::fs::write(path, text).expect("the file can be written");
}
