//! The framing of attached streams without a terminal (`application/vnd.docker.multiplexed-stream`).
//!
//! ```text
//! byte 0      1    2    3    4 … 7
//!      stream 0    0    0    length, big-endian    then that many bytes
//! ```

/// Content type of a stream with frames.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Content type of a stream without.
pub const RAW: &str = "application/vnd.docker.raw-stream";

/// The bytes of a header.
pub const HEADER_BYTES: usize = 8;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Never sent by a daemon.
    Stdin = 0,
    /// The program's output.
    Stdout = 1,
    /// The program's error output.
    Stderr = 2,
    /// An error of the daemon itself, told inside the stream.
    SystemError = 3,
}

/// The header of a frame of `len` bytes.
#[must_use]
pub fn header(stream: Stream, len: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// One whole frame.
///
/// # Panics
/// Where `bytes` is 4 GiB or longer; callers send at most a pipe's buffer.
#[must_use]
pub fn frame(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("frames are at most a pipe's buffer long");
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len());
    out.extend_from_slice(&header(stream, len));
    out.extend_from_slice(bytes);
    out
}

/// A stream that does not keep to the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attached stream has a frame of unknown stream {0}")]
pub struct InvalidFrame(pub u8);

/// Takes frames apart as bytes come in, without keeping contents: a long frame is handed on in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    stream: Option<Stream>,
    remaining: usize,
}

impl Decoder {
    /// Takes the next piece from the front of `input`; `None` once nothing is left of it.
    ///
    /// # Errors
    /// [`InvalidFrame`] for a header with an unknown stream; the decoder cannot go on after it.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<(Stream, &'a [u8])>, InvalidFrame> {
        while self.remaining == 0 || self.stream.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            let take = (HEADER_BYTES - self.header_len).min(input.len());
            self.header[self.header_len..self.header_len + take].copy_from_slice(&input[..take]);
            self.header_len += take;
            *input = &input[take..];
            if self.header_len == HEADER_BYTES {
                self.header_len = 0;
                let [stream, _, _, _, a, b, c, d] = self.header;
                self.stream = Some(match stream {
                    0 => Stream::Stdin,
                    1 => Stream::Stdout,
                    2 => Stream::Stderr,
                    3 => Stream::SystemError,
                    other => return Err(InvalidFrame(other)),
                });
                self.remaining = u32::from_be_bytes([a, b, c, d]) as usize;
            }
        }
        let Some(stream) = self.stream.filter(|_| !input.is_empty()) else { return Ok(None) };
        let take = self.remaining.min(input.len());
        let (piece, rest) = input.split_at(take);
        *input = rest;
        self.remaining -= take;
        Ok(Some((stream, piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = frame(Stream::Stdout, b"hello");
        wire.extend(frame(Stream::Stderr, b""));
        wire.extend(frame(Stream::Stderr, b"oops"));
        for size in 1..=wire.len() {
            let (mut decoder, mut out, mut err) = (Decoder::default(), Vec::new(), Vec::new());
            for mut chunk in wire.chunks(size) {
                while let Some((stream, piece)) = decoder.next(&mut chunk).expect("frames") {
                    if stream == Stream::Stdout { &mut out } else { &mut err }.extend_from_slice(piece);
                }
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello"[..], &b"oops"[..]),
                "in chunks of {size}"
            );
        }
        assert_eq!(Decoder::default().next(&mut &b"\x09\0\0\0\0\0\0\0"[..]), Err(InvalidFrame(9)));
    }
}
