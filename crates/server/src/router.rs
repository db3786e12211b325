//! From a method and a path to a handler: `[/vX.Y]` and the table of endpoints.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use gantry_api::model::ErrorKind;
use gantry_api::{ApiVersion, Endpoint, Method, endpoints, query, version};

use crate::{Failure, Reply, Request};

type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// The handlers of a daemon. Endpoints of the reference document without one answer 501.
#[derive(Default)]
pub struct Router {
    routes: HashMap<&'static Endpoint, Handler>,
}

/// Says that a route was added for an endpoint that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method:?} {pattern} is not an endpoint of the API")]
pub struct RouterError {
    /// The method.
    pub method: Method,
    /// The pattern.
    pub pattern: String,
}

/// Where a path leads.
pub(crate) struct Target {
    pub(crate) endpoint: &'static Endpoint,
    pub(crate) version: ApiVersion,
    pub(crate) names: Vec<String>,
}

impl Router {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler. It is called for each request, and its future is dropped when the client vanishes.
    ///
    /// # Errors
    /// [`RouterError`].
    pub fn add<F, H>(&mut self, method: Method, pattern: &str, handler: H) -> Result<(), RouterError>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let endpoint = endpoints::find(method, pattern)
            .ok_or_else(|| RouterError { method, pattern: pattern.to_owned() })?;
        self.routes.insert(endpoint, Arc::new(move |request| Box::pin(handler(request))));
        Ok(())
    }

    /// Whether an endpoint has a handler.
    #[must_use]
    pub fn serves(&self, endpoint: &Endpoint) -> bool {
        self.routes.contains_key(endpoint)
    }

    /// Finds the endpoint of a request.
    pub(crate) fn find(&self, method: &str, path: &str) -> Result<Target, Failure> {
        let not_found = || Failure::new(ErrorKind::NotFound, "page not found");
        let path = query::decode_path(path)
            .map_err(|error| Failure::new(ErrorKind::InvalidArgument, error.to_string()))?;
        let (version, path) = split_version(&path)?;
        let method = Method::from_name(method).ok_or_else(not_found)?;
        let segments: Vec<&str> = path.strip_prefix('/').ok_or_else(not_found)?.split('/').collect();
        // A pattern without names goes before one with, whatever their order in the table.
        let mut best: Option<(usize, &'static Endpoint, Vec<String>)> = None;
        for endpoint in endpoints::ALL.iter().filter(|endpoint| endpoint.method == method) {
            let Some(names) = matches(endpoint.pattern, &segments) else { continue };
            if best.as_ref().is_none_or(|(count, ..)| names.len() < *count) {
                best = Some((names.len(), endpoint, names));
            }
        }
        let (_, endpoint, names) = best.ok_or_else(not_found)?;
        Ok(Target { endpoint, version, names })
    }

    /// Calls the handler.
    pub(crate) async fn call(&self, request: Request) -> Result<Reply, Failure> {
        match self.routes.get(request.endpoint) {
            Some(handler) => handler(request).await,
            None => {
                let message = format!("{} is not implemented by this daemon", request.endpoint);
                Err(Failure::new(ErrorKind::NotImplemented, message))
            }
        }
    }
}

/// The path without empty segments, `.` and `..`, with the last slash where it had one; `None` where that is the path
/// itself.
pub(crate) fn meant_path(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    let meant = format!("/{}{end}", kept.join("/"));
    (meant != path).then_some(meant)
}

/// Takes `/vX.Y` off a path; without it the client speaks the newest version.
fn split_version(path: &str) -> Result<(ApiVersion, &str), Failure> {
    let refuse =
        |error: version::UnsupportedVersion| Failure::new(ErrorKind::InvalidArgument, error.to_string());
    let Some((first, _)) = path.strip_prefix("/v").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return Ok((version::MAX, path));
    };
    match first.parse::<ApiVersion>() {
        Ok(version) => Ok((version.supported().map_err(refuse)?, &path[2 + first.len()..])),
        Err(_) => Ok((version::MAX, path)),
    }
}

/// Matches a pattern; gives what its names stand for.
fn matches(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = segments;
    let mut parts = pattern[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        if part.ends_with("…}") {
            // Takes all but what the parts behind it need; there is at most one such name.
            let behind = parts.clone().count();
            let take = rest.len().checked_sub(behind).filter(|take| *take > 0)?;
            let name = rest[..take].join("/");
            if name.is_empty() {
                return None;
            }
            names.push(name);
            rest = &rest[take..];
        } else {
            let (first, others) = rest.split_first()?;
            if part.starts_with('{') {
                if first.is_empty() {
                    return None;
                }
                names.push((*first).to_owned());
            } else if part != *first {
                return None;
            }
            rest = others;
        }
    }
    rest.is_empty().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, want: &str, names: &[&str]) {
        let target = Router::new().find(method, path).expect(path);
        assert_eq!(
            (target.endpoint.to_string().as_str(), target.names),
            (want, names.iter().map(|n| (*n).to_owned()).collect()),
            "{path}"
        );
    }

    #[test]
    fn paths_lead_to_endpoints() {
        check("GET", "/containers/json", "GET /containers/json", &[]);
        check("GET", "/v1.41/containers/a/json", "GET /containers/{id}/json", &["a"]);
        check("GET", "/images/json", "GET /images/json", &[]);
        check("GET", "/images/get", "GET /images/get", &[]);
        check(
            "GET",
            "/images/localhost:5000/a/b:c/json",
            "GET /images/{name…}/json",
            &["localhost:5000/a/b:c"],
        );
        check("GET", "/images/a%2Fb/history", "GET /images/{name…}/history", &["a/b"]);
        check("DELETE", "/v1.24/images/a/b", "DELETE /images/{name…}", &["a/b"]);
        check("GET", "/images/json/json", "GET /images/{name…}/json", &["json"]);
        check("HEAD", "/_ping", "HEAD /_ping", &[]);
        check("GET", "/volumes/v1.2", "GET /volumes/{name…}", &["v1.2"]);
    }

    #[test]
    fn a_path_means_one_without_empty_segments() {
        for (path, want) in [
            ("/", None),
            ("/containers/json", None),
            ("/containers/json/", None),
            ("/images/a%2F%2Fb/json", None),
            ("//containers/json", Some("/containers/json")),
            ("/v1.41//containers//json", Some("/v1.41/containers/json")),
            ("/containers//", Some("/containers/")),
            ("/containers/../version", Some("/version")),
            ("/../../version/.", Some("/version")),
            ("//", Some("/")),
            ("", Some("/")),
        ] {
            assert_eq!(meant_path(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for (method, path, want) in [
            ("GET", "/nothing", "page not found"),
            ("GET", "/v1.41", "page not found"),
            ("GET", "/", "page not found"),
            ("GET", "", "page not found"),
            ("GET", "/containers//json", "page not found"),
            ("GET", "/images//json", "page not found"),
            ("PATCH", "/containers/json", "page not found"),
            ("POST", "/containers/json", "page not found"),
            ("GET", "/v1.99/info", "client version 1.99 is too new. Maximum supported API version is 1.55"),
            (
                "GET",
                "/v1.12/info",
                "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
            ("GET", "/info%", "invalid URL escape \"/info%\""),
        ] {
            let failure = Router::new().find(method, path).err().expect(path);
            assert_eq!(failure.message, want, "{path}");
        }
    }
}
