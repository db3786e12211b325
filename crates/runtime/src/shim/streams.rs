//! The streams of one process (the container's init or an exec's): its pipes or terminal, and the
//! clients attached to them.
//!
//! Back-pressure goes hop by hop and holds one chunk at most at each: a client that does not read has a
//! backlog, a backlog stops the reading of the process' output, a full pipe stops the process; and the
//! same way round for input. The log takes part: its full ring stops the reading too.
//!
//! What is watched is decided in one place, [`Streams::settle`], from the state after each event.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use gantry_logs::{Spool, Stream};
use rustix::pipe::PipeFlags;

use super::client::Client;
use super::detach::Typed;
use super::poller::{EventFlags, Poller, Token, Watched};
use super::protocol::{Attach, TerminalSize};
use crate::launch::Stdio;

/// How much is read at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The size of pipes while a client is attached: enough for both sides to work at once.
const WIDE_PIPE_BYTES: usize = 256 * 1024;
/// The kernel's own.
const PIPE_BYTES: usize = 64 * 1024;

/// What everything here works with.
#[derive(Debug)]
pub(super) struct Io<'a> {
    pub(super) poller: &'a Poller,
    /// Room for one chunk, made when first needed.
    pub(super) scratch: &'a mut Vec<u8>,
    /// The container's log; execs have none.
    pub(super) spool: Option<&'a Spool>,
}

impl Io<'_> {
    fn scratch(&mut self) -> &mut [u8] {
        if self.scratch.len() < CHUNK_BYTES {
            self.scratch.resize(CHUNK_BYTES, 0);
        }
        &mut self.scratch[..]
    }
}

/// Which of a process' streams are needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// A terminal of this size, rather than pipes.
    pub(super) terminal: Option<TerminalSize>,
    /// Whether there is an input at all; else `/dev/null`.
    pub(super) stdin: bool,
    /// Whether output is read at all; else `/dev/null`.
    pub(super) output: bool,
    /// Whether input closes with a client's.
    pub(super) stdin_once: bool,
}

/// The streams of one process.
#[derive(Debug)]
pub(super) struct Streams {
    owner: u32,
    shape: Shape,
    input: Option<Input>,
    outputs: Vec<Output>,
    clients: Vec<Client>,
    next_client: u32,
    /// The process has ended: what is left is read without regard to slow clients.
    draining: bool,
    /// Clients may be told the end.
    pub(super) may_close: bool,
    pub(super) detached: bool,
}

#[derive(Debug)]
struct Input {
    pipe: Watched<OwnedFd>,
    /// What a client typed and the process has not read.
    pending: Vec<u8>,
    sent: usize,
    /// Closes when nothing is pending any more.
    closing: bool,
}

#[derive(Debug)]
struct Output {
    pipe: Watched<OwnedFd>,
    stream: Stream,
}

impl Streams {
    /// Makes the pipes. The second value goes to the launch.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new(owner: u32, shape: Shape) -> io::Result<(Self, Stdio)> {
        let mut streams = Self {
            owner,
            shape,
            input: None,
            outputs: Vec::new(),
            clients: Vec::new(),
            next_client: 0,
            draining: false,
            may_close: true,
            detached: false,
        };
        if let Some(size) = shape.terminal {
            return Ok((streams, Stdio::Terminal { rows: size.rows, cols: size.cols }));
        }
        let stdin = if shape.stdin {
            let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            streams.set_input(ours)?;
            theirs
        } else {
            null()?
        };
        let mut output = |stream| -> io::Result<OwnedFd> {
            if !shape.output {
                return null();
            }
            let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            streams.add_output(ours, stream)?;
            Ok(theirs)
        };
        let (stdout, stderr) = (output(Stream::Stdout)?, output(Stream::Stderr)?);
        Ok((streams, Stdio::Fds { stdin, stdout, stderr }))
    }

    /// Takes the terminal's master side, once the process is made.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        // Two numbers for one terminal, so that each direction is watched by itself.
        self.set_input(master.try_clone()?)?;
        self.add_output(master, Stream::Stdout)
    }

    fn set_input(&mut self, pipe: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = Watched::new(pipe, Token::Input(self.owner));
        self.input = Some(Input { pipe, pending: Vec::new(), sent: 0, closing: false });
        Ok(())
    }

    fn add_output(&mut self, pipe: OwnedFd, stream: Stream) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        self.outputs.push(Output { pipe: Watched::new(pipe, Token::Output(self.owner, stream)), stream });
        Ok(())
    }

    /// Adds a client.
    ///
    /// # Errors
    /// Where its descriptor cannot be waited for; it is closed then.
    pub(super) fn attach(&mut self, socket: OwnedFd, attach: &Attach, io: &mut Io<'_>) -> io::Result<()> {
        let number = self.next_client;
        self.next_client += 1;
        let client = Client::new(self.owner, number, socket, attach, io.poller)?;
        if self.shape.terminal.is_none() {
            self.size_pipes(WIDE_PIPE_BYTES);
        }
        self.clients.push(client);
        if attach.streams.stdin && !attach.early.is_empty() {
            self.typed(number, attach.early.clone());
        }
        Ok(())
    }

    /// Best effort: the kernel limits what all pipes of a user may have.
    fn size_pipes(&self, bytes: usize) {
        let pipes = self.outputs.iter().map(|output| &output.pipe);
        for pipe in pipes.chain(self.input.as_ref().map(|input| &input.pipe)) {
            let _ = rustix::pipe::fcntl_setpipe_size(&pipe.inner, bytes);
        }
    }

    /// Writes a piece of output that did not come from the process.
    pub(super) fn inject(&mut self, stream: Stream, bytes: &[u8], spool: Option<&Spool>) {
        if let Some(spool) = spool {
            let _ = spool.write(stream, bytes);
        }
        for client in &mut self.clients {
            client.write(stream, bytes);
        }
    }

    /// Output can be read: takes one chunk.
    pub(super) fn on_output(&mut self, stream: Stream, io: &mut Io<'_>) {
        let Some(at) = self.outputs.iter().position(|output| output.stream == stream) else { return };
        if !self.may_read(stream, io.spool) {
            return;
        }
        let spool = io.spool;
        let poller = io.poller;
        let scratch = io.scratch();
        let read =
            rustix::io::retry_on_intr(|| rustix::io::read(&self.outputs[at].pipe.inner, &mut *scratch));
        match read {
            Ok(count @ 1..) => {
                let bytes = &scratch[..count];
                if let Some(spool) = spool {
                    // There is room: `may_read` asked for a chunk's.
                    let _ = spool.write(stream, bytes);
                }
                for client in &mut self.clients {
                    client.write(stream, bytes);
                }
            }
            Err(rustix::io::Errno::AGAIN) => {}
            // A terminal says EIO when its other side is closed.
            Ok(0) | Err(_) => drop(self.outputs.swap_remove(at).pipe.release(poller)),
        }
    }

    fn may_read(&self, stream: Stream, spool: Option<&Spool>) -> bool {
        let held = !self.draining && self.clients.iter().any(|client| client.holds_back(stream));
        !held && spool.is_none_or(|spool| spool.has_room(CHUNK_BYTES))
    }

    /// The process can take input.
    pub(super) fn on_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        while input.sent < input.pending.len() {
            match rustix::io::write(&input.pipe.inner, &input.pending[input.sent..]) {
                Ok(count) => input.sent += count,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                // It has closed its standard input.
                Err(_) => {
                    input.closing = true;
                    break;
                }
            }
        }
        // The room is kept while input flows, and given back when it is quiet.
        input.pending.clear();
        input.sent = 0;
    }

    /// A client can be read, written, or is gone.
    pub(super) fn on_client(&mut self, number: u32, flags: EventFlags, io: &mut Io<'_>) {
        let Some(at) = self.clients.iter().position(|client| client.number == number) else { return };
        if flags.contains(EventFlags::OUT) {
            self.clients[at].flush();
        }
        if flags.contains(EventFlags::IN) {
            if self.clients[at].types() {
                self.read_client(at, io);
            } else {
                let scratch = io.scratch();
                self.clients[at].drop_input(scratch);
            }
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.clients[at].hangs_up();
        }
    }

    /// Reads a client's input once, if there is room for it.
    fn read_client(&mut self, at: usize, io: &mut Io<'_>) {
        if !self.has_input_room() {
            return;
        }
        let scratch = io.scratch();
        match self.clients[at].read(scratch) {
            Ok(count @ 1..) => {
                if self.shape.terminal.is_none() || self.clients[at].keys.is_none() {
                    self.write_input(&scratch[..count]);
                } else {
                    let bytes = scratch[..count].to_vec();
                    self.typed(self.clients[at].number, bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // One that hung up will say nothing more.
                if self.clients[at].has_left_input() {
                    self.clients[at].ends_input();
                }
            }
            Ok(0) | Err(_) => self.on_end_of_input(at),
        }
    }

    /// A client's half-close.
    fn on_end_of_input(&mut self, at: usize) {
        self.clients[at].ends_input();
        if self.shape.stdin_once && self.shape.terminal.is_none() {
            self.close_input();
        } else {
            self.clients[at].finish();
        }
    }

    fn has_input_room(&self) -> bool {
        self.input.as_ref().is_some_and(|input| input.pending.is_empty() && !input.closing)
    }

    /// Passes a client's input on, unless it is the detach keys.
    fn typed(&mut self, number: u32, bytes: Vec<u8>) {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
        let bytes = if self.shape.terminal.is_none() || client.keys.is_none() {
            bytes
        } else {
            match client.keys.take(&bytes) {
                Typed::Input(bytes) => bytes,
                Typed::Detach(bytes) => {
                    client.finish();
                    self.detached = true;
                    bytes
                }
            }
        };
        self.write_input(&bytes);
    }

    fn write_input(&mut self, mut bytes: &[u8]) {
        let Some(input) = &mut self.input else { return };
        while input.pending.is_empty() && !bytes.is_empty() {
            match rustix::io::write(&input.pipe.inner, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // It has closed its standard input.
                Err(_) => {
                    input.closing = true;
                    return;
                }
            }
        }
        input.pending.extend_from_slice(bytes);
    }

    /// Closes the input, after what is pending.
    pub(super) fn close_input(&mut self) {
        // A terminal's input is the terminal: it cannot be closed by itself.
        if self.shape.terminal.is_none()
            && let Some(input) = &mut self.input
        {
            input.closing = true;
        }
    }

    /// Sets the terminal's size, if there is a terminal.
    pub(super) fn resize(&self, size: TerminalSize) {
        if self.shape.terminal.is_some()
            && let Some(output) = self.outputs.first()
        {
            let size =
                rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(&output.pipe.inner, size);
        }
    }

    /// Gives unused room back.
    pub(super) fn shrink(&mut self) {
        if let Some(input) = &mut self.input {
            input.pending.shrink_to_fit();
        }
        for client in &mut self.clients {
            client.shrink();
        }
    }

    /// The process has ended: reads what is left.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether all output was read.
    pub(super) fn is_drained(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Closes everything on the process' side, and lets the clients go when they have their output.
    pub(super) fn finish(&mut self, poller: &Poller) {
        if let Some(input) = self.input.take() {
            drop(input.pipe.release(poller));
        }
        for output in self.outputs.drain(..) {
            drop(output.pipe.release(poller));
        }
        for client in &mut self.clients {
            client.finish();
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_finished(&self) -> bool {
        self.outputs.is_empty() && self.input.is_none() && self.clients.is_empty()
    }

    /// Whether some client's output waits for it, or its end may not be told yet.
    pub(super) fn has_unserved_clients(&self) -> bool {
        self.clients.iter().any(|client| !client.is_lingering() || client.has_backlog())
    }

    /// Brings what is watched in line with what is wanted. Returns when it must be called again at the
    /// latest.
    pub(super) fn settle(&mut self, io: &mut Io<'_>) -> Option<Instant> {
        while self.has_input_room()
            && let Some(at) = self.clients.iter().position(Client::has_left_input)
        {
            self.read_client(at, io);
        }
        if self.input.is_none() {
            // Nobody will read what those who hung up have typed.
            for client in self.clients.iter_mut().filter(|client| client.has_left_input()) {
                client.ends_input();
            }
        }
        self.input
            .take_if(|input| input.closing && input.pending.is_empty())
            .map(|i| i.pipe.release(io.poller));
        if let Some(input) = &mut self.input {
            let want = (!input.pending.is_empty()).then_some(EventFlags::OUT);
            let _ = input.pipe.watch(io.poller, want);
        }
        for at in 0..self.outputs.len() {
            let want = self.may_read(self.outputs[at].stream, io.spool).then_some(EventFlags::IN);
            let _ = self.outputs[at].pipe.watch(io.poller, want);
        }
        let room = self.has_input_room();
        let may_close = self.may_close;
        let again =
            self.clients.iter_mut().filter_map(|client| client.settle(io.poller, room, may_close)).min();
        let mut at = 0;
        while at < self.clients.len() {
            if self.clients[at].is_gone() {
                self.clients.swap_remove(at).release(io.poller);
                if self.clients.is_empty() && self.shape.terminal.is_none() {
                    self.size_pipes(PIPE_BYTES);
                }
            } else {
                at += 1;
            }
        }
        again
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}
