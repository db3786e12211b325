//! Attach, exec, logs.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use gantry_engine::containers::{
    AttachOptions, Error, ExecRequest, ExecStartOptions, LogOptions, WaitCondition,
};

use crate::World;

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    (ours, theirs.into())
}

/// Takes Docker's frames apart: standard output and standard error.
fn split(mut framed: &[u8]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = framed.split_at_checked(8) {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        if header[0] == 2 {
            err.extend(bytes)
        } else {
            out.extend(bytes)
        };
        framed = rest;
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

#[test]
fn a_client_that_attaches_before_the_start_gets_everything() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let mut request = World::shell("echo first; cat; echo last >&2");
    request.config.open_stdin = true;
    request.config.stdin_once = true;
    let (mut ours, theirs) = pair();
    let code = world.block_on(async {
        let id = containers.create(request).await.expect("created").id.to_string();
        let options =
            AttachOptions { stdin: true, stdout: true, stderr: true, stream: true, ..Default::default() };
        let attachment = containers.attach(&id, options).await.expect("checked");
        assert!(attachment.multiplexed());
        attachment.connect(theirs, b"early ".to_vec()).await.expect("kept");
        let waiter = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
        containers.start(&id).await.expect("started");
        ours.write_all(b"late\n").expect("written");
        ours.shutdown(Shutdown::Write).expect("half-closed");
        waiter.exit().await.code
    });
    let mut framed = Vec::new();
    ours.read_to_end(&mut framed).expect("the connection closes");
    assert_eq!((code, split(&framed)), (0, ("first\nearly late\n".into(), "last\n".into())));
}

/// A client sends its start as soon as it has read that it is attached, which may be before its connection
/// was handed over.
#[test]
fn a_start_waits_for_the_client_that_was_told_that_it_is_attached() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let (mut ours, theirs) = pair();
    world.block_on(async {
        let id = containers.create(World::shell("echo all")).await.expect("created").id.to_string();
        let options = AttachOptions { stdout: true, stream: true, ..Default::default() };
        let attachment = containers.attach(&id, options).await.expect("checked");
        let waiter = containers.wait(&id, WaitCondition::NextExit).await.expect("registered");
        let start = tokio::spawn({
            let containers = containers.clone();
            async move { containers.start(&id).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        attachment.connect(theirs, Vec::new()).await.expect("kept");
        start.await.expect("no panic").expect("started");
        waiter.exit().await;
    });
    let mut framed = Vec::new();
    ours.read_to_end(&mut framed).expect("the connection closes");
    assert_eq!(split(&framed).0, "all\n");
}

#[test]
fn execs_run_report_and_fail_as_dockers_do() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let exec = |words: &[&str]| ExecRequest {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdout: true,
        stderr: true,
        env: vec!["B=2".into()],
        ..ExecRequest::default()
    };
    let id = world.block_on(async {
        let id = containers.create(World::command(&["sleep", "60"])).await.expect("created").id.to_string();
        assert!(matches!(containers.exec_create(&id, exec(&["true"])).await, Err(Error::Conflict(_))));
        containers.start(&id).await.expect("started");
        id
    });
    for (words, code, part) in [
        (&["sh", "-c", "echo $B; hostname; exit 5"][..], 5, "2\n"),
        (&["nosuch"], 127, "executable file not found in $PATH"),
    ] {
        let (mut ours, theirs) = pair();
        let exec = world.block_on(async {
            let exec = containers.exec_create(&id, exec(words)).await.expect("noted").to_string();
            assert!(!containers.exec_inspect(&exec).expect("there").running);
            let session = containers.exec_attach(&exec, ExecStartOptions::default()).await.expect("checked");
            assert!(containers.exec_inspect(&exec).expect("there").running, "the client may ask at once");
            let started = session.connect(theirs, Vec::new()).await;
            assert_eq!(started.is_ok(), code != 127, "{started:?}");
            let again = containers.exec_attach(&exec, ExecStartOptions::default()).await;
            assert!(matches!(again.map(drop), Err(Error::Conflict(_))));
            exec
        });
        let mut framed = Vec::new();
        ours.read_to_end(&mut framed).expect("the connection closes");
        // Who saw the end of the stream finds the exit code.
        let view = containers.exec_inspect(&exec).expect("there");
        assert_eq!((view.exit_code, view.running), (Some(code), false));
        assert!(split(&framed).0.contains(part), "{:?}", split(&framed));
    }
    // A terminal, but the start says nothing of one: frames, all of standard output.
    let (mut ours, theirs) = pair();
    world.block_on(async {
        let request = ExecRequest { tty: true, ..exec(&["sh", "-c", "echo out; echo err >&2"]) };
        let exec = containers.exec_create(&id, request).await.expect("noted").to_string();
        let session = containers.exec_attach(&exec, ExecStartOptions::default()).await.expect("checked");
        assert!(session.multiplexed());
        session.connect(theirs, Vec::new()).await.expect("started");
    });
    // A client that goes before its connection is handed over leaves nothing that runs.
    let gone = world.block_on(async {
        let gone = containers.exec_create(&id, exec(&["true"])).await.expect("noted").to_string();
        drop(containers.exec_attach(&gone, ExecStartOptions::default()).await.expect("checked"));
        containers.exec_inspect(&gone).expect("there")
    });
    assert_eq!((gone.running, gone.exit_code), (false, Some(126)));
    let mut framed = Vec::new();
    ours.read_to_end(&mut framed).expect("the connection closes");
    assert_eq!(split(&framed), ("out\r\nerr\r\n".into(), String::new()));
    let quiet = world.block_on(async {
        let quiet = containers.exec_create(&id, exec(&["sleep", "30"])).await.expect("noted").to_string();
        containers
            .exec_detached(&quiet, ExecStartOptions { detach: true, ..Default::default() })
            .await
            .expect("runs");
        quiet
    });
    assert!(containers.exec_inspect(&quiet).expect("there").running);
    assert_eq!(containers.inspect(&id).expect("there").execs.len(), 1);
}

#[test]
fn logs_follow_until_the_end_and_have_tails() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    world.block_on(async move {
        let request = World::shell("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done; echo e >&2");
        let id = containers.create(request).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        let follow = LogOptions { stdout: true, stderr: true, follow: true, ..LogOptions::default() };
        let mut log = containers.logs(&id, follow).await.expect("a log");
        let mut lines = Vec::new();
        while let Some(entry) = log.next().await.expect("readable") {
            lines.push((entry.stderr, String::from_utf8_lossy(&entry.bytes).trim().to_owned()));
        }
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert_eq!(lines[5], (true, "e".into()));
        let tail = LogOptions { stdout: true, stderr: true, tail: Some(2), ..LogOptions::default() };
        let mut log = containers.logs(&id, tail).await.expect("a log");
        assert_eq!(log.next().await.expect("readable").expect("an entry").bytes, b"5\n");
        assert!(log.next().await.expect("readable").is_some());
        assert!(log.next().await.expect("readable").is_none());
    });
}
