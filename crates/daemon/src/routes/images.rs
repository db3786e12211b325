//! Images.

use std::sync::Arc;

use gantry_api::Method::{Delete, Get, Post};
use gantry_api::image::{DeleteItem, PruneResponse};
use gantry_api::inspect::GraphDriver;
use gantry_api::progress::Message;
use gantry_engine::images::{AllImages, ImportOptions, RemoveOptions, Removed, Summary};
use gantry_model::{Platform, Reference};
use gantry_server::router::RouterError;
use gantry_server::{Body, Reply, Request};
use http::StatusCode;

use super::{Answer, App, Table, filters, platform};
use crate::body;
use crate::changes;
use crate::fetch;
use crate::refusal::Refusal;
use crate::wire::{graph, image};

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/images/create", create)?;
    table.add(Get, "/images/json", list)?;
    table.add(Get, "/images/search", search)?;
    table.add(Get, "/images/{name…}/json", inspect)?;
    table.add(Get, "/images/{name…}/history", history)?;
    table.add(Post, "/images/{name…}/tag", tag)?;
    table.add(Post, "/images/{name…}/push", push)?;
    table.add(Delete, "/images/{name…}", remove)?;
    table.add(Post, "/images/prune", prune)
}

const NO_REGISTRY: &str = "registries are not supported yet: import an archive (docker import), build from scratch, or make a base image with gantry image bootstrap";

/// `import`; `pull` comes here too.
async fn create(app: Arc<App>, request: Request) -> Answer {
    let query = &request.query;
    if !query.get("fromSrc").is_empty() {
        return import(app, request).await;
    }
    let name = query.get("fromImage");
    let named = Reference::parse_normalized(name)?;
    // A tag may be a digest.
    if !query.get("tag").contains(':') && !query.get("tag").is_empty() {
        named.with_tag(query.get("tag")).map_err(|_| Refusal::invalid("invalid tag format"))?;
    }
    let _: Option<Platform> = wanted_platform(query.get("platform"))?;
    Err(Refusal::not_implemented(format!("cannot pull {name}: {NO_REGISTRY}")))
}

/// `os/arch[/variant]`, as pulls and imports have it.
fn wanted_platform(text: &str) -> Result<Option<Platform>, Refusal> {
    Ok(Some(text).filter(|text| !text.is_empty()).map(str::parse).transpose()?)
}

async fn import(app: Arc<App>, mut request: Request) -> Answer {
    let query = &request.query;
    let given: Vec<String> = query.all("changes").map(str::to_owned).collect();
    let platform = wanted_platform(query.get("platform"))?;
    if platform.as_ref().is_some_and(|platform| platform.os != Platform::host().os) {
        return Err(Refusal::invalid("operating system is not supported"));
    }
    if query.get("repo").contains('@') || query.get("tag").contains(':') {
        return Err(Refusal::invalid("cannot import digest reference"));
    }
    let options = ImportOptions {
        config: changes::apply(&given)?,
        message: query.get("message").to_owned(),
        reference: reference(query.get("repo"), query.get("tag"))?,
        platform,
    };
    let images = app.engine.images.clone();
    let source = query.get("fromSrc");
    if source != "-" {
        let address = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
        let comment = format!("Imported from {address}");
        let message = if options.message.is_empty() { comment } else { options.message.clone() };
        let reader = fetch::get(&address).await.map_err(|error| Refusal::invalid(error.to_string()))?;
        let made = images.import(reader, ImportOptions { message, ..options }).await;
        let mut lines = Message::status(format!("Downloading from {address}")).to_line();
        lines.extend(match made {
            Ok(image) => Message::status(image.to_string()).to_line(),
            // The address answered, so that what follows is told as it would be of a long download.
            Err(error) => Message::error(0, error.to_string()).to_line(),
        });
        return Ok(Reply::body("application/json", Body::full(lines)));
    }
    let (pump, reader) = body::pipe();
    // The pump ends when the reader goes, and the reader when the pump does.
    let (made, ()) = tokio::join!(images.import(reader, options), pump.run(&mut request));
    let line = Message::status(made?.to_string()).to_line();
    Ok(Reply::body("application/json", Body::full(line)))
}

/// A name from `repo` and `tag`; a tag that is a digest is refused with the name.
pub(super) fn reference(repository: &str, tag: &str) -> Result<Option<Reference>, Refusal> {
    if repository.is_empty() {
        return Ok(None);
    }
    let named = Reference::parse_normalized(repository)?;
    let whole = if tag.is_empty() {
        named
    } else {
        named.with_tag(tag).map_err(|_| Refusal::invalid("invalid tag format"))?
    };
    if whole.familiar_name() == "sha256" {
        return Err(Refusal::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    if whole.digest().is_some() {
        return Err(Refusal::invalid("refusing to create a tag with a digest reference"));
    }
    Ok(Some(whole.or_latest()))
}

async fn list(app: Arc<App>, request: Request) -> Answer {
    let mut filters = filters(&request)?;
    // Below 1.41 one name could be given by itself.
    if let Some(name) = request.query.find("filter").filter(|name| !name.is_empty()) {
        filters.add("reference", name);
    }
    let all = if request.query.bool("all") { AllImages::Yes } else { AllImages::No };
    if request.query.bool("shared-size") {
        let usage = app.engine.images.usage(all, &filters).await?;
        let images = usage.images.iter().map(|(one, shared)| image::with_shared(one, *shared));
        return Ok(Reply::versioned_json(&images.collect::<Vec<_>>()));
    }
    let images = app.engine.images.list(all, &filters).await?;
    Ok(Reply::versioned_json(&images.iter().map(image::summary).collect::<Vec<_>>()))
}

async fn search(_: Arc<App>, _: Request) -> Answer {
    Err(Refusal::not_implemented("searching Docker Hub is not supported yet"))
}

async fn inspect(app: Arc<App>, request: Request) -> Answer {
    // A store of layers, such as Docker's classic one and this, has no manifests to show and leaves them out.
    let found = match platform::one(request.query.get("platform"))? {
        Some(_) if request.query.bool("manifests") => {
            let text = "conflicting options: manifests and platform options cannot both be set";
            return Err(Refusal::invalid(text));
        }
        wanted => find(&app, request.name(), wanted).await?,
    };
    let root = app.engine.images.root(&found.id.to_string()).await.ok();
    let graph_driver = GraphDriver { name: app.driver.clone(), data: graph::of_image(root.as_ref()) };
    Ok(Reply::versioned_json(&image::inspect(&found, graph_driver)))
}

/// The image that is meant, of an index the one for the `platform` that is asked for; refuses one for another.
async fn find(app: &App, name: &str, wanted: Option<Platform>) -> Result<Summary, Refusal> {
    let Some(wanted) = wanted else {
        return Ok(app.engine.images.inspect(name).await?);
    };
    let found = app.engine.images.inspect_for(name, &wanted).await?;
    let have = found.config.platform();
    if have.serves(&wanted) {
        return Ok(found);
    }
    Err(Refusal::not_found(format!(
        "image with reference {name} was found but its platform ({have}) does not match the specified platform ({wanted})"
    )))
}

async fn history(app: Arc<App>, request: Request) -> Answer {
    let found = find(&app, request.name(), platform::one(request.query.get("platform"))?).await?;
    let entries = app.engine.images.history(&found.id.to_string()).await?;
    Ok(Reply::json(&entries.iter().map(image::history).collect::<Vec<_>>()))
}

async fn tag(app: Arc<App>, request: Request) -> Answer {
    let (repository, tag) = (request.query.get("repo"), request.query.get("tag"));
    let name = reference(repository, tag)?.ok_or_else(|| Refusal::invalid("invalid reference format"))?;
    app.engine.images.tag(request.name(), &name).await?;
    Ok(Reply::status(StatusCode::CREATED))
}

async fn push(_: Arc<App>, request: Request) -> Answer {
    Err(Refusal::not_implemented(format!("cannot push {}: registries are not supported yet", request.name())))
}

fn steps(removed: &[Removed]) -> Vec<DeleteItem> {
    let item = |one: &Removed| match one {
        Removed::Untagged(name) => DeleteItem { untagged: name.clone(), ..DeleteItem::default() },
        Removed::Deleted(digest) => DeleteItem { deleted: digest.to_string(), ..DeleteItem::default() },
    };
    removed.iter().map(item).collect()
}

async fn remove(app: Arc<App>, request: Request) -> Answer {
    let options =
        RemoveOptions { force: request.query.bool("force"), no_prune: request.query.bool("noprune") };
    let mut platforms = request.query.all("platforms");
    if let Some(wanted) = platforms.next().map(platform::one).transpose()?.flatten() {
        if platforms.next().is_some() {
            return Err(Refusal::invalid("multiple platforms are not supported"));
        }
        // A name goes with all that it means, so of another platform it is left.
        find(&app, request.name(), Some(wanted)).await?;
    }
    let removed = app.engine.images.remove(request.name(), options).await?;
    Ok(Reply::json(&steps(&removed)))
}

async fn prune(app: Arc<App>, request: Request) -> Answer {
    let (removed, bytes) = app.engine.images.prune(&filters(&request)?).await?;
    let items = steps(&removed);
    Ok(Reply::json(&PruneResponse {
        images_deleted: (!items.is_empty()).then_some(items),
        space_reclaimed: bytes,
    }))
}
