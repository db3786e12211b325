//! What a daemon asks.

use gantry_logs::LogConfig;
use gantry_model::container::RestartPolicy;
use gantry_model::mount::RootMount;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use super::{Frame, PROTOCOL, PROTOCOL_OLDEST, Refusal, RefusalKind, RequestFrame, null};
#[cfg(doc)]
use super::{Reply, State};
use crate::cgroup::Layout;

/// Everything that a daemon can ask of a shim. The comment of each says which descriptors go with
/// it; all descriptors sent are the shim's from then on (the sender's own copies stay the sender's,
/// to close whenever it likes after `send` returned).
#[derive(Debug)]
pub enum Request {
    /// Opens the conversation; also the way to ask for [`State`] anew. -> [`Reply::Hello`]
    Hello(HelloRequest),
    /// Makes the cgroup that the launch will name, while the daemon still makes what goes with the launch:
    /// saves the caller that time, and changes nothing else. Only before [`Request::Launch`].
    /// -> [`Reply::Done`]; a refusal counts for nothing, since the launch tries again and tells.
    Prepare(Box<Prepare>),
    /// Makes the container's process, which then waits right before its `execve`; with
    /// `then_start` it goes on at once. Once per shim. Descriptors: first those that
    /// [`Launch::descriptors`] names, then one for each of [`Launch::attach`]. -> [`Reply::Launched`]
    ///
    /// Refused with [`RefusalKind::Launch`] where the process could not be made or (`then_start`)
    /// its `execve` failed; an event `StartFailed` is in the journal too, the cgroup is gone, and the
    /// clients attached by it are closed. All that is left to do with this shim is `Shutdown`.
    Launch(Box<Launch>),
    /// Lets the waiting process of [`Request::Launch`] go on. -> [`Reply::Launched`], or as there.
    Start,
    /// Ends the container: journals the intent (which suppresses the restart policy), signals,
    /// waits, then kills; without further word from the daemon. Answered with [`Reply::Done`] as soon
    /// as the signal is sent; the end is the event `Exited`. A second stop under way may bring the
    /// deadline forward, never back. Stopping what waits for its restart ends that wait (event
    /// `RestartCancelled`); stopping what has exited is refused with [`RefusalKind::Conflict`].
    Stop(Stop),
    /// Sends a signal to the container's init. -> [`Reply::Done`]; refused with `Conflict` where it
    /// does not run. While it waits for a restart, `Kill` with `cancels_restart` ends that wait.
    Kill(Kill),
    /// Replaces the restart policy. -> [`Reply::Done`]
    SetRestartPolicy(RestartPolicy),
    /// Runs a further process in the container. Descriptors: one if `attach` is there.
    /// -> [`Reply::ExecStarted`], or refused with [`RefusalKind::Launch`] with text and exit code (the
    /// client is then closed with nothing written to it).
    Exec(Box<Exec>),
    /// Signals an exec's process. -> [`Reply::Done`]; [`RefusalKind::NotFound`] where it has ended.
    KillExec(KillExec),
    /// Sets the size of a terminal. -> [`Reply::Done`], also where there is no terminal.
    ResizeTty(ResizeTty),
    /// Adds a client to the container's streams. Descriptor: the client's. -> [`Reply::Done`]. Refused
    /// with `Conflict` where the container has exited.
    Attach(Attach),
    /// Closes the container's or an exec's standard input, after what was already received for
    /// it. -> [`Reply::Done`]
    CloseStdin(CloseStdin),
    /// Freezes all processes. -> [`Reply::Done`]; event `Paused`.
    Pause,
    /// Thaws them. -> [`Reply::Done`]; event `Resumed`.
    Resume,
    /// Asks how things are. -> [`Reply::State`]
    State,
    /// Says that all records up to `seq` are committed; they are forgotten. Not answered.
    Ack(Ack),
    /// Asks for held descriptors: they come with [`Reply::Descriptors`], in the order of its names.
    Descriptors(Descriptors),
    /// Gives more descriptors to hold, one per name; an equal name's old one is closed. -> `Done`
    Hold(Descriptors),
    /// Closes held descriptors; unknown names are ignored. -> `Done`
    Release(Descriptors),
    /// Ends the shim. Refused with `Conflict` while a container lives, unless `kill` is set, which
    /// kills it first (its `Exited` is then in the journal, and is not waited for by anybody).
    /// Unacknowledged records are dropped with it. `shim.sock` and `journal` are unlinked before the
    /// answer [`Reply::Done`]; output that attached clients have not taken yet is still given to them
    /// for up to ten seconds, without the daemon. The shim closes the connection right after its
    /// answer, so an `Ack` sent meanwhile may fail while the answer is still there to be received.
    Shutdown(Shutdown),
}

/// Opens the conversation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HelloRequest {
    /// The oldest protocol version that the daemon speaks.
    pub protocol_oldest: u32,
    /// The newest.
    pub protocol: u32,
    /// The daemon's version, for the record.
    #[serde(default)]
    pub build: String,
    /// The last sequence number that the daemon has committed for this container; 0 if none.
    #[serde(default)]
    pub acknowledged: u64,
}

impl HelloRequest {
    /// What this code speaks, with `acknowledged` as given.
    #[must_use]
    pub fn new(acknowledged: u64) -> Self {
        Self {
            protocol_oldest: PROTOCOL_OLDEST,
            protocol: PROTOCOL,
            build: env!("CARGO_PKG_VERSION").into(),
            acknowledged,
        }
    }
}

/// The cgroup of a launch to come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// As in [`Launch::cgroup`].
    pub cgroup: String,
    /// As in [`Launch::hierarchies`].
    #[serde(default)]
    pub hierarchies: Option<Layout>,
    /// As in the launch's `spec`.
    #[serde(default)]
    pub resources: Option<LinuxResources>,
}

/// All that a shim must know to run, restart and stop a container with nobody's help.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The container's id (or a build step's name): for messages and state only.
    pub container: String,
    /// The generation before this launch's; the first start of this shim is `last_generation + 1`.
    #[serde(default)]
    pub last_generation: u64,
    /// The last sequence number that was used for this container by an earlier shim; this one's
    /// first record has the next, so that one number per container tells what is committed.
    #[serde(default)]
    pub last_seq: u64,
    /// What to run and how. Its `process.terminal` decides whether there is a terminal.
    pub spec: Spec,
    /// The root file system, mounted inside the container's mount namespace only.
    pub root: RootMount,
    /// The cgroup to make, as a path under each hierarchy's root: `/gantry/<id>`. `None` stays in
    /// the shim's own. It is made with the spec's `linux.resources` and removed after the final exit.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Where the host's control groups are mounted; `None` has the shim read the mount table.
    #[serde(default)]
    pub hierarchies: Option<Layout>,
    /// The host's path of `gantry-init`, for `--init`.
    #[serde(default)]
    pub init: Option<std::path::PathBuf>,
    /// The terminal's first size, where there is one; 0 leaves the kernel's.
    #[serde(default)]
    pub terminal_size: TerminalSize,
    /// Whether standard input stays open for clients; otherwise it is `/dev/null`.
    #[serde(default)]
    pub open_stdin: bool,
    /// Whether standard input closes when the (first) attached client's half of it ends.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where output is kept.
    #[serde(default)]
    pub log: LogConfig,
    /// What happens after an exit.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How often policy has restarted it already in this run of restarts; counts on from here.
    #[serde(default)]
    pub restart_count: u32,
    /// The number of the signal that asks it to stop, 1 to 64.
    pub stop_signal: i32,
    /// Seconds until a stop kills; -1 waits for ever.
    pub stop_timeout_s: i64,
    /// The names of the descriptors sent, in order. `net`, `ipc`, `uts`, `pid`, `user` and `cgroup`
    /// are namespaces that the container joins, also at restarts; all others (`port/…`, `dns/…`) are
    /// only held.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// Clients that are there from the first byte on.
    #[serde(default)]
    pub attach: Vec<Attach>,
    /// Whether to go on as [`Request::Start`] does.
    #[serde(default)]
    pub then_start: bool,
}

/// Rows and columns of a terminal; zero means that it is not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// A client of the container's (or an exec's) streams.
///
/// The descriptor may be a socket (plain TCP or unix) or a pipe; the shim makes it non-blocking.
/// * Output goes to it as it comes; a client that does not read stops the container's output
///   (back-pressure), one that hangs up is dropped without the container noticing.
/// * With `stdin`, its bytes go to the container, `early` first. Its end of input (half-close)
///   closes the container's standard input if `stdin_once` holds and there is no terminal; else it
///   ends this client, as Docker does. Without `stdin`, a half-close means nothing, and input is
///   read and dropped.
/// * After the process' end the client gets the rest of the output, then its connection is shut down
///   and closed. An exec's client is closed only when `ExecExited` was acknowledged (or no daemon is
///   connected, or a second has passed), so that a client that saw the end finds the exit code.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Attach {
    /// Which streams. With a terminal, standard error is never there and `stdout` has all.
    pub streams: Streams,
    /// How output is written.
    #[serde(default)]
    pub framing: Framing,
    /// The keys that detach, where there is a terminal; empty: none.
    #[serde(default)]
    pub detach_keys: Vec<u8>,
    /// Input that the daemon has already read from the client.
    #[serde(default, with = "hex_bytes", skip_serializing_if = "Vec::is_empty")]
    pub early: Vec<u8>,
}

/// Which of the three streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Client to container.
    #[serde(default)]
    pub stdin: bool,
    /// Container to client.
    #[serde(default)]
    pub stdout: bool,
    /// Container to client.
    #[serde(default)]
    pub stderr: bool,
}

/// How output is written to a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// As it comes. Terminals are always so.
    #[default]
    Raw,
    /// Before each piece eight bytes: the stream (1 stdout, 2 stderr), three zeros, and the length
    /// as a big-endian u32; as Docker does without a terminal.
    Multiplexed,
}

/// Ends the container.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Stop {
    /// `None`: the launch's `stop_signal`.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Seconds until SIGKILL; 0 at once, -1 never; `None`: the launch's `stop_timeout_s`.
    #[serde(default)]
    pub timeout_s: Option<i64>,
    /// Which start is meant: another than the current is refused with
    /// [`RefusalKind::StaleGeneration`]; 0 means the current, whichever that is.
    #[serde(default)]
    pub generation: u64,
}

/// Signals the container's init.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Kill {
    /// 1 to 64.
    pub signal: i32,
    /// As in [`Stop::generation`].
    #[serde(default)]
    pub generation: u64,
    /// Whether the exit that may follow is by hand, so that policy does not restart it.
    #[serde(default)]
    pub cancels_restart: bool,
}

/// Runs a further process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Chosen by the daemon; must not be in use.
    pub exec_id: String,
    /// As in [`Stop::generation`].
    #[serde(default)]
    pub generation: u64,
    /// What to run. Its `terminal` decides whether there is one.
    pub process: oci_spec::runtime::Process,
    /// A user to resolve inside the container (`name`, `uid`, `name:group`, …); empty: the
    /// process' numeric one.
    #[serde(default)]
    pub user: String,
    /// The terminal's first size.
    #[serde(default)]
    pub terminal_size: TerminalSize,
    /// Its only client; `None` runs it detached, its streams at `/dev/null`.
    #[serde(default)]
    pub attach: Option<Attach>,
}

/// Signals an exec's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KillExec {
    /// Which.
    pub exec_id: String,
    /// 1 to 64.
    pub signal: i32,
}

/// Sets the size of a terminal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResizeTty {
    /// `None`: the container's own.
    #[serde(default)]
    pub exec_id: Option<String>,
    /// The size.
    pub size: TerminalSize,
}

/// Closes a standard input.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CloseStdin {
    /// `None`: the container's own.
    #[serde(default)]
    pub exec_id: Option<String>,
}

/// Says that records are committed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ack {
    /// All up to and including this one.
    pub seq: u64,
}

/// Names of descriptors. Asked for with none: all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Descriptors {
    /// Each unique.
    pub names: Vec<String>,
}

/// Ends the shim.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Shutdown {
    /// Whether a living container is killed for it.
    #[serde(default)]
    pub kill: bool,
}

/// Bytes as hexadecimal text: JSON has nothing better, and there are few.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&gantry_model::id::to_hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
        text.as_bytes()
            .chunks(2)
            .map(|pair| match *pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}

/// Builds [`Request`]'s two directions from one table of operations.
macro_rules! operations {
    (plain { $($plain:ident = $plain_name:literal),* $(,)? } with { $($with:ident = $name:literal),* $(,)? }) => {
        impl Request {
            /// The operation's name on the wire.
            #[must_use]
            pub fn op(&self) -> &'static str {
                match self {
                    $(Self::$plain => $plain_name,)*
                    $(Self::$with(_) => $name,)*
                }
            }

            /// Puts it into a frame.
            ///
            /// # Errors
            /// Where a value in it cannot be written as JSON (a path that is not UTF-8).
            pub fn into_frame(self, id: u64) -> Result<Frame, serde_json::Error> {
                let args = match &self {
                    $(Self::$plain => null(),)*
                    $(Self::$with(args) => serde_json::value::to_raw_value(args)?,)*
                };
                Ok(Frame::Request(RequestFrame { id, op: self.op().into(), args }))
            }

            /// Reads a frame's operation.
            ///
            /// # Errors
            /// A refusal to answer with: an unknown operation, or arguments that cannot be read.
            pub fn parse(frame: &RequestFrame) -> Result<Self, Refusal> {
                match frame.op.as_str() {
                    $($plain_name => Ok(Self::$plain),)*
                    $($name => serde_json::from_str(frame.args.get()).map(Self::$with).map_err(|error| {
                        Refusal::new(RefusalKind::Invalid, format!("{}: {error}", $name))
                    }),)*
                    other => Err(Refusal::new(
                        RefusalKind::UnknownOperation,
                        format!("this shim ({}) does not know {other:?}", env!("CARGO_PKG_VERSION")),
                    )),
                }
            }
        }
    };
}

operations! {
    plain { Start = "start", Pause = "pause", Resume = "resume", State = "state" }
    with {
        Hello = "hello", Prepare = "prepare", Launch = "launch", Stop = "stop", Kill = "kill",
        SetRestartPolicy = "set_restart_policy", Exec = "exec", KillExec = "kill_exec",
        ResizeTty = "resize_tty", Attach = "attach", CloseStdin = "close_stdin", Ack = "ack",
        Descriptors = "descriptors", Hold = "hold", Release = "release", Shutdown = "shutdown",
    }
}
