//! The routes, a file per resource. Each reads a request, calls one operation, and hands the result to
//! [`crate::wire`]; an endpoint that is not here answers 501.

mod archives;
mod attach;
mod build;
mod build_cache;
mod commit;
mod containers;
mod copy;
mod disk;
mod events;
mod exec;
mod images;
mod lifecycle;
mod logs;
mod networks;
mod platform;
mod stats;
mod swarm;
mod system;
mod volumes;

use std::sync::Arc;

use gantry_api::Method;
use gantry_api::model::filter::Filters;
use gantry_build::Builder;
use gantry_engine::Engine;
use gantry_server::router::RouterError;
use gantry_server::{Failure, Reply, Request, Router};

use crate::refusal::Refusal;
use crate::wire::defaults::HostDefaults;

/// What routes work with.
pub(crate) struct App {
    /// The nouns of the host.
    pub(crate) engine: Engine,
    /// Builds images.
    pub(crate) builder: Arc<Builder>,
    /// What is filled into a `HostConfig`.
    pub(crate) defaults: HostDefaults,
    /// The storage driver's name as Docker has it.
    pub(crate) driver: String,
    /// Whether debug messages are logged.
    pub(crate) debug: bool,
}

/// What a route answers.
type Answer = Result<Reply, Refusal>;

/// Adds routes to a router.
struct Table<'r> {
    router: &'r mut Router,
    app: &'r Arc<App>,
}

impl Table<'_> {
    fn add<F>(
        &mut self,
        method: Method,
        pattern: &str,
        route: fn(Arc<App>, Request) -> F,
    ) -> Result<(), RouterError>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let app = Arc::clone(self.app);
        self.router.add(method, pattern, move |request| {
            let answer = route(Arc::clone(&app), request);
            async move { answer.await.map_err(Failure::from) }
        })
    }
}

/// All routes.
///
/// # Errors
/// A route for an endpoint that the API does not have.
pub(crate) fn router(app: &Arc<App>) -> Result<Router, RouterError> {
    let mut router = Router::new();
    let mut table = Table { router: &mut router, app };
    system::add(&mut table)?;
    containers::add(&mut table)?;
    copy::add(&mut table)?;
    lifecycle::add(&mut table)?;
    attach::add(&mut table)?;
    logs::add(&mut table)?;
    stats::add(&mut table)?;
    exec::add(&mut table)?;
    archives::add(&mut table)?;
    commit::add(&mut table)?;
    images::add(&mut table)?;
    build::add(&mut table)?;
    build_cache::add(&mut table)?;
    networks::add(&mut table)?;
    volumes::add(&mut table)?;
    events::add(&mut table)?;
    disk::add(&mut table)?;
    swarm::add(&mut table)?;
    Ok(router)
}

/// The `filters` parameter.
fn filters(request: &Request) -> Result<Filters, Refusal> {
    Ok(gantry_api::filters::parse(request.query.get("filters"))?)
}

/// Now.
fn now() -> gantry_model::Timestamp {
    gantry_model::Timestamp::from_system(std::time::SystemTime::now())
}

/// A number of the terminal's size.
fn cells(request: &Request, key: &str, name: &str) -> Result<u16, Refusal> {
    let text = request.query.get(key);
    let refused = |why| Refusal::invalid(format!("invalid resize {name} {text:?}: {why}"));
    let number: i64 = text.parse().map_err(|_| refused("invalid syntax"))?;
    u16::try_from(number).map_err(|_| refused("value out of range"))
}
