//! `builder prune`, `container prune`, `image prune`, `network prune`, `volume prune`, and `system
//! prune`, which is all of them: what is to go is said first, and asked for unless `--force` was given.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};

use serde_json::{Map, Value, json};

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Order, Parsed, both, long};
use crate::show::units::human_size4;

const FORCE: Flag = both('f', "force", Kind::Bool, "Do not prompt for confirmation");
const UNTIL: Flag = long("filter", Kind::Filter, "Provide filter values (e.g. \"until=<timestamp>\")");

const fn verb(about: &'static str, flags: &'static [Flag], run: fn(&Context, &Parsed) -> Outcome) -> Command {
    Command { usage: "", about, aliases: "", flags, order: Order::Mixed, args: Args::None, run }
}

/// `builder prune`.
pub(crate) static BUILD_CACHE: Command = verb(
    "Remove build cache",
    &[
        both('a', "all", Kind::Bool, "Remove all unused build cache, not just dangling ones"),
        long("filter", Kind::Filter, "Provide filter values (e.g. \"until=24h\")"),
        FORCE,
        long("keep-storage", Kind::Bytes, "Amount of disk space to keep for cache"),
    ],
    |context, flags| {
        ask_of(flags, "all build cache", "all dangling build cache")?;
        report(context, flags, build_cache)
    },
);

/// `container prune`.
pub(crate) static CONTAINERS: Command =
    verb("Remove all stopped containers", &[UNTIL, FORCE], |context, flags| {
        ask(flags, "WARNING! This will remove all stopped containers.")?;
        report(context, flags, containers)
    });

/// `image prune`.
pub(crate) static IMAGES: Command = verb(
    "Remove unused images",
    &[both('a', "all", Kind::Bool, "Remove all unused images, not just dangling ones"), UNTIL, FORCE],
    |context, flags| {
        ask_of(flags, "all images without at least one container associated to them", "all dangling images")?;
        report(context, flags, images)
    },
);

/// `network prune`.
pub(crate) static NETWORKS: Command =
    verb("Remove all unused networks", &[UNTIL, FORCE], |context, flags| {
        let what = "WARNING! This will remove all custom networks not used by at least one container.";
        ask(flags, what)?;
        let gone = networks(context, flags)?;
        if !gone.text.is_empty() {
            println!("{}", gone.text);
        }
        Ok(())
    });

/// `volume prune`.
pub(crate) static VOLUMES: Command = verb(
    "Remove unused local volumes",
    &[
        both('a', "all", Kind::Bool, "Remove all unused volumes, not just anonymous ones"),
        long("filter", Kind::Filter, "Provide filter values (e.g. \"label=<label>\")"),
        FORCE,
    ],
    |context, flags| {
        let named = flags.list("filter").iter().any(|filter| filter.starts_with("all="));
        if flags.is("all") && named {
            return Err(Failure::plain("conflicting options: cannot specify both --all and --filter all=1"));
        }
        let unused = "local volumes not used by at least one container";
        ask_of(flags, &format!("all {unused}"), &format!("anonymous {unused}"))?;
        report(context, flags, |context, flags| {
            let more = if flags.is("all") { vec![("all", "true")] } else { Vec::new() };
            volumes(context, flags, &more)
        })
    },
);

/// `system prune`.
pub(crate) static SYSTEM: Command = verb(
    "Remove unused data",
    &[
        both('a', "all", Kind::Bool, "Remove all unused images not just dangling ones"),
        long("filter", Kind::Filter, "Provide filter values (e.g. \"label=<key>=<value>\")"),
        FORCE,
        long("volumes", Kind::Bool, "Prune anonymous volumes"),
    ],
    system,
);

/// What one kind's pruning removed.
#[derive(Default)]
struct Gone {
    text: String,
    bytes: i64,
}

fn system(context: &Context, flags: &Parsed) -> Outcome {
    if flags.is("volumes") && flags.list("filter").iter().any(|filter| filter.starts_with("until=")) {
        return Err(Failure::plain("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    ask(flags, &warning(context, flags))?;
    let mut all = vec![containers(context, flags)?, networks(context, flags)?];
    for gone in &all {
        print_list(gone);
    }
    let mut rest: Vec<fn(&Context, &Parsed) -> Outcome<Gone>> = Vec::new();
    if flags.is("volumes") {
        rest.push(|context, flags| volumes(context, flags, &[]));
    }
    rest.push(images);
    rest.push(build_cache);
    for prune in rest {
        let gone = prune(context, flags)?;
        print_list(&gone);
        all.push(gone);
    }
    println!("Total reclaimed space: {}", human_size4(all.iter().map(|gone| gone.bytes).sum()));
    Ok(())
}

/// What `system prune` says before it asks.
fn warning(context: &Context, flags: &Parsed) -> String {
    let mut lines = vec!["WARNING! This will remove:", "  - all stopped containers"];
    lines.push("  - all networks not used by at least one container");
    if flags.is("volumes") {
        lines.push("  - all anonymous volumes not used by at least one container");
    }
    if flags.is("all") {
        lines.push("  - all images without at least one container associated to them");
        lines.push("  - all build cache");
    } else {
        lines.push("  - all dangling images");
        lines.push("  - unused build cache");
    }
    let mut text = lines.join("\n") + "\n";
    let narrowed = narrowing(context, flags, &[]);
    let mut filters: Vec<String> = ["label", "label!", "until"]
        .iter()
        .filter_map(|key| narrowed.get(*key).map(|values| (key, values)))
        .flat_map(|(key, values)| values.keys().map(move |value| format!("  - {key}={value}\n")))
        .collect();
    filters.sort();
    if !filters.is_empty() {
        text += &format!("\n  Items to be pruned will be filtered with:\n{}", filters.concat());
    }
    text
}

/// Asks about one thing with `--all` and about another without.
fn ask_of(flags: &Parsed, all: &str, usual: &str) -> Outcome {
    let what = if flags.is("all") { all } else { usual };
    ask(flags, &format!("WARNING! This will remove {what}."))
}

/// Asks on standard output; anything but a yes cancels.
fn ask(flags: &Parsed, warning: &str) -> Outcome {
    if flags.is("force") {
        return Ok(());
    }
    print!("{warning}\nAre you sure you want to continue? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") {
        return Ok(());
    }
    // A choice of the user, no failure: it ends without a word, as in Docker.
    Err(Failure::silent(0))
}

fn print_list(gone: &Gone) {
    if !gone.text.is_empty() {
        println!("{}", gone.text);
    }
}

fn report(
    context: &Context,
    flags: &Parsed,
    prune: impl FnOnce(&Context, &Parsed) -> Outcome<Gone>,
) -> Outcome {
    let gone = prune(context, flags)?;
    print_list(&gone);
    println!("Total reclaimed space: {}", human_size4(gone.bytes));
    Ok(())
}

type Narrowing = BTreeMap<String, Map<String, Value>>;

/// The filters of the flags, of the user's `pruneFilters`, and of the verb itself. A configured label
/// that contradicts a given one is left out.
fn narrowing(context: &Context, flags: &Parsed, more: &[(&str, &str)]) -> Narrowing {
    let mut all = Narrowing::new();
    let mut add = |key: &str, value: &str| {
        all.entry(key.to_owned()).or_default().insert(value.to_owned(), json!(true));
    };
    let given = flags.list("filter");
    let given: Vec<(&str, &str)> = given.iter().filter_map(|text| text.split_once('=')).collect();
    for (key, value) in &given {
        add(&key.trim().to_ascii_lowercase(), value.trim());
    }
    for text in context.config().list("pruneFilters") {
        let Some((key, value)) = text.split_once('=') else { continue };
        let opposite = match key {
            "label" => "label!",
            "label!" => "label",
            _ => "",
        };
        if !given.contains(&(opposite, value)) {
            add(key, value);
        }
    }
    for (key, value) in more {
        add(key, value);
    }
    all
}

/// Prunes one kind; `lists` are the answer's lists with the text before each item.
fn prune(context: &Context, flags: &Parsed, path: &str, more: &[(&str, &str)]) -> Outcome<Value> {
    let mut request = Request::post(path);
    let narrowed = narrowing(context, flags, more);
    if !narrowed.is_empty() {
        request = request.query("filters", json!(narrowed).to_string());
    }
    Ok(context.api()?.ask(request)?)
}

/// A list of names under its heading; nothing, and nothing reclaimed, where it is empty.
fn named(answer: &Value, field: &str, heading: &str) -> Gone {
    let names: Vec<&str> = answer[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        return Gone::default();
    }
    let text = format!("{heading}:\n{}\n", names.join("\n"));
    Gone { text, bytes: answer["SpaceReclaimed"].as_i64().unwrap_or(0) }
}

fn containers(context: &Context, flags: &Parsed) -> Outcome<Gone> {
    let answer = prune(context, flags, "/containers/prune", &[])?;
    Ok(named(&answer, "ContainersDeleted", "Deleted Containers"))
}

fn networks(context: &Context, flags: &Parsed) -> Outcome<Gone> {
    let answer = prune(context, flags, "/networks/prune", &[])?;
    Ok(named(&answer, "NetworksDeleted", "Deleted Networks"))
}

fn volumes(context: &Context, flags: &Parsed, more: &[(&str, &str)]) -> Outcome<Gone> {
    let answer = prune(context, flags, "/volumes/prune", more)?;
    Ok(named(&answer, "VolumesDeleted", "Deleted Volumes"))
}

fn images(context: &Context, flags: &Parsed) -> Outcome<Gone> {
    let dangling = if flags.is("all") { "false" } else { "true" };
    let answer = prune(context, flags, "/images/prune", &[("dangling", dangling)])?;
    Ok(removed_images(&answer))
}

fn removed_images(answer: &Value) -> Gone {
    let mut text = String::new();
    for item in answer["ImagesDeleted"].as_array().into_iter().flatten() {
        let line = match (item["Untagged"].as_str(), item["Deleted"].as_str()) {
            (Some(name), _) if !name.is_empty() => format!("untagged: {name}\n"),
            (_, id) => format!("deleted: {}\n", id.unwrap_or("")),
        };
        text += &line;
    }
    if text.is_empty() {
        return Gone::default();
    }
    let bytes = answer["SpaceReclaimed"].as_i64().unwrap_or(0);
    Gone { text: format!("Deleted Images:\n{text}"), bytes }
}

fn build_cache(context: &Context, flags: &Parsed) -> Outcome<Gone> {
    let mut request = Request::post("/build/prune");
    if flags.is("all") {
        request = request.query("all", "1");
    }
    if flags.bytes("keep-storage") > 0 {
        request = request.query("reserved-space", flags.bytes("keep-storage").to_string());
    }
    let narrowed = narrowing(context, flags, &[]);
    if !narrowed.is_empty() {
        request = request.query("filters", json!(narrowed).to_string());
    }
    let answer = context.api()?.ask(request)?;
    Ok(named(&answer, "CachesDeleted", "Deleted build cache objects"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_listed() {
        let answer = json!({"VolumesDeleted": ["a", "b"], "SpaceReclaimed": 7});
        let gone = named(&answer, "VolumesDeleted", "Deleted Volumes");
        assert_eq!((gone.text.as_str(), gone.bytes), ("Deleted Volumes:\na\nb\n", 7));
        let nothing = named(&json!({"VolumesDeleted": null, "SpaceReclaimed": 7}), "VolumesDeleted", "x");
        assert_eq!((nothing.text.as_str(), nothing.bytes), ("", 0));
        let answer =
            json!({"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:2"}], "SpaceReclaimed": 1});
        assert_eq!(removed_images(&answer).text, "Deleted Images:\nuntagged: a:1\ndeleted: sha256:2\n");
    }
}
