//! Making, listing, inspecting and changing containers.

use std::collections::HashMap;
use std::sync::Arc;

use gantry_api::ApiVersion;
use gantry_api::Method::{Delete, Get, Post};
use gantry_api::container::{CreateRequest, CreateResponse, PruneResponse, TopResponse, UpdateResponse};
use gantry_api::host_config::UpdateRequest;
use gantry_api::inspect::GraphDriver;
use gantry_engine::containers::{self, ListOptions, RemoveOptions, Update, View};
use gantry_model::Digest;
use gantry_server::router::RouterError;
use gantry_server::{Reply, Request};
use http::StatusCode;

use super::{Answer, App, Table, cells, filters, now};
use crate::refusal::Refusal;
use crate::wire::inspect::Beside;
use crate::wire::{create, graph, inspect, older, summary};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/containers/create", make)?;
    table.add(Get, "/containers/json", list)?;
    table.add(Get, "/containers/{id}/json", show)?;
    table.add(Get, "/containers/{id}/top", top)?;
    table.add(Post, "/containers/{id}/update", update)?;
    table.add(Post, "/containers/{id}/rename", rename)?;
    table.add(Post, "/containers/{id}/resize", resize)?;
    table.add(Delete, "/containers/{id}", remove)?;
    table.add(Post, "/containers/prune", prune)
}

const OBSOLETE_MAC: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";

async fn make(app: Arc<App>, mut request: Request) -> Answer {
    let body = request.tree().await?.ok_or(gantry_api::gojson::InvalidJson::Empty)?;
    let mut wire = CreateRequest::from_value(body)?;
    // The field is read at every version that has it; from 1.44 on endpoints have one of their own.
    let obsolete = request.version >= ApiVersion::v1(44) && !wire.config.mac_address.is_empty();
    if request.version >= ApiVersion::v1(48) {
        create::check_interface_sysctls(&wire)?;
    }
    older::create(&mut wire, request.version)?;
    let (name, platform) = (request.query.get("name"), request.query.get("platform"));
    let mut wanted = create::request(name, platform, wire, &app.defaults)?;
    wanted.binds_are_read_only_at_the_top = older::binds_are_read_only_at_the_top(request.version);
    let made = app.engine.containers.create(wanted).await.map_err(|error| match error {
        // Clients take 404 for a missing image and try to pull it.
        containers::Error::NoSuchContainer(_) => Refusal::invalid(error.to_string()),
        error => error.into(),
    })?;
    let mut warnings = made.warnings;
    warnings.extend(obsolete.then(|| OBSOLETE_MAC.to_owned()));
    let reply = CreateResponse { id: made.id.to_string(), warnings };
    Ok(Reply::json(&reply).with_status(StatusCode::CREATED))
}

async fn list(app: Arc<App>, request: Request) -> Answer {
    let limit = request.query.number("limit")?.unwrap_or(0);
    let options = ListOptions {
        all: request.query.bool("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        filters: filters(&request)?,
    };
    let sized = request.query.bool("size");
    let views = app.engine.containers.list(&options)?;
    let mut names = ImageNames::default();
    let mut all = Vec::with_capacity(views.len());
    let now = now();
    for view in views {
        let image = names.shown(&app, &view).await;
        let mut one = summary::summary(&view, image, now);
        if sized {
            // One that went away meanwhile has no size.
            if let Ok((written, whole)) = app.engine.containers.sizes(&one.id).await {
                one.size_rw = i64::try_from(written).unwrap_or(i64::MAX);
                one.size_root_fs = i64::try_from(whole).unwrap_or(i64::MAX);
            }
        }
        all.push(one);
    }
    Ok(Reply::versioned_json(&all))
}

/// What names of images mean now, each asked for once a list.
#[derive(Default)]
pub(super) struct ImageNames(HashMap<(String, Digest), bool>);

impl ImageNames {
    /// The image as a list shows it: by the container's name for it, unless that means another image now.
    pub(super) async fn shown(&mut self, app: &App, view: &View) -> String {
        let (name, id) = (&view.record.config.image, view.record.image);
        let key = (name.clone(), id);
        let means = match self.0.get(&key) {
            Some(means) => *means,
            None => {
                let means = app.engine.images.means(name, id).await;
                self.0.insert(key, means);
                means
            }
        };
        if means { name.clone() } else { id.to_string() }
    }
}

async fn show(app: Arc<App>, request: Request) -> Answer {
    let view = app.engine.containers.inspect(request.name())?;
    let sizes = match request.query.bool("size") {
        true => Some(app.engine.containers.sizes(request.name()).await?),
        false => None,
    };
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // A container that is being removed has no root file system any more, and is shown without.
    let root = app.engine.containers.root(request.name()).await.ok();
    let pid = Some(view.state.pid).filter(|pid| *pid != 0);
    let graph_driver = GraphDriver {
        name: app.driver.clone(),
        data: graph::of_container(view.record.id.as_str(), root.as_ref(), pid),
    };
    Ok(Reply::versioned_json(&inspect::inspect(&view, Beside { graph_driver, sizes, host_name })))
}

async fn top(app: Arc<App>, request: Request) -> Answer {
    let processes = app.engine.containers.top(request.name(), request.query.get("ps_args")).await?;
    Ok(Reply::json(&TopResponse { titles: processes.titles, processes: processes.rows }))
}

async fn update(app: Arc<App>, mut request: Request) -> Answer {
    let wire: UpdateRequest = request.json().await?;
    let policy = &wire.restart_policy;
    let restart = (!policy.name.is_empty()).then(|| create::restart_policy(policy)).transpose()?;
    let changes = changed(&wire);
    let update = Update { restart, resources: Some(create::resources(&wire)), host_config_json: changes };
    let warnings = app.engine.containers.update(request.name(), update).await?;
    Ok(Reply::json(&UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) }))
}

/// The fields that are not their defaults: what an update patches.
fn changed(wire: &UpdateRequest) -> serde_json::Value {
    let (mut given, silent) = (create::tree(wire), create::tree(&UpdateRequest::default()));
    if let Some(fields) = given.as_object_mut() {
        fields.retain(|key, value| silent.get(key) != Some(value));
        if wire.restart_policy.name.is_empty() {
            fields.remove("RestartPolicy");
        }
    }
    given
}

async fn rename(app: Arc<App>, request: Request) -> Answer {
    let name = request.query.get("name");
    app.engine.containers.rename(request.name(), name).await?;
    Ok(Reply::no_content())
}

async fn resize(app: Arc<App>, request: Request) -> Answer {
    let (rows, columns) = (cells(&request, "h", "height")?, cells(&request, "w", "width")?);
    app.engine.containers.resize(request.name(), rows, columns).await?;
    Ok(Reply::status(StatusCode::OK))
}

async fn remove(app: Arc<App>, request: Request) -> Answer {
    if request.query.bool("link") {
        return Err(Refusal::not_implemented("links are not supported yet"));
    }
    let options = RemoveOptions { force: request.query.bool("force"), volumes: request.query.bool("v") };
    app.engine.containers.remove(request.name(), options).await?;
    Ok(Reply::no_content())
}

async fn prune(app: Arc<App>, request: Request) -> Answer {
    let pruned = app.engine.containers.prune(&filters(&request)?).await?;
    let ids: Vec<String> = pruned.containers.iter().map(ToString::to_string).collect();
    Ok(Reply::json(&PruneResponse {
        containers_deleted: (!ids.is_empty()).then_some(ids),
        space_reclaimed: pruned.reclaimed_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_patches_only_what_it_says() {
        let wire: UpdateRequest = gantry_api::gojson::from_slice(
            br#"{"Memory":5,"CpuShares":0,"RestartPolicy":{"Name":"","MaximumRetryCount":0},"Devices":null}"#,
        )
        .expect("JSON");
        assert_eq!(changed(&wire), serde_json::json!({"Memory": 5}));
    }
}
