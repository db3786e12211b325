//! The kinds of errors: the one vocabulary between an operation's own error enum and what a client
//! is told. Each operation's enum has a `kind()`; `daemon` holds the one map to HTTP status codes.

/// What sort of failure this is, for the caller to decide what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong and will fail again. HTTP 400.
    InvalidArgument,
    /// Policy or a missing right forbids it. HTTP 403.
    Forbidden,
    /// The thing does not exist. HTTP 404.
    NotFound,
    /// It clashes with the present state: a name taken, a container running. HTTP 409.
    Conflict,
    /// The state asked for already holds. HTTP 304, without a body.
    NotModified,
    /// Known, but not built yet. HTTP 501.
    NotImplemented,
    /// Cannot be served now: shutting down, a resource exhausted. HTTP 503.
    Unavailable,
    /// The caller withdrew. No answer reaches it.
    Cancelled,
    /// The host or our own state failed. HTTP 500.
    Internal,
}
