//! The verbs that are one request for each container: `stop`, `restart`, `kill`, `rm`, `pause`,
//! `unpause`, `rename`, `update`, `wait`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::api::{Error, Request};
use crate::commands::{Args, Command, join};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both, check, long};
use crate::resource::Resource;
use crate::spec::container::restart_policy;
use crate::spec::options::LIMITS;

/// So many containers are worked on at a time.
const AT_A_TIME: usize = 50;

/// A verb that has this usage and these flags.
const fn verb(
    about: &'static str,
    aliases: &'static str,
    flags: &'static [Flag],
    run: fn(&Context, &Parsed) -> Outcome,
) -> Command {
    Command {
        usage: "CONTAINER [CONTAINER...]",
        about,
        aliases,
        flags,
        order: Order::Mixed,
        args: Args::AtLeast(1),
        run,
    }
}

static STOP_FLAGS: [Flag; 3] = [
    both('s', "signal", Kind::Text, "Signal to send to the container"),
    both('t', "timeout", Kind::Int, "Seconds to wait before killing the container"),
    long("time", Kind::Int, ""),
];

/// `stop`.
pub(crate) static STOP: Command = verb(
    "Stop one or more running containers",
    "gantry container stop, gantry stop",
    &STOP_FLAGS,
    |context, flags| stop_each(context, flags, "stop"),
);

/// `restart`.
pub(crate) static RESTART: Command = verb(
    "Restart one or more containers",
    "gantry container restart, gantry restart",
    &STOP_FLAGS,
    |context, flags| stop_each(context, flags, "restart"),
);

/// `kill`.
pub(crate) static KILL: Command = verb(
    "Kill one or more running containers",
    "gantry container kill, gantry kill",
    &[both('s', "signal", Kind::Text, "Signal to send to the container")],
    |context, flags| {
        each(context, flags, |path| match flags.text("signal") {
            "" => Request::post(path.at("kill")),
            signal => Request::post(path.at("kill")).query("signal", signal),
        })
    },
);

/// `rm`.
pub(crate) static RM: Command = verb(
    "Remove one or more containers",
    "gantry container rm, gantry container remove, gantry rm",
    &[
        both('f', "force", Kind::Bool, "Force the removal of a running container (uses SIGKILL)"),
        both('l', "link", Kind::Bool, "Remove the link"),
        both('v', "volumes", Kind::Bool, "Remove the container's anonymous volumes"),
    ],
    remove,
);

/// `pause`.
pub(crate) static PAUSE: Command = verb(
    "Pause all processes within one or more containers",
    "gantry container pause, gantry pause",
    &[],
    |context, flags| each(context, flags, |path| Request::post(path.at("pause"))),
);

/// `unpause`.
pub(crate) static UNPAUSE: Command = verb(
    "Unpause all processes within one or more containers",
    "gantry container unpause, gantry unpause",
    &[],
    |context, flags| each(context, flags, |path| Request::post(path.at("unpause"))),
);

/// `wait`.
pub(crate) static WAIT: Command = verb(
    "Block until one or more containers stop, then print their exit codes",
    "gantry container wait, gantry wait",
    &[],
    |context, flags| {
        let api = context.api()?;
        let mut errors = Vec::new();
        for name in &flags.args {
            match of_container(name).and_then(|path| api.ask(Request::post(path.at("wait")))) {
                Ok(answer) => println!("{}", answer["StatusCode"]),
                Err(error) => errors.push(error.to_string()),
            }
        }
        fail_with(errors)
    },
);

/// `rename`.
pub(crate) static RENAME: Command = Command {
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    aliases: "gantry container rename, gantry rename",
    flags: &[],
    order: Order::Mixed,
    args: Args::Exactly(2),
    run: |context, flags| {
        let (old, new) = (flags.args[0].trim(), flags.args[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::plain("Error: Neither old nor new names may be empty"));
        }
        let request = Request::post(Resource::container(old)?.at("rename")).query("name", new);
        context.api()?.ask(request).map_err(|error| {
            Failure::plain(format!("{error}\nError: failed to rename container named {old}"))
        })?;
        Ok(())
    },
};

static UPDATE_FLAGS: [Flag; 15] = join(
    LIMITS,
    [
        long("kernel-memory", Kind::Bytes, ""),
        long("restart", Kind::Text, "Restart policy to apply when a container exits"),
    ],
);

/// `update`.
pub(crate) static UPDATE: Command = verb(
    "Update configuration of one or more containers",
    "gantry container update, gantry update",
    &UPDATE_FLAGS,
    update,
);

/// Refuses what contradicts itself, and says what is no longer said so, before anything is stopped.
fn stop_each(context: &Context, flags: &Parsed, what: &str) -> Outcome {
    if flags.given("time") {
        println!("Flag --time has been deprecated, use --timeout instead");
        if flags.given("timeout") {
            return Err(Failure::plain("conflicting options: cannot specify both --timeout and --time"));
        }
    }
    each(context, flags, |path| stopping(path, what, flags))
}

fn stopping(path: &Resource, what: &str, flags: &Parsed) -> Request {
    let mut request = Request::post(path.at(what));
    if let Some(signal) = flags.given_text("signal") {
        request = request.query("signal", signal);
    }
    for name in ["timeout", "time"] {
        if flags.given(name) {
            request = request.query("t", flags.int(name).to_string());
        }
    }
    request
}

fn remove(context: &Context, flags: &Parsed) -> Outcome {
    let request = |path: &Resource| {
        let mut request = Request::delete(path.clone());
        for (flag, key) in [("volumes", "v"), ("link", "link"), ("force", "force")] {
            if flags.is(flag) {
                request = request.query(key, "1");
            }
        }
        request
    };
    if flags.args.iter().any(|name| name.trim_matches('/').is_empty()) {
        return Err(Failure::plain("container name cannot be empty"));
    }
    let ignore_missing = flags.is("force");
    each_unless(context, flags, request, |error| ignore_missing && error.status() == 404)
}

fn update(context: &Context, flags: &Parsed) -> Outcome {
    let mut body = Map::new();
    for (flag, field) in [
        ("blkio-weight", "BlkioWeight"),
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
        ("pids-limit", "PidsLimit"),
    ] {
        if flags.given(flag) {
            body.insert(field.into(), json!(flags.int(flag)));
        }
    }
    for (flag, field) in [
        ("kernel-memory", "KernelMemory"),
        ("memory", "Memory"),
        ("memory-reservation", "MemoryReservation"),
        ("memory-swap", "MemorySwap"),
    ] {
        if flags.given(flag) {
            body.insert(field.into(), json!(flags.bytes(flag)));
        }
    }
    for (flag, field) in [("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")] {
        if let Some(text) = flags.given_text(flag) {
            body.insert(field.into(), json!(text));
        }
    }
    if let Some(cpus) = flags.given_text("cpus") {
        body.insert("NanoCpus".into(), json!(check::nano_cpus(cpus).unwrap_or(0)));
    }
    if let Some(policy) = flags.given_text("restart") {
        body.insert("RestartPolicy".into(), restart_policy(policy)?);
    }
    if body.is_empty() {
        return Err(Failure::plain("you must provide one or more flags when using this command"));
    }
    let (api, body) = (context.api()?, Value::Object(body));
    let (mut warnings, mut errors) = (String::new(), Vec::new());
    for name in &flags.args {
        let update = |path: Resource| api.ask(Request::post(path.at("update")).json(&body));
        match of_container(name).and_then(update) {
            Ok(answer) => {
                println!("{name}");
                for warning in answer["Warnings"].as_array().into_iter().flatten() {
                    let _ = writeln!(warnings, "{}", warning.as_str().unwrap_or(""));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    // Where the stock client says them.
    print!("{warnings}");
    fail_with(errors)
}

/// A container's path, as one of many that are asked for: one that has none is an error among theirs.
fn of_container(name: &str) -> Result<Resource, Error> {
    Ok(Resource::container(name)?)
}

/// Joins what went wrong into one failure; nothing went wrong where the list is empty.
pub(crate) fn fail_with(errors: Vec<String>) -> Outcome {
    if errors.is_empty() { Ok(()) } else { Err(Failure::plain(errors.join("\n"))) }
}

/// One request for each argument, many at a time; prints each name that succeeded, in order.
pub(crate) fn each(context: &Context, flags: &Parsed, request: impl Fn(&Resource) -> Request) -> Outcome {
    each_unless(context, flags, request, |_| false)
}

fn each_unless(
    context: &Context,
    flags: &Parsed,
    request: impl Fn(&Resource) -> Request,
    ignore: impl Fn(&Error) -> bool,
) -> Outcome {
    let api = context.api()?;
    let mut errors = Vec::new();
    for names in flags.args.chunks(AT_A_TIME) {
        let answers: Vec<_> = if let [name] = names {
            vec![Some(of_container(name).and_then(|path| api.ask(request(&path))))]
        } else {
            std::thread::scope(|scope| {
                let requests = names.iter().map(|name| of_container(name).map(|path| request(&path)));
                let running: Vec<_> =
                    requests.map(|request| scope.spawn(move || api.ask(request?))).collect();
                running.into_iter().map(|task| task.join().ok()).collect()
            })
        };
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Some(Ok(_)) => println!("{name}"),
                Some(Err(error)) if ignore(&error) => eprintln!("{error}"),
                Some(Err(error)) => errors.push(error.to_string()),
                None => errors.push(format!("the request for {name} was not made")),
            }
        }
    }
    fail_with(errors)
}
