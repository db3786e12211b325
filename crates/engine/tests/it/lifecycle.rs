//! Create, start, stop, kill, wait, remove, policy, volumes, names.

use std::time::{Duration, Instant};

use gantry_engine::containers::{
    CommitRequest, CreateRequest, Error, ListOptions, RemoveOptions, StopOptions, WaitCondition,
};
use gantry_engine::events::EventQuery;
use gantry_engine::volumes::VolumeRequest;
use gantry_model::container::{RestartPolicy, Status};

use crate::World;
use crate::world::eventually;

/// Runs a container to its end and gives its exit code and log.
pub(crate) fn run(world: &World, request: CreateRequest) -> (i32, String) {
    let containers = world.engine().containers.clone();
    world.block_on(async move {
        let id = containers.create(request).await.expect("created").id.to_string();
        let waiter = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
        let started = containers.start(&id).await;
        let code = waiter.exit().await.code;
        let options =
            gantry_engine::containers::LogOptions { stdout: true, stderr: true, ..Default::default() };
        let mut text = started.err().map(|error| error.to_string()).unwrap_or_default();
        let mut log = containers.logs(&id, options).await.expect("a log");
        while let Some(entry) = log.next().await.expect("readable") {
            text.push_str(&String::from_utf8_lossy(&entry.bytes));
        }
        (code, text)
    })
}

#[test]
fn a_command_runs_and_its_output_and_exit_code_are_kept() {
    let Some(world) = World::open() else { return };
    let (code, text) = run(&world, World::shell("echo out; echo err >&2; hostname; exit 7"));
    assert_eq!(code, 7, "{text}");
    let mut lines: Vec<&str> = text.lines().collect();
    // Two pipes have no common order.
    lines.sort_unstable_by_key(|line| (line.len(), *line));
    assert_eq!((lines.len(), &lines[..2], lines[2].len()), (3, &["err", "out"][..], 12), "{text}");
}

#[test]
fn defaults_users_environment_and_directories_are_as_asked() {
    let Some(world) = World::open() else { return };
    let mut request = World::shell("id -u; id -g; pwd; echo $A $PATH; echo $HOME");
    request.config.user = "me".into();
    request.config.working_dir = "/tmp/new".into();
    request.config.env = vec!["A=1".into()];
    let (code, text) = run(&world, request);
    let want =
        "1000\n1001\n/tmp/new\n1 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/home\n";
    assert_eq!((code, text.as_str()), (0, want));
    let (code, text) = run(&world, World::shell("grep CapEff /proc/self/status; df -m /dev/shm | tail -1"));
    assert!(code == 0 && text.contains("00000000a80425fb") && text.contains("64"), "{text}");
}

#[test]
fn missing_and_forbidden_programs_have_dockers_codes() {
    let Some(world) = World::open() else { return };
    for (program, code, part) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let (got, text) = run(&world, World::command(&[program]));
        assert_eq!(got, code, "{program}: {text}");
        assert!(text.starts_with("failed to create task for container:") && text.contains(part), "{text}");
    }
    let all =
        world.engine().containers.list(&ListOptions { all: true, ..Default::default() }).expect("a list");
    assert!(all.iter().all(|view| view.state.status == Status::Created && !view.state.error.is_empty()));
}

#[test]
fn names_are_reserved_and_freed() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    world.block_on(async move {
        let named = |name: &str| CreateRequest { name: name.into(), ..World::shell("true") };
        let first = containers.create(named("web")).await.expect("created").id;
        let error = containers.create(named("/web")).await.expect_err("taken");
        assert_eq!(error, Error::NameTaken { name: "web".into(), id: first.clone() });
        assert!(matches!(containers.create(named("-x")).await, Err(Error::Invalid(_))));
        containers.rename("web", "shop").await.expect("renamed");
        assert_eq!(containers.inspect(&first.as_str()[..10]).expect("by prefix").record.name, "shop");
        containers.create(named("web")).await.expect("free again");
        containers.remove("shop", RemoveOptions::default()).await.expect("removed");
        assert_eq!(containers.inspect("shop").map(drop), Err(Error::NoSuchContainer("shop".into())));
        let made_up = containers.create(named("")).await.expect("created").id;
        assert!(containers.inspect(made_up.as_str()).expect("there").record.name.contains('_'));
    });
}

#[test]
fn stop_signals_then_kills_and_events_tell_it() {
    let Some(world) = World::open() else { return };
    let engine = world.engine().clone();
    world.block_on(async move {
        let containers = &engine.containers;
        let mut events = engine.events.subscribe(EventQuery::default()).expect("no filter");
        let polite = World::shell("trap 'exit 3' TERM; while :; do sleep 0.05; done");
        let id = containers.create(polite).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        assert_eq!(containers.start(&id).await, Err(Error::AlreadyStarted));
        let error = containers.remove(&id, RemoveOptions::default()).await.expect_err("it runs").to_string();
        assert!(
            error.contains("container is running: stop the container before removing or force remove"),
            "{error}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        containers.stop(&id, StopOptions::default()).await.expect("stopped");
        let view = containers.inspect(&id).expect("there");
        assert_eq!((view.state.exit_code, view.state.status), (3, Status::Exited));
        assert_eq!(containers.stop(&id, StopOptions::default()).await, Err(Error::AlreadyStopped));
        let stubborn = World::shell("trap '' TERM; while :; do sleep 0.05; done");
        let other = containers.create(stubborn).await.expect("created").id.to_string();
        containers.start(&other).await.expect("started");
        let begin = Instant::now();
        let options = StopOptions { timeout_s: Some(1), ..StopOptions::default() };
        containers.stop(&other, options).await.expect("stopped");
        assert_eq!(containers.inspect(&other).expect("there").state.exit_code, 137);
        assert!((900..3000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        containers.remove(&id, RemoveOptions::default()).await.expect("removed");
        let mut seen = Vec::new();
        while seen.last().map(String::as_str) != Some("destroy") {
            let event = events.next().await.expect("an event");
            if event.actor == id {
                seen.push(event.action.clone());
            }
        }
        assert_eq!(seen, ["create", "start", "kill", "die", "stop", "destroy"]);
    });
}

#[test]
fn kill_pause_and_exec_need_a_running_container() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    world.block_on(async move {
        let id = containers.create(World::command(&["sleep", "60"])).await.expect("created").id.to_string();
        assert!(matches!(containers.kill(&id, "").await, Err(Error::Conflict(_))));
        assert!(matches!(containers.pause(&id).await, Err(Error::Conflict(_))));
        containers.start(&id).await.expect("started");
        containers.pause(&id).await.expect("paused");
        assert_eq!(containers.inspect(&id).expect("there").state.status, Status::Paused);
        assert!(matches!(containers.pause(&id).await, Err(Error::Conflict(_))));
        containers.unpause(&id).await.expect("thawed");
        let top = containers.top(&id, "").await.expect("a table");
        assert_eq!(top.rows.len(), 1, "{top:?}");
        let stats = containers.stats(&id).await.expect("a sample");
        let used = stats.used.as_ref().expect("it runs");
        assert!(used.pids_current == 1 && used.memory_usage_bytes > 0, "{stats:?}");
        let waiter = containers.wait(&id, WaitCondition::NotRunning).await.expect("registered");
        containers.kill(&id, "KILL").await.expect("killed");
        assert_eq!(waiter.exit().await.code, 137);
    });
}

#[test]
fn policy_restarts_and_a_stop_ends_it() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    world.block_on(async move {
        let mut request = World::shell("exit 4");
        request.host.restart = RestartPolicy::OnFailure { max_retries: 2 };
        let id = containers.create(request).await.expect("created").id.to_string();
        let waiter = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
        containers.start(&id).await.expect("started");
        waiter.exit().await;
        // A wait ends with any exit; what follows may be another start, so it is asked again.
        while containers.inspect(&id).expect("there").state.status != Status::Exited {
            let waiter = containers.wait(&id, WaitCondition::NotRunning).await.expect("registered");
            assert_eq!(waiter.exit().await.code, 4);
        }
        assert_eq!(containers.inspect(&id).expect("there").state.restart_count, 2);
        let mut request = World::shell("sleep 0.1");
        request.host.restart = RestartPolicy::Always;
        let id = containers.create(request).await.expect("created").id.to_string();
        let first = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
        containers.start(&id).await.expect("started");
        first.exit().await;
        // This would never end if it waited for a container that is always started again to rest.
        let waiter = containers.wait(&id, WaitCondition::NotRunning).await.expect("registered");
        assert_eq!(waiter.exit().await.code, 0);
        while containers.inspect(&id).expect("there").state.restart_count < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        containers.stop(&id, StopOptions::default()).await.expect("stopped");
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(containers.inspect(&id).expect("there").state.status, Status::Exited);
        containers.start(&id).await.expect("started again");
    });
}

/// A commit freezes unless it is told not to, and looks at a container which may end before it is frozen.
#[test]
fn a_commit_of_a_container_that_ends_meanwhile_is_made() {
    let Some(world) = World::open() else { return };
    let (containers, images) = (world.engine().containers.clone(), world.engine().images.clone());
    world.block_on(async {
        for _ in 0..20 {
            let id = containers.create(World::shell("touch /made")).await.expect("created").id.to_string();
            containers.start(&id).await.expect("started");
            let request = CommitRequest::default();
            containers.commit(&images, &id, request).await.expect("an image");
        }
    });
}

#[test]
fn auto_remove_waits_and_forced_removal_leave_nothing() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    world.block_on(async {
        let mut request = World::shell("exit 9");
        request.host.auto_remove = true;
        let id = containers.create(request).await.expect("created").id.to_string();
        let removed = containers.wait(&id, WaitCondition::Removed).await.expect("registered");
        containers.start(&id).await.expect("started");
        assert_eq!(removed.exit().await.code, 9);
        assert!(containers.inspect(&id).is_err());
        let id = containers.create(World::command(&["sleep", "60"])).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        containers.remove(&id, RemoveOptions { force: true, volumes: false }).await.expect("removed");
        assert!(containers.inspect(&id).is_err());
    });
    assert_eq!(std::fs::read_dir(world.exec_root().join("c")).expect("there").count(), 0);
    assert_eq!(std::fs::read_dir(world.data_root().join("containers")).expect("there").count(), 0);
}

#[test]
fn volumes_are_filled_from_the_image_and_held_by_containers() {
    let Some(world) = World::open() else { return };
    let mut request = World::shell("cat /data/seed /bound/file; echo new > /data/new; touch /bound/x");
    let bound = world.data_root().join("bound");
    std::fs::create_dir_all(&bound).expect("made");
    std::fs::write(bound.join("file"), "bound\n").expect("written");
    request.host.binds = vec!["store:/data".into(), format!("{}:/bound:ro", bound.display())];
    let (code, text) = run(&world, request);
    assert!(code != 0 && text.starts_with("seed\nbound\n") && text.contains("Read-only"), "{code} {text}");
    let engine = world.engine().clone();
    world.block_on(async move {
        let volume = engine.volumes.inspect("store").await.expect("there");
        assert_eq!(std::fs::read_to_string(volume.mountpoint.join("new")).expect("written"), "new\n");
        let error = engine.volumes.remove("store", false).await.expect_err("in use").to_string();
        assert!(error.starts_with("remove store: volume is in use - ["), "{error}");
        engine
            .volumes
            .create(VolumeRequest { name: "other".into(), ..Default::default() })
            .await
            .expect("made");
        engine.volumes.remove("other", false).await.expect("removed");
        assert!(engine.volumes.remove("other", false).await.is_err());
    });
    world.remove_all();
    let engine = world.engine().clone();
    world.block_on(async move { engine.volumes.remove("store", false).await }).expect("nobody uses it");
}

#[test]
fn an_image_in_use_stays() {
    let Some(world) = World::open() else { return };
    let engine = world.engine().clone();
    world.block_on(async move {
        engine.containers.create(World::shell("true")).await.expect("created");
        let error =
            engine.images.remove("busybox", Default::default()).await.expect_err("in use").to_string();
        assert!(error.starts_with("conflict: unable to remove repository reference \"busybox\""), "{error}");
        let absent = CreateRequest {
            config: gantry_engine::containers::Config { image: "nosuch".into(), ..Default::default() },
            ..Default::default()
        };
        let error = engine.containers.create(absent).await.expect_err("no image").to_string();
        assert_eq!(error, "No such image: nosuch:latest");
    });
}

#[test]
fn memory_limits_kill_and_say_so() {
    let Some(world) = World::open() else { return };
    let mut request = World::shell("x=a; while :; do x=$x$x; done");
    request.host.resources.memory = 16 << 20;
    let (code, text) = run(&world, request);
    let all =
        world.engine().containers.list(&ListOptions { all: true, ..Default::default() }).expect("a list");
    assert_eq!((code, all[0].state.oom_killed), (137, true), "{text}");
}

/// Our children that have ended and were not reaped: also those of tests beside this one.
fn zombies() -> std::collections::BTreeSet<std::path::PathBuf> {
    let own = format!("{}", std::process::id());
    let is_one = |directory: &std::path::Path| {
        let stat = std::fs::read_to_string(directory.join("stat")).unwrap_or_default();
        let mut after = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        stat.contains("(gantry-shim)") && after.next() == Some("Z") && after.next() == Some(own.as_str())
    };
    let processes = std::fs::read_dir("/proc").expect("there").flatten();
    processes.map(|entry| entry.path()).filter(|path| is_one(path)).collect()
}

#[test]
fn a_start_that_fails_late_leaves_no_zombie() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let mut request = World::shell("true");
    // Longer than the kernel takes it, which shows when the shim is there already.
    request.config.hostname = "x".repeat(70);
    let before = zombies();
    world.block_on(async {
        let id = containers.create(request).await.expect("created").id.to_string();
        for _ in 0..3 {
            let error = containers.start(&id).await.expect_err("no such host name").to_string();
            assert!(error.contains("sethostname"), "{error}");
        }
    });
    let ours: Vec<_> = zombies().difference(&before).cloned().collect();
    eventually("every shim is reaped", || zombies().is_disjoint(&ours.iter().cloned().collect()));
}
