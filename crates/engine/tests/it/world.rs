//! A whole engine in a temporary directory, with a BusyBox image, that cleans up behind itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_engine::containers::{Config, CreateRequest, HostConfig, RemoveOptions};
use gantry_engine::images::ImportOptions;
use gantry_engine::settings::BridgeSettings;
use gantry_engine::{Engine, Settings};
use gantry_model::Reference;
use gantry_store::{Options, Store};
use tokio::runtime::Runtime;

/// An engine of its own: own roots, own bridge, own subnet. Dropping it removes everything.
pub(crate) struct World {
    root: PathBuf,
    data_root: PathBuf,
    runtime: Option<Runtime>,
    engine: Option<Engine>,
    number: u32,
}

/// Why the tests cannot run here, if they cannot.
pub(crate) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let shim = binaries().join("gantry-shim");
    if !shim.is_file() {
        return Some(format!("needs {} (cargo build -p gantry-runtime)", shim.display()));
    }
    (!Path::new("/bin/busybox").is_file()).then(|| "needs /bin/busybox (busybox-static)".into())
}

fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("GANTRY_BIN_DIR") {
        return directory.into();
    }
    let test = std::env::current_exe().expect("a test has an executable");
    test.ancestors().nth(2).expect("target/…/debug/deps/it").to_owned()
}

impl World {
    /// Opens one; `None`, with the reason printed, where the machine lacks something.
    pub(crate) fn open() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if let Some(why) = obstacle() {
            eprintln!("skipped: {why}");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("gantry-engine-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a temporary directory");
        let data_root = root.join("data");
        let mut world = Self { root, data_root, runtime: None, engine: None, number };
        world.start();
        let archive = busybox();
        let options = ImportOptions {
            reference: Some(Reference::parse_normalized("busybox").expect("a name")),
            ..ImportOptions::default()
        };
        let engine = world.engine().clone();
        world
            .block_on(async move { engine.images.import(std::io::Cursor::new(archive), options).await })
            .expect("an image");
        Some(world)
    }

    /// Opens the engine on the same roots, as a daemon's start does.
    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // Each process and each world has a subnet of its own, so that they may run side by side.
        let block = std::process::id() % 60;
        let third = block * 4 + self.number % 4;
        let settings = Settings {
            data_root: self.data_root.clone(),
            exec_root: self.root.join("run"),
            bin_dir: Some(binaries()),
            bridge: BridgeSettings {
                address: Some(format!("10.{}.{third}.1/24", 200 + self.number / 4)),
                ..BridgeSettings::default()
            },
            ..Settings::default()
        };
        let store = Arc::new(Store::open(&self.data_root, &Options::default()).expect("a store"));
        self.engine = Some(runtime.block_on(Engine::open(settings, store)).expect("an engine"));
        self.runtime = Some(runtime);
    }

    /// Drops the engine without a word, as a crash does.
    pub(crate) fn crash(&mut self) {
        self.engine = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it was started")
    }

    /// The exec root.
    pub(crate) fn exec_root(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The data root.
    pub(crate) fn data_root(&self) -> PathBuf {
        self.data_root.clone()
    }

    /// Moves all that lasts to another place, while no engine runs.
    pub(crate) fn move_data(&mut self) {
        assert!(self.engine.is_none(), "it is in use");
        let elsewhere = self.root.join("elsewhere");
        std::fs::rename(&self.data_root, &elsewhere).expect("in the same directory");
        self.data_root = elsewhere;
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let patience = Duration::from_secs(60);
        let runtime = self.runtime.as_ref().expect("it was started");
        runtime.block_on(async {
            tokio::time::timeout(patience, future).await.expect("an answer within a minute")
        })
    }

    /// A request for a container of the image that runs a shell command.
    pub(crate) fn shell(command: &str) -> CreateRequest {
        Self::command(&["sh", "-c", command])
    }

    /// A request for a container of the image that runs a command.
    pub(crate) fn command(words: &[&str]) -> CreateRequest {
        CreateRequest {
            config: Config {
                image: "busybox".into(),
                cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
                ..Config::default()
            },
            host: HostConfig::default(),
            ..CreateRequest::default()
        }
    }

    /// Removes all containers by force.
    pub(crate) fn remove_all(&self) {
        let engine = self.engine().clone();
        self.block_on(async move {
            let all = gantry_engine::containers::ListOptions { all: true, ..Default::default() };
            for view in engine.containers.list(&all).expect("a list") {
                let options = RemoveOptions { force: true, volumes: true };
                let removed = engine.containers.remove(view.record.id.as_str(), options).await;
                removed.expect("a removal");
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && self.runtime.is_none() {
            self.start();
        }
        if self.engine.is_some() {
            self.remove_all();
        }
        self.crash();
        let identity = gantry_net::Identity::from_exec_root(&self.exec_root());
        if let Ok(host) = gantry_net::Host::open(identity) {
            for error in gantry_net::owned::remove_all(&host) {
                eprintln!("not removed: {error}");
            }
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// An archive with BusyBox and its commands.
fn busybox() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut directory = |path: &str, mode: u32| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        archive.append_data(&mut header, path, &[][..]).expect("memory");
    };
    for (path, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700), ("data/", 0o755)]
    {
        directory(path, mode);
    }
    let mut file = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes).expect("memory");
    };
    file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").expect("busybox-static"));
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1001::/home:/bin/sh\n");
    file("etc/group", 0o644, b"root:x:0:\nus:x:1001:\n");
    file("data/seed", 0o644, b"seed\n");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{name}"), "busybox").expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// Waits until a condition holds; the kernel takes some things down in its own time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
