//! `stats`: what containers use, once or as a display that renews itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, Request};
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, both, long};
use crate::resource::Resource;
use crate::show::rows::{self, Row, Shape};
use crate::show::table::short_id;
use crate::show::units::{binary_size, human_size};

/// How often the display is renewed.
const PERIOD: Duration = Duration::from_millis(500);

/// `stats`.
pub(crate) static STATS: Command = Command {
    usage: "[CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    aliases: "gantry container stats, gantry stats",
    flags: &[
        both('a', "all", Kind::Bool, "Show all containers (default shows just running)"),
        long("format", Kind::Text, "Format output: table, table TEMPLATE, json or TEMPLATE"),
        long("no-stream", Kind::Bool, "Disable streaming stats and only pull the first result"),
        long("no-trunc", Kind::Bool, "Do not truncate output"),
    ],
    order: Order::Mixed,
    args: Args::AtLeast(0),
    run: stats,
};

static STATISTICS: rows::Kind = rows::Kind {
    headings: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    go_type: "*container.statsContext",
};

fn stats(context: &Context, flags: &Parsed) -> Outcome {
    let api = context.api()?;
    let full = flags.is("no-trunc");
    let format = super::list::format_of(context, flags, "statsFormat");
    let show = |rows: &[Row]| {
        let columns = &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
        let shape = Shape { format, quiet: false, columns, id: ("ID", "ID"), raw: "raw" };
        rows::render(&STATISTICS, &shape, rows)
    };
    if flags.is("no-stream") {
        let names = names(api, flags)?;
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (name, answer) in names.iter().zip(once(api, &names)) {
            match answer {
                Ok(sample) => rows.push(row(name, &sample, full)),
                Err(text) => errors.push(text),
            }
        }
        super::lifecycle::fail_with(errors)?;
        print!("{}", show(&rows)?);
        return Ok(());
    }
    // What is not there is told of at once, and of all of them.
    let look_up = |name: &String| api.ask(Request::get(Resource::container(name)?.at("json")));
    let missing: Vec<String> =
        flags.args.iter().filter_map(|name| look_up(name).err()).map(|error| error.to_string()).collect();
    super::lifecycle::fail_with(missing)?;
    live(api, flags, |samples| {
        let rows: Vec<Row> = samples.iter().map(|(name, sample)| row(name, sample, full)).collect();
        show(&rows)
    })
}

/// The containers that are asked for: those named, else all that there are, newest first.
fn names(api: &Api, flags: &Parsed) -> Outcome<Vec<String>> {
    if !flags.args.is_empty() {
        return Ok(flags.args.clone());
    }
    let mut request = Request::get("/containers/json");
    if flags.is("all") {
        request = request.query("all", "1");
    }
    let list = api.ask(request)?;
    let ids = list.as_array().into_iter().flatten().filter_map(|container| container["Id"].as_str());
    Ok(ids.map(|id| short_id(id).to_owned()).collect())
}

/// One sample of each, all at the same time: a sample takes the daemon up to two seconds.
fn once(api: &Api, names: &[String]) -> Vec<Result<Value, String>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let path = Resource::container(name).map_err(|error| error.to_string())?;
                    let request = Request::get(path.at("stats")).query("stream", "0");
                    api.ask(request).map_err(|error| error.to_string())
                })
            })
            .collect();
        let ended = asked.into_iter().map(|task| task.join());
        ended.map(|answer| answer.unwrap_or_else(|_| Err("the request was not made".into()))).collect()
    })
}

type Samples = Arc<Mutex<BTreeMap<usize, (String, Value)>>>;

/// Keeps a stream of samples for each container, and paints what is known twice a second, until the
/// last named container is gone or the user interrupts.
fn live(api: &Api, flags: &Parsed, show: impl Fn(&[(String, Value)]) -> Outcome<String>) -> Outcome {
    let samples: Samples = Arc::default();
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let mut followed: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        loop {
            for name in names(api, flags)? {
                if followed.contains(&name) {
                    continue;
                }
                let place = followed.len();
                followed.push(name.clone());
                let (samples, failure) = (&samples, &failure);
                scope.spawn(move || {
                    let path = Resource::container(&name).map_err(Failure::from);
                    let answer = path.and_then(|path| api.open(Request::get(path.at("stats"))));
                    let ended = answer.and_then(|answer| {
                        answer.each_document(|sample| {
                            lock(samples).insert(place, (name.clone(), sample));
                            Ok(())
                        })
                    });
                    lock(samples).remove(&place);
                    if let Err(why) = ended {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    }
                });
            }
            std::thread::sleep(PERIOD);
            if let Some(why) = failure.lock().unwrap_or_else(PoisonError::into_inner).take()
                && !flags.args.is_empty()
            {
                // The streams of the others would go on for as long as this scope.
                eprintln!("{why}");
                std::process::exit(why.code);
            }
            let now: Vec<_> = lock(&samples).values().cloned().collect();
            let mut screen = String::from("\x1b[H");
            for line in show(&now)?.lines() {
                let _ = writeln!(screen, "{line} \x1b[K");
            }
            print!("{screen}\x1b[J");
            std::io::Write::flush(&mut std::io::stdout())?;
        }
    })
}

fn lock(samples: &Samples) -> std::sync::MutexGuard<'_, BTreeMap<usize, (String, Value)>> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "two digits after the point are shown")]
fn float(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_u64().map(|number| number as f64)).unwrap_or(0.0)
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn row(asked: &str, sample: &Value, full: bool) -> Row {
    let (used, limit) = memory(sample);
    let percent = |part: f64, all: f64| if all > 0.0 { part / all * 100.0 } else { 0.0 };
    let (received, sent) = network(sample);
    let (read, written) = block(sample);
    let id = sample["id"].as_str().unwrap_or("");
    let name = sample["name"].as_str().unwrap_or("").trim_start_matches('/');
    #[expect(clippy::cast_precision_loss, reason = "two digits after the point are shown")]
    let share = percent(used as f64, limit as f64);
    rows::row([
        ("Container", json!(asked)),
        ("Name", json!(if name.is_empty() { "--" } else { name })),
        ("ID", json!(if full { id } else { short_id(id) })),
        ("CPUPerc", json!(format!("{:.2}%", cpu(sample)))),
        ("MemUsage", json!(format!("{} / {}", binary_size(used), binary_size(limit)))),
        ("MemPerc", json!(format!("{share:.2}%"))),
        ("NetIO", json!(format!("{} / {}", human_size(received), human_size(sent)))),
        ("BlockIO", json!(format!("{} / {}", human_size(read), human_size(written)))),
        ("PIDs", json!(whole(&sample["pids_stats"]["current"]).to_string())),
    ])
}

/// The share of one CPU since the sample before, in percent; two busy CPUs are 200.
fn cpu(sample: &Value) -> f64 {
    let (now, before) = (&sample["cpu_stats"], &sample["precpu_stats"]);
    let used = float(&now["cpu_usage"]["total_usage"]) - float(&before["cpu_usage"]["total_usage"]);
    let passed = float(&now["system_cpu_usage"]) - float(&before["system_cpu_usage"]);
    let cpus = match float(&now["online_cpus"]) {
        none if none <= 0.0 => {
            let each = now["cpu_usage"]["percpu_usage"].as_array().map_or(0, Vec::len);
            f64::from(u32::try_from(each).unwrap_or(0))
        }
        cpus => cpus,
    };
    if used > 0.0 && passed > 0.0 { used / passed * cpus * 100.0 } else { 0.0 }
}

/// Bytes in use without what the kernel would give back at once, and the limit.
fn memory(sample: &Value) -> (i64, i64) {
    let memory = &sample["memory_stats"];
    let used = whole(&memory["usage"]);
    // The one is cgroup v1's name, the other v2's.
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .filter_map(|field| memory["stats"][*field].as_i64())
        .find(|inactive| *inactive < used);
    (used - inactive.unwrap_or(0), whole(&memory["limit"]))
}

fn network(sample: &Value) -> (i64, i64) {
    let all = || sample["networks"].as_object().into_iter().flatten();
    let sum = |field: &str| all().map(|(_, network)| whole(&network[field])).sum();
    (sum("rx_bytes"), sum("tx_bytes"))
}

fn block(sample: &Value) -> (i64, i64) {
    let entries = || sample["blkio_stats"]["io_service_bytes_recursive"].as_array().into_iter().flatten();
    let sum = |letter: char| {
        let of_kind = |entry: &&Value| {
            entry["op"].as_str().is_some_and(|op| op.starts_with([letter, letter.to_ascii_uppercase()]))
        };
        entries().filter(of_kind).map(|entry| whole(&entry["value"])).sum()
    };
    (sum('r'), sum('w'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_becomes_a_row() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web", "pids_stats": {"current": 3},
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 10 << 20, "stats": {"total_inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 4096}, {"op": "write", "value": 1}, {"op": "Total", "value": 9}]},
        });
        let row = row("web", &sample, false);
        for (field, want) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "20.00%"),
            ("MemUsage", "2MiB / 10MiB"),
            ("MemPerc", "20.00%"),
            ("NetIO", "1.5kB / 2B"),
            ("BlockIO", "4.1kB / 1B"),
            ("PIDs", "3"),
        ] {
            assert_eq!(row[field], want, "{field}");
        }
        let stopped = super::row("x", &json!({"name": "/x", "id": "ab"}), false);
        assert_eq!((&stopped["CPUPerc"], &stopped["MemUsage"]), (&json!("0.00%"), &json!("0B / 0B")));
    }
}
