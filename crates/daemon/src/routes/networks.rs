//! Networks: those that are built in.

use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::{Delete, Get, Post};
use gantry_api::network::{ConnectRequest, CreateRequest, DisconnectRequest, PruneResponse};
use gantry_model::{ErrorKind, go};
use gantry_server::router::RouterError;
use gantry_server::{Failure, Reply, Request};

use super::{Answer, App, Table, filters};
use crate::refusal::Refusal;
use crate::wire::network::{Members, network};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Get, "/networks", list)?;
    table.add(Get, "/networks/{id}", inspect)?;
    table.add(Post, "/networks/create", create)?;
    table.add(Delete, "/networks/{id}", remove)?;
    table.add(Post, "/networks/{id}/connect", connect)?;
    table.add(Post, "/networks/{id}/disconnect", disconnect)?;
    table.add(Post, "/networks/prune", prune)
}

async fn list(app: Arc<App>, request: Request) -> Answer {
    let views = app.engine.networks.list(&filters(&request)?)?;
    // Since 1.28 a list does not say who is on a network.
    let members = if request.version < ApiVersion::v1(28) { Members::Shown } else { Members::Hidden };
    let all: Vec<_> = views.iter().map(|view| network(view, members)).collect();
    Ok(Reply::versioned_json(&all))
}

async fn inspect(app: Arc<App>, request: Request) -> Answer {
    let verbose = request.query.get("verbose");
    if !verbose.is_empty() && go::parse_bool(verbose).is_none() {
        let why = format!("strconv.ParseBool: parsing {verbose:?}: invalid syntax");
        return Err(Refusal::invalid(format!("invalid value for verbose: {verbose}: {why}")));
    }
    let view = app.engine.networks.inspect(request.name())?;
    if !matches!(request.query.get("scope"), "" | "local") {
        return Err(Refusal::not_found(format!("network {} not found", request.name())));
    }
    Ok(Reply::versioned_json(&network(&view, Members::Shown)))
}

const LATER: &str = "user-defined networks are not supported yet: use bridge, host, none or container:NAME";

async fn create(_: Arc<App>, mut request: Request) -> Answer {
    let wanted: CreateRequest = request.json().await?;
    match wanted.name.as_str() {
        "" => Err(Refusal::invalid("invalid name: name is empty")),
        name @ ("bridge" | "host" | "none" | "default") => {
            Err(forbidden(format!("operation is not permitted on predefined {name} network ")))
        }
        _ => Err(Refusal::not_implemented(LATER)),
    }
}

fn forbidden(text: String) -> Refusal {
    Failure::new(ErrorKind::Forbidden, text).into()
}

/// All networks that there are were there before the first request.
async fn remove(app: Arc<App>, request: Request) -> Answer {
    let view = app.engine.networks.inspect(request.name())?;
    Err(forbidden(format!("{} is a pre-defined network and cannot be removed", view.name)))
}

async fn connect(app: Arc<App>, mut request: Request) -> Answer {
    let wanted: ConnectRequest = request.json().await?;
    Err(kept(&app, &wanted.container, request.name()))
}

async fn disconnect(app: Arc<App>, mut request: Request) -> Answer {
    let wanted: DisconnectRequest = request.json().await?;
    Err(kept(&app, &wanted.container, request.name()))
}

/// What stands against a change of a container's networks: what is not there, or that it cannot be done yet.
fn kept(app: &App, container: &str, network: &str) -> Refusal {
    let there = app.engine.containers.inspect(container).map_err(Refusal::from);
    let refused =
        || Refusal::not_implemented(format!("a container keeps the network that it was made with: {LATER}"));
    match there.map(|_| app.engine.networks.inspect(network).map_err(Refusal::from)) {
        Err(refusal) | Ok(Err(refusal)) => refusal,
        Ok(Ok(_)) => refused(),
    }
}

async fn prune(app: Arc<App>, request: Request) -> Answer {
    let names = app.engine.networks.prune(&filters(&request)?)?;
    Ok(Reply::json(&PruneResponse { networks_deleted: (!names.is_empty()).then_some(names) }))
}
