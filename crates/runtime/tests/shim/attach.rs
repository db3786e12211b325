//! Clients: framing, terminals, input, back-pressure.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use gantry_logs::LogConfig;
use gantry_runtime::shim::protocol::{
    Attach, CloseStdin, DEFAULT_DETACH_KEYS, Event, Framing, Request, ResizeTty, Streams, TerminalSize,
};

use crate::harness::{Shim, client, demultiplex, eventually, fds, read_until, with_terminal};
use crate::needs_root;

#[test]
fn output_is_framed_logged_and_ended() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("echo out; echo err >&2; printf unended");
    let (mut ours, theirs, attach) = client(Framing::Multiplexed);
    launch.attach.push(attach);
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    assert_eq!(demultiplex(&mut ours), (b"out\nunended".to_vec(), b"err\n".to_vec()));
    shim.exit_code();
    let log = shim.log();
    assert_eq!((log.contains("out\n"), log.contains("err\n"), log.ends_with("unended")), (true, true, true));
}

#[test]
fn standard_streams_can_be_opened_again() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("echo again > /proc/self/fd/1; echo more > /proc/self/fd/2");
    shim.launch(launch, &[]);
    assert_eq!(shim.exit_code(), 0);
    assert_eq!(shim.log(), "again\nmore\n");
}

#[test]
fn two_clients_see_the_same_and_one_may_vanish() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("cat");
    launch.open_stdin = true;
    let (mut first, theirs, attach) = client(Framing::Raw);
    launch.attach.push(attach);
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    let (mut second, theirs, attach) = client(Framing::Raw);
    shim.ask(Request::Attach(attach), &fds(&[&theirs]));
    drop(theirs);
    first.write_all(b"one\n").expect("written");
    read_until(&mut first, "one\n");
    read_until(&mut second, "one\n");
    drop(first);
    second.write_all(b"two\n").expect("written");
    read_until(&mut second, "two\n");
    shim.ask(Request::CloseStdin(CloseStdin::default()), &[]);
    assert_eq!(shim.exit_code(), 0);
    assert_eq!(second.read(&mut [0; 16]).expect("the end"), 0);
}

#[test]
fn a_terminal_has_a_size_that_changes() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch =
        with_terminal(shim.script("stty size; read line; stty size; tty=$(cat /proc/self/comm)"));
    let (mut ours, theirs, attach) = client(Framing::Raw);
    launch.attach.push(attach);
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    read_until(&mut ours, "24 80\r\n");
    let size = TerminalSize { rows: 50, cols: 132 };
    shim.ask(Request::ResizeTty(ResizeTty { exec_id: None, size }), &[]);
    ours.write_all(b"\n").expect("written");
    read_until(&mut ours, "50 132\r\n");
    assert_eq!(shim.exit_code(), 0);
    assert!(shim.log().contains("50 132\r\n"));
}

#[test]
fn a_terminal_interrupts() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch =
        with_terminal(shim.script("trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done"));
    let (mut ours, theirs, attach) = client(Framing::Raw);
    launch.attach.push(attach);
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    read_until(&mut ours, "ready");
    ours.write_all(&[3]).expect("written");
    assert_eq!(shim.exit_code(), 9);
}

#[test]
fn detach_keys_end_the_client_and_not_the_container() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = with_terminal(shim.launch_of(&["/bin/cat"]));
    let (mut ours, theirs, mut attach) = client(Framing::Raw);
    attach.detach_keys = DEFAULT_DETACH_KEYS.into();
    launch.attach.push(attach.clone());
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    ours.write_all(b"hello\n").expect("written");
    read_until(&mut ours, "hello\r\nhello\r\n");
    ours.write_all(&[16]).expect("written");
    std::thread::sleep(Duration::from_millis(20));
    ours.write_all(&[17]).expect("written");
    assert_eq!(ours.read(&mut [0; 16]).expect("the end"), 0);
    shim.wait_for("detached", |event| *event == Event::Detached { exec_id: None });
    let (mut ours, theirs, _) = client(Framing::Raw);
    shim.ask(Request::Attach(attach), &fds(&[&theirs]));
    drop(theirs);
    ours.write_all(b"back\n").expect("written");
    read_until(&mut ours, "back\r\nback\r\n");
    ours.write_all(&[4]).expect("written");
    assert_eq!(shim.exit_code(), 0);
}

#[test]
fn a_hundred_megabytes_go_through_cat_unchanged() {
    needs_root!();
    for logged in [false, true] {
        let mut shim = Shim::new();
        let mut launch = shim.launch_of(&["/bin/cat"]);
        (launch.open_stdin, launch.stdin_once) = (true, true);
        let total: usize = if logged { 10 << 20 } else { 100 << 20 };
        if !logged {
            launch.log = LogConfig::None;
        }
        let (mut ours, theirs, mut attach) = client(Framing::Multiplexed);
        attach.early = pattern(0, 1000);
        launch.attach.push(attach);
        shim.launch(launch, &fds(&[&theirs]));
        drop(theirs);
        let mut writer = ours.try_clone().expect("cloned");
        let writing = std::thread::spawn(move || {
            let mut at = 1000;
            while at < total {
                let count = (total - at).min(100_000);
                writer.write_all(&pattern(at, count)).expect("written");
                at += count;
            }
            writer.shutdown(Shutdown::Write).expect("half-closed");
        });
        let (out, err) = demultiplex(&mut ours);
        writing.join().expect("written");
        assert_eq!((out.len(), err.len()), (total, 0));
        assert!(out == pattern(0, total), "other bytes came back");
        assert_eq!(shim.exit_code(), 0);
    }
}

/// Bytes that tell their place: no two lines alike.
fn pattern(at: usize, count: usize) -> Vec<u8> {
    let digit = |at: usize| {
        let line = (at / 16).to_string();
        match at % 16 {
            15 => b'\n',
            place => *line.as_bytes().get(place).unwrap_or(&b'.'),
        }
    };
    (at..at + count).map(digit).collect()
}

#[test]
fn a_client_that_does_not_read_stops_the_output_but_no_stop() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("while :; do echo 0123456789012345678901234567890123456789; done");
    launch.log = LogConfig::None;
    let (ours, theirs, attach) = client(Framing::Raw);
    launch.attach.push(attach);
    let pid = shim.launch(launch, &fds(&[&theirs])).pid;
    drop(theirs);
    let cpu_ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
    };
    // It runs until everything is full, and then not at all.
    let mut last = 0;
    eventually("the output stops", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = cpu_ticks();
        std::mem::replace(&mut last, now) == now
    });
    shim.stop(0);
    shim.exit_code();
    drop(ours);
}

#[test]
fn a_client_without_input_may_half_close_and_one_that_hangs_up_still_has_its_say() {
    needs_root!();
    let mut shim = Shim::new();
    let mut launch = shim.script("cat; sleep 0.2; echo late");
    (launch.open_stdin, launch.stdin_once) = (true, true);
    let (mut ours, theirs, mut attach) = client(Framing::Raw);
    attach.streams = Streams { stdin: false, stdout: true, stderr: true };
    launch.attach.push(attach);
    shim.launch(launch, &fds(&[&theirs]));
    drop(theirs);
    ours.shutdown(Shutdown::Write).expect("half-closed");
    let (mut typing, theirs, mut attach) = client(Framing::Raw);
    attach.streams = Streams { stdin: true, stdout: false, stderr: false };
    typing.write_all(b"typed before\n").expect("written");
    drop(typing);
    shim.ask(Request::Attach(attach), &fds(&[&theirs]));
    drop(theirs);
    let mut all = String::new();
    ours.read_to_string(&mut all).expect("read");
    assert_eq!(all, "typed before\nlate\n");
    assert_eq!(shim.exit_code(), 0);
}

#[test]
fn a_client_that_cannot_be_waited_for_is_refused() {
    needs_root!();
    let mut shim = Shim::new();
    let launch = shim.script("sleep 100");
    shim.launch(launch, &[]);
    let file = tempfile::tempfile().expect("a file");
    let attach = Attach { streams: Streams { stdout: true, ..Streams::default() }, ..Attach::default() };
    shim.try_ask(Request::Attach(attach), &[std::os::fd::AsFd::as_fd(&file)]).expect_err("a file");
    shim.kill(9);
    assert_eq!(shim.exit_code(), 137);
}
