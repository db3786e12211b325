//! `exec`.

use serde_json::{Value, json};

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::session::{self, Attendance, End, Setup};
use crate::spec::env;
use crate::terminal;

/// `exec`.
pub(crate) static EXEC: Command = Command {
    usage: "CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    aliases: "gantry container exec, gantry exec",
    flags: &[
        both('d', "detach", Kind::Bool, "Run the command in the background"),
        long("detach-keys", Kind::Text, "Keys that detach from the command"),
        both('e', "env", Kind::Env, "Set environment variables"),
        long("env-file", Kind::List, "Read environment variables from a file"),
        both('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached"),
        long("privileged", Kind::Bool, "Give all rights to the command"),
        both('t', "tty", Kind::Bool, "Allocate a terminal"),
        both('u', "user", Kind::Text, "User (name|uid[:group|gid])"),
        both('w', "workdir", Kind::Text, "Working directory inside"),
    ],
    order: Order::FlagsFirst,
    args: Args::AtLeast(2),
    run: exec,
};

fn exec(context: &Context, flags: &Parsed) -> Outcome {
    let (detach, tty) = (flags.is("detach"), flags.is("tty"));
    let stdin = flags.is("interactive") && !detach;
    let api = context.api()?;
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Failure::plain("the input device is not a TTY"));
    }
    let detach_keys = context.detach_keys(flags);
    // Keys that are none the daemon refuses, in its own words.
    let keys = session::detach_keys(detach_keys);
    let variables = env::variables(&flags.list("env-file"), &flags.list("env"))?;
    let mut body = json!({
        "User": flags.text("user"),
        "Privileged": flags.is("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": !detach,
        "AttachStdout": !detach,
        "Detach": detach,
        "DetachKeys": detach_keys,
        "Env": if variables.is_empty() { Value::Null } else { json!(variables) },
        "WorkingDir": flags.text("workdir"),
        "Cmd": flags.args[1..],
    });
    let size = if tty { terminal::size() } else { None };
    if let Some((rows, columns)) = size {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    let create = Request::post(Resource::container(&flags.args[0])?.at("exec")).json(&body);
    let created = api.ask(create)?;
    let id = created["Id"].as_str().ok_or_else(|| Failure::plain("exec ID empty"))?;
    let mut start = json!({"Detach": detach, "Tty": tty});
    if let Some((rows, columns)) = size {
        start["ConsoleSize"] = json!([rows, columns]);
    }
    let request = Request::post(format!("/exec/{id}/start")).json(&start);
    if detach {
        api.ask(request)?;
        return Ok(());
    }
    let attendance = Attendance {
        api,
        resize: (tty && terminal::stdout_is_terminal()).then(|| format!("/exec/{id}/resize")),
        signals: None,
    };
    let watch = attendance.watch()?;
    let hijacked = api.hijack(request)?;
    let raw = (stdin && tty).then(terminal::Raw::enter);
    let detach_keys = if stdin && tty { keys.map_err(Failure::plain)? } else { Vec::new() };
    let end = attendance.until_end(watch, session::run(hijacked, Setup { stdin, raw: tty, detach_keys }));
    drop(raw);
    if end == End::Detached {
        return Err(Failure::plain("read escape sequence"));
    }
    match api.get(format!("/exec/{id}/json"))?["ExitCode"].as_i64().unwrap_or(0) {
        0 => Ok(()),
        code => Err(Failure::silent(i32::try_from(code).unwrap_or(1))),
    }
}
