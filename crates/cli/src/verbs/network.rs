//! `network ls` and `rm`; `network inspect` is [`super::inspect`]'s.

use serde_json::{Value, json};

use super::list::{filters, format_of};
use crate::api::{Error, Request};
use crate::commands::{Args, Command};
use crate::failure::Failure;
use crate::flags::{Kind, Order, both, long};
use crate::resource::Resource;
use crate::show::rows::{self, LABELS, Row, Shape, joined_labels};
use crate::show::table::short_id;
use crate::show::units::go_time;

static NETWORKS: rows::Kind = rows::Kind {
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    go_type: "*network.networkContext",
};

/// `network ls`.
pub(crate) static LS: Command = Command {
    usage: "",
    about: "List networks",
    aliases: "gantry network ls, gantry network list",
    flags: &[
        both('f', "filter", Kind::Filter, "Provide filter values (\"driver=bridge\")"),
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        long("no-trunc", Kind::Bool, "Do not truncate the output"),
        both('q', "quiet", Kind::Bool, "Only display network IDs"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: |context, flags| {
        let mut request = Request::get("/networks");
        if let Some(filters) = filters(flags) {
            request = request.query("filters", filters);
        }
        let answer = context.api()?.ask(request)?;
        let full = flags.is("no-trunc");
        let mut networks: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
        networks.sort_by_key(|network| network["Name"].as_str().unwrap_or(""));
        let rows: Vec<Row> = networks.into_iter().map(|network| row(network, full)).collect();
        let shape = Shape {
            format: format_of(context, flags, "networksFormat"),
            quiet: flags.is("quiet"),
            columns: &["ID", "Name", "Driver", "Scope"],
            id: ("ID", "network_id"),
            raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
        };
        print!("{}", rows::render(&NETWORKS, &shape, &rows)?);
        Ok(())
    },
};

/// `network rm`.
pub(crate) static RM: Command = Command {
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    aliases: "gantry network rm, gantry network remove",
    flags: &[both('f', "force", Kind::Bool, "Do not error if the network does not exist")],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let api = context.api()?;
        let mut failed = false;
        for name in &flags.args {
            match Resource::network(name).map_err(Error::from).and_then(|path| api.ask(Request::delete(path)))
            {
                Ok(_) => println!("{name}"),
                Err(error) if flags.is("force") && error.status() == 404 => {}
                Err(error) => {
                    failed = true;
                    eprintln!("{error}");
                }
            }
        }
        // Docker's client says no more than this at the end.
        if failed { Err(Failure::plain("exit status 1")) } else { Ok(()) }
    },
};

fn row(network: &Value, full: bool) -> Row {
    let text = |field: &str| network[field].as_str().unwrap_or("").to_owned();
    let flag = |field: &str, absent: bool| network[field].as_bool().unwrap_or(absent).to_string();
    let created = text("Created");
    let created_at = crate::show::units::parse_time(&created).map_or(created, go_time);
    let id = text("Id");
    [
        ("ID", if full { id } else { short_id(&id).to_owned() }),
        ("Name", text("Name")),
        ("Driver", text("Driver")),
        ("Scope", text("Scope")),
        ("IPv4", flag("EnableIPv4", true)),
        ("IPv6", flag("EnableIPv6", false)),
        ("Internal", flag("Internal", false)),
        ("Labels", joined_labels(&network["Labels"])),
        ("CreatedAt", created_at),
    ]
    .into_iter()
    .map(|(field, text)| (field.to_owned(), json!(text)))
    .chain([(LABELS.to_owned(), network["Labels"].clone())])
    .collect()
}
