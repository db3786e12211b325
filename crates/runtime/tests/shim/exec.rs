//! Further processes.

use std::io::Write;
use std::net::Shutdown;

use gantry_runtime::shim::protocol::{
    Event, Exec, Framing, KillExec, RefusalKind, Reply, Request, ResizeTty, TerminalSize,
};

use crate::harness::{Shim, client, demultiplex, exec_of, fds, read_until};
use crate::needs_root;

fn sleeping() -> Shim {
    let mut shim = Shim::new();
    let launch = shim.script("sleep 1000");
    shim.launch(launch, &[]);
    shim
}

fn ended(shim: &mut Shim, exec_id: &str) -> i32 {
    let record = shim.wait_for(
        "an exec's end",
        |event| matches!(event, Event::ExecExited { exec_id: id, .. } if id == exec_id),
    );
    match record.event {
        Event::ExecExited { code, .. } => code,
        _ => unreachable!("waited for it"),
    }
}

#[test]
fn an_exec_has_output_input_and_a_code() {
    needs_root!();
    let mut shim = sleeping();
    let (mut ours, theirs, attach) = client(Framing::Multiplexed);
    let exec = exec_of("a", &["/bin/sh", "-c", "echo out; echo err >&2; cat; exit 4"], Some(attach));
    let reply = shim.ask(Request::Exec(Box::new(exec)), &fds(&[&theirs]));
    drop(theirs);
    assert!(matches!(reply, Reply::ExecStarted(_)));
    ours.write_all(b"typed\n").expect("written");
    ours.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(ended(&mut shim, "a"), 4);
    assert_eq!(demultiplex(&mut ours), (b"out\ntyped\n".to_vec(), b"err\n".to_vec()));
    assert!(shim.state().execs.is_empty());
    assert_eq!(shim.log(), "", "an exec's output is not the container's");
}

#[test]
fn an_exec_may_have_a_terminal() {
    needs_root!();
    let mut shim = sleeping();
    let (mut ours, theirs, attach) = client(Framing::Raw);
    let mut exec: Exec = exec_of("t", &["/bin/sh", "-c", "stty size; read x; stty size"], Some(attach));
    exec.process.set_terminal(Some(true));
    exec.terminal_size = TerminalSize { rows: 10, cols: 20 };
    shim.ask(Request::Exec(Box::new(exec)), &fds(&[&theirs]));
    drop(theirs);
    read_until(&mut ours, "10 20\r\n");
    let size = TerminalSize { rows: 11, cols: 21 };
    shim.ask(Request::ResizeTty(ResizeTty { exec_id: Some("t".into()), size }), &[]);
    ours.write_all(b"\n").expect("written");
    read_until(&mut ours, "11 21\r\n");
    assert_eq!(ended(&mut shim, "t"), 0);
}

#[test]
fn what_cannot_be_executed_is_refused() {
    needs_root!();
    let mut shim = sleeping();
    let exec = exec_of("x", &["nosuch"], None);
    let refusal = shim.try_ask(Request::Exec(Box::new(exec)), &[]).expect_err("refused");
    assert_eq!((refusal.kind, refusal.exit_code), (RefusalKind::Launch, Some(127)), "{refusal:?}");
    assert!(shim.state().execs.is_empty());
    shim.kill(9);
    shim.exit_code();
    let exec = exec_of("y", &["/bin/true"], None);
    let refusal = shim.try_ask(Request::Exec(Box::new(exec)), &[]).expect_err("not running");
    assert_eq!(refusal.kind, RefusalKind::Conflict);
}

#[test]
fn execs_end_with_the_container_and_before_it() {
    needs_root!();
    let mut shim = sleeping();
    for exec_id in ["one", "two"] {
        let exec = exec_of(exec_id, &["/bin/sleep", "1000"], None);
        shim.ask(Request::Exec(Box::new(exec)), &[]);
    }
    assert_eq!(shim.state().execs.len(), 2);
    shim.ask(Request::KillExec(KillExec { exec_id: "one".into(), signal: 9 }), &[]);
    assert_eq!(ended(&mut shim, "one"), 137);
    shim.kill(9);
    assert_eq!(shim.exit_code(), 137);
    let kinds = shim.kinds();
    let place = |wanted: &dyn Fn(&Event) -> bool| kinds.iter().position(wanted).expect("happened");
    let two = place(&|event| matches!(event, Event::ExecExited { exec_id, code: 137 } if exec_id == "two"));
    assert!(two < place(&|event| matches!(event, Event::Exited { .. })), "{kinds:?}");
}
