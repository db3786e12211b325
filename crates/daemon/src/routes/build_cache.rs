//! The build cache: what it holds, for `system df`, and `builder prune`.

use std::sync::Arc;

use gantry_api::Method::Post;
use gantry_api::build::{BuildCache, PruneResponse};
use gantry_build::usage::{CacheRecord, Prune};
use gantry_model::ErrorKind;
use gantry_server::router::RouterError;
use gantry_server::{Failure, Reply, Request};

use super::{Answer, App, Table, filters, now};
use crate::refusal::Refusal;
use crate::wire::time;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/build/prune", prune)
}

/// The steps that it holds, the oldest first.
///
/// # Errors
/// What the builder says.
pub(super) async fn list(app: &App) -> Result<Vec<BuildCache>, Refusal> {
    let builder = Arc::clone(&app.builder);
    let records = tokio::task::spawn_blocking(move || builder.cached())
        .await
        .map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))??;
    let record = |one: CacheRecord| BuildCache {
        id: one.id,
        parents: None,
        kind: "regular".into(),
        description: one.description,
        in_use: one.in_use,
        shared: one.shared,
        size: i64::try_from(one.size_bytes).unwrap_or(i64::MAX),
        created_at: one.made.rfc3339_nano(),
        last_used_at: Some(one.used.rfc3339_nano()),
        usage_count: i64::try_from(one.uses).unwrap_or(i64::MAX),
    };
    Ok(records.into_iter().map(record).collect())
}

async fn prune(app: Arc<App>, request: Request) -> Answer {
    let wanted = wanted(&request)?;
    let builder = Arc::clone(&app.builder);
    let report = tokio::task::spawn_blocking(move || builder.prune(&wanted))
        .await
        .map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))??;
    Ok(Reply::json(&PruneResponse {
        caches_deleted: (!report.deleted.is_empty()).then_some(report.deleted),
        space_reclaimed: report.reclaimed_bytes,
    }))
}

/// What of the cache is to go. Names of limits that newer clients use come first; what narrows by labels
/// narrows nothing here, as in Docker, for a cached step has none.
fn wanted(request: &Request) -> Result<Prune, Refusal> {
    const KNOWN: &[&str] = &["id", "inuse", "shared", "until", "unused-for", "label", "label!"];
    let failed = |text: String| Refusal::invalid(format!("failed to prune build cache: {text}"));
    let bytes = |key: &str| -> Result<u64, Refusal> {
        match request.query.get(key) {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                Refusal::invalid(format!(
                    "{key} is in bytes and expects an integer, got {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    };
    let keep_bytes = bytes("reserved-space")?.max(bytes("keep-storage")?);
    let filters = filters(request)?;
    gantry_api::filters::accept(&filters, KNOWN).map_err(|error| failed(error.to_string()))?;
    let mut unused_since = None;
    for key in ["until", "unused-for"] {
        let text = match filters.get(key) {
            [] => continue,
            [text] => text,
            _ => return Err(failed("filters expect only one value".into())),
        };
        let since = time::parse(text, now()).flatten().ok_or_else(|| {
            failed(format!(
                "{key:?} filter expects a duration (e.g., '24h') or a timestamp: failed to parse value as time or duration: {text:?}"
            ))
        })?;
        unused_since = unused_since.max(Some(since));
    }
    let boolean = |key| gantry_api::filters::bool(&filters, key).map_err(|error| failed(error.to_string()));
    if boolean("inuse")? == Some(true) {
        // What builds use is not removed, whatever is asked for.
        return Ok(Prune { ids: vec![String::new()], ..Prune::default() });
    }
    let ids = filters.get("id").to_vec();
    let all = request.query.bool("all");
    Ok(Prune { all, unused_since, keep_bytes, ids, shared: boolean("shared")? })
}
