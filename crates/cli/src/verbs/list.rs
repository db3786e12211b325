//! `ps`, `port` and `top`: what containers there are, and what they show of themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::show::rows::{self, LABELS, Row, Shape, joined_labels};
use crate::show::table::{self, ellipsis, quote, short_id};
use crate::show::template::{Format, Labels, Over};
use crate::show::units::{ago, go_time, human_size};

/// `ps`.
pub(crate) static PS: Command = Command {
    usage: "",
    about: "List containers",
    aliases: "gantry container ls, gantry container list, gantry container ps, gantry ps",
    flags: &[
        both('a', "all", Kind::Bool, "Show all containers (default shows just running)"),
        both('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        both('n', "last", Kind::Int, "Show the last created containers (of all states)").or("-1"),
        both('l', "latest", Kind::Bool, "Show the latest created container (of all states)"),
        long("no-trunc", Kind::Bool, "Don't truncate output"),
        both('q', "quiet", Kind::Bool, "Only display container IDs"),
        both('s', "size", Kind::Bool, "Display total file sizes"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: ps,
};

/// `--format`'s value, else the user's configured default, which `--quiet` overrides.
pub(crate) fn format_of<'a>(context: &'a Context, flags: &'a Parsed, key: &str) -> &'a str {
    match flags.text("format") {
        "" if !flags.is("quiet") => context.config().text(key),
        format => format,
    }
}

/// `--filter` values as the API takes them.
pub(crate) fn filters(flags: &Parsed) -> Option<String> {
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for text in flags.list("filter") {
        if let Some((key, value)) = text.split_once('=') {
            all.entry(key.trim().to_ascii_lowercase())
                .or_default()
                .insert(value.trim().to_owned(), json!(true));
        }
    }
    (!all.is_empty()).then(|| json!(all).to_string())
}

/// The fields of a container in a list.
pub(crate) static CONTAINERS: rows::Kind = rows::Kind {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    go_type: "*formatter.ContainerContext",
};

/// `--format raw`, without the size.
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
    state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
    ports: {{- pad .Ports 1 0}}\n";

fn ps(context: &Context, flags: &Parsed) -> Outcome {
    let mut request = Request::get("/containers/json");
    let limit = if flags.is("latest") { 1 } else { flags.int("last") };
    if flags.is("all") {
        request = request.query("all", "1");
    }
    if limit > 0 {
        request = request.query("limit", limit.to_string());
    }
    let quiet = flags.is("quiet");
    let format = format_of(context, flags, "psFormat");
    if let Some(template) = flags.given_text("format").filter(|template| !template.is_empty()) {
        let trial = Format::new(template, Over::Trial(CONTAINERS.go_type))?;
        trial.apply_to_row(&Value::Object(row(&json!({}), false)), &Labels::Of(Value::Null))?;
    }
    if flags.is("size") || format.contains(".Size") || format.contains("json .}}") {
        request = request.query("size", "1");
    }
    if let Some(filters) = filters(flags) {
        request = request.query("filters", filters);
    }
    let containers = context.api()?.ask(request)?;
    let full = flags.is("no-trunc");
    let rows: Vec<Row> =
        containers.as_array().into_iter().flatten().map(|container| row(container, full)).collect();
    if quiet && !format.is_empty() {
        eprintln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let (mut columns, mut raw) =
        (vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"], RAW.to_owned());
    if flags.is("size") {
        columns.push("Size");
        raw.push_str("size: {{.Size}}\n");
    }
    let format = if quiet && format != "raw" { "" } else { format };
    let shape = Shape { format, quiet, columns: &columns, id: ("ID", "container_id"), raw: &raw };
    print!("{}", rows::render(&CONTAINERS, &shape, &rows)?);
    Ok(())
}

/// A container's fields; `full` leaves nothing out.
pub(crate) fn row(container: &Value, full: bool) -> Row {
    let text = |field: &str| container[field].as_str().unwrap_or("");
    let id = if full { text("Id") } else { short_id(text("Id")) };
    let command = if full { text("Command").to_owned() } else { ellipsis(text("Command"), 20) };
    let created = container["Created"].as_i64().unwrap_or(0);
    let names = container["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .filter(|name| full || !name.contains('/'))
        .collect();
    let mounts = || container["Mounts"].as_array().into_iter().flatten();
    let mount_names: Vec<String> = mounts()
        .map(|mount| {
            let name = mount["Name"]
                .as_str()
                .filter(|name| !name.is_empty())
                .or(mount["Source"].as_str())
                .unwrap_or("");
            if full { name.to_owned() } else { ellipsis(name, 15) }
        })
        .collect();
    let volumes = mounts().filter(|mount| mount["Driver"].as_str() == Some("local")).count();
    let networks: Vec<&str> = container["NetworkSettings"]["Networks"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let (writable, all) =
        (container["SizeRw"].as_i64().unwrap_or(0), container["SizeRootFs"].as_i64().unwrap_or(0));
    let size = if all > 0 {
        format!("{} (virtual {})", human_size(writable), human_size(all))
    } else {
        human_size(writable)
    };
    rows::row([
        ("ID", json!(id)),
        ("Names", json!(names.join(","))),
        ("Image", json!(image_name(container, full))),
        ("Command", json!(quote(&command))),
        ("CreatedAt", json!(go_time(created))),
        ("RunningFor", json!(ago(created))),
        ("Ports", json!(ports(container["Ports"].as_array().map_or(&[], Vec::as_slice)))),
        ("State", json!(text("State"))),
        ("Status", json!(text("Status"))),
        ("Size", json!(size)),
        ("Labels", json!(joined_labels(&container["Labels"]))),
        ("Mounts", json!(mount_names.join(","))),
        ("LocalVolumes", json!(volumes.to_string())),
        ("Networks", json!(networks.join(","))),
        ("Platform", Value::Null),
        (LABELS, container["Labels"].clone()),
    ])
}

fn image_name(container: &Value, full: bool) -> String {
    let image = container["Image"].as_str().unwrap_or("");
    let id = short_id(container["ImageID"].as_str().unwrap_or(""));
    match image {
        "" => "<no image>".into(),
        _ if full => image.to_owned(),
        _ if !id.is_empty() && short_id(image) == id => id.to_owned(),
        _ => image.split('@').next().unwrap_or(image).to_owned(),
    }
}

/// Ports as `ps` shows them: runs of neighbours that map alike are one entry.
fn ports(ports: &[Value]) -> String {
    let mut all: Vec<(u64, String, u64, String)> = ports
        .iter()
        .map(|port| {
            let text = |field: &str| port[field].as_str().unwrap_or("").to_owned();
            let number = |field: &str| port[field].as_u64().unwrap_or(0);
            (number("PrivatePort"), text("IP"), number("PublicPort"), text("Type"))
        })
        .collect();
    all.sort();
    let mut groups: Vec<(String, String, u64, u64)> = Vec::new();
    let (mut shown, mut mappings) = (Vec::new(), Vec::new());
    for (private, ip, public, kind) in all {
        if !ip.is_empty() && public != private {
            mappings.push(format!("{}:{public}->{private}/{kind}", host(&ip)));
            continue;
        }
        match groups.iter_mut().find(|group| group.0 == ip && group.1 == kind) {
            Some(group) if private == group.3 + 1 => group.3 = private,
            Some(group) if private == group.3 => {}
            Some(group) => {
                shown.push(one_group(group));
                (group.2, group.3) = (private, private);
            }
            None => groups.push((ip, kind, private, private)),
        }
    }
    shown.extend(groups.iter().map(one_group));
    shown.extend(mappings);
    shown.join(", ")
}

fn one_group((ip, kind, first, last): &(String, String, u64, u64)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{range}/{kind}") } else { format!("{}:{range}->{range}/{kind}", host(ip)) }
}

/// An address with brackets if it has colons.
fn host(ip: &str) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(_)) => format!("[{ip}]"),
        _ => ip.to_owned(),
    }
}

/// `port`.
pub(crate) static PORT: Command = Command {
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    aliases: "gantry container port, gantry port",
    flags: &[],
    order: Order::Mixed,
    args: Args::Between(1, 2),
    run: |context, flags| {
        let details = context.api()?.get(Resource::container(&flags.args[0])?.at("json"))?;
        let ports = details["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
        let address = |binding: &Value| {
            let text = |field: &str| binding[field].as_str().unwrap_or("");
            format!("{}:{}", host(text("HostIp")), text("HostPort"))
        };
        if let Some(wanted) = flags.args.get(1) {
            let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if number.parse::<u16>().is_err() {
                let why = if !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) {
                    "value out of range"
                } else {
                    "invalid syntax"
                };
                return Err(Failure::plain(format!(
                    "Error: invalid port ({number}): strconv.ParseUint: parsing {number:?}: {why}"
                )));
            }
            let bindings = ports
                .get(&format!("{number}/{protocol}"))
                .and_then(Value::as_array)
                .filter(|list| !list.is_empty());
            let Some(bindings) = bindings else {
                return Err(Failure::plain(format!(
                    "Error: No public port '{wanted}' published for {}",
                    flags.args[0]
                )));
            };
            for binding in bindings {
                println!("{}", address(binding));
            }
            return Ok(());
        }
        let mut sorted: Vec<_> = ports.iter().collect();
        sorted.sort_by_key(|(port, _)| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
            (number.parse::<u16>().unwrap_or(0), protocol.to_owned())
        });
        for (port, bindings) in sorted {
            for binding in bindings.as_array().into_iter().flatten() {
                println!("{port} -> {}", address(binding));
            }
        }
        Ok(())
    },
};

/// `top`.
pub(crate) static TOP_VERB: Command = Command {
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    aliases: "gantry container top, gantry top",
    flags: &[],
    order: Order::FlagsFirst,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let mut request = Request::get(Resource::container(&flags.args[0])?.at("top"));
        if flags.args.len() > 1 {
            request = request.query("ps_args", flags.args[1..].join(" "));
        }
        let answer = context.api()?.ask(request)?;
        let line = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|cell| cell.as_str().unwrap_or("").to_owned()).collect()
        };
        let mut lines = vec![line(&answer["Titles"])];
        lines.extend(answer["Processes"].as_array().into_iter().flatten().map(line));
        print!("{}", table::lay_out(&lines, 20));
        Ok(())
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16, kind: &str) -> Value {
        json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind})
    }

    #[test]
    fn ports_are_shown_in_runs() {
        for (list, want) in [
            (vec![port("", 80, 0, "tcp")], "80/tcp"),
            (
                vec![port("0.0.0.0", 80, 8080, "tcp"), port("::", 80, 8080, "tcp")],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![port("0.0.0.0", 81, 81, "tcp"), port("0.0.0.0", 80, 80, "tcp"), port("", 90, 0, "udp")],
                "0.0.0.0:80-81->80-81/tcp, 90/udp",
            ),
            (vec![port("", 1, 0, "tcp"), port("", 3, 0, "tcp")], "1/tcp, 3/tcp"),
        ] {
            assert_eq!(ports(&list), want);
        }
    }

    #[test]
    fn image_names_are_shortened() {
        let container = json!({"Image": "sha256:0123456789abcdef", "ImageID": "sha256:0123456789abcdef"});
        assert_eq!(image_name(&container, false), "0123456789ab");
        assert_eq!(image_name(&json!({"Image": "web:1", "ImageID": "sha256:ab"}), false), "web:1");
        assert_eq!(image_name(&json!({"Image": ""}), false), "<no image>");
    }
}
