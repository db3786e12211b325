//! Networks: those that are built in.

use std::sync::Arc;

use gantry_api::Method::Get;
use gantry_server::router::RouterError;
use gantry_server::{Reply, Request};

use super::{Answer, App, Table, filters};
use crate::wire::network::{Members, network};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/networks", list)?;
    table.add(Get, "/networks/{id}", inspect)
}

async fn list(app: Arc<App>, request: Request) -> Answer {
    let views = app.engine.networks.list(&filters(&request)?)?;
    let all: Vec<_> = views.iter().map(|view| network(view, Members::Hidden)).collect();
    Ok(Reply::versioned_json(&all))
}

async fn inspect(app: Arc<App>, request: Request) -> Answer {
    let view = app.engine.networks.inspect(request.name())?;
    Ok(Reply::versioned_json(&network(&view, Members::Shown)))
}
