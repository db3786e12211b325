//! `volume ls`, `create` and `rm`; `volume inspect` is [`super::inspect`]'s.

use serde_json::{Value, json};

use super::lifecycle::fail_with;
use super::list::{filters, format_of};
use crate::api::{Error, Request};
use crate::commands::{Args, Command};
use crate::failure::Failure;
use crate::flags::{Kind, Order, both, long};
use crate::resource::Resource;
use crate::show::rows::{self, LABELS, Row, Shape, joined_labels};
use crate::show::units::human_size4;
use crate::spec::env::{key_values, labels};

/// The fields of a volume in a list.
pub(crate) static VOLUMES: rows::Kind = rows::Kind {
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Availability", "AVAILABILITY"),
        ("Status", "STATUS"),
    ],
    go_type: "*formatter.volumeContext",
};

/// `volume ls`.
pub(crate) static LS: Command = Command {
    usage: "",
    about: "List volumes",
    aliases: "gantry volume ls, gantry volume list",
    flags: &[
        both('f', "filter", Kind::Filter, "Provide filter values (\"dangling=true\")"),
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        both('q', "quiet", Kind::Bool, "Only display volume names"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: |context, flags| {
        let mut request = Request::get("/volumes");
        if let Some(filters) = filters(flags) {
            request = request.query("filters", filters);
        }
        let answer = context.api()?.ask(request)?;
        let mut volumes: Vec<&Value> = answer["Volumes"].as_array().into_iter().flatten().collect();
        volumes.sort_by_key(|volume| volume["Name"].as_str().unwrap_or(""));
        let rows: Vec<Row> = volumes.into_iter().map(row).collect();
        let shape = Shape {
            format: format_of(context, flags, "volumesFormat"),
            quiet: flags.is("quiet"),
            columns: &["Driver", "Name"],
            id: ("Name", "name"),
            raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
        };
        print!("{}", rows::render(&VOLUMES, &shape, &rows)?);
        Ok(())
    },
};

/// A volume's fields; its size and its users where the daemon counted them.
pub(crate) fn row(volume: &Value) -> Row {
    let text = |field: &str| volume[field].as_str().unwrap_or("").to_owned();
    let absent = || "N/A".to_owned();
    [
        ("Driver", text("Driver")),
        ("Name", text("Name")),
        ("Scope", text("Scope")),
        ("Mountpoint", text("Mountpoint")),
        ("Labels", joined_labels(&volume["Labels"])),
        ("Links", volume["UsageData"]["RefCount"].as_i64().map_or_else(absent, |links| links.to_string())),
        ("Size", volume["UsageData"]["Size"].as_i64().map_or_else(absent, human_size4)),
        ("Group", absent()),
        ("Availability", absent()),
        ("Status", absent()),
    ]
    .into_iter()
    .map(|(field, text)| (field.to_owned(), json!(text)))
    .chain([(LABELS.to_owned(), volume["Labels"].clone())])
    .collect()
}

/// `volume create`.
pub(crate) static CREATE: Command = Command {
    usage: "[VOLUME]",
    about: "Create a volume",
    aliases: "",
    flags: &[
        both('d', "driver", Kind::Text, "Specify volume driver name").or("local"),
        long("label", Kind::Label, "Set metadata for a volume"),
        both('o', "opt", Kind::Map, "Set driver specific options"),
        long("name", Kind::Text, ""),
    ],
    order: Order::Mixed,
    args: Args::AtMost(1),
    run: |context, flags| {
        let name = match (flags.args.first(), flags.given_text("name")) {
            (Some(_), Some(_)) => {
                return Err(Failure::plain(
                    "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
                ));
            }
            (Some(name), None) => name.as_str(),
            (None, name) => name.unwrap_or(""),
        };
        let body = json!({
            "Driver": flags.text("driver"),
            "DriverOpts": key_values(flags.list("opt")),
            "Labels": labels(&[], &flags.list("label"))?,
            "Name": name,
        });
        let answer = context.api()?.ask(Request::post("/volumes/create").json(&body))?;
        println!("{}", answer["Name"].as_str().unwrap_or(""));
        Ok(())
    },
};

/// `volume update`, which is for a swarm's volumes, and says so.
pub(crate) static UPDATE: Command = Command {
    usage: "[VOLUME]",
    about: "Update a volume (cluster volumes only)",
    aliases: "",
    flags: &[
        long("availability", Kind::Text, "Cluster Volume availability (active, pause, drain)").or("active")
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: |context, flags| {
        context.api()?.ask(Request::get(Resource::volume(&flags.args[0])?))?;
        Err(Failure::plain("can only update cluster volumes"))
    },
};

/// `volume rm`.
pub(crate) static RM: Command = Command {
    usage: "VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    aliases: "gantry volume rm, gantry volume remove",
    flags: &[both('f', "force", Kind::Bool, "Force the removal of one or more volumes")],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let api = context.api()?;
        let mut errors = Vec::new();
        for name in &flags.args {
            let removed = Resource::volume(name).map_err(Error::from).and_then(|path| {
                let request = Request::delete(path);
                api.ask(if flags.is("force") { request.query("force", "1") } else { request })
            });
            match removed {
                Ok(_) => println!("{name}"),
                Err(error) => errors.push(error.to_string()),
            }
        }
        fail_with(errors)
    },
};
