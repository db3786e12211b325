//! `stats`: a sample each second, or one.

use std::sync::Arc;
use std::time::Duration;

use gantry_api::Method::Get;
use gantry_api::gojson;
use gantry_engine::containers::{Stats, View};
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
    let view = app.engine.containers.inspect(request.name())?;
    let first = app.engine.containers.stats(request.name()).await?;
    if !request.query.bool_or("stream", true) {
        if request.query.bool("one-shot") {
            return Ok(Reply::json(&sample(&view, &first, &Stats::default())));
        }
        tokio::time::sleep(BETWEEN).await;
        let second = app.engine.containers.stats(request.name()).await?;
        return Ok(Reply::json(&sample(&view, &second, &first)));
    }
    let (sender, body) = Body::channel(1);
    let id = view.record.id.to_string();
    tokio::spawn(async move {
        let mut before = Stats::default();
        let mut now = first;
        loop {
            if sender.send(gojson::to_vec(&sample(&view, &now, &before))).await.is_err() {
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

/// A sample in Docker's shape.
fn sample(view: &View, now: &Stats, before: &Stats) -> Value {
    let read = |stats: &Stats| match stats.read.nanos() {
        0 => gantry_api::ZERO_TIME.to_owned(),
        _ => stats.read.rfc3339_nano(),
    };
    json!({
        "name": format!("/{}", view.record.name),
        "id": view.record.id.to_string(),
        "os_type": "linux",
        "read": read(now),
        "preread": read(before),
        "pids_stats": if now.pids.0 == 0 { json!({}) } else { json!({"current": now.pids.0, "limit": now.pids.1}) },
        "blkio_stats": block(now),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before),
        "memory_stats": memory(now),
        "networks": networks(now),
    })
}

fn cpu(stats: &Stats) -> Value {
    let (all, kernel, user) = stats.cpu_ns;
    json!({
        "cpu_usage": {"total_usage": all, "usage_in_kernelmode": kernel, "usage_in_usermode": user},
        "system_cpu_usage": stats.system_cpu_ns,
        "online_cpus": stats.online_cpus,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

fn memory(stats: &Stats) -> Value {
    let (usage, limit) = stats.memory_bytes;
    if limit == 0 {
        return json!({});
    }
    // Clients subtract one or the other from the usage, by the version of the host's cgroups.
    let inactive = stats.inactive_file_bytes;
    json!({
        "usage": usage,
        "limit": limit,
        "stats": {"inactive_file": inactive, "total_inactive_file": inactive},
    })
}

fn block(stats: &Stats) -> Value {
    let (read, written) = stats.block_bytes;
    let entry =
        |operation: &str, bytes: u64| json!({"major": 0, "minor": 0, "op": operation, "value": bytes});
    let entries = (read + written > 0).then(|| json!([entry("read", read), entry("write", written)]));
    json!({
        "io_service_bytes_recursive": entries,
        "io_serviced_recursive": null, "io_queue_recursive": null, "io_service_time_recursive": null,
        "io_wait_time_recursive": null, "io_merged_recursive": null, "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn networks(stats: &Stats) -> Value {
    let interface = |(name, rx_bytes, rx_packets, tx_bytes, tx_packets): &(String, u64, u64, u64, u64)| {
        let counters = json!({
            "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": 0, "rx_dropped": 0,
            "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": 0, "tx_dropped": 0,
        });
        (name.clone(), counters)
    };
    Value::Object(stats.network.iter().map(interface).collect::<Map<_, _>>())
}
