//! Taking a connection over: what was HTTP becomes the raw stream of an attached container.

use std::fmt;
use std::os::fd::OwnedFd;

use futures_util::future::BoxFuture;

/// A connection that is no longer HTTP. The reply's head has been written.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket, non-blocking. Closing it ends the client's stream.
    pub fd: OwnedFd,
    /// What the client sent behind its request: comes before what is read of the socket.
    pub early: Vec<u8>,
}

/// How the reply's head looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Content type of the stream: [`gantry_api::frame::RAW`] or [`gantry_api::frame::MULTIPLEXED`].
    pub content_type: &'static str,
}

/// What happens with the connection afterwards.
pub(crate) type Takeover = Box<dyn FnOnce(Hijacked) -> BoxFuture<'static, ()> + Send>;

/// A handler's order to take over.
pub(crate) struct Order {
    pub(crate) upgrade: Upgrade,
    pub(crate) takeover: Takeover,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("upgrade", &self.upgrade).finish_non_exhaustive()
    }
}

/// Whether the client asked for `Upgrade: tcp`, which is answered with 101, or for a bare stream, which
/// is answered with 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Upgrade,
    Bare,
}

/// The head of the reply, as Docker's daemon writes it.
pub(crate) fn head(asked: Asked, upgrade: &Upgrade, common: &[(&'static str, String)]) -> Vec<u8> {
    let mut head = match asked {
        Asked::Upgrade => format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n",
            upgrade.content_type
        ),
        Asked::Bare => format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n", upgrade.content_type),
    };
    for (name, value) in common {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
