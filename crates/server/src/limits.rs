//! What one client may cost.

use std::time::Duration;

/// Limits of requests and connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's head: request line and headers. Longer ones are answered with 431.
    pub max_head_bytes: usize,
    /// Bytes of a JSON body. Longer ones are answered with 413.
    pub max_json_bytes: usize,
    /// Within which a request's head must be whole, from its first byte; also how long a connection may
    /// stay idle between requests.
    pub head_timeout: Duration,
    /// Within which the next piece of a body must come.
    pub body_timeout: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub max_connections: usize,
}

impl Default for Limits {
    /// 64 KiB of head, 4 MiB of JSON, 60 s, 10 min, 4096 connections.
    fn default() -> Self {
        Self {
            max_head_bytes: 64 << 10,
            max_json_bytes: 4 << 20,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(600),
            max_connections: 4096,
        }
    }
}
