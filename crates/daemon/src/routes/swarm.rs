//! The cluster's endpoints: this daemon is not part of one, and says so as Docker does.

use std::sync::Arc;

use gantry_api::Method::Post;
use gantry_api::endpoints;
use gantry_model::ErrorKind;
use gantry_server::router::RouterError;
use gantry_server::{Failure, Request};

use super::{Answer, App, Table};
use crate::refusal::Refusal;

/// The first segments of the paths of a cluster.
const NOUNS: [&str; 6] = ["swarm", "nodes", "services", "tasks", "secrets", "configs"];

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    for endpoint in endpoints::ALL {
        let noun = endpoint.pattern.split('/').nth(1).unwrap_or_default();
        if !NOUNS.contains(&noun) {
            continue;
        }
        match (endpoint.method, endpoint.pattern) {
            (Post, "/swarm/init" | "/swarm/join") => {
                table.add(endpoint.method, endpoint.pattern, enter)?;
            }
            (Post, "/swarm/leave") => table.add(endpoint.method, endpoint.pattern, leave)?,
            _ => table.add(endpoint.method, endpoint.pattern, outside)?,
        }
    }
    Ok(())
}

async fn outside(_: Arc<App>, _: Request) -> Answer {
    let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    Err(Failure::new(ErrorKind::Unavailable, text).into())
}

async fn leave(_: Arc<App>, _: Request) -> Answer {
    Err(Failure::new(ErrorKind::Unavailable, "This node is not part of a swarm").into())
}

async fn enter(_: Arc<App>, _: Request) -> Answer {
    Err(Refusal::not_implemented("swarm mode is not supported: this daemon serves one host"))
}
