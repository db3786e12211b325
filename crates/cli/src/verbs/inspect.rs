//! `inspect`, of anything or of one sort of thing.

use serde::Serialize as _;
use serde_json::Value;

use crate::api::{Api, Request};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::show::template::{Format, Over};
use crate::spec::platform;

const FORMAT: Flag = both('f', "format", Kind::Text, "Format output: json or TEMPLATE");
const SIZE: Flag = both('s', "size", Kind::Bool, "Display total file sizes of containers");

/// What `--type` takes in Docker.
const TYPES: &str = "must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"";

/// `inspect`.
pub(crate) static INSPECT: Command = Command {
    usage: "NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    aliases: "",
    flags: &[FORMAT, SIZE, long("type", Kind::Text, "Only inspect objects of the given type")],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| match flags.text("type") {
        "" if flags.given("type") => Err(Failure::plain(format!("type is empty: {TYPES}"))),
        "" => inspect(context, flags, &["container", "image", "network", "volume"]),
        "container" => inspect(context, flags, &["container"]),
        "image" => inspect(context, flags, &["image"]),
        "network" => inspect(context, flags, &["network"]),
        "volume" => inspect(context, flags, &["volume"]),
        other if TYPES.contains(&format!("{other:?}")) => Err(Failure::plain(format!(
            "objects of type {other:?} are not supported yet: there is no swarm and no plugin"
        ))),
        other => Err(Failure::plain(format!("unknown type: {other:?}: {TYPES}"))),
    },
};

/// `container inspect`.
pub(crate) static CONTAINER_INSPECT: Command = of_type(
    "CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    &[FORMAT, SIZE],
    |context, flags| inspect(context, flags, &["container"]),
);

/// `image inspect`.
pub(crate) static IMAGE_INSPECT: Command = of_type(
    "IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    &[FORMAT, long("platform", Kind::Text, "Inspect a specific platform of the image")],
    |context, flags| match flags.given_text("platform").filter(|text| !text.is_empty()).map(platform::json) {
        Some(Err(why)) => Err(Failure::plain(why.to_string())),
        _ => inspect(context, flags, &["image"]),
    },
);

/// `network inspect`.
pub(crate) static NETWORK_INSPECT: Command = of_type(
    "NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    &[FORMAT, both('v', "verbose", Kind::Bool, "Verbose output for diagnostics")],
    |context, flags| inspect(context, flags, &["network"]),
);

/// `volume inspect`.
pub(crate) static VOLUME_INSPECT: Command = of_type(
    "VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    &[FORMAT],
    |context, flags| inspect(context, flags, &["volume"]),
);

const fn of_type(
    usage: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    run: fn(&Context, &Parsed) -> Outcome,
) -> Command {
    Command { usage, about, aliases: "", flags, order: Order::Mixed, args: Args::AtLeast(1), run }
}

fn inspect(context: &Context, flags: &Parsed, kinds: &[&str]) -> Outcome {
    let format = match flags.text("format") {
        "" | "json" => None,
        template if kinds == ["volume"] => Some(Format::new(template, Over::Typed("volume.Volume"))?),
        template => Some(Format::new(template, Over::Document)?),
    };
    let api = context.api()?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in &flags.args {
        match look_up(api, name, kinds, flags) {
            Ok(value) => found.push(value),
            Err(failure) => errors.push(failure.text),
        }
    }
    match format {
        Some(_) if found.is_empty() => println!(),
        Some(format) => {
            for value in &found {
                match format.apply(value) {
                    Ok(text) => println!("{text}"),
                    Err(failure) => {
                        println!();
                        errors.push(failure.text);
                    }
                }
            }
        }
        None if flags.text("format") == "json" => println!("{}", Value::Array(found)),
        None if found.is_empty() => println!("[]"),
        None => println!("{}", indented(&Value::Array(found))?),
    }
    super::lifecycle::fail_with(errors)
}

fn look_up(api: &Api, name: &str, kinds: &[&str], flags: &Parsed) -> Outcome<Value> {
    let mut last = None;
    for kind in kinds {
        let request = match *kind {
            "container" if flags.given("size") => {
                Request::get(Resource::container(name)?.at("json")).query("size", "1")
            }
            "container" => Request::get(Resource::container(name)?.at("json")),
            "image" => match flags.given_text("platform").map(platform::json) {
                Some(Ok(platform)) => {
                    Request::get(Resource::image(name)?.at("json")).query("platform", platform)
                }
                _ => Request::get(Resource::image(name)?.at("json")),
            },
            "network" => Request::get(Resource::network(name)?),
            _ => Request::get(Resource::volume(name)?),
        };
        match api.ask(request) {
            Ok(value) => return Ok(value),
            // An image's name may be no name for a container at all; that is no reason to stop.
            Err(error) if error.status() == 404 || (error.status() == 400 && kinds.len() > 1) => {
                last = Some(error)
            }
            Err(error) => return Err(error.into()),
        }
    }
    match last {
        Some(error) if kinds.len() == 1 => Err(error.into()),
        _ => Err(Failure::plain(format!("Error: No such object: {name}"))),
    }
}

/// JSON with four spaces, as Docker indents it.
fn indented(value: &Value) -> Outcome<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(|error| Failure::plain(error.to_string()))?;
    String::from_utf8(out).map_err(|error| Failure::plain(error.to_string()))
}
