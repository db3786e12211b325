//! `attach`.

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, long};
use crate::resource::Resource;
use crate::session::{self, Attendance, End, Setup};
use crate::terminal;

/// `attach`.
pub(crate) static ATTACH: Command = Command {
    usage: "CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    aliases: "gantry container attach, gantry attach",
    flags: &[
        long("detach-keys", Kind::Text, "Keys that detach from the container"),
        long("no-stdin", Kind::Bool, "Do not attach STDIN"),
        long("sig-proxy", Kind::Bool, "Pass all received signals on to the process").or("true"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: attach,
};

fn attach(context: &Context, flags: &Parsed) -> Outcome {
    let api = context.api()?;
    let details = api.get(Resource::container(&flags.args[0])?.at("json"))?;
    let state = &details["State"];
    for (field, holds, text) in [
        ("Running", false, "You cannot attach to a stopped container, start it first"),
        ("Paused", true, "You cannot attach to a paused container, unpause it first"),
        ("Restarting", true, "You cannot attach to a restarting container, wait until it is running"),
    ] {
        if state[field].as_bool() == Some(holds) {
            return Err(Failure::plain(text));
        }
    }
    let id = details["Id"].as_str().unwrap_or_default().to_owned();
    let tty = details["Config"]["Tty"].as_bool().unwrap_or(false);
    let stdin = !flags.is("no-stdin") && details["Config"]["OpenStdin"].as_bool().unwrap_or(false);
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Failure::plain("the input device is not a TTY"));
    }
    let keys = session::detach_keys(context.detach_keys(flags)).map_err(Failure::plain)?;
    let attendance = Attendance {
        api,
        resize: (tty && terminal::stdout_is_terminal()).then(|| format!("/containers/{id}/resize")),
        signals: (flags.is("sig-proxy") && !tty).then(|| format!("/containers/{id}/kill")),
    };
    let watch = attendance.watch()?;
    let exit = api.open(Request::post(format!("/containers/{id}/wait")))?;
    let mut request = Request::post(format!("/containers/{id}/attach")).query("stream", "1");
    for (stream, wanted) in [("stdin", stdin), ("stdout", true), ("stderr", true)] {
        if wanted {
            request = request.query(stream, "1");
        }
    }
    let hijacked = api.hijack(request)?;
    if let (Some(path), Some((rows, columns))) = (&attendance.resize, terminal::size()) {
        // Another size first, so that a full-screen program paints itself again at the right one.
        let request = Request::post(path.as_str())
            .query("h", (rows + 1).to_string())
            .query("w", (columns + 1).to_string());
        let _ = api.ask(request);
    }
    let raw = (stdin && tty).then(terminal::Raw::enter);
    let detach_keys = if stdin && tty { keys } else { Vec::new() };
    let end = attendance.until_end(watch, session::run(hijacked, Setup { stdin, raw: tty, detach_keys }));
    drop(raw);
    if end == End::Detached {
        return Err(Failure::plain("read escape sequence"));
    }
    super::run::exit_of(&exit.json()?)
}
