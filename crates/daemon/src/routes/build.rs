//! `build`: the context is read by the builder on a thread of its own; its events become the stream of
//! the classic builder.

use std::sync::Arc;

use gantry_api::Method::Post;
use gantry_api::build::BuildOptions as Wire;
use gantry_build::render::{Asked, Classic};
use gantry_build::{
    BuildError, BuildEvent, BuildOptions, BuildRequest, Cancel, ContextSource, NetworkMode, RunOptions,
};
use gantry_model::{ErrorKind, Reference};
use gantry_server::router::RouterError;
use gantry_server::{Body, Failure, Reply, Request, Sender};
use tokio::sync::oneshot;

use super::{Answer, App, Table};
use crate::body::{self, BodyReader};
use crate::refusal::Refusal;

pub(super) fn add(table: &mut Table<'_>) -> Result<(), RouterError> {
    table.add(Post, "/build", build)
}

/// Withdraws a build when its client is gone.
struct Withdraw(Cancel);

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn build(app: Arc<App>, mut request: Request) -> Answer {
    let wire = Wire::parse(&request.query)?;
    if wire.version == "2" || wire.remote == "client-session" {
        return Err(Refusal::not_implemented(
            "BuildKit's API is not supported yet: set DOCKER_BUILDKIT=0 to use the classic builder",
        ));
    }
    if !matches!(wire.version.as_str(), "" | "1") {
        return Err(Refusal::invalid(format!("invalid version {:?}", wire.version)));
    }
    if wire.squash {
        return Err(Refusal::not_implemented("--squash is not supported"));
    }
    if !request.query.get("securityopt").is_empty() {
        return Err(Refusal::invalid("security options are not supported on linux"));
    }
    let isolation = request.query.get("isolation");
    if !isolation.is_empty() && !isolation.eq_ignore_ascii_case("default") {
        return Err(Refusal::invalid(format!("unsupported isolation: {isolation:?}")));
    }
    let (pump, reader) = body::pipe();
    let asked = Asked { quiet: wire.quiet, remove: wire.remove, force_remove: request.query.bool("forcerm") };
    let job = convert(wire, &request, reader)?;
    let cancel = Cancel::new().map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))?;
    let withdraw = Withdraw(cancel.clone());
    let (sender, body) = Body::channel(64);
    let (verdict, begun) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let output = Output {
        renderer: Classic::new(asked),
        sender: sender.clone(),
        verdict: Some(verdict),
        cancel,
        _ended: ended,
    };
    tokio::task::spawn_blocking(move || run(&app, job, output));
    // The body is read for as long as the builder wants it; the reply may begin before its end.
    let pumping = tokio::spawn(async move { pump.run(&mut request).await });
    // Until the first event a failure is the reply's own status.
    let refused = begun.await.unwrap_or(None);
    if let Some(refusal) = refused {
        pumping.abort();
        return Err(refusal);
    }
    tokio::spawn(async move {
        tokio::select! {
            () = sender.gone() => {}
            // The sender that is held here must not keep the stream open beyond the build's end.
            _ = end => {}
        }
        drop(withdraw);
    });
    Ok(Reply::body("application/json", body))
}

/// Where a build's events go.
struct Output {
    renderer: Classic,
    sender: Sender,
    /// Tells once whether the reply begins, or what is said instead.
    verdict: Option<oneshot::Sender<Option<Refusal>>>,
    cancel: Cancel,
    /// Dropped with the rest once the last line is sent.
    _ended: oneshot::Sender<()>,
}

impl Output {
    fn event(&mut self, event: &BuildEvent) {
        self.begin(None);
        let lines = self.renderer.event(event);
        self.lines(lines);
    }

    fn lines(&self, lines: Vec<u8>) {
        if !lines.is_empty() && self.sender.send_blocking(lines).is_err() {
            self.cancel.cancel();
        }
    }

    fn begin(&mut self, refusal: Option<Refusal>) {
        if let Some(verdict) = self.verdict.take() {
            // A client that is gone is seen at the first line.
            let _ = verdict.send(refusal);
        }
    }

    fn end(mut self, outcome: Result<(), BuildError>) {
        match outcome {
            Ok(()) => self.begin(None),
            Err(error) if self.verdict.is_some() => self.begin(Some(error.into())),
            Err(error) => {
                let lines = self.renderer.failure(&error);
                self.lines(lines);
            }
        }
    }
}

fn run(app: &App, job: BuildRequest, mut output: Output) {
    let cancel = output.cancel.clone();
    let images = app.engine.images.clone();
    let mut tagged = Vec::new();
    let mut events = |event: BuildEvent| {
        if let BuildEvent::Tagged { reference } = &event {
            tagged.push(reference.familiar());
        }
        output.event(&event);
    };
    let outcome = app.builder.build(job, &mut events, &cancel);
    if let Ok(built) = &outcome {
        images.note("create", &built.image, &built.image.to_string());
        tagged.iter().for_each(|name| images.note("tag", &built.image, name));
    }
    output.end(outcome.map(drop));
}

fn convert(wire: Wire, request: &Request, reader: BodyReader) -> Result<BuildRequest, Refusal> {
    let tag = |tag: &String| Reference::parse_normalized(tag).map(Reference::or_latest);
    let context = if wire.remote.is_empty() {
        ContextSource::Tar(Box::new(reader))
    } else {
        ContextSource::Remote(wire.remote)
    };
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let platform = match wire.platform.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    Ok(BuildRequest {
        context,
        dockerfile: wire.dockerfile,
        tags: wire.tags.iter().map(tag).collect::<Result<_, _>>()?,
        options: BuildOptions {
            args: wire.build_args,
            labels: wire.labels,
            target: wire.target,
            platform,
            no_cache: wire.no_cache,
            cache_from: wire.cache_from,
            pull: wire.pull,
            run: RunOptions {
                network: NetworkMode::parse(&wire.network_mode),
                extra_hosts: wire.extra_hosts,
                shm_size_bytes: unsigned(wire.shm_size_bytes),
                memory_bytes: wire.memory_bytes,
                memory_swap_bytes: wire.memory_swap_bytes,
                cpu_shares: unsigned(wire.cpu_shares),
                cpu_quota_us: wire.cpu_quota_us,
                cpu_period_us: unsigned(wire.cpu_period_us),
                cpuset_cpus: wire.cpuset_cpus,
                cpuset_mems: request.query.get("cpusetmems").to_owned(),
                cgroup_parent: request.query.get("cgroupparent").to_owned(),
                ulimits: ulimits(request.query.get("ulimits"))?,
            },
        },
    })
}

/// `[{"Name":"nofile","Soft":1,"Hard":2}]`.
fn ulimits(text: &str) -> Result<Vec<gantry_build::request::Ulimit>, Refusal> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let wire: Vec<gantry_api::host_config::Ulimit> = gantry_api::gojson::from_slice(text.as_bytes())
        .map_err(|error| Refusal::invalid(format!("error reading ulimit settings: {}", error.reason())))?;
    let convert = |limit: gantry_api::host_config::Ulimit| gantry_build::request::Ulimit {
        name: limit.name,
        soft: limit.soft,
        hard: limit.hard,
    };
    Ok(wire.into_iter().map(convert).collect())
}
