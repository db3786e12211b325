//! `stats`: a sample each second, or one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_api::Method::Get;
use gantry_api::{ApiVersion, gojson};
use gantry_engine::containers::{Interface, Stats, View};
use gantry_runtime::cgroup::BlkioEntry;
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request};
use serde_json::{Map, Value, json};

use super::{Answer, App, Table};
use crate::refusal::Refusal;

/// Between the two samples that a share of the CPU is computed of. The kernel's total counts in hundredths of a second
/// a CPU, so that half a second tells a percent or better.
const BETWEEN: Duration = Duration::from_millis(500);

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/containers/{id}/stats", stats)
}

async fn stats(app: Arc<App>, request: Request) -> Answer {
    let version = request.version;
    if request.query.bool_or("stream", true) && request.query.bool("one-shot") {
        return Err(Refusal::invalid("cannot have stream=true and one-shot=true"));
    }
    let view = app.engine.containers.inspect(request.name())?;
    let first = app.engine.containers.stats(request.name()).await?;
    if !request.query.bool_or("stream", true) {
        if request.query.bool("one-shot") {
            return Ok(Reply::json(&sample(&view, &first, &Stats::default(), version)));
        }
        tokio::time::sleep(BETWEEN).await;
        let second = app.engine.containers.stats(request.name()).await?;
        return Ok(Reply::json(&sample(&view, &second, &first, version)));
    }
    let (sender, body) = Body::channel(1);
    let id = view.record.id.to_string();
    tokio::spawn(async move {
        let mut before = Stats::default();
        let mut now = first;
        loop {
            if sender.send(gojson::to_vec(&sample(&view, &now, &before, version))).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = sender.gone() => return,
            }
            before = now;
            // It ends with the container.
            now = match app.engine.containers.stats(&id).await.map_err(Refusal::from) {
                Ok(now) => now,
                Err(_) => return,
            };
        }
    });
    Ok(Reply::body("application/json", body))
}

/// A sample in Docker's shape, which depends on the version of the host's control groups.
fn sample(view: &View, now: &Stats, before: &Stats, version: ApiVersion) -> Value {
    let read = |stats: &Stats| match stats.read.nanos() {
        0 => gantry_api::ZERO_TIME.to_owned(),
        _ => stats.read.rfc3339_nano(),
    };
    let mut sample = json!({
        "name": format!("/{}", view.record.name),
        "id": view.record.id.to_string(),
        "read": read(now),
        "preread": read(before),
        "pids_stats": pids(now),
        "blkio_stats": block(now),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before),
        "memory_stats": memory(now),
    });
    if !now.network.is_empty() {
        sample["networks"] = networks(now);
    }
    if version >= ApiVersion::v1(52) {
        sample["os_type"] = json!("linux");
    }
    sample
}

fn pids(stats: &Stats) -> Value {
    let Some(used) = stats.used.as_ref().filter(|used| used.pids_current > 0) else { return json!({}) };
    // Version 1 has no word for no limit.
    if used.pids_limit == u64::MAX && !stats.unified {
        return json!({"current": used.pids_current});
    }
    json!({"current": used.pids_current, "limit": used.pids_limit})
}

fn cpu(stats: &Stats) -> Value {
    let used = stats.used.clone().unwrap_or_default();
    let mut usage = json!({"total_usage": used.cpu_total_ns});
    if !used.cpu_per_cpu_ns.is_empty() {
        usage["percpu_usage"] = json!(used.cpu_per_cpu_ns);
    }
    usage["usage_in_kernelmode"] = json!(used.cpu_system_ns);
    usage["usage_in_usermode"] = json!(used.cpu_user_ns);
    let mut cpu = json!({
        "cpu_usage": usage,
        "throttling_data": {
            "periods": used.throttling_periods,
            "throttled_periods": used.throttled_periods,
            "throttled_time": used.throttled_ns,
        },
    });
    // A sample that was not taken does not tell of a host without CPUs.
    if stats.used.is_some() {
        cpu["system_cpu_usage"] = json!(stats.system_cpu_ns);
        cpu["online_cpus"] = json!(stats.online_cpus);
    }
    cpu
}

fn memory(stats: &Stats) -> Value {
    let Some(used) = stats.used.as_ref().filter(|_| stats.memory_limit_bytes > 0) else { return json!({}) };
    let lines: BTreeMap<&str, u64> =
        used.memory_stat.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let mut memory = Map::new();
    memory.insert("usage".into(), json!(used.memory_usage_bytes));
    if !stats.unified {
        memory.insert("max_usage".into(), json!(used.memory_max_usage_bytes));
    }
    memory.insert("stats".into(), json!(lines));
    if used.memory_failures > 0 {
        memory.insert("failcnt".into(), json!(used.memory_failures));
    }
    memory.insert("limit".into(), json!(stats.memory_limit_bytes));
    Value::Object(memory)
}

fn block(stats: &Stats) -> Value {
    let entries = stats.used.as_ref().map_or(&[][..], |used| &used.blkio);
    let list = |figure: fn(&BlkioEntry) -> u64| -> Vec<Value> {
        let entry = |one: &BlkioEntry| {
            // Version 2 has the words in small letters.
            let operation = if stats.unified { one.operation.to_lowercase() } else { one.operation.clone() };
            json!({"major": one.major, "minor": one.minor, "op": operation, "value": figure(one)})
        };
        entries.iter().map(entry).collect()
    };
    let bytes = list(|one| one.bytes);
    // What version 2 does not count is null there; version 1 has empty lists of what this kernel does not.
    let absent = if stats.unified || stats.used.is_none() { Value::Null } else { json!([]) };
    let some = |list: Vec<Value>| if list.is_empty() { absent.clone() } else { Value::Array(list) };
    let operations = if stats.unified { Vec::new() } else { list(|one| one.operations) };
    json!({
        "io_service_bytes_recursive": some(bytes),
        "io_serviced_recursive": some(operations),
        "io_queue_recursive": absent,
        "io_service_time_recursive": absent,
        "io_wait_time_recursive": absent,
        "io_merged_recursive": absent,
        "io_time_recursive": absent,
        "sectors_recursive": absent,
    })
}

fn networks(stats: &Stats) -> Value {
    let interface = |one: &Interface| {
        let counters = json!({
            "rx_bytes": one.received.bytes, "rx_packets": one.received.packets,
            "rx_errors": one.received.errors, "rx_dropped": one.received.dropped,
            "tx_bytes": one.sent.bytes, "tx_packets": one.sent.packets,
            "tx_errors": one.sent.errors, "tx_dropped": one.sent.dropped,
        });
        (one.name.clone(), counters)
    };
    Value::Object(stats.network.iter().map(interface).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use gantry_engine::containers::Traffic;

    use super::*;

    #[test]
    fn what_there_is_not_is_left_out() {
        let nothing = Stats::default();
        assert_eq!(cpu(&nothing).get("online_cpus"), None);
        assert_eq!(cpu(&nothing).get("system_cpu_usage"), None);
        assert_eq!(cpu(&nothing)["cpu_usage"]["total_usage"], 0);
        assert_eq!(memory(&nothing), json!({}));
        assert_eq!(pids(&nothing), json!({}));

        let used = Some(gantry_runtime::cgroup::Stats::default());
        let some = Stats { used, online_cpus: 2, system_cpu_ns: 7, ..Stats::default() };
        assert_eq!(cpu(&some)["online_cpus"], 2);
        assert_eq!(cpu(&some)["system_cpu_usage"], 7);
    }

    #[test]
    fn an_interface_is_told_under_its_name() {
        let received = Traffic { bytes: 10, packets: 2, errors: 0, dropped: 1 };
        let sent = Traffic { bytes: 30, ..Traffic::default() };
        let one = Interface { name: "eth0".into(), received, sent };
        let told = networks(&Stats { network: vec![one], ..Stats::default() });
        assert_eq!(told["eth0"]["rx_bytes"], 10);
        assert_eq!(told["eth0"]["rx_dropped"], 1);
        assert_eq!(told["eth0"]["tx_bytes"], 30);
    }
}
