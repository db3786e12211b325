//! `events`: a line of JSON each, as it happens.

use std::sync::Arc;

use gantry_api::Method::Get;
use gantry_api::event::{Actor, EventMessage};
use gantry_api::{ApiVersion, differences, gojson};
use gantry_engine::events::EventQuery;
use gantry_model::event::Event;
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request};
use http::header::ACCEPT;

use super::{Answer, App, Table, filters, now};
use crate::refusal::Refusal;
use crate::wire::{create, time};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/events", events)
}

/// How events are separated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines(&'static str),
    /// RFC 7464: each begins with a record separator.
    Sequence,
}

async fn events(app: Arc<App>, request: Request) -> Answer {
    let at = |key: &str| {
        let text = request.query.get(key);
        time::parse(text, now()).ok_or_else(|| Refusal::invalid(time::refusal(text)))
    };
    let (since, until) = (at("since")?, at("until")?);
    if let Some((since, until)) = since.zip(until)
        && since > until
    {
        return Err(Refusal::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            request.query.get("since"),
            request.query.get("until")
        )));
    }
    let mut subscription =
        app.engine.events.subscribe(EventQuery { since, until, filters: filters(&request)? })?;
    let format = format(&request);
    let (sender, body) = Body::channel(16);
    tokio::spawn(async move {
        let (endpoint, version) = (request.endpoint, request.version);
        loop {
            let event = tokio::select! {
                event = subscription.next() => event,
                () = sender.gone() => return,
            };
            let Some(event) = event else { return };
            let mut tree = create::tree(&message(&event));
            differences::reply(endpoint, version, &mut tree);
            let mut line = if format == Format::Sequence { vec![0x1e] } else { Vec::new() };
            line.extend(gojson::to_vec(&tree));
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    let content_type = match format {
        Format::Lines(content_type) => content_type,
        Format::Sequence => "application/json-seq",
    };
    Ok(Reply::body(content_type, body))
}

fn format(request: &Request) -> Format {
    let accepts = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let accepts =
        |kind: &str| accepts.split(',').any(|item| item.split(';').next().is_some_and(|k| k.trim() == kind));
    if request.version >= ApiVersion::v1(52) {
        if accepts("application/json-seq") {
            return Format::Sequence;
        }
        for kind in ["application/x-ndjson", "application/jsonl"] {
            if accepts(kind) {
                return Format::Lines(kind);
            }
        }
    }
    Format::Lines("application/json")
}

fn message(event: &Event) -> EventMessage {
    let old = matches!(event.kind.as_str(), "container" | "image");
    let or_nothing = |given: bool, text: &str| if given { text.to_owned() } else { String::new() };
    let from = event.attributes.get("image").map_or("", String::as_str);
    EventMessage {
        status: or_nothing(old, &event.action),
        id: or_nothing(old, &event.actor),
        from: or_nothing(event.kind == "container", from),
        kind: event.kind.clone(),
        action: event.action.clone(),
        actor: Actor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.time.secs(),
        time_nano: event.time.nanos(),
    }
}
