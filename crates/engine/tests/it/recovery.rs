//! The engine goes without a word and comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gantry_engine::containers::{ExecRequest, ExecStartOptions, RemoveOptions, StopOptions, WaitCondition};
use gantry_model::container::{RestartPolicy, Status};
use gantry_net::owned::{self, Owned};

use crate::network::{fetch, published, server};
use crate::{World, world::eventually};

#[test]
fn what_happened_without_an_engine_is_known_afterwards() {
    let Some(mut world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let (web, brief, gone, again) = world.block_on(async {
        let web = containers.create(server("up")).await.expect("created").id.to_string();
        containers.start(&web).await.expect("started");
        let brief =
            containers.create(World::shell("sleep 0.5; exit 6")).await.expect("created").id.to_string();
        containers.start(&brief).await.expect("started");
        let mut request = World::shell("sleep 0.5");
        request.host.auto_remove = true;
        let gone = containers.create(request).await.expect("created").id.to_string();
        containers.start(&gone).await.expect("started");
        let mut request = World::shell("sleep 0.3; exit 1");
        request.host.restart = RestartPolicy::Always;
        let again = containers.create(request).await.expect("created").id.to_string();
        containers.start(&again).await.expect("started");
        (web, brief, gone, again)
    });
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, published(&world, &web)));
    eventually("it serves", || fetch(page).is_some());
    drop(containers);
    world.crash();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(fetch(page).as_deref(), Some("up"), "it serves without an engine");
    world.start();
    assert_eq!(fetch(page).as_deref(), Some("up"), "it serves on");
    let containers = world.engine().containers.clone();
    let state = |id: &str| containers.inspect(id).map(|view| view.state.clone());
    assert_eq!(state(&web).expect("there").status, Status::Running);
    eventually("the exit is known", || state(&brief).is_ok_and(|state| state.status == Status::Exited));
    assert_eq!(state(&brief).expect("there").exit_code, 6);
    eventually("it is removed", || state(&gone).is_err());
    eventually("restarts are known", || state(&again).is_ok_and(|state| state.restart_count >= 1));
    world.block_on(async {
        let request = ExecRequest { command: vec!["true".into()], ..ExecRequest::default() };
        let exec = containers.exec_create(&web, request).await.expect("noted").to_string();
        containers.exec_detached(&exec, ExecStartOptions::default()).await.expect("runs");
        containers.start(&brief).await.expect("starts again");
        containers.stop(&again, StopOptions::default()).await.expect("stopped");
        let options = StopOptions { timeout_s: Some(0), ..StopOptions::default() };
        containers.stop(&web, options).await.expect("stopped");
        containers.remove(&web, RemoveOptions::default()).await.expect("removed");
    });
    assert_eq!(fetch(page), None);
}

#[test]
fn a_data_root_may_be_moved() {
    let Some(mut world) = World::open() else { return };
    let request = || {
        let mut request = World::shell("cat /v/kept 2>/dev/null || echo precious > /v/kept; test -s /v/kept");
        request.host.binds = vec!["kept:/v".into()];
        request
    };
    let run = |world: &World, id: &str| {
        let containers = world.engine().containers.clone();
        world.block_on(async {
            containers.start(id).await.expect("started");
            containers.wait(id, WaitCondition::NotRunning).await.expect("registered").exit().await.code
        })
    };
    let containers = world.engine().containers.clone();
    let id = world.block_on(containers.create(request())).expect("created").id.to_string();
    drop(containers);
    assert_eq!(run(&world, &id), 0);
    world.crash();
    let before = world.data_root();
    world.move_data();
    world.start();
    let view = world.engine().containers.inspect(&id).expect("it is there yet");
    assert!(view.record.directory.starts_with(world.data_root()), "{:?}", view.record.directory);
    assert!(view.record.mounts[0].source.starts_with(world.data_root()), "{:?}", view.record.mounts);
    drop(view);
    assert_eq!(run(&world, &id), 0);
    let volumes = world.engine().volumes.clone();
    let volume = world.block_on(volumes.inspect("kept")).expect("it is there yet");
    let kept = std::fs::read_to_string(volume.mountpoint.join("kept"));
    assert_eq!(kept.expect("where it says"), "precious\n");
    assert!(!before.exists(), "nothing is made where it was");
}

#[test]
fn a_killed_shim_is_reported_and_its_container_is_gone() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let id = world.block_on(async {
        let id = containers.create(World::command(&["sleep", "60"])).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        id
    });
    let pid = containers.inspect(&id).expect("there").state.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after = status.rsplit(')').next().expect("a name in parentheses");
    let shim: i32 = after.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a parent");
    let shim = rustix::process::Pid::from_raw(shim).expect("a pid");
    world.block_on(async {
        let waiter = containers.wait(&id, WaitCondition::NotRunning).await.expect("registered");
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
        assert_eq!(waiter.exit().await.code, 137);
    });
    assert_eq!(containers.inspect(&id).expect("there").state.error, "shim died");
    eventually("its process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    world.block_on(containers.start(&id)).expect("starts again");
}

#[test]
fn after_removal_nothing_is_left() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let root = world.data_root().display().to_string();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.block_on(async {
            let id = containers.create(server("x")).await.expect("created").id.to_string();
            containers.start(&id).await.expect("started");
            id
        }));
    }
    assert!(!mounts().contains(&root), "running containers add no mount to the host's");
    world.remove_all();
    assert!(!mounts().contains(&root));
    let host =
        gantry_net::Host::open(gantry_net::Identity::from_exec_root(&world.exec_root())).expect("netlink");
    eventually("links and ports are gone", || {
        owned::list(&host).expect("a list").iter().all(|thing| match thing {
            Owned::Endpoint { .. } => false,
            Owned::Table { ports, .. } => *ports == 0,
            _ => true,
        })
    });
    for id in ids {
        let left = |directory: &str| std::path::Path::new(directory).join("gantry").join(&id).exists();
        assert!(!left("/sys/fs/cgroup/memory") && !left("/sys/fs/cgroup/pids") && !left("/sys/fs/cgroup"));
        assert!(!world.exec_root().join("c").join(&id).exists());
        assert!(!world.data_root().join("snapshots").join(&id).exists());
    }
}
