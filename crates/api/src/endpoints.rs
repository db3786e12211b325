//! Every endpoint of the reference document, as method and pattern. A pattern's `{name}` stands for
//! one segment of a path, `{name…}` for one or more (image names have slashes).

use std::fmt;

/// A method of HTTP that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
}

impl Method {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Reads its name; `None` for any that the API does not use.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Delete]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The pattern, without version prefix.
    pub pattern: &'static str,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.pattern)
    }
}

/// Finds an endpoint by method and pattern.
#[must_use]
pub fn find(method: Method, pattern: &str) -> Option<&'static Endpoint> {
    ALL.iter().find(|endpoint| endpoint.method == method && endpoint.pattern == pattern)
}

use Method::{Delete, Get, Head, Post, Put};

const fn at(method: Method, pattern: &'static str) -> Endpoint {
    Endpoint { method, pattern }
}

/// All of them: those of the reference document in its order, and those that it leaves out: `POST /grpc` and
/// checkpoints.
pub static ALL: &[Endpoint] = &[
    at(Get, "/containers/json"),
    at(Post, "/containers/create"),
    at(Get, "/containers/{id}/json"),
    at(Get, "/containers/{id}/top"),
    at(Get, "/containers/{id}/logs"),
    at(Get, "/containers/{id}/changes"),
    at(Get, "/containers/{id}/export"),
    at(Get, "/containers/{id}/stats"),
    at(Post, "/containers/{id}/resize"),
    at(Post, "/containers/{id}/start"),
    at(Post, "/containers/{id}/stop"),
    at(Post, "/containers/{id}/restart"),
    at(Post, "/containers/{id}/kill"),
    at(Post, "/containers/{id}/update"),
    at(Post, "/containers/{id}/rename"),
    at(Post, "/containers/{id}/pause"),
    at(Post, "/containers/{id}/unpause"),
    at(Post, "/containers/{id}/attach"),
    at(Get, "/containers/{id}/attach/ws"),
    at(Post, "/containers/{id}/wait"),
    at(Delete, "/containers/{id}"),
    at(Head, "/containers/{id}/archive"),
    at(Get, "/containers/{id}/archive"),
    at(Put, "/containers/{id}/archive"),
    at(Post, "/containers/prune"),
    at(Get, "/images/json"),
    at(Post, "/build"),
    at(Post, "/build/prune"),
    at(Post, "/images/create"),
    at(Get, "/images/{name…}/json"),
    at(Get, "/images/{name…}/attestations"),
    at(Get, "/images/{name…}/history"),
    at(Post, "/images/{name…}/push"),
    at(Post, "/images/{name…}/tag"),
    at(Delete, "/images/{name…}"),
    at(Get, "/images/search"),
    at(Post, "/images/prune"),
    at(Post, "/auth"),
    at(Get, "/info"),
    at(Get, "/version"),
    at(Get, "/_ping"),
    at(Head, "/_ping"),
    at(Post, "/commit"),
    at(Get, "/events"),
    at(Get, "/system/df"),
    at(Get, "/images/{name…}/get"),
    at(Get, "/images/get"),
    at(Post, "/images/load"),
    at(Post, "/containers/{id}/exec"),
    at(Post, "/exec/{id}/start"),
    at(Post, "/exec/{id}/resize"),
    at(Get, "/exec/{id}/json"),
    at(Get, "/volumes"),
    at(Post, "/volumes/create"),
    at(Get, "/volumes/{name…}"),
    at(Put, "/volumes/{name…}"),
    at(Delete, "/volumes/{name…}"),
    at(Post, "/volumes/prune"),
    at(Get, "/networks"),
    at(Get, "/networks/{id}"),
    at(Delete, "/networks/{id}"),
    at(Post, "/networks/create"),
    at(Post, "/networks/{id}/connect"),
    at(Post, "/networks/{id}/disconnect"),
    at(Post, "/networks/prune"),
    at(Get, "/plugins"),
    at(Get, "/plugins/privileges"),
    at(Post, "/plugins/pull"),
    at(Get, "/plugins/{name…}/json"),
    at(Delete, "/plugins/{name…}"),
    at(Post, "/plugins/{name…}/enable"),
    at(Post, "/plugins/{name…}/disable"),
    at(Post, "/plugins/{name…}/upgrade"),
    at(Post, "/plugins/create"),
    at(Post, "/plugins/{name…}/push"),
    at(Post, "/plugins/{name…}/set"),
    at(Get, "/nodes"),
    at(Get, "/nodes/{id}"),
    at(Delete, "/nodes/{id}"),
    at(Post, "/nodes/{id}/update"),
    at(Get, "/swarm"),
    at(Post, "/swarm/init"),
    at(Post, "/swarm/join"),
    at(Post, "/swarm/leave"),
    at(Post, "/swarm/update"),
    at(Get, "/swarm/unlockkey"),
    at(Post, "/swarm/unlock"),
    at(Get, "/services"),
    at(Post, "/services/create"),
    at(Get, "/services/{id}"),
    at(Delete, "/services/{id}"),
    at(Post, "/services/{id}/update"),
    at(Get, "/services/{id}/logs"),
    at(Get, "/tasks"),
    at(Get, "/tasks/{id}"),
    at(Get, "/tasks/{id}/logs"),
    at(Get, "/secrets"),
    at(Post, "/secrets/create"),
    at(Get, "/secrets/{id}"),
    at(Delete, "/secrets/{id}"),
    at(Post, "/secrets/{id}/update"),
    at(Get, "/configs"),
    at(Post, "/configs/create"),
    at(Get, "/configs/{id}"),
    at(Delete, "/configs/{id}"),
    at(Post, "/configs/{id}/update"),
    at(Get, "/distribution/{name…}/json"),
    at(Post, "/session"),
    at(Post, "/grpc"),
    at(Get, "/containers/{id}/checkpoints"),
    at(Post, "/containers/{id}/checkpoints"),
    at(Delete, "/containers/{id}/checkpoints/{checkpoint}"),
];
