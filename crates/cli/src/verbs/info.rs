//! `version` and `info`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both};
use crate::show::template::{Format, Over};
use crate::show::units::{self, binary_size};

/// The commit that this was built from, if the build said it.
pub(crate) const BUILD: &str = match option_env!("GANTRY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The API version that is spoken, with a daemon that knows it.
const API_VERSION: &str = crate::api::VERSION;

const FORMAT: Flag = both('f', "format", Kind::Text, "Format output: json or TEMPLATE");

/// `version`.
pub(crate) static VERSION: Command = Command {
    usage: "",
    about: "Show the version information",
    aliases: "",
    flags: &[FORMAT],
    order: Order::Mixed,
    args: Args::None,
    run: version,
};

/// `info`.
pub(crate) static INFO: Command = Command {
    usage: "",
    about: "Display system-wide information",
    aliases: "gantry system info, gantry info",
    flags: &[FORMAT],
    order: Order::Mixed,
    args: Args::None,
    run: info,
};

fn version(context: &Context, flags: &Parsed) -> Outcome {
    let mut client = client();
    client["ApiVersion"] = json!(API_VERSION);
    let (server, failure) = match context.api().and_then(|api| api.get("/version")) {
        Ok(server) => (without_empty_details(server), None),
        Err(failure) => (Value::Null, Some(failure)),
    };
    let all = json!({"Client": client, "Server": server});
    match flags.text("format") {
        "" => print!("{}", version_text(&all)),
        "json" => println!("{all}"),
        template => answer_with(template, Over::Answer("version", "system.versionInfo"), &all)?,
    }
    failure.map_or(Ok(()), Err)
}

/// What we say of ourselves.
fn client() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        // In its place among the others; only `version` fills it in.
        "ApiVersion": null,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": BUILD,
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": "amd64",
        "BuildTime": "",
        "Context": "default",
    })
}

/// A component that says nothing more about itself has no details, rather than none in them.
fn without_empty_details(mut server: Value) -> Value {
    for component in
        server["Components"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
    {
        if component.get("Details").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            component.remove("Details");
        }
    }
    server
}

/// Prints what a template makes of an answer; the line ends also where it fails, as in Docker.
fn answer_with(template: &str, over: Over, answer: &Value) -> Outcome {
    let shown = Format::new(template, over)?.apply(answer);
    println!("{}", shown.as_deref().unwrap_or(""));
    shown.map(drop)
}

fn version_text(all: &Value) -> String {
    let mut out = String::from("Client:\n");
    let mut line = |indent: usize, name: &str, value: &str| {
        let _ = writeln!(out, "{:indent$}{name:<19}{value}", "");
    };
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let client = &all["Client"];
    line(1, "Version:", &text(&client["Version"]));
    line(1, "API version:", &text(&client["ApiVersion"]));
    line(1, "Git commit:", &text(&client["GitCommit"]));
    line(1, "OS/Arch:", &format!("{}/{}", text(&client["Os"]), text(&client["Arch"])));
    line(1, "Context:", &text(&client["Context"]));
    let server = &all["Server"];
    if server.is_null() {
        return out;
    }
    let platform = text(&server["Platform"]["Name"]);
    let _ = writeln!(out, "\nServer:{}{platform}", if platform.is_empty() { "" } else { " " });
    for component in server["Components"].as_array().into_iter().flatten() {
        let details = &component["Details"];
        let _ = writeln!(out, " {}:", text(&component["Name"]));
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(out, "  {name:<18}{value}");
        };
        line("Version:", &text(&component["Version"]));
        if text(&component["Name"]) == "Engine" {
            line(
                "API version:",
                &format!(
                    "{} (minimum version {})",
                    text(&details["ApiVersion"]),
                    text(&details["MinAPIVersion"])
                ),
            );
            line("Go version:", &text(&details["GoVersion"]));
            line("Git commit:", &text(&details["GitCommit"]));
            line("Built:", &build_time(&text(&details["BuildTime"])));
            line("OS/Arch:", &format!("{}/{}", text(&details["Os"]), text(&details["Arch"])));
            line("Experimental:", &text(&details["Experimental"]));
        } else {
            for (name, value) in details.as_object().into_iter().flatten() {
                line(&format!("{name}:"), &text(value));
            }
        }
    }
    out
}

/// A build's time as C's `asctime` has it; as it is where it is no time.
fn build_time(text: &str) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Some(seconds) = units::parse_time(text) else { return text.to_owned() };
    let [year, month, day, hour, minute, second] = units::civil(seconds);
    let place = |number: i64| usize::try_from(number).unwrap_or(0);
    let weekday = DAYS[place(seconds.div_euclid(86_400).rem_euclid(7))];
    format!(
        "{weekday} {} {day:>2} {hour:02}:{minute:02}:{second:02} {year}",
        MONTHS[place(month - 1).min(11)]
    )
}

fn info(context: &Context, flags: &Parsed) -> Outcome {
    let mut ourselves = serde_json::Map::from_iter([("Debug".to_owned(), json!(context.debug))]);
    if let Value::Object(client) = client() {
        ourselves.extend(client.into_iter().filter(|(_, value)| !value.is_null()));
    }
    ourselves.insert("Plugins".into(), json!([]));
    ourselves.insert("Warnings".into(), Value::Null);
    let answer = context.api().and_then(|api| api.get("/info"));
    match flags.text("format") {
        "" => {
            print!(
                "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
                env!("CARGO_PKG_VERSION"),
                context.debug
            );
            let info = answer?;
            print!("{}", info_text(&info));
            for warning in info["Warnings"].as_array().into_iter().flatten() {
                eprintln!("{}", warning.as_str().unwrap_or(""));
            }
            Ok(())
        }
        format => {
            let mut info = answer.unwrap_or_else(|failure| json!({"ServerErrors": [failure.text]}));
            info["ClientInfo"] = Value::Object(ourselves);
            if format == "json" {
                println!("{info}");
            } else {
                answer_with(format, Over::Answer("", "system.dockerInfo"), &info)?;
            }
            match info["ServerErrors"][0].as_str() {
                Some(text) => Err(Failure::plain(text)),
                None => Ok(()),
            }
        }
    }
}

/// A value as `info` prints it: texts bare, numbers and booleans as in JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn info_text(info: &Value) -> String {
    let mut out = String::new();
    let list = |value: &Value| {
        let items: Vec<String> = value.as_array().into_iter().flatten().map(plain).collect();
        items.join(" ")
    };
    let mut line = |indent: usize, name: &str, value: String| {
        let _ = writeln!(out, "{:indent$}{name}: {value}", "");
    };
    line(1, "Containers", plain(&info["Containers"]));
    for (name, field) in
        [("Running", "ContainersRunning"), ("Paused", "ContainersPaused"), ("Stopped", "ContainersStopped")]
    {
        line(2, name, plain(&info[field]));
    }
    line(1, "Images", plain(&info["Images"]));
    line(1, "Server Version", plain(&info["ServerVersion"]));
    line(1, "Storage Driver", plain(&info["Driver"]));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(2, &plain(&pair[0]), plain(&pair[1]));
    }
    for (name, field) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        line(1, name, plain(&info[field]));
    }
    line(1, "Plugins", String::new());
    for kind in ["Volume", "Network", "Log"] {
        line(2, kind, list(&info["Plugins"][kind]));
    }
    line(1, "Swarm", plain(&info["Swarm"]["LocalNodeState"]));
    let runtimes: Vec<&str> =
        info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    line(1, "Runtimes", runtimes.join(" "));
    line(1, "Default Runtime", plain(&info["DefaultRuntime"]));
    line(1, "Init Binary", plain(&info["InitBinary"]));
    for (name, field) in [
        ("containerd version", "ContainerdCommit"),
        ("runc version", "RuncCommit"),
        ("init version", "InitCommit"),
    ] {
        line(1, name, plain(&info[field]["ID"]));
    }
    line(1, "Security Options", String::new());
    for option in info["SecurityOptions"].as_array().into_iter().flatten() {
        let text = plain(option);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("name", name)) => drop(writeln!(out, "  {name}")),
                Some(("profile", profile)) => drop(writeln!(out, "   Profile: {profile}")),
                _ => drop(writeln!(out, "   {part}")),
            }
        }
    }
    let mut line = |indent: usize, name: &str, value: String| {
        let _ = writeln!(out, "{:indent$}{name}: {value}", "");
    };
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        line(1, name, plain(&info[field]));
    }
    line(1, "Total Memory", binary_size(info["MemTotal"].as_i64().unwrap_or(0)));
    for (name, field) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("Debug Mode", "Debug"),
        ("Experimental", "ExperimentalBuild"),
    ] {
        line(1, name, plain(&info[field]));
    }
    line(1, "Insecure Registries", String::new());
    for range in info["RegistryConfig"]["InsecureRegistryCIDRs"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "  {}", plain(range));
    }
    let _ = writeln!(out, " Live Restore Enabled: {}\n", plain(&info["LiveRestoreEnabled"]));
    // Docker leaves a space behind a heading's colon out.
    for heading in ["Plugins", "Security Options", "Insecure Registries"] {
        out = out.replace(&format!(" {heading}: \n"), &format!(" {heading}:\n"));
    }
    out
}
