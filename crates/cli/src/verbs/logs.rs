//! `logs`.

use std::io::Read as _;

use crate::api::Request;
use crate::commands::{Args, Command};
use crate::failure::Failure;
use crate::flags::{Kind, Order, both, long};
use crate::resource::Resource;
use crate::session;
use crate::show::units;

/// `logs`.
pub(crate) static LOGS: Command = Command {
    usage: "CONTAINER",
    about: "Fetch the logs of a container",
    aliases: "gantry container logs, gantry logs",
    flags: &[
        long("details", Kind::Bool, "Show extra details provided to logs"),
        both('f', "follow", Kind::Bool, "Follow log output"),
        long("since", Kind::Text, "Show logs since a time (2013-01-02T13:23:37Z) or a duration ago (42m)"),
        both('n', "tail", Kind::Text, "Number of lines to show from the end of the logs").or("all"),
        both('t', "timestamps", Kind::Bool, "Show timestamps"),
        long("until", Kind::Text, "Show logs before a time (2013-01-02T13:23:37Z) or a duration ago (42m)"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: |context, flags| {
        let api = context.api()?;
        let details = api.get(Resource::container(&flags.args[0])?.at("json"))?;
        let id = details["Id"].as_str().unwrap_or_default();
        let mut request = Request::get(format!("/containers/{id}/logs"))
            .query("stdout", "1")
            .query("stderr", "1")
            .query("tail", flags.text("tail"));
        for (flag, key) in [("follow", "follow"), ("timestamps", "timestamps"), ("details", "details")] {
            if flags.is(flag) {
                request = request.query(key, "1");
            }
        }
        for key in ["since", "until"] {
            if let Some(text) = flags.given_text(key).filter(|text| !text.is_empty()) {
                let time = units::timestamp(text)
                    .map_err(|why| Failure::plain(format!("invalid value for \"{key}\": {why}")))?;
                request = request.query(key, time);
            }
        }
        let mut answer = api.open(request)?;
        if details["Config"]["Tty"].as_bool() == Some(true) {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = answer.read(&mut buffer)?;
                if read == 0 {
                    return Ok(());
                }
                std::io::Write::write_all(&mut std::io::stdout(), &buffer[..read])?;
            }
        }
        session::framed(answer).map_err(|error| Failure::plain(error.to_string()))
    },
};
