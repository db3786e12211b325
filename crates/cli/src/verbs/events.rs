//! `events`.

use serde_json::{Value, json};

use super::list::filters;
use crate::api::Request;
use crate::commands::{Args, Command};
use crate::failure::Failure;
use crate::flags::{Kind, Order, both, long};
use crate::show::template::{Format, Over};
use crate::show::units;

/// `events`.
pub(crate) static EVENTS: Command = Command {
    usage: "",
    about: "Get real time events from the server",
    aliases: "gantry system events, gantry events",
    flags: &[
        both('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
        long("format", Kind::Text, "Format output: json or TEMPLATE"),
        long("since", Kind::Text, "Show all events created since a time"),
        long("until", Kind::Text, "Stream events until a time"),
    ],
    order: Order::Mixed,
    args: Args::None,
    run: |context, flags| {
        let mut request = Request::get("/events");
        for key in ["since", "until"] {
            if let Some(text) = flags.given_text(key).filter(|text| !text.is_empty()) {
                let time = units::timestamp(text).map_err(Failure::plain)?;
                request = request.query(key, time);
            }
        }
        if let Some(filters) = filters(flags) {
            request = request.query("filters", filters);
        }
        let format = match flags.text("format") {
            "" | "json" => None,
            template => {
                let format = Format::new(template, Over::Event)?;
                // What no event has is said before the first one comes.
                format.apply(&json!({
                    "status": "", "id": "", "from": "", "Type": "", "Action": "", "scope": "", "time": 0,
                    "timeNano": 0, "Actor": {"ID": "", "Attributes": null},
                }))?;
                Some(format)
            }
        };
        let json = flags.text("format") == "json";
        context.api()?.open(request)?.each_document(|event| {
            match &format {
                Some(format) => println!("{}", format.apply(&event)?),
                None if json => println!("{event}"),
                None => println!("{}", line(&event)),
            }
            Ok(())
        })
    },
};

/// One event as Docker prints it.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let nanos =
        event["timeNano"].as_i64().unwrap_or_else(|| event["time"].as_i64().unwrap_or(0) * 1_000_000_000);
    let mut attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    attributes.sort();
    let mut out = format!(
        "{} {} {} {}",
        units::rfc3339_nano(nanos),
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    );
    if !attributes.is_empty() {
        out = format!("{out} ({})", attributes.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"Type": "container", "Action": "die", "timeNano": 1_795_261_180_145_967_940_i64,
            "Actor": {"ID": "ab", "Attributes": {"name": "x", "exitCode": "1"}}});
        assert_eq!(line(&event), "2026-11-21T11:39:40.145967940Z container die ab (exitCode=1, name=x)");
    }
}
