//! What a daemon and a shim say to each other.
//!
//! A conversation is a stream of frames ([`super::connection`] draws them). The daemon sends
//! [`Request`]s, each with an id of its choice; the shim answers each exactly once (`Ack` not at all), in
//! order (a killing `Shutdown` when the container is gone), with a [`Reply`] or a [`Refusal`] that echoes
//! the id. Unasked, the shim sends [`Record`]s: its journal.
//! Several requests may be under way; they are carried out one after the other.
//!
//! Compatibility: the first request is [`Request::Hello`]. Fields that a side does not know are
//! ignored and fields may be added with a default; an operation that a shim does not know is
//! refused with [`RefusalKind::UnknownOperation`]; an event that a daemon does not know is
//! [`Event::Unknown`], to be acknowledged like any other. A field never changes its meaning.
//!
//! # A life
//! ```text
//! daemon                         shim
//! Hello{acknowledged: 0}    ->       (both may be sent without waiting for an answer)
//! Launch{…, then_start} fds ->
//!                           <-   Hello{…}
//!                           <-   event Created, event Started
//!                           <-   Launched{process}            one round trip for a whole start
//! Ack{seq}                  ->
//!                           <-   event Exited{restarting: false}
//! Ack{seq}                  ->
//! Shutdown                  ->
//!                           <-   Done, then end of stream; shim.sock is gone, the process ends
//! ```
//! Events that a request causes are sent before its reply.
//!
//! # A daemon dies, another comes
//! The shim goes on; what happens is appended to the journal. The next daemon connects to
//! `shim.sock` and says `Hello{acknowledged: n}`, `n` being the last sequence number that it has
//! committed for this container. It is answered with [`Hello`] including the current [`State`], and
//! then gets each record above `n` once, in order, followed without a gap by what happens next. A
//! second daemon's `Hello` ends the first one's connection: there is one daemon.
//!
//! # A shim dies
//! The connection ends (and its pidfd becomes readable); the container's init dies with it. Records
//! that were not received are in the file: [`super::journal::read`]. No `Exited` among them means
//! that the shim was killed: the daemon kills the cgroup and records exit 137 itself.

mod event;
mod reply;
mod request;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use event::{Coalesced, Event, Record};
pub use reply::{ExecState, Exit, Hello, ProcessId, Refusal, RefusalKind, Reply, State};
pub use request::{
    Ack, Attach, CloseStdin, Descriptors, Exec, Framing, HelloRequest, Kill, KillExec, Launch, Prepare,
    Request, ResizeTty, Shutdown, Stop, Streams, TerminalSize,
};

/// The protocol version that this code speaks. Raised only where the rules above do not suffice.
pub const PROTOCOL: u32 = 1;

/// The oldest version that this code still speaks.
pub const PROTOCOL_OLDEST: u32 = 1;

/// The default detach keys, Ctrl-P Ctrl-Q, as bytes for [`Attach::detach_keys`].
pub const DEFAULT_DETACH_KEYS: [u8; 2] = [16, 17];

/// One frame's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frame {
    /// Daemon to shim.
    Request(RequestFrame),
    /// Shim to daemon.
    Reply(ReplyFrame),
    /// Shim to daemon, unasked.
    Event(Record),
}

/// A request before its operation is looked at, so that an unknown one can still be answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the daemon, echoed by the reply.
    pub id: u64,
    /// The operation, such as `stop`.
    pub op: String,
    /// Its arguments; `null` where it has none.
    #[serde(default = "null")]
    pub args: Box<RawValue>,
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplyFrame {
    /// The request's.
    pub id: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How a request went. Serialized as `{"ok":…}` or `{"error":…}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Ok(Reply),
    /// It was not, and nothing changed unless the refusal says otherwise.
    Error(Refusal),
}

impl Outcome {
    /// As Rust's own type.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_result(self) -> Result<Reply, Refusal> {
        match self {
            Self::Ok(reply) => Ok(reply),
            Self::Error(refusal) => Err(refusal),
        }
    }
}
