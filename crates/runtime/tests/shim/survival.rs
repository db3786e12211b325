//! Daemons that die, shims that are killed, and peers that misbehave.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use gantry_model::container::{RestartPolicy, Status};
use gantry_runtime::shim::connection::Connection;
use gantry_runtime::shim::journal;
use gantry_runtime::shim::protocol::{
    Descriptors, Event, Frame, HelloRequest, Outcome, RefusalKind, Reply, Request, RequestFrame, Shutdown,
};
use gantry_runtime::shim::spawn::{Lifetime, spawn};

use crate::harness::{PATIENCE, Shim, binary, eventually, lives};
use crate::needs_root;

#[test]
fn the_next_daemon_sees_everything_exactly_once() {
    needs_root!();
    let mut shim = Shim::new();
    shim.acknowledges = false;
    let mut launch = shim.script("echo run; exit 1");
    launch.restart = RestartPolicy::OnFailure { max_retries: 3 };
    shim.launch(launch, &[]);
    let committed = shim.events.last().expect("started").seq;
    shim.daemon_dies();
    eventually("four runs", || shim.log() == "run\nrun\nrun\nrun\n");
    // A daemon comes, takes some of it, and dies before it can say so.
    let hello = shim.reconnect(committed);
    assert_eq!(hello.state.container, "test");
    shim.wait_for("the first restart", |event| matches!(event, Event::Restarting { count: 1, .. }));
    shim.daemon_dies();
    let seen: Vec<_> = shim.events.iter().map(|record| record.seq).collect();
    let last = *seen.last().expect("some");
    shim.reconnect(last);
    assert_eq!(shim.exit_code(), 1);
    let count = |wanted: fn(&Event) -> bool| shim.events.iter().filter(|it| wanted(&it.event)).count();
    assert_eq!(count(|event| matches!(event, Event::Started(_))), 4);
    assert_eq!(count(|event| matches!(event, Event::Exited { .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::Restarting { .. })), 3);
    let boots: Vec<_> = shim.events.iter().map(|record| record.boot_id.as_str()).collect();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    assert!(boots.iter().all(|id| *id == boot.trim()));
    // What is acknowledged is forgotten.
    let seq = shim.events.last().expect("some").seq;
    let on_disk = journal::read(&shim.directory()).expect("a journal");
    assert_eq!(on_disk.last().map(|record| record.seq), Some(seq));
    shim.daemon_dies();
    shim.reconnect(seq);
    assert_eq!(journal::read(&shim.directory()).expect("a journal").len(), 0);
}

#[test]
fn a_stop_goes_on_without_the_daemon() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let pid = shim.launch(launch, &[]).pid;
    eventually("ready", || shim.log().contains("ready"));
    shim.stop(1);
    let seq = shim.events.last().expect("some").seq;
    shim.daemon_dies();
    eventually("killed", || !lives(pid));
    shim.reconnect(seq);
    assert_eq!(shim.exit_code(), 137);
}

#[test]
fn a_killed_shim_takes_the_container_with_it() {
    needs_root!();
    let mut shim = Shim::new();
    shim.acknowledges = false;
    let launch = shim.script("trap '' TERM HUP; while :; do sleep 0.05; done");
    let pid = shim.launch(launch, &[]).pid;
    rustix::process::pidfd_send_signal(&shim.pidfd, rustix::process::Signal::KILL).expect("killed");
    shim.await_end();
    eventually("the container dies", || !lives(pid));
    let records = journal::read(&shim.directory()).expect("a journal");
    assert!(matches!(records.last().map(|record| &record.event), Some(Event::Started(_))), "{records:?}");
    let error = Connection::connect(&shim.directory()).expect_err("nobody there");
    assert!(format!("{error:?}").contains("ConnectionRefused"), "{error:?}");
    shim.connection = None;
    for path in shim.cgroups() {
        eventually("the cgroup empties", || std::fs::remove_dir(&path).is_ok());
    }
}

#[test]
fn descriptors_are_held_and_given_back() {
    needs_root!();
    let mut shim = Shim::new();
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut launch = shim.script("sleep 1000");
    launch.descriptors = vec!["port/tcp/80".into()];
    shim.launch(launch, &[theirs.as_fd()]);
    drop(theirs);
    shim.daemon_dies();
    shim.reconnect(0);
    let connection = shim.connection.as_mut().expect("connected");
    connection.request(99, Request::Descriptors(Descriptors::default()), &[]).expect("sent");
    let mut got = loop {
        let deadline = std::time::Instant::now() + PATIENCE;
        if let (Frame::Reply(reply), got) = connection.recv_until(Some(deadline)).expect("a reply") {
            let Ok(Reply::Descriptors(names)) = Outcome::into_result(reply.outcome) else {
                panic!("refused")
            };
            assert_eq!(names.names, ["port/tcp/80"]);
            break got;
        }
    };
    let mut theirs = UnixStream::from(got.pop().expect("one"));
    theirs.write_all(b"held").expect("written");
    let mut buffer = [0; 4];
    ours.read_exact(&mut buffer).expect("read");
    assert_eq!(&buffer, b"held");
    drop(theirs);
    shim.ask(Request::Release(Descriptors { names: vec!["port/tcp/80".into()] }), &[]);
    assert_eq!(ours.read(&mut buffer).expect("the end"), 0);
}

#[test]
fn misbehaving_peers_do_no_harm() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("sleep 1000");
    shim.launch(launch, &[]);
    let path = shim.directory().join("shim.sock");
    for bytes in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[2, 0, 0, 0, 0, 0, 0, 0, b'[', b']']] {
        let mut stranger = UnixStream::connect(&path).expect("connected");
        stranger.set_read_timeout(Some(PATIENCE)).expect("set");
        stranger.write_all(bytes).expect("written");
        assert!(matches!(stranger.read(&mut [0; 16]), Ok(0) | Err(_)), "answered {bytes:?}");
    }
    // A stranger that says nothing, one that does not greet, one that speaks another protocol.
    let _silent = UnixStream::connect(&path).expect("connected");
    let ask = |request: Request| {
        let mut stranger = Connection::connect(&shim.directory()).expect("connected");
        let deadline = std::time::Instant::now() + PATIENCE;
        stranger.call(1, request, &[], Some(deadline), |_| ()).expect("answered").0
    };
    assert_eq!(ask(Request::State).expect_err("no hello").kind, RefusalKind::Protocol);
    let future = HelloRequest { protocol_oldest: 9, protocol: 10, ..HelloRequest::new(0) };
    assert_eq!(ask(Request::Hello(future)).expect_err("too new").kind, RefusalKind::Protocol);
    // The daemon's own conversation went on; what it does not know it says.
    let frame = Frame::Request(RequestFrame {
        id: 500,
        op: "fly".into(),
        args: serde_json::value::RawValue::NULL.to_owned(),
    });
    let connection = shim.connection.as_mut().expect("connected");
    connection.send(&frame, &[]).expect("sent");
    let deadline = Some(std::time::Instant::now() + PATIENCE);
    let (Frame::Reply(reply), _) = connection.recv_until(deadline).expect("a reply") else {
        panic!("not a reply")
    };
    let refusal = Outcome::into_result(reply.outcome).expect_err("refused");
    assert_eq!((reply.id, refusal.kind), (500, RefusalKind::UnknownOperation));
    assert_eq!(shim.state().status, Status::Running);
}

#[test]
fn shutdown_wants_an_ended_container_or_a_kill() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("sleep 1000");
    let pid = shim.launch(launch, &[]).pid;
    let refusal = shim.try_ask(Request::Shutdown(Shutdown::default()), &[]).expect_err("it lives");
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    shim.ask(Request::Shutdown(Shutdown { kill: true }), &[]);
    assert!(!lives(pid));
    shim.await_end();
    assert!(shim.cgroups().is_empty());
    shim.connection = None;
}

#[test]
fn an_ephemeral_shim_ends_with_its_owner() {
    needs_root!();
    let shim = Shim::new();
    let mut launch = shim.script("trap '' TERM HUP; while :; do sleep 0.05; done");
    launch.cgroup = None;
    let mut spawned = spawn(&binary(), Lifetime::Connection).expect("a shim");
    let deadline = Some(std::time::Instant::now() + PATIENCE);
    spawned.connection.request(1, Request::Hello(HelloRequest::new(0)), &[]).expect("sent");
    spawned.connection.request(2, Request::Launch(Box::new(launch)), &[]).expect("sent");
    let pid = loop {
        if let (Frame::Reply(reply), _) = spawned.connection.recv_until(deadline).expect("a reply")
            && let Reply::Launched(id) = Outcome::into_result(reply.outcome).expect("launched")
        {
            break id.pid;
        }
    };
    assert!(lives(pid));
    drop(spawned.connection);
    eventually("both end", || gantry_runtime::shim::spawn::reap(&spawned.pidfd));
    assert!(!lives(pid));
}

#[test]
fn an_idle_shim_is_small() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("echo hello; sleep 1000");
    shim.launch(launch, &[]);
    // Buffers go after half a second, the log's thread after three.
    let most_kib = 400;
    eventually("it is small", || anonymous_kib(shim.pid) < most_kib);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let kib = anonymous_kib(shim.pid);
    println!("an idle shim: {kib} KiB of its own");
    assert!(kib < most_kib);
}

/// Memory that is no other process' and no file's.
fn anonymous_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let line = text.lines().find(|line| line.starts_with("Anonymous:")).expect("a line");
    line.split_whitespace().nth(1).expect("a figure").parse().expect("a number")
}

#[test]
fn a_shim_whose_daemon_dies_before_the_launch_ends() {
    needs_root!();
    let home = tempfile::tempdir().expect("a directory");
    let spawned = spawn(&binary(), Lifetime::Container(home.path())).expect("a shim");
    drop(spawned.connection);
    eventually("it ended", || gantry_runtime::shim::spawn::reap(&spawned.pidfd));
    assert_eq!(
        std::fs::read_dir(home.path()).expect("a directory").count(),
        0,
        "socket and journal are gone"
    );
}

#[test]
fn the_next_daemon_reaches_a_shim_that_was_only_just_started() {
    needs_root!();
    let home = tempfile::tempdir().expect("a directory");
    let mut first = spawn(&binary(), Lifetime::Container(home.path())).expect("a shim");
    // At once: the process may not have got to its first line.
    let mut second = Connection::connect(home.path()).expect("there is a socket");
    let deadline = Some(std::time::Instant::now() + PATIENCE);
    second.request(1, Request::Hello(HelloRequest::new(0)), &[]).expect("sent");
    let hello = match second.recv_until(deadline).expect("an answer").0 {
        Frame::Reply(reply) => match reply.outcome.into_result() {
            Ok(Reply::Hello(hello)) => hello,
            other => panic!("no hello: {other:?}"),
        },
        other => panic!("no reply: {other:?}"),
    };
    assert_eq!(hello.state.status, Status::Created);
    assert_eq!(hello.shim_pid, first.pid, "the shim, not who made the socket");
    // What the first daemon still says counts no more, and its end ends nothing.
    first.connection.request(1, Request::Hello(HelloRequest::new(0)), &[]).expect("sent");
    match first.connection.recv_until(deadline).expect("an answer").0 {
        Frame::Reply(reply) => {
            let refusal = reply.outcome.into_result().expect_err("it is outdated");
            assert_eq!(refusal.kind, RefusalKind::Conflict);
        }
        other => panic!("no reply: {other:?}"),
    }
    drop(first.connection);
    second.request(2, Request::Shutdown(Shutdown { kill: true }), &[]).expect("sent");
    eventually("it ended", || gantry_runtime::shim::spawn::reap(&first.pidfd));
}

/// A file system of 256 KiB over a directory.
struct Tiny(std::path::PathBuf);

impl Tiny {
    fn mount(at: std::path::PathBuf) -> Self {
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "shim-test"])
            .arg(&at)
            .status()
            .expect("mount(8)");
        assert!(done.success());
        Self(at)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|done| done.success()));
    }
}

#[test]
fn output_that_finds_the_disk_full_is_counted_to_the_byte_and_told_rarely() {
    needs_root!();
    let mut shim = Shim::new();
    let _tiny = Tiny::mount(shim.log_directory());
    let begun = std::time::Instant::now();
    let launch = shim.launch_of(&["/bin/seq", "1", "300000"]);
    shim.launch(launch, &[]);
    assert_eq!(shim.exit_code(), 0, "it was not held up");
    let written: usize = (1..=300_000_u32).map(|number| number.to_string().len() + 1).sum();
    let gaps = shim.kinds().into_iter().filter_map(|event| match event {
        Event::LogGap { bytes, .. } => Some(usize::try_from(bytes).expect("few")),
        _ => None,
    });
    let gaps: Vec<usize> = gaps.collect();
    let lost: usize = gaps.iter().sum();
    assert!(lost > 0, "the disk was large enough");
    assert_eq!(shim.log().len() + lost, written);
    // The first at once, the last at the end, and between them one in ten seconds.
    assert!(gaps.len() as u64 <= 2 + begun.elapsed().as_secs() / 10, "{gaps:?}");
}
