//! `logs`: what a container wrote, framed unless it has a terminal.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::Get;
use gantry_api::frame::{self, Stream};
use gantry_engine::containers::logs::Details;
use gantry_engine::containers::{LogEntry, LogOptions, LogStream};
use gantry_model::Timestamp;
use gantry_server::reply::Gone;
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request, Sender};

use super::{Answer, App, Table, now};
use crate::refusal::Refusal;
use crate::wire::time;

/// Entries are gathered into pieces of this many bytes while more are at hand.
const PIECE_BYTES: usize = 32 << 10;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/containers/{id}/logs", logs)
}

async fn logs(app: Arc<App>, request: Request) -> Answer {
    let query = &request.query;
    let (stdout, stderr) = (query.bool("stdout"), query.bool("stderr"));
    if !stdout && !stderr {
        return Err(Refusal::invalid("Bad parameters: you must choose at least one stream"));
    }
    let at = |key: &str| {
        let text = query.get(key);
        time::parse(text, now()).ok_or_else(|| Refusal::invalid(time::refusal(text)))
    };
    let options = LogOptions {
        stdout,
        stderr,
        follow: query.bool("follow"),
        tail: tail(query.get("tail")),
        since: at("since")?,
        until: at("until")?,
        details: if query.bool("details") { Details::Read } else { Details::Omitted },
    };
    let stamps = query.bool("timestamps");
    let details = options.details;
    let stream = app.engine.containers.logs(request.name(), options).await?;
    let framed = !stream.tty();
    let named = framed && request.version >= ApiVersion::v1(42);
    let (sender, body) = Body::channel(4);
    tokio::spawn(send(stream, sender, Form { framed, stamps, details }));
    Ok(Reply::body(if named { frame::MULTIPLEXED } else { frame::RAW }, body))
}

/// The last so many entries; anything but a number is all of them, as in Docker.
fn tail(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// How entries look on the wire.
struct Form {
    framed: bool,
    stamps: bool,
    /// Whether attributes stand before each line.
    details: Details,
}

/// What `--details` puts before a line: the attributes, sorted and escaped as in an address, and a blank.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pair = |(key, value): (&String, &String)| format!("{}={}", escaped(key), escaped(value));
    let pairs: Vec<String> = attributes.iter().map(pair).collect();
    pairs.join(",") + " "
}

/// As Go's `url.QueryEscape`.
fn escaped(text: &str) -> String {
    let each = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(each).collect()
}

async fn send(mut stream: LogStream, sender: Sender, form: Form) {
    let mut piece = Vec::new();
    loop {
        // While entries are at hand they share a piece; a wait sends what there is first.
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            sent = flush(&sender, &mut piece), if !piece.is_empty() => match sent {
                Ok(()) => continue,
                Err(Gone) => return,
            },
            () = sender.gone() => return,
        };
        match next {
            Ok(Some(entry)) => encode(&entry, &form, &mut piece),
            Ok(None) => {
                // The stream ends either way.
                let _ = flush(&sender, &mut piece).await;
                return;
            }
            Err(error) => {
                let text = format!("error reading logs: {error}\n");
                piece.extend(if form.framed {
                    frame::frame(Stream::SystemError, text.as_bytes())
                } else {
                    text.into_bytes()
                });
                let _ = flush(&sender, &mut piece).await;
                return;
            }
        }
        if piece.len() >= PIECE_BYTES && flush(&sender, &mut piece).await.is_err() {
            return;
        }
    }
}

async fn flush(sender: &Sender, piece: &mut Vec<u8>) -> Result<(), Gone> {
    if piece.is_empty() {
        return Ok(());
    }
    sender.send(std::mem::take(piece)).await
}

fn encode(entry: &LogEntry, form: &Form, into: &mut Vec<u8>) {
    let mut stamp = if form.stamps { stamp(entry.time) } else { String::new() };
    if form.details == Details::Read {
        stamp.push_str(&details(&entry.attributes));
    }
    if form.framed {
        let len = u32::try_from(stamp.len() + entry.bytes.len()).unwrap_or(u32::MAX);
        let stream = if entry.stderr { Stream::Stderr } else { Stream::Stdout };
        into.extend_from_slice(&frame::header(stream, len));
    }
    into.extend_from_slice(stamp.as_bytes());
    into.extend_from_slice(&entry.bytes);
}

fn stamp(time: Timestamp) -> String {
    format!("{} ", time.rfc3339_fixed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_framed_and_stamped() {
        let mut entry = LogEntry {
            stderr: true,
            time: Timestamp::from_secs(0),
            bytes: b"hi\n".to_vec(),
            attributes: BTreeMap::new(),
        };
        let mut out = Vec::new();
        let form = |framed, stamps, details| Form { framed, stamps, details };
        encode(&entry, &form(true, false, Details::Omitted), &mut out);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03hi\n");
        out.clear();
        encode(&entry, &form(false, true, Details::Omitted), &mut out);
        assert_eq!(out, b"1970-01-01T00:00:00.000000000Z hi\n");
        out.clear();
        encode(&entry, &form(true, false, Details::Read), &mut out);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x04 hi\n", "the frame's length has the details");
        out.clear();
        entry.attributes.insert("tag".into(), "a/b c".into());
        entry.attributes.insert("A".into(), "1".into());
        encode(&entry, &form(false, false, Details::Read), &mut out);
        assert_eq!(out, b"A=1,tag=a%2Fb+c hi\n");
    }
}
