//! `run` and `create`.

use std::fs::File;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::api::{Api, Request};
use crate::commands::{Args, Command, join};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both, long};
use crate::session::{self, Attendance, End, Setup};
use crate::show::progress;
use crate::spec::env::describe;
use crate::spec::{container, options};
use crate::terminal;
use gantry_client::api::model::{Platform, Reference};

static CREATE_FLAGS: [Flag; 100] = options::CREATE;
static RUN_FLAGS: [Flag; 103] = join(
    options::CREATE,
    [
        both('d', "detach", Kind::Bool, "Run in the background and print the container's ID"),
        long("detach-keys", Kind::Text, "Keys that detach from the container"),
        long("sig-proxy", Kind::Bool, "Pass signals on to the process").or("true"),
    ],
);

/// `run`.
pub(crate) static RUN: Command = Command {
    usage: "IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    aliases: "gantry container run, gantry run",
    flags: &RUN_FLAGS,
    order: Order::FlagsFirst,
    args: Args::AtLeast(1),
    run,
};

/// `create`.
pub(crate) static CREATE: Command = Command {
    usage: "IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    aliases: "gantry container create, gantry create",
    flags: &CREATE_FLAGS,
    order: Order::FlagsFirst,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let body = container::body(flags, false).map_err(|failure| explain("create", failure.text))?;
        let id = create(context, flags, body)?;
        println!("{id}");
        Ok(())
    },
};

/// A failure before there is a container, in Docker's form.
fn explain(verb: &str, text: String) -> Failure {
    Failure::new(125, format!("gantry: {text}\n\nRun 'gantry {verb} --help' for more information"))
}

/// A container that could not be started: 126 and 127 say why, as a shell's would.
fn not_started(text: &str) -> Failure {
    let text = text.strip_suffix(": unknown").unwrap_or(text);
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let code = if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    Failure { code, ..explain("run", text.to_owned()) }
}

fn run(context: &Context, flags: &Parsed) -> Outcome {
    let detach = flags.is("detach");
    if detach && flags.given("attach") {
        return Err(Failure::plain("conflicting options: cannot specify both --attach and --detach"));
    }
    let (stdin, stdout, stderr) = container::attached(flags, detach);
    let tty = flags.is("tty");
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Failure::plain("the input device is not a TTY"));
    }
    let mut body = container::body(flags, detach).map_err(|failure| explain("run", failure.text))?;
    if tty && let Some((rows, columns)) = terminal::size() {
        body["HostConfig"]["ConsoleSize"] = json!([rows, columns]);
    }
    let detach_keys = context.detach_keys(flags);
    let keys = session::detach_keys(detach_keys);
    let api = context.api()?;
    let id = create(context, flags, body).map_err(|failure| not_started(&failure.text))?;
    let start = Request::post(format!("/containers/{id}/start"));
    if !(stdin || stdout || stderr) {
        // Also of one that then does not start: it is there.
        println!("{id}");
        return api.ask(start).map(drop).map_err(|error| not_started(&error.to_string()));
    }
    let keys = if stdin && tty { keys.map_err(|text| explain("run", text))? } else { Vec::new() };
    let attendance = Attendance {
        api,
        resize: (tty && terminal::stdout_is_terminal()).then(|| format!("/containers/{id}/resize")),
        signals: flags.is("sig-proxy").then(|| format!("/containers/{id}/kill")),
    };
    let watch = attendance.watch()?;
    let condition = if flags.is("rm") { "removed" } else { "next-exit" };
    let mut attach = Request::post(format!("/containers/{id}/attach")).query("stream", "1");
    for (stream, wanted) in [("stdin", stdin), ("stdout", stdout), ("stderr", stderr)] {
        if wanted {
            attach = attach.query(stream, "1");
        }
    }
    if !detach_keys.is_empty() {
        attach = attach.query("detachKeys", detach_keys);
    }
    let hijacked = api.hijack(attach)?;
    let exit = api
        .open(Request::post(format!("/containers/{id}/wait")).query("condition", condition))
        .map_err(|failure| explain("run", failure.text))?;
    if let Err(error) = api.ask(start) {
        if flags.is("rm") {
            // The daemon removes what never ran; its name is free again once this returns.
            let _ = exit.json();
        }
        return Err(not_started(&error.to_string()));
    }
    let raw = (stdin && tty).then(terminal::Raw::enter);
    let session = session::run(hijacked, Setup { stdin, raw: tty, detach_keys: keys });
    let end = attendance.until_end(watch, session);
    drop(raw);
    if end == End::Detached { Ok(()) } else { exit_of(&exit.json()?) }
}

/// Ends as the container did.
pub(crate) fn exit_of(waited: &Value) -> Outcome {
    if let Some(text) = waited["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
        return Err(Failure::new(125, format!("Error waiting for container: {text}")));
    }
    match waited["StatusCode"].as_i64().unwrap_or(125) {
        0 => Ok(()),
        code => Err(Failure::silent(i32::try_from(code).unwrap_or(125))),
    }
}

/// Creates the container, fetching the image where it is missing and may be; returns the id.
fn create(context: &Context, flags: &Parsed, mut body: Value) -> Outcome<String> {
    let api = context.api()?;
    let cid_file = CidFile::reserve(flags.text("cidfile"))?;
    let image = flags.args[0].as_str();
    if !is_id(image) {
        Reference::parse_normalized(image).map_err(|why| Failure::plain(why.to_string()))?;
    }
    let platform = flags.given_text("platform").filter(|text| !text.is_empty());
    let platform = platform.map(|text| {
        let platform = text.parse::<Platform>().map(|platform| platform.to_string());
        platform.map_err(|why| Failure::plain(format!("error parsing specified platform: {why}")))
    });
    let platform = platform.transpose()?;
    if flags.is("use-api-socket") {
        mount_api_socket(context, &mut body)?;
    }
    let pull = flags.text("pull");
    if !matches!(pull, "always" | "missing" | "never" | "") {
        let text =
            format!("invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\"");
        return Err(Failure::new(125, text));
    }
    if pull == "always" {
        fetch(api, image, flags)?;
    }
    let request = || {
        let mut request = Request::post("/containers/create").json(&body);
        for (key, value) in [("name", flags.given_text("name")), ("platform", platform.as_deref())] {
            if let Some(value) = value {
                request = request.query(key, value);
            }
        }
        request
    };
    let answer = match api.ask(request()) {
        Err(error)
            if error.status() == 404
                && pull == "missing"
                && !is_id(image)
                && error.to_string().contains("No such image") =>
        {
            if !flags.is("quiet") {
                eprintln!("Unable to find image '{}' locally", familiar(image));
            }
            fetch(api, image, flags)?;
            api.ask(request())?
        }
        other => other?,
    };
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        eprintln!("WARNING: {}", warning.as_str().unwrap_or(""));
    }
    let id = answer["Id"].as_str().unwrap_or("").to_owned();
    cid_file.write(&id)?;
    Ok(id)
}

/// Whether an image is named by its whole id, which no registry can be asked for.
fn is_id(image: &str) -> bool {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Gives the container the daemon's socket where Docker's clients look for it.
fn mount_api_socket(context: &Context, body: &mut Value) -> Outcome {
    let path = context.host.strip_prefix("unix://").ok_or_else(|| {
        Failure::plain(format!(
            "--use-api-socket needs a daemon at a unix socket, and {} is none",
            context.host
        ))
    })?;
    let mount = json!({"Type": "bind", "Source": path, "Target": "/var/run/docker.sock"});
    match &mut body["HostConfig"]["Mounts"] {
        Value::Array(mounts) => mounts.push(mount),
        none => *none = json!([mount]),
    }
    Ok(())
}

/// A reference with its default tag: `busybox:latest`.
fn familiar(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn fetch(api: &Api, image: &str, flags: &Parsed) -> Outcome {
    let full = familiar(image);
    let (name, tag) = match full.split_once('@') {
        Some((name, digest)) => (name, digest),
        None => full.rsplit_once(':').unwrap_or((&full, "latest")),
    };
    let name = Reference::parse_normalized(name)
        .map_or(name.to_owned(), |full| format!("{}/{}", full.domain(), full.path()));
    let mut request = Request::post("/images/create").query("fromImage", name).query("tag", tag);
    if let Some(platform) = flags.given_text("platform") {
        request = request.query("platform", platform);
    }
    let quiet = flags.is("quiet");
    let mut err = std::io::stderr();
    api.open(request)?.each_document(|message| {
        if quiet {
            progress::show(&message, &mut std::io::sink())
        } else {
            progress::show(&message, &mut err)
        }
    })
}

/// `--cidfile`: made before the container, so that a second one with it is refused early.
struct CidFile(Option<(String, File)>);

impl CidFile {
    fn reserve(path: &str) -> Outcome<Self> {
        if path.is_empty() {
            return Ok(Self(None));
        }
        match File::create_new(path) {
            Ok(file) => Ok(Self(Some((path.to_owned(), file)))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::plain(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(error) => Err(Failure::plain(format!(
                "failed to create the container ID file: open {path}: {}",
                describe(&error)
            ))),
        }
    }

    fn write(mut self, id: &str) -> Outcome {
        if let Some((path, file)) = &mut self.0 {
            file.write_all(id.as_bytes()).map_err(|error| {
                Failure::plain(format!("failed to write to {path}: {}", describe(&error)))
            })?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        // Only where no container came of it.
        if let Some((path, _)) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_failed_starts() {
        for (text, code) in [
            ("… exec: \"x\": executable file not found in $PATH: unknown", 127),
            ("… exec: \"/x\": stat /x: no such file or directory", 127),
            ("… exec: \"/etc\": is a directory: permission denied", 126),
            ("driver failed programming external connectivity", 125),
        ] {
            assert_eq!(not_started(text).code, code, "{text}");
        }
        assert_eq!(familiar("r:5000/a"), "r:5000/a:latest");
        assert_eq!(familiar("a:1"), "a:1");
    }

    #[test]
    fn the_containers_end_is_ours() {
        assert!(exit_of(&json!({"StatusCode": 0})).is_ok());
        assert_eq!(exit_of(&json!({"StatusCode": 137, "Error": null})).unwrap_err().code, 137);
        assert_eq!(exit_of(&json!({"StatusCode": 0, "Error": {"Message": "x"}})).unwrap_err().code, 125);
    }
}
