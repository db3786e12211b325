//! `gantry-runtime`: the OCI runtime command line, as runc's, for Docker, containerd, Podman and CRI-O.
//!
//! One call does one thing and ends; what must be remembered is in `ROOT/ID/state.json`, and the process
//! that waits for its start waits at FIFOs beside it. See [`state`] for the layout.

mod create;
mod exec;
mod hooks;
mod inspect;
mod lifecycle;
mod options;
mod output;
mod state;
mod terminal;

use std::process::ExitCode;

use options::{Globals, Options};
use output::Failure;

const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE: &str = "\
usage: gantry-runtime [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]

  create [--bundle DIR] [--console-socket SOCKET] [--pid-file FILE] ID
  start ID
  run [--bundle DIR] [--console-socket SOCKET] [--pid-file FILE] [--detach] [--keep] ID
  exec [--process FILE] [--tty] [--cwd DIR] [--user UID[:GID]] [--env NAME=VALUE]... [--detach]
       [--console-socket SOCKET] [--pid-file FILE] ID [COMMAND...]
  state ID
  kill [--all] ID [SIGNAL]
  delete [--force] ID
  pause ID, resume ID
  update --resources FILE ID
  list [--format table|json] [--quiet]
  ps [--format table|json] ID
  spec [--bundle DIR]
  features

global options:
  --root DIR         where state is kept (default /run/gantry-runtime)
  --log FILE         where errors are also written
  --log-format text|json
  --debug            accepted
  --version, --help";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (globals, command, rest) = match options::globals(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::error(&Globals::default(), &error);
            return ExitCode::from(1);
        }
    };
    match dispatch(&globals, &command, &rest) {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(255)),
        Err(failure) => {
            output::error(&globals, &failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(globals: &Globals, command: &str, rest: &[String]) -> Result<i32, Failure> {
    let parse = |flags: &[&str], values: &[&str]| Options::parse(rest, flags, values).map_err(Failure::from);
    match command {
        "create" => create::create(globals, &parse(create::FLAGS, create::VALUES)?),
        "run" => create::run(globals, &parse(create::FLAGS, create::VALUES)?),
        "start" => lifecycle::start(globals, &parse(&[], &[])?),
        "exec" => exec::exec(globals, &parse(exec::FLAGS, exec::VALUES)?),
        "state" => inspect::state(globals, &parse(&[], &[])?),
        "kill" => lifecycle::kill(globals, &parse(&["all", "a"], &[])?),
        "delete" => lifecycle::delete(globals, &parse(&["force", "f"], &[])?),
        "pause" => lifecycle::pause(globals, &parse(&[], &[])?),
        "resume" => lifecycle::resume(globals, &parse(&[], &[])?),
        "update" => lifecycle::update(globals, &parse(&[], &["resources", "r"])?),
        "list" => inspect::list(globals, &parse(&["quiet", "q"], &["format", "f"])?),
        "ps" => inspect::ps(globals, &parse(&[], &["format", "f"])?),
        "spec" => inspect::spec(&parse(&["rootless"], &["bundle", "b"])?),
        "features" => inspect::features(),
        "version" => {
            output::line(&format!("gantry-runtime version {VERSION}\nspec: {}", inspect::SPEC_VERSION))
        }
        "help" => output::line(USAGE),
        other => Err(format!("no such command: {other}\n{USAGE}").into()),
    }
}
