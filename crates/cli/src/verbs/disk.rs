//! `system df`: what images, containers, volumes and the build cache take up on the disk.

use serde_json::{Value, json};

use super::{image, list, volume};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::show::rows::{self, Row, Shape};
use crate::show::table::short_id;
use crate::show::template::{Format, Over, unescape};
use crate::show::units::{ago, human_size4, parse_time};

/// `system df`.
pub(crate) static DF: Command = Command {
    usage: "",
    about: "Show the disk space that is used",
    aliases: "",
    flags: &[
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        both('v', "verbose", Kind::Bool, "Show detailed information on space usage"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: df,
};

static USAGE: rows::Kind = rows::Kind {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    go_type: "*formatter.diskUsageImagesContext",
};

static BUILD_CACHE: rows::Kind = rows::Kind {
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    go_type: "*formatter.buildCacheContext",
};

fn items<'a>(usage: &'a Value, kind: &str) -> &'a [Value] {
    usage[kind].as_array().map_or(&[], Vec::as_slice)
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn df(context: &Context, flags: &Parsed) -> Outcome {
    let usage = context.api()?.get("/system/df")?;
    let format = flags.text("format");
    if flags.is("verbose") {
        return verbose(&usage, format);
    }
    let shape = Shape {
        format,
        quiet: false,
        columns: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
        id: ("Type", "type"),
        raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
    };
    print!("{}", rows::render(&USAGE, &shape, &summary(&usage))?);
    Ok(())
}

/// One kind's line.
fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: String) -> Row {
    rows::row([
        ("Type", json!(kind)),
        ("TotalCount", json!(total.to_string())),
        ("Active", json!(active.to_string())),
        ("Size", json!(human_size4(size))),
        ("Reclaimable", json!(reclaimable)),
    ])
}

/// Bytes that could be had back, with their share where there are any.
fn share(bytes: i64, of: i64) -> String {
    if of > 0 { format!("{} ({}%)", human_size4(bytes), bytes * 100 / of) } else { human_size4(bytes) }
}

fn summary(usage: &Value) -> Vec<Row> {
    let images = items(usage, "Images");
    let layers = whole(&usage["LayersSize"]);
    let used: i64 = images
        .iter()
        .filter(|image| whole(&image["Containers"]) != 0)
        .filter(|image| whole(&image["Size"]) != -1 && whole(&image["SharedSize"]) != -1)
        .map(|image| whole(&image["Size"]) - whole(&image["SharedSize"]))
        .sum();
    let in_use = images.iter().filter(|image| whole(&image["Containers"]) > 0).count();

    let containers = items(usage, "Containers");
    let runs =
        |container: &&Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
    let size_of = |container: &Value| whole(&container["SizeRw"]);
    let written: i64 = containers.iter().map(size_of).sum();
    let stopped: i64 = containers.iter().filter(|container| !runs(container)).map(size_of).sum();

    let volumes = items(usage, "Volumes");
    let known = |volume: &&Value| whole(&volume["UsageData"]["Size"]) != -1;
    let volume_size = |volume: &Value| whole(&volume["UsageData"]["Size"]);
    let links = |volume: &Value| whole(&volume["UsageData"]["RefCount"]);
    let stored: i64 = volumes.iter().filter(known).map(volume_size).sum();
    let unused: i64 = volumes.iter().filter(known).filter(|volume| links(volume) == 0).map(volume_size).sum();

    let cache = items(usage, "BuildCache");
    let cached = cache_size(usage);
    let busy = |record: &&Value| record["InUse"].as_bool() == Some(true);
    let needed: i64 = cache
        .iter()
        .filter(busy)
        .filter(|record| record["Shared"].as_bool() != Some(true))
        .map(|record| whole(&record["Size"]))
        .sum();
    vec![
        line("Images", images.len(), in_use, layers, share(layers - used, layers)),
        line(
            "Containers",
            containers.len(),
            containers.iter().filter(runs).count(),
            written,
            share(stopped, written),
        ),
        line(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(|v| links(v) > 0).count(),
            stored,
            share(unused, stored),
        ),
        line(
            "Build Cache",
            cache.len(),
            cache.iter().filter(busy).count(),
            cached,
            human_size4(cached - needed),
        ),
    ]
}

fn cache_size(usage: &Value) -> i64 {
    let own = items(usage, "BuildCache").iter().filter(|record| record["Shared"].as_bool() != Some(true));
    own.map(|record| whole(&record["Size"])).sum()
}

fn verbose(usage: &Value, format: &str) -> Outcome {
    let full = !matches!(format, "" | "table");
    let images: Vec<Row> = items(usage, "Images").iter().map(|image| image::usage_row(image, full)).collect();
    let containers: Vec<Row> = items(usage, "Containers")
        .iter()
        .map(|container| {
            // What the image below it takes is the image's.
            let mut own = container.clone();
            own["SizeRootFs"] = json!(0);
            list::row(&own, full)
        })
        .collect();
    let volumes: Vec<Row> = items(usage, "Volumes").iter().map(volume::row).collect();
    let cache: Vec<Row> = items(usage, "BuildCache").iter().map(|record| cache_row(record, full)).collect();
    if full {
        let all =
            json!({"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache});
        if format == "json" {
            println!("{all}");
        } else {
            print!(
                "{}",
                Format::new(&unescape(format), Over::Row("*formatter.diskUsageContext"))?.apply(&all)?
            );
        }
        return Ok(());
    }
    let table = |kind: &rows::Kind, columns: &[&str], rows: &[Row]| {
        let shape = Shape { format: "", quiet: false, columns, id: ("ID", "id"), raw: "" };
        rows::render(kind, &shape, rows)
    };
    let of_images =
        ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
    let of_containers = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    let of_cache = ["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"];
    print!("Images space usage:\n\n{}", table(&image::IMAGE_ROWS, &of_images, &images)?);
    print!("\nContainers space usage:\n\n{}", table(&list::CONTAINERS, &of_containers, &containers)?);
    print!(
        "\nLocal Volumes space usage:\n\n{}",
        table(&volume::VOLUMES, &["Name", "Links", "Size"], &volumes)?
    );
    print!(
        "\nBuild cache usage: {}\n\n{}",
        human_size4(cache_size(usage)),
        table(&BUILD_CACHE, &of_cache, &cache)?
    );
    Ok(())
}

fn cache_row(record: &Value, full: bool) -> Row {
    let text = |field: &str| record[field].as_str().unwrap_or("");
    let since = |field: &str| parse_time(text(field)).map_or(String::new(), ago);
    let id = text("ID");
    rows::row([
        ("ID", json!(if full { id } else { short_id(id) })),
        ("CacheType", json!(text("Type"))),
        ("Size", json!(human_size4(whole(&record["Size"])))),
        ("CreatedSince", json!(since("CreatedAt"))),
        ("LastUsedSince", json!(since("LastUsedAt"))),
        ("UsageCount", json!(whole(&record["UsageCount"]).to_string())),
        ("Shared", json!((record["Shared"].as_bool() == Some(true)).to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_and_adds() {
        let usage = json!({
            "LayersSize": 1000,
            "Images": [{"Containers": 1, "Size": 600, "SharedSize": 100}, {"Containers": 0, "Size": 500, "SharedSize": 100}],
            "Containers": [{"State": "running", "SizeRw": 30}, {"State": "exited", "SizeRw": 10}],
            "Volumes": [{"UsageData": {"RefCount": 0, "Size": 5}}, {"UsageData": {"RefCount": 2, "Size": -1}}],
            "BuildCache": [{"Size": 7, "InUse": true}, {"Size": 4}, {"Size": 9, "Shared": true}],
        });
        let lines: Vec<String> = summary(&usage)
            .iter()
            .map(|row| {
                ["Type", "TotalCount", "Active", "Size", "Reclaimable"]
                    .map(|f| row[f].as_str().unwrap())
                    .join(" ")
            })
            .collect();
        assert_eq!(
            lines,
            [
                "Images 2 1 1kB 500B (50%)",
                "Containers 2 1 40B 10B (25%)",
                "Local Volumes 2 1 5B 5B (100%)",
                "Build Cache 3 1 11B 4B",
            ]
        );
    }
}
