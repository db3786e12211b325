//! One host: containers, sandboxes, images, networks, volumes and events.
//!
//! This crate decides what a container is, what happens to it in which order, and what is recorded
//! about it. It knows the engine database (`engine.db`), the shims and their journals, and the rules
//! of Docker's engine (defaults, conflicts, texts of errors). It must not know HTTP, Docker's JSON
//! (HostConfig as sent is carried as an opaque value), netlink, mounts or the layout of the store:
//! those are `api`'s, `net`'s, `runtime`'s and `store`'s.
//!
//! There is no object that everything is a method of. [`Engine`] is a bundle of nouns, each holding
//! only the collaborators that it uses. Each container is owned by one task ([`containers`]); lists
//! and inspect read immutable views and never wait for a task.
//!
//! The order of things on disk: the record comes before the thing and goes after it. A start is a
//! table of steps with undos; a shim's journal is applied exactly once, in the transaction that also
//! stores its sequence number, and acknowledged after.
//!
//! Reading order: [`settings`], [`containers`], [`sandboxes`], [`images`], [`networks`],
//! [`volumes`], [`events`], [`system`], [`fsck`].

mod database;
mod names;
mod readiness;
mod recovery;

pub mod containers;
pub mod events;
pub mod fsck;
pub mod images;
pub mod networks;
pub mod sandboxes;
pub mod settings;
pub mod system;
pub mod volumes;

// The world of the integration tests, for tests of what cannot be reached from outside.
#[cfg(test)]
extern crate self as gantry_engine;
#[cfg(test)]
#[allow(dead_code, reason = "most of it serves the integration tests")]
#[path = "../tests/it/world.rs"]
mod world;

use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use gantry_model::ErrorKind;

pub use settings::Settings;

/// The nouns of one host. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// Containers and their execs.
    pub containers: containers::Containers,
    /// Namespaces, endpoints and ports; also for build steps.
    pub sandboxes: sandboxes::Sandboxes,
    /// Images, with in-use checks and events.
    pub images: images::Images,
    /// Networks.
    pub networks: networks::Networks,
    /// Volumes.
    pub volumes: volumes::Volumes,
    /// What happened.
    pub events: events::Events,
    /// The host and the daemon itself.
    pub system: system::System,
}

/// Says why the engine could not be opened. Nothing that runs was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the data root or exec root could not be made or read.
    #[error("cannot use {path}: {reason}")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The engine database could not be opened, or is of a newer version.
    #[error("engine database: {0}")]
    Database(String),
    /// The disk has no room for the engine database.
    #[error("engine database: {0}")]
    Full(String),
    /// The default bridge could not be made.
    #[error("default bridge network: {0}")]
    Network(String),
    /// A container that may be running cannot be taken up.
    #[error("{0}: give gantryd more (ulimit -n, LimitNOFILE) and start it again")]
    Shim(String),
    /// A binary that belongs beside ours is missing.
    #[error("{0} was not found beside gantryd: install the whole set of binaries in one directory")]
    Binary(&'static str),
}

impl OpenError {
    /// The kind: always the host's fault.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}

impl Engine {
    /// Opens the database, makes the default bridge, re-adopts every shim, applies their journals,
    /// starts what restart policies want and sweeps what belongs to nobody. Returns when every
    /// container is known with its true state; restarts by policy go on in the background.
    ///
    /// Must be called in a tokio runtime with I/O and time. The caller owns the lock of the data root.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(settings: Settings, store: Arc<gantry_store::Store>) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Handle::current();
        blocking(move || Self::open_now(settings, store, &runtime)).await
    }

    fn open_now(
        settings: Settings,
        store: Arc<gantry_store::Store>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, OpenError> {
        let _entered = runtime.enter();
        for (directory, mode) in [
            (settings.data_root.join("containers"), 0o710),
            (settings.data_root.join("volumes"), 0o711),
            (settings.exec_root.join("c"), 0o700),
        ] {
            make_directory(&directory, mode)?;
        }
        let containers = settings.data_root.join("containers");
        let open = || database::Ledger::open(&settings.data_root.join("engine.db"), &containers);
        let ledger = match open() {
            // So that what fills the disk can be removed.
            Err(OpenError::Full(_)) if store.spend_reserve() => open(),
            result => result,
        }?;
        let events = events::Events::new();
        let index = Arc::new(containers::index::Index::default());
        let networks = networks::Networks::open(&settings, &ledger, Arc::clone(&index))?;
        let scratch = settings.exec_root.join("net");
        let sandboxes = sandboxes::Sandboxes::new(networks.clone(), ledger.clone(), scratch);
        let volumes = volumes::Volumes::new(
            ledger.clone(),
            events.clone(),
            settings.data_root.join("volumes"),
            Arc::clone(&store),
        );
        let images = images::Images::new(Arc::clone(&store), events.clone(), Arc::clone(&index));
        let id = daemon_id(&ledger).map_err(|error| OpenError::Database(error.to_string()))?;
        let core = Arc::new(containers::core::Core {
            ledger,
            store,
            events: events.clone(),
            index,
            networks: networks.clone(),
            sandboxes: sandboxes.clone(),
            volumes: volumes.clone(),
            host: host_facts(settings)?,
            execs: containers::exec::Execs::default(),
        });
        volumes.sweep();
        recovery::recover(&core, runtime).map_err(|error| match error {
            recovery::RecoveryError::Ledger(error) => OpenError::Database(error.to_string()),
            recovery::RecoveryError::Shim(error) => OpenError::Shim(chain(&error)),
        })?;
        containers::commit::thaw_left(&core, runtime);
        networks::watch::start(&core);
        let system = system::System::new(Arc::clone(&core), images.clone(), id);
        let containers = containers::Containers::new(core);
        Ok(Self { containers, sandboxes, images, networks, volumes, events, system })
    }

    /// Ends all tasks and subscriptions. Containers run on; the next [`Engine::open`] takes them up.
    /// Dropping the engine without this is safe too: it is what a crash does.
    pub async fn close(&self) {
        self.containers.close();
        self.events.close();
    }

    /// Takes away what the host has of us where nobody uses it: the default bridge and our rules, unless a container or a
    /// build step has an address, and the group that containers' groups were in. The last thing of an orderly end; the next [`Engine::open`] makes them again.
    pub async fn leave_host(&self) {
        let networks = self.networks.clone();
        let left = tokio::task::spawn_blocking(move || networks.remove_unused()).await;
        if let Err(error) = left {
            tracing::warn!("the host's network was not left: {error}");
        }
        self.containers.remove_parent_group();
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), OpenError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| OpenError::Directory { path: path.into(), reason: error.to_string() })
}

/// The daemon's id: a UUID that stays with the data root.
fn daemon_id(ledger: &database::Ledger) -> Result<String, database::LedgerError> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = random();
    let hex = gantry_model::id::to_hex(&[
        a,
        b,
        c,
        d,
        e,
        f,
        g & 0x0f | 0x40,
        h,
        i & 0x3f | 0x80,
        j,
        k,
        l,
        m,
        n,
        o,
        p,
    ]);
    let fresh = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    ledger.write(|transaction| {
        transaction.execute("INSERT INTO meta VALUES ('id', ?1) ON CONFLICT DO NOTHING", [&fresh])?;
        Ok(transaction.query_row("SELECT value FROM meta WHERE key = 'id'", [], |row| row.get(0))?)
    })
}

fn host_facts(settings: Settings) -> Result<containers::core::HostFacts, OpenError> {
    let directory = match &settings.bin_dir {
        Some(directory) => directory.clone(),
        None => std::fs::read_link("/proc/self/exe")
            .ok()
            .and_then(|path| path.parent().map(Path::to_owned))
            .unwrap_or_default(),
    };
    let binary = |name: &'static str| {
        let path = directory.join(name);
        if path.is_file() { Ok(path) } else { Err(OpenError::Binary(name)) }
    };
    let read = |path: &str| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| OpenError::Directory { path: path.into(), reason: error.to_string() })
    };
    let cgroups = gantry_runtime::cgroup::detect()
        .map_err(|error| OpenError::Directory { path: "/sys/fs/cgroup".into(), reason: chain(&error) })?;
    Ok(containers::core::HostFacts {
        cgroups,
        capabilities: containers::parse_bounding_set(&read("/proc/self/status")?),
        boot_id: gantry_sys::process::boot_id().map_err(|error| OpenError::Directory {
            path: "/proc/sys/kernel/random/boot_id".into(),
            reason: error.to_string(),
        })?,
        shim: binary("gantry-shim")?,
        init: directory.join("gantry-init"),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        settings,
    })
}

/// An error with all its sources, as users and logs see it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // A transparent wrapper says what its source says.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// Random bytes of the kernel's.
pub(crate) fn random() -> [u8; 32] {
    static SOURCE: OnceLock<std::fs::File> = OnceLock::new();
    let mut bytes = [0; 32];
    let source =
        SOURCE.get_or_init(|| std::fs::File::open("/dev/urandom").expect("every host has /dev/urandom"));
    let mut reader = source;
    reader.read_exact(&mut bytes).expect("/dev/urandom never ends");
    bytes
}

/// Runs something that blocks on a thread made for that.
pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(
    run: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down: whoever waits is dropped with it.
        Err(_) => std::future::pending().await,
    }
}
