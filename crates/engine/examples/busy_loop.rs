//! Where the time of a start goes: runs `true` over and over and prints medians, in microseconds.
//!
//! `cargo run -p gantry-engine --example busy_loop -- [count] [network]` as root, with `gantry-shim` in the
//! directory of the target (or in `GANTRY_BIN_DIR`) and a static BusyBox at `/bin/busybox`.
#![allow(clippy::print_stdout, reason = "it is its purpose")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gantry_engine::containers::{Config, CreateRequest, HostConfig, RemoveOptions, WaitCondition};
use gantry_engine::images::ImportOptions;
use gantry_engine::{Engine, Settings};
use gantry_model::Reference;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(50);
    let network = arguments.next().unwrap_or_else(|| "bridge".into());
    let root = std::env::temp_dir().join(format!("gantry-busy-loop-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let settings = Settings {
            data_root: root.join("data"),
            exec_root: root.join("run"),
            bin_dir: Some(binaries()),
            ..Settings::default()
        };
        let store = gantry_store::Store::open(&root.join("data"), &gantry_store::Options::default());
        let engine = Engine::open(settings, Arc::new(store.expect("a store"))).await.expect("an engine");
        let options = ImportOptions {
            reference: Some(Reference::parse_normalized("busybox").expect("a name")),
            ..ImportOptions::default()
        };
        engine.images.import(std::io::Cursor::new(archive()), options).await.expect("an image");
        let mut times: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
        for _ in 0..count {
            for (what, micros) in once(&engine, &network).await {
                times.entry(what).or_default().push(micros);
            }
        }
        for (what, mut micros) in times {
            micros.sort_unstable();
            println!("{what:10} median {:6}  least {:6}", micros[micros.len() / 2], micros[0]);
        }
        println!("memory     {}", resident());
        engine.close().await;
    });
    drop(runtime);
    let identity = gantry_net::Identity::from_exec_root(&root.join("run"));
    if let Ok(host) = gantry_net::Host::open(identity) {
        drop(gantry_net::owned::remove_all(&host));
    }
    let _ = std::fs::remove_dir_all(&root);
}

async fn once(engine: &Engine, network: &str) -> Vec<(&'static str, u128)> {
    let containers = &engine.containers;
    let request = CreateRequest {
        config: Config { image: "busybox".into(), cmd: Some(vec!["true".into()]), ..Config::default() },
        host: HostConfig { network_mode: network.into(), ..HostConfig::default() },
        ..CreateRequest::default()
    };
    let begin = Instant::now();
    let id = containers.create(request).await.expect("created").id.to_string();
    let created = Instant::now();
    let waiter = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
    containers.start(&id).await.expect("started");
    let started = Instant::now();
    waiter.exit().await;
    let exited = Instant::now();
    containers.remove(&id, RemoveOptions::default()).await.expect("removed");
    let removed = Instant::now();
    let micros = |from: Instant, to: Instant| (to - from).as_micros();
    vec![
        ("1 create", micros(begin, created)),
        ("2 start", micros(created, started)),
        ("3 exit", micros(started, exited)),
        ("4 remove", micros(exited, removed)),
        ("5 all", micros(begin, removed)),
    ]
}

fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("GANTRY_BIN_DIR") {
        return directory.into();
    }
    let own = std::env::current_exe().expect("an example has an executable");
    own.ancestors().nth(2).expect("target/…/debug/examples/busy_loop").to_owned()
}

fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let bytes = std::fs::read("/bin/busybox").expect("busybox-static");
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, "bin/busybox", bytes.as_slice()).expect("memory");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "bin/true", "busybox").expect("memory");
    archive.into_inner().expect("memory")
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().trim().to_owned()
}
