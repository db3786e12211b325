//! One client's connection: requests one after another, until it closes, vanishes or is taken over.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use gantry_api::model::ErrorKind;
use gantry_api::{ApiVersion, Endpoint, Query, differences};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioTimer;
use tokio::sync::{oneshot, watch};

use crate::hijack::{self, Asked, Hijacked, Order};
use crate::reply::Content;
use crate::router;
use crate::socket::{Shared, Stream};
use crate::{Body, Failure, Limits, Reply, Request, Router};

/// What all connections share. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    router: Router,
    limits: Arc<Limits>,
    /// In every reply, spelt as Docker does, for replies that hyper does not write.
    common: Vec<(&'static str, String)>,
    /// The same for hyper.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Service {
    /// Puts a router behind connections. `common` are headers of every reply; one that HTTP does not allow
    /// is left out.
    #[must_use]
    pub fn new(router: Router, limits: Limits, mut common: Vec<(&'static str, String)>) -> Self {
        let header = |(name, value): &(&str, String)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        };
        common.retain(|pair| header(pair).is_some());
        let headers = common.iter().filter_map(header).collect();
        Self(Arc::new(Inner { router, limits: Arc::new(limits), common, headers }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

/// Where the handler of the present request leaves its order. A connection is taken over once.
type Slot = Arc<Mutex<Option<oneshot::Sender<(Asked, Order)>>>>;

/// How a connection ended.
enum End {
    /// hyper is done with it: closed by either side, or broken.
    Closed,
    /// The client is gone.
    Vanished,
    /// A handler takes it over.
    Taken(Asked, Order),
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: Stream, service: Service, stop: watch::Receiver<bool>) {
    let stream = Arc::new(stream);
    let (sender, mut order) = oneshot::channel();
    let slot: Slot = Arc::new(Mutex::new(Some(sender)));
    let limits = Arc::clone(&service.0.limits);
    let handler = service_fn({
        let service = service.clone();
        move |request| Box::pin(respond(service.clone(), Arc::clone(&slot), request))
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.max_head_bytes.max(8 << 10))
        .serve_connection(Shared(Arc::clone(&stream)), handler);
    match drive(&mut connection, &stream, &mut order, stop).await {
        // Dropping the connection drops the handler's future, and with it what was done for the client.
        End::Vanished => tracing::debug!("a client vanished"),
        End::Closed => {
            drop(connection);
            stream.linger().await;
        }
        End::Taken(asked, order) => {
            let parts = connection.into_parts();
            let early = parts.read_buf.to_vec();
            drop((parts.io, parts.service));
            let head = hijack::head(asked, &order.upgrade, &service.0.common);
            if let Err(error) = take_over(stream, &head, early, order).await {
                tracing::debug!(%error, "a connection broke while it was taken over");
            }
        }
    }
}

async fn drive<S>(
    connection: &mut http1::Connection<Shared, S>,
    stream: &Stream,
    order: &mut oneshot::Receiver<(Asked, Order)>,
    mut stop: watch::Receiver<bool>,
) -> End
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    let mut gone = std::pin::pin!(stream.gone());
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            Ok((asked, order)) = &mut *order => return End::Taken(asked, order),
            ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return End::Closed;
            }
            () = &mut gone => return End::Vanished,
            Ok(_) = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
        }
    }
}

async fn take_over(stream: Arc<Stream>, head: &[u8], early: Vec<u8>, order: Order) -> io::Result<()> {
    stream.write_all(head).await?;
    // hyper's handle is gone by now, and the watcher borrowed.
    let stream = Arc::try_unwrap(stream).map_err(|_| io::Error::other("the socket is still shared"))?;
    (order.takeover)(Hijacked { fd: stream.into_fd()?, early }).await;
    Ok(())
}

/// Answers one request.
async fn respond(
    service: Service,
    slot: Slot,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let start = Instant::now();
    let asked = if asks_for_upgrade(request.headers()) { Asked::Upgrade } else { Asked::Bare };
    let line = format!("{} {}", request.method(), request.uri());
    let mut target = None;
    let outcome = match before_routing(&request) {
        Some(reply) => Ok(reply),
        None => match route(&service, request) {
            Ok(request) => {
                target = Some((request.endpoint, request.version));
                let call = AssertUnwindSafe(service.0.router.call(request)).catch_unwind();
                call.await.unwrap_or_else(|_| {
                    Err(Failure::new(ErrorKind::Internal, "the daemon failed; its log says why"))
                })
            }
            Err(failure) => Err(failure),
        },
    };
    let mut reply = outcome.unwrap_or_else(|failure| {
        tracing::debug!(request = line, error = failure.message, "refused");
        failure.reply()
    });
    if let Content::Hijack(order) = reply.content {
        let sender = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if sender.is_some_and(|sender| sender.send((asked, order)).is_ok()) {
            // The connection's loop drops this future now.
            std::future::pending::<()>().await;
        }
        reply = Failure::new(ErrorKind::Internal, "the connection was taken over twice").reply();
    }
    let elapsed_us = start.elapsed().as_micros();
    tracing::debug!(request = line, status = reply.status.as_u16(), elapsed_us, "answered");
    Ok(write(&service, target, reply))
}

/// What is answered whatever the endpoint: `OPTIONS` with nothing, and a path with empty or dotted segments with the
/// path that it means, as Docker's router does.
fn before_routing(request: &http::Request<Incoming>) -> Option<Reply> {
    if request.method() == http::Method::OPTIONS {
        return Some(Reply::status(StatusCode::OK));
    }
    let meant = router::meant_path(request.uri().path())?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(Reply::status(StatusCode::MOVED_PERMANENTLY).with_header(LOCATION, &(meant + &query)))
}

fn route(service: &Service, request: http::Request<Incoming>) -> Result<Request, Failure> {
    let (parts, body) = request.into_parts();
    let target = service.0.router.find(parts.method.as_str(), parts.uri.path())?;
    let mut query = Query::parse(parts.uri.query().unwrap_or(""))
        .map_err(|error| Failure::new(ErrorKind::InvalidArgument, error.to_string()))?;
    differences::query(target.endpoint, target.version, &mut query);
    Ok(Request {
        endpoint: target.endpoint,
        version: target.version,
        names: target.names,
        query,
        headers: parts.headers,
        body,
        limits: Arc::clone(&service.0.limits),
    })
}

fn write(service: &Service, target: Option<(&'static Endpoint, ApiVersion)>, reply: Reply) -> Response<Body> {
    let json = |text: Vec<u8>| (Some(HeaderValue::from_static("application/json")), Body::full(text));
    let (content_type, body) = match reply.content {
        Content::Empty | Content::Hijack(_) => (None, Body::full(Bytes::new())),
        Content::JsonText(text) => json(text),
        Content::Json(text) => json(match target {
            Some((endpoint, version)) => differences::reply_text(endpoint, version, text),
            None => text,
        }),
        Content::Body(body) => (None, body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    *headers = reply.headers;
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    for (name, value) in &service.0.headers {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    response
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
    };
    headers.contains_key(UPGRADE) && says(CONNECTION, "upgrade")
}
