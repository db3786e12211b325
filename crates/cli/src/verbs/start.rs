//! `start`: in the background for many, or attached to one.

use super::lifecycle::fail_with;
use crate::api::{Error, Request};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::session::{self, Attendance, End, Setup};
use crate::terminal;

/// `start`.
pub(crate) static START: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    aliases: "gantry container start, gantry start",
    flags: &[
        both('a', "attach", Kind::Bool, "Attach STDOUT/STDERR and forward signals"),
        long("detach-keys", Kind::Text, "Keys that detach from the container"),
        both('i', "interactive", Kind::Bool, "Attach the container's STDIN"),
    ],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let api = context.api()?;
        if flags.is("attach") || flags.is("interactive") {
            return attached(context, flags);
        }
        let (mut errors, mut failed) = (Vec::new(), Vec::new());
        for name in &flags.args {
            match Resource::container(name)
                .map_err(Error::from)
                .and_then(|path| api.ask(Request::post(path.at("start"))))
            {
                Ok(_) => println!("{name}"),
                Err(error) => {
                    errors.push(error.to_string());
                    failed.push(name.as_str());
                }
            }
        }
        if !failed.is_empty() {
            errors.push(format!("Error: failed to start containers: {}", failed.join(", ")));
        }
        fail_with(errors)
    },
};

fn attached(context: &Context, flags: &Parsed) -> Outcome {
    let api = context.api()?;
    let [name] = flags.args.as_slice() else {
        return Err(Failure::plain("you cannot start and attach multiple containers at once"));
    };
    let details = api.get(Resource::container(name)?.at("json"))?;
    let id = details["Id"].as_str().unwrap_or_default().to_owned();
    let tty = details["Config"]["Tty"].as_bool().unwrap_or(false);
    let stdin = flags.is("interactive") && details["Config"]["OpenStdin"].as_bool().unwrap_or(false);
    let keys = session::detach_keys(context.detach_keys(flags)).map_err(Failure::plain)?;
    let attendance = Attendance {
        api,
        resize: (tty && terminal::stdout_is_terminal()).then(|| format!("/containers/{id}/resize")),
        signals: (!tty).then(|| format!("/containers/{id}/kill")),
    };
    let watch = attendance.watch()?;
    let mut attach = Request::post(format!("/containers/{id}/attach")).query("stream", "1");
    for (stream, wanted) in [("stdin", stdin), ("stdout", true), ("stderr", true)] {
        if wanted {
            attach = attach.query(stream, "1");
        }
    }
    let hijacked = api.hijack(attach)?;
    let condition =
        if details["HostConfig"]["AutoRemove"].as_bool() == Some(true) { "removed" } else { "next-exit" };
    let exit = api.open(Request::post(format!("/containers/{id}/wait")).query("condition", condition))?;
    api.ask(Request::post(format!("/containers/{id}/start")))?;
    let raw = (stdin && tty).then(terminal::Raw::enter);
    let detach_keys = if stdin && tty { keys } else { Vec::new() };
    let end = attendance.until_end(watch, session::run(hijacked, Setup { stdin, raw: tty, detach_keys }));
    drop(raw);
    if end == End::Detached { Ok(()) } else { super::run::exit_of(&exit.json()?) }
}
