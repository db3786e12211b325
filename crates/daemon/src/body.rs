//! A body as a blocking reader, for what unpacks archives on a thread of its own.

use std::io::{self, Read};

use bytes::Bytes;
use gantry_server::Request;
use tokio::sync::mpsc;

/// How many pieces wait for the reader. hyper's are at most some hundred kilobytes long.
const PIECES: usize = 4;

/// Reads what [`pump`] sends.
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// The sending half of a [`BodyReader`].
pub(crate) struct Pump(mpsc::Sender<io::Result<Bytes>>);

/// Makes both halves.
pub(crate) fn pipe() -> (Pump, BodyReader) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (Pump(sender), BodyReader { pieces, current: Bytes::new() })
}

impl Pump {
    /// Sends one piece; says whether anybody reads.
    pub(crate) async fn send(&self, piece: io::Result<Bytes>) -> bool {
        self.0.send(piece).await.is_ok()
    }

    /// Sends the whole body; ends early where nobody reads any more.
    pub(crate) async fn run(self, request: &mut Request) {
        loop {
            let piece = match request.next_piece().await {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            };
            let broken = piece.is_err();
            if self.0.send(piece).await.is_err() || broken {
                return;
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let take = self.current.len().min(into.len());
        into[..take].copy_from_slice(&self.current.split_to(take));
        Ok(take)
    }
}
