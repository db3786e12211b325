//! Launch, exit, stop, kill, restart, pause, out of memory.

use std::time::{Duration, Instant};

use gantry_model::container::{RestartPolicy, Status};
use gantry_runtime::shim::protocol::{Event, Prepare, RefusalKind, Request, Stop};

use crate::harness::{Shim, eventually, lives};
use crate::needs_root;

#[test]
fn exit_codes_are_dockers() {
    needs_root!();
    for (script, want) in [("true", 0), ("exit 7", 7), ("kill -9 $$; sleep 1", 0), ("exit 255", 255)] {
        let mut shim = Shim::new();
        let launch = shim.script(script);
        shim.launch(launch, &[]);
        assert_eq!(shim.exit_code(), want, "{script}");
        let state = shim.state();
        assert_eq!((state.status, state.exit.map(|exit| exit.code)), (Status::Exited, Some(want)));
        assert!(shim.cgroups().is_empty(), "the cgroup outlives the container");
    }
}

#[test]
fn a_program_that_is_not_there_is_a_refusal_and_an_event() {
    needs_root!();
    for (program, code) in [("/nosuch", 127), ("nosuch", 127), ("/etc", 126)] {
        let mut shim = Shim::new();
        let launch = shim.launch_of(&[program]);
        let refusal = shim.try_ask(Request::Launch(Box::new(launch)), &[]).expect_err("refused");
        assert_eq!((refusal.kind, refusal.exit_code), (RefusalKind::Launch, Some(code)), "{refusal:?}");
        let failed = shim.wait_for("a failed start", |event| matches!(event, Event::StartFailed { .. }));
        assert_eq!(failed.event, Event::StartFailed { text: refusal.text, exit_code: code });
        assert_eq!(shim.state().status, Status::Exited);
    }
}

#[test]
fn create_and_start_may_be_two_steps() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("exit 3");
    launch.then_start = false;
    let created = shim.launch(launch, &[]);
    assert_eq!(shim.state().status, Status::Created);
    assert!(lives(created.pid));
    assert_eq!(shim.kinds(), [Event::Created(created)]);
    shim.ask(Request::Start, &[]);
    assert_eq!(shim.exit_code(), 3);
    let refusal = shim.try_ask(Request::Start, &[]).expect_err("started twice");
    assert_eq!(refusal.kind, RefusalKind::Conflict);
}

#[test]
fn a_prepared_cgroup_is_the_launchs_and_goes_with_the_shim() {
    needs_root!();
    for is_launched in [true, false] {
        let mut shim = Shim::new();
        let launch = shim.script("exit 3");
        let resources = serde_json::from_str(r#"{"pids":{"limit":77}}"#).expect("resources");
        let cgroup = launch.cgroup.clone().expect("it has one");
        let prepare = Prepare { cgroup, hierarchies: None, resources: Some(resources) };
        shim.ask(Request::Prepare(Box::new(prepare)), &[]);
        let made = shim.cgroups();
        assert!(!made.is_empty(), "the cgroup is there before the launch");
        let limit = made.iter().find_map(|path| std::fs::read_to_string(path.join("pids.max")).ok());
        assert_eq!(limit.as_deref(), Some("77\n"));
        if is_launched {
            shim.launch(launch, &[]);
            assert_eq!(shim.exit_code(), 3);
            assert_eq!(shim.state().status, Status::Exited);
            assert!(shim.cgroups().is_empty(), "the cgroup outlives the container");
        }
        // Without a launch, the shim's end takes it along, which dropping it asserts.
    }
}

#[test]
fn a_stop_signals_waits_and_kills() {
    needs_root!();
    for (script, timeout_s, code, at_least, at_most) in [
        ("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", 10, 5, 0, 5000),
        ("trap '' TERM; echo ready; while :; do sleep 0.05; done", 1, 137, 1000, 4000),
        ("trap '' TERM; echo ready; while :; do sleep 0.05; done", 0, 137, 0, 3000),
    ] {
        let mut shim = Shim::new();
        let mut launch = shim.script(script);
        launch.restart = RestartPolicy::Always;
        shim.launch(launch, &[]);
        eventually("ready", || shim.log().contains("ready"));
        let begun = Instant::now();
        shim.stop(timeout_s);
        assert_eq!(shim.exit_code(), code, "{script}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(at_least), "{script}: {took:?}");
        assert!(took <= Duration::from_millis(at_most), "{script}: {took:?}");
        let kinds = shim.kinds();
        assert!(kinds.contains(&Event::Stopping { signal: 15, timeout_s }), "{kinds:?}");
        assert_eq!(kinds.contains(&Event::Killed { signal: 9 }), code == 137, "{kinds:?}");
        assert!(!kinds.iter().any(|event| matches!(event, Event::Restarting { .. })), "{kinds:?}");
    }
}

#[test]
fn kill_works_while_a_stop_waits_and_stale_generations_are_refused() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    shim.launch(launch, &[]);
    eventually("ready", || shim.log().contains("ready"));
    shim.stop(60);
    assert!(shim.state().stopping);
    let stale = Stop { generation: 7, ..Stop::default() };
    let refusal = shim.try_ask(Request::Stop(stale), &[]).expect_err("another start");
    assert_eq!(refusal.kind, RefusalKind::StaleGeneration);
    shim.kill(9);
    assert_eq!(shim.exit_code(), 137);
    let refusal = shim.try_ask(Request::Stop(Stop::default()), &[]).expect_err("not running");
    assert_eq!(refusal.kind, RefusalKind::Conflict);
}

#[test]
fn on_failure_restarts_so_often_and_no_more() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("echo run; exit 1");
    launch.restart = RestartPolicy::OnFailure { max_retries: 2 };
    shim.launch(launch, &[]);
    assert_eq!(shim.exit_code(), 1);
    let state = shim.state();
    assert_eq!((state.generation, state.restart_count, state.status), (3, 2, Status::Exited));
    assert_eq!(shim.log(), "run\nrun\nrun\n");
    let delays: Vec<_> = shim
        .kinds()
        .into_iter()
        .filter_map(|event| match event {
            Event::Restarting { delay_ms, count } => Some((delay_ms, count)),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [(100, 1), (200, 2)]);
    let starts: Vec<_> = shim
        .events
        .iter()
        .filter(|record| matches!(record.event, Event::Started(_)))
        .map(|record| record.generation)
        .collect();
    assert_eq!(starts, [1, 2, 3]);
}

#[test]
fn a_stop_ends_the_wait_for_a_restart() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("exit 0");
    launch.restart = RestartPolicy::Always;
    shim.launch(launch, &[]);
    // The third wait is long enough to meet it.
    shim.wait_for("a restart", |event| matches!(event, Event::Restarting { count: 4, .. }));
    assert_eq!(shim.state().status, Status::Restarting);
    shim.stop(10);
    shim.wait_for("the end", |event| *event == Event::RestartCancelled);
    assert_eq!(shim.state().status, Status::Exited);
}

#[test]
fn a_policy_set_later_holds() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("sleep 0.3; exit 1");
    shim.launch(launch, &[]);
    shim.ask(Request::SetRestartPolicy(RestartPolicy::OnFailure { max_retries: 1 }), &[]);
    assert_eq!(shim.exit_code(), 1);
    assert_eq!(shim.state().generation, 2);
}

#[test]
fn a_paused_container_stands_still_and_can_be_killed() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("while :; do echo tick; sleep 0.02; done");
    shim.launch(launch, &[]);
    eventually("ticking", || shim.log().contains("tick"));
    shim.ask(Request::Pause, &[]);
    assert_eq!(shim.state().status, Status::Paused);
    std::thread::sleep(Duration::from_millis(100));
    let before = shim.log().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(shim.log().len(), before);
    shim.ask(Request::Resume, &[]);
    eventually("ticking again", || shim.log().len() > before);
    shim.ask(Request::Pause, &[]);
    shim.kill(9);
    assert_eq!(shim.exit_code(), 137);
}

#[test]
fn running_out_of_memory_is_seen() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("tail /dev/zero");
    let resources = serde_json::json!({ "memory": { "limit": 16 << 20 } });
    let mut linux = launch.spec.linux().clone().expect("linux");
    linux.set_resources(Some(serde_json::from_value(resources).expect("resources")));
    launch.spec.set_linux(Some(linux));
    shim.launch(launch, &[]);
    let code = shim.exit_code();
    assert_eq!(code, 137);
    let kinds = shim.kinds();
    assert!(kinds.contains(&Event::OomKilled), "{kinds:?}");
    assert!(kinds.contains(&Event::Exited { code, oom: true, restarting: false }), "{kinds:?}");
}

#[test]
fn what_is_left_behind_dies_with_the_container() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("sleep 1000 & echo $!; exit 0");
    shim.launch(launch, &[]);
    let begun = Instant::now();
    assert_eq!(shim.exit_code(), 0);
    assert!(begun.elapsed() < Duration::from_secs(1), "output was waited for in vain");
}
