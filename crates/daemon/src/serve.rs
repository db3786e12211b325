//! The daemon's life: take the roots, open store, engine and builder, listen, wait for a signal, end.
//! Containers outlive it in any case.

use std::sync::Arc;

use anyhow::{Context, Result};
use gantry_build::executor::{Places, ShimExecutor, ShimExecutorOptions};
use gantry_build::{Builder, BuilderOptions};
use gantry_engine::Engine;
use gantry_server::connection::Service;
use gantry_server::listen::PlainTcp;
use gantry_server::{Address, Limits, Listener};
use gantry_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::network::StepNetwork;
use crate::options::Options;
use crate::ownership::Ownership;
use crate::routes::{self, App};
use crate::wire::defaults::HostDefaults;
use crate::wire::info::VERSION;
use crate::{notify, settings};

/// How long requests under way may take at the end.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs until `SIGTERM` or `SIGINT`.
///
/// # Errors
/// What kept it from starting.
pub(crate) async fn run(options: Options) -> Result<()> {
    for setting in &options.without_effect {
        tracing::warn!("{setting} is taken for dockerd's sake and has no effect");
    }
    // Before anything else, so that a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let ownership = Ownership::take(&options.data_root, &options.exec_root, &options.pidfile)?;
    ownership.remember(&options.exec_root, options.cgroup_parent.as_deref())?;
    // Sockets come first: clients that come early wait instead of being refused.
    let listeners = listen(&options).await?;
    let app = open(&options).await?;
    #[cfg(feature = "failpoints")]
    gantry_model::failpoint::arm("FAILPOINTS_WHEN_READY");
    let router = routes::router(&app)?;
    let common = vec![
        ("Api-Version", gantry_api::version::MAX.to_string()),
        ("Docker-Experimental", "false".to_owned()),
        ("Ostype", "linux".to_owned()),
        ("Server", format!("Gantry/{VERSION} (linux)")),
    ];
    let service = Service::new(router, Limits::default(), common);
    let (stop, stopped) = watch::channel(false);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(listener.serve(service.clone(), stopped.clone())))
        .collect();
    drop((service, stopped));
    notify::tell("READY=1");
    tracing::info!(hosts = ?options.hosts, "gantryd {VERSION} is ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::info!("nothing can be reloaded yet; SIGHUP is ignored"),
        }
    }
    tracing::info!("ending; containers go on");
    notify::tell("STOPPING=1");
    // The receivers may be gone already.
    let _ = stop.send(true);
    let rest = async {
        for accepting in accepting {
            // A loop that failed has ended too.
            let _ = accepting.await;
        }
        app.engine.close().await;
        // Connections hold a receiver each: this waits for the last of them.
        stop.closed().await;
    };
    if tokio::time::timeout(FAREWELL, rest).await.is_err() {
        tracing::warn!("requests were still under way at the end");
    }
    app.engine.leave_host().await;
    remove_sockets(&options);
    Ok(())
}

async fn listen(options: &Options) -> Result<Vec<Listener>> {
    let plain_tcp = if options.allow_insecure_tcp { PlainTcp::Anywhere } else { PlainTcp::LoopbackOnly };
    let group = group_id(&options.group);
    let mut listeners = Vec::new();
    for host in &options.hosts {
        let address: Address = host.parse()?;
        if options.allow_insecure_tcp && matches!(address, Address::Tcp(_)) {
            tracing::warn!("{address} is open without encryption: whoever reaches it is root on this host");
        }
        listeners.push(Listener::open(&address, plain_tcp, group).await?);
    }
    Ok(listeners)
}

/// The id of a group by name; `None` where the host has none, as dockerd tolerates it.
fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn remove_sockets(options: &Options) {
    for host in &options.hosts {
        if let Ok(Address::Unix(path)) = host.parse() {
            // It may have been replaced or removed meanwhile.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn open(options: &Options) -> Result<Arc<App>> {
    let settings = settings::engine(options)?;
    let driver = settings::driver(options)?;
    let root = options.data_root.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&root, &gantry_store::Options { driver }))
        .await?
        .context("cannot open the store")?;
    let name = store.driver_name().to_owned();
    let defaults_given = settings.defaults.clone();
    let engine = Engine::open(settings, Arc::new(store.clone())).await.context("cannot open the engine")?;
    let facts = engine.system.info().await;
    let shm = match defaults_given.shm_size_bytes {
        0 => 64 << 20,
        bytes => i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    let defaults = HostDefaults {
        cgroup_version: if facts.cgroup_version == "2" { 2 } else { 1 },
        shm_size_bytes: shm,
        log_driver: defaults_given.log.driver,
        log_options: defaults_given.log.options,
    };
    let builder = builder(options, store.clone(), &engine).or_else(|error| {
        // Perhaps for want of room.
        if store.spend_reserve() { builder(options, store, &engine) } else { Err(error) }
    })?;
    Ok(Arc::new(App { engine, builder: Arc::new(builder), defaults, driver: name, debug: options.debug }))
}

fn builder(options: &Options, store: Store, engine: &Engine) -> Result<Builder> {
    let here = std::env::current_exe().context("cannot find our own program")?;
    let shim_binary = here.with_file_name("gantry-shim");
    let places = Places {
        shim_binary,
        run_directory: options.exec_root.join("b"),
        cgroup_parent: options.cgroup_parent.clone().unwrap_or_else(|| "/gantry".into()),
    };
    let network = Arc::new(StepNetwork(engine.sandboxes.clone()));
    let executor = Arc::new(ShimExecutor::new(ShimExecutorOptions { places, network }));
    let directory = options.data_root.join("builds");
    Builder::open(BuilderOptions {
        store,
        directory,
        executor,
        fetcher: Arc::new(crate::fetch::Http(tokio::runtime::Handle::current())),
        limits: gantry_build::context::ContextLimits::default(),
    })
    .context("cannot open the builder")
}
