//! `images`, `history`, `rmi`, `tag` and `import`.

use std::fs::File;
use std::io;

use serde_json::{Value, json};

use super::lifecycle::fail_with;
use super::list::{filters, format_of};
use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::show::progress::{Counted, bytes_bar};
use crate::show::rows::{self, Row, Shape};
use crate::show::table::{ellipsis, short_id};
use crate::show::units::{ago, civil, go_time, human_size, human_size4};
use crate::spec::env::describe;
use crate::spec::platform;
use crate::terminal;
use gantry_client::api::model::Reference;
use gantry_client::image_path;

/// `images`.
pub(crate) static IMAGES: Command = Command {
    usage: "[REPOSITORY[:TAG]]",
    about: "List images",
    aliases: "gantry image ls, gantry image list, gantry images",
    flags: &[
        both('a', "all", Kind::Bool, "Show all images (default hides intermediate images)"),
        long("digests", Kind::Bool, "Show digests"),
        both('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        long("no-trunc", Kind::Bool, "Don't truncate output"),
        both('q', "quiet", Kind::Bool, "Only show image IDs"),
    ],
    order: Order::Mixed,
    args: Args::AtMost(1),
    run: images,
};

/// The fields of an image in a list.
pub(crate) static IMAGE_ROWS: rows::Kind = rows::Kind {
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    go_type: "*formatter.imageContext",
};

fn images(context: &Context, flags: &Parsed) -> Outcome {
    let mut request = Request::get("/images/json");
    if flags.is("all") {
        request = request.query("all", "1");
    }
    let mut wanted: Value =
        filters(flags).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| json!({}));
    if let Some(reference) = flags.args.first() {
        wanted["reference"][reference.as_str()] = json!(true);
    }
    if wanted.as_object().is_some_and(|map| !map.is_empty()) {
        request = request.query("filters", wanted.to_string());
    }
    let images = context.api()?.ask(request)?;
    let (full, digests) = (flags.is("no-trunc"), flags.is("digests"));
    let format = format_of(context, flags, "imagesFormat");
    let images = images.as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| image_rows(image, full, digests || format.contains(".Digest")))
        .collect();
    let columns: &[&str] = if digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    };
    let format = match format {
        table if digests && table.starts_with("table ") && !table.contains("{{.Digest}}") => {
            format!("{table}\t{{{{.Digest}}}}")
        }
        format => format.to_owned(),
    };
    let raw = format!(
        "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n",
        if digests { "digest: {{.Digest}}\n" } else { "" }
    );
    let (quiet, id) = (flags.is("quiet"), ("ID", "image_id"));
    print!(
        "{}",
        rows::render(&IMAGE_ROWS, &Shape { format: &format, quiet, columns, id, raw: &raw }, &rows)?
    );
    Ok(())
}

/// One row for each tag; for an image without any, one for each digest, or one of `<none>`.
fn image_rows(image: &Value, full: bool, with_digests: bool) -> Vec<Row> {
    let texts = |field: &str| -> Vec<&str> {
        let all = image[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|name| !name.starts_with("<none>")).collect()
    };
    let (tags, digests) = (texts("RepoTags"), texts("RepoDigests"));
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    for tag in &tags {
        let (name, tag) = tag.rsplit_once(':').unwrap_or((tag, "<none>"));
        let of_name = digests
            .iter()
            .find_map(|text| text.split_once('@').filter(|(repository, _)| *repository == name));
        names.push((name, tag, of_name.map_or("<none>", |(_, digest)| digest)));
    }
    if tags.is_empty() {
        names.extend(
            digests
                .iter()
                .filter_map(|text| text.split_once('@'))
                .map(|(name, digest)| (name, "<none>", digest)),
        );
        if !with_digests {
            names.truncate(1);
        }
    }
    if names.is_empty() {
        names.push(("<none>", "<none>", "<none>"));
    }
    let id = image["Id"].as_str().unwrap_or("");
    let (created, size) = (image["Created"].as_i64().unwrap_or(0), image["Size"].as_i64().unwrap_or(0));
    let row = |(name, tag, digest): (&str, &str, &str)| {
        [
            ("Repository", name.to_owned()),
            ("Tag", tag.to_owned()),
            ("Digest", digest.to_owned()),
            ("ID", if full { id.to_owned() } else { short_id(id).to_owned() }),
            ("CreatedSince", ago(created)),
            ("CreatedAt", go_time(created)),
            ("Size", human_size(size)),
            ("Containers", "N/A".to_owned()),
            ("VirtualSize", human_size4(size)),
            ("SharedSize", "N/A".to_owned()),
            ("UniqueSize", "N/A".to_owned()),
        ]
        .into_iter()
        .map(|(field, text)| (field.to_owned(), json!(text)))
        .collect()
    };
    names.into_iter().map(row).collect()
}

/// An image's fields for its disk usage: under its first name alone.
pub(crate) fn usage_row(image: &Value, full: bool) -> Row {
    let mut row = image_rows(image, full, false).swap_remove(0);
    let size = |bytes: i64| json!(if bytes == -1 { "N/A".to_owned() } else { human_size(bytes) });
    let (all, shared) = (image["Size"].as_i64().unwrap_or(-1), image["SharedSize"].as_i64().unwrap_or(-1));
    row.insert("SharedSize".into(), size(shared));
    let unique = if shared == -1 || all == -1 { "N/A".to_owned() } else { human_size4(all - shared) };
    row.insert("UniqueSize".into(), json!(unique));
    let containers = image["Containers"].as_i64().filter(|count| *count != -1);
    row.insert("Containers".into(), json!(containers.map_or("N/A".to_owned(), |count| count.to_string())));
    row
}

/// `history`.
pub(crate) static HISTORY: Command = Command {
    usage: "IMAGE",
    about: "Show the history of an image",
    aliases: "gantry image history, gantry history",
    flags: &[
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        both('H', "human", Kind::Bool, "Print sizes and dates in human readable format").or("true"),
        long("no-trunc", Kind::Bool, "Don't truncate output"),
        long("platform", Kind::Text, "Show history for the given platform (os[/arch[/variant]])"),
        both('q', "quiet", Kind::Bool, "Only show image IDs"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: history,
};

static HISTORY_ROWS: rows::Kind = rows::Kind {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    go_type: "*image.historyContext",
};

static HISTORY_ROWS_EXACT: rows::Kind = rows::Kind {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED AT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    go_type: "*image.historyContext",
};

fn history(context: &Context, flags: &Parsed) -> Outcome {
    let mut request = Request::get(Resource::image(&flags.args[0])?.at("history"));
    if let Some(platform) = platform::of_image(flags)? {
        request = request.query("platform", platform);
    }
    let steps = context.api()?.ask(request)?;
    let (full, human) = (flags.is("no-trunc"), flags.is("human"));
    let row = |step: &Value| -> Row {
        let text = |field: &str| step[field].as_str().unwrap_or("");
        let (created, size) = (step["Created"].as_i64().unwrap_or(0), step["Size"].as_i64().unwrap_or(0));
        let [year, month, day, hour, minute, second] = civil(created);
        let created_at = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let created_by = text("CreatedBy").replace('\t', " ");
        [
            ("ID", if full { text("Id").to_owned() } else { short_id(text("Id")).to_owned() }),
            (
                "CreatedSince",
                if human {
                    if created <= 0 { "N/A".to_owned() } else { ago(created) }
                } else {
                    created_at.clone()
                },
            ),
            ("CreatedAt", created_at),
            ("CreatedBy", if full { created_by } else { ellipsis(&created_by, 45) }),
            ("Size", if human { human_size(size) } else { size.to_string() }),
            ("Comment", text("Comment").to_owned()),
        ]
        .into_iter()
        .map(|(field, text)| (field.to_owned(), json!(text)))
        .collect()
    };
    let rows: Vec<Row> = steps.as_array().into_iter().flatten().map(row).collect();
    let kind = if human { &HISTORY_ROWS } else { &HISTORY_ROWS_EXACT };
    let columns = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
    let (quiet, id) = (flags.is("quiet"), ("ID", "image_id"));
    let format = if quiet { "" } else { flags.text("format") };
    print!("{}", rows::render(kind, &Shape { format, quiet, columns: &columns, id, raw: "raw" }, &rows)?);
    Ok(())
}

/// `rmi`.
pub(crate) static RMI: Command = Command {
    usage: "IMAGE [IMAGE...]",
    about: "Remove one or more images",
    aliases: "gantry image rm, gantry image remove, gantry rmi",
    flags: &[
        both('f', "force", Kind::Bool, "Force removal of the image"),
        long("no-prune", Kind::Bool, "Do not delete untagged parents"),
        long("platform", Kind::Strings, "Remove only the given platform (os[/arch[/variant]])"),
    ],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let api = context.api()?;
        let platforms = flags.list("platform").into_iter().map(platform::json);
        let platforms: Vec<String> =
            platforms.collect::<Result<_, _>>().map_err(|why| Failure::plain(why.to_string()))?;
        let (mut errors, mut only_missing) = (Vec::new(), true);
        for image in &flags.args {
            let mut request = Request::delete(format!("/images/{}", image_path(image)));
            for platform in &platforms {
                request = request.query("platforms", platform.as_str());
            }
            for (flag, key) in [("force", "force"), ("no-prune", "noprune")] {
                if flags.is(flag) {
                    request = request.query(key, "1");
                }
            }
            match api.ask(request) {
                Ok(answer) => {
                    for item in answer.as_array().into_iter().flatten() {
                        for word in ["Untagged", "Deleted"] {
                            if let Some(text) = item[word].as_str() {
                                println!("{word}: {text}");
                            }
                        }
                    }
                }
                Err(error) => {
                    only_missing &= error.status() == 404;
                    errors.push(error.to_string());
                }
            }
        }
        match fail_with(errors) {
            // Removing what is not there is what was asked for, if force was; it is said all the same.
            Err(failure) if flags.is("force") && only_missing => {
                eprintln!("{failure}");
                Ok(())
            }
            other => other,
        }
    },
};

/// `tag`.
pub(crate) static TAG: Command = Command {
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    aliases: "gantry image tag, gantry tag",
    flags: &[],
    order: Order::Mixed,
    args: Args::Exactly(2),
    run: |context, flags| {
        let (source, target) = (&flags.args[0], &flags.args[1]);
        let (name, tag) = split_tag(target);
        let refuse = |name: &str, why: &dyn std::fmt::Display| {
            Failure::plain(format!("Error parsing reference: {name:?} is not a valid repository/tag: {why}"))
        };
        let path = Resource::image(source).map_err(|_| refuse(source, &"invalid reference format"))?;
        let parsed = Reference::parse_normalized(target).map_err(|why| refuse(target, &why))?;
        if parsed.digest().is_some() {
            return Err(Failure::plain("refusing to create a tag with a digest reference"));
        }
        let request = Request::post(path.at("tag")).query("repo", name).query("tag", tag);
        context.api()?.ask(request)?;
        Ok(())
    },
};

/// Name and tag; without a tag it is `latest`.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// `import`.
pub(crate) static IMPORT: Command = Command {
    usage: "file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    aliases: "gantry image import, gantry import",
    flags: &[
        both('c', "change", Kind::List, "Apply a Dockerfile instruction to the image"),
        both('m', "message", Kind::Text, "Set the commit message of the image"),
        long("platform", Kind::Text, "Platform of the image"),
    ],
    order: Order::Mixed,
    args: Args::AtLeast(1),
    run: |context, flags| {
        let source = flags.args[0].as_str();
        let remote = source.starts_with("http://") || source.starts_with("https://");
        let mut request = Request::post("/images/create").query("fromSrc", if remote { source } else { "-" });
        if let Some(reference) = flags.args.get(1) {
            Reference::parse_normalized(reference).map_err(|why| Failure::plain(why.to_string()))?;
            request = request.query("repo", reference.as_str());
        }
        for (flag, key) in [("message", "message"), ("platform", "platform")] {
            if let Some(text) = flags.given_text(flag) {
                request = request.query(key, text);
            }
        }
        for change in flags.list("change") {
            request = request.query("changes", change);
        }
        let api = context.api()?;
        let answer = if remote {
            api.open(request)?
        } else if source == "-" {
            if terminal::stdin_is_terminal() {
                return Err(Failure::plain(
                    "requested input from STDIN, but it is a terminal: give a file, or pipe an archive in",
                ));
            }
            let from = Counted { inner: io::stdin(), bar: bytes_bar("Sending archive", None) };
            api.upload(request, "text/plain", from)?
        } else {
            let file = File::open(source)
                .map_err(|error| Failure::plain(format!("open {source}: {}", describe(&error))))?;
            let total = file.metadata()?.len();
            let from = Counted { inner: file, bar: bytes_bar("Sending archive", Some(total)) };
            api.upload(request, "text/plain", from)?
        };
        crate::show::progress::show_all(answer, |_| ())
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let image = json!({"Id": "sha256:0123456789abcdef", "RepoTags": ["a:1", "r:5000/b:2"],
            "RepoDigests": ["a@sha256:ff"], "Created": 0, "Size": 1_982_528});
        let rows = image_rows(&image, false, true);
        assert_eq!(
            (rows.len(), &rows[0]["Repository"], &rows[0]["Digest"]),
            (2, &json!("a"), &json!("sha256:ff"))
        );
        assert_eq!(
            (&rows[1]["Repository"], &rows[1]["Tag"], &rows[1]["Digest"]),
            (&json!("r:5000/b"), &json!("2"), &json!("<none>"))
        );
        let bare = image_rows(&json!({"Id": "x", "RepoTags": null, "RepoDigests": []}), false, false);
        assert_eq!((bare.len(), &bare[0]["Tag"]), (1, &json!("<none>")));
        assert_eq!(split_tag("r:5000/b"), ("r:5000/b", "latest"));
    }
}
