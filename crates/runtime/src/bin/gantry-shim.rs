//! `gantry-shim`: the supervisor of one container. Started by a daemon (`gantry_runtime::shim::spawn`),
//! never by hand: its conversation is descriptor 3, its mode the first argument; a container's has its
//! listening socket as descriptor 4. Further arguments are `cgroup.procs` files of groups to join.

use std::io::Write as _;
use std::process::ExitCode;

use gantry_runtime::shim::supervisor;
use gantry_sys::{descriptors, memory, spawn};

const CONNECTION: i32 = 3;
const LISTENER: i32 = 4;
const SIGNALS: [i32; 4] = [1, 2, 13, 15];

fn main() -> ExitCode {
    memory::prefer_small_heap();
    #[cfg(feature = "failpoints")]
    gantry_model::failpoint::arm("FAILPOINTS");
    // It holds a socket for each published port. Where this fails, there are as many as there may be.
    let _ = descriptors::raise_limit();
    // A container is ended by its daemon's word or its own, not by a signal to its supervisor.
    memory::ignore_signals(&SIGNALS);
    let is_container = match std::env::args_os().nth(1) {
        Some(word) if word == "container" => true,
        Some(word) if word == "ephemeral" => false,
        _ => {
            let text = "gantry-shim is started by gantryd and has no use of its own";
            let _ = writeln!(std::io::stderr(), "{text}");
            return ExitCode::from(64);
        }
    };
    for group in std::env::args_os().skip(2) {
        // In the way of nothing: where it fails, the limits of the daemon's unit are the shim's too.
        let _ = std::fs::write(group, "0");
    }
    if is_container {
        // Standard error goes nowhere; a defect should leave a trace.
        std::panic::set_hook(Box::new(|panic| {
            let _ = std::fs::write("panic", format!("{panic}\n"));
        }));
    }
    let Ok(connection) = spawn::take_inherited(CONNECTION) else {
        return ExitCode::from(64);
    };
    let listener = match is_container.then(|| spawn::take_inherited(LISTENER)).transpose() {
        Ok(listener) => listener,
        Err(_) => return ExitCode::from(64),
    };
    match supervisor::run(connection, listener) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
