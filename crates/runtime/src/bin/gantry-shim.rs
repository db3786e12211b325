//! `gantry-shim`: the supervisor of one container. Started by a daemon (`gantry_runtime::shim::spawn`),
//! never by hand: its conversation is descriptor 3, its mode the first argument.

use std::process::ExitCode;

use gantry_runtime::shim::supervisor::{self, Mode};
use gantry_sys::{memory, spawn};

const CONNECTION: i32 = 3;
const SIGNALS: [i32; 4] = [1, 2, 13, 15];

fn main() -> ExitCode {
    memory::prefer_small_heap();
    // A container is ended by its daemon's word or its own, not by a signal to its supervisor.
    memory::ignore_signals(&SIGNALS);
    let mode = match std::env::args_os().nth(1) {
        Some(word) if word == "container" => Mode::Container,
        Some(word) if word == "ephemeral" => Mode::Ephemeral,
        _ => {
            eprintln!("gantry-shim is started by gantryd and has no use of its own");
            return ExitCode::from(64);
        }
    };
    if mode == Mode::Container {
        // Standard error goes nowhere; a defect should leave a trace.
        std::panic::set_hook(Box::new(|panic| {
            let _ = std::fs::write("panic", format!("{panic}\n"));
        }));
    }
    let Ok(connection) = spawn::take_inherited(CONNECTION) else {
        return ExitCode::from(64);
    };
    match supervisor::run(connection, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
