//! Reading a reply's body: by length, in chunks, or to the end of the connection.

use std::io::{self, Read};

use serde::de::DeserializeOwned;

use crate::stream::Connection;
use crate::{Client, Error, api};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// After so many bytes.
    Exactly(u64),
    /// After the chunk of length 0; so many bytes of the present chunk remain, and whether it is the first.
    Chunked { remaining: u64, first: bool },
    /// With the connection.
    UntilClose,
}

/// A reply's body. Once it was read to its end the connection serves the next request.
#[derive(Debug)]
pub struct Body<'c> {
    client: &'c Client,
    connection: Option<Connection>,
    length: Length,
    reusable: bool,
}

impl<'c> Body<'c> {
    pub(crate) fn new(client: &'c Client, connection: Connection, length: Length, reusable: bool) -> Self {
        let mut body = Self { client, connection: Some(connection), length, reusable };
        if length == Length::Exactly(0) {
            body.finish();
        }
        body
    }

    /// Reads it whole and interprets it as JSON.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`].
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        let mut text = Vec::new();
        self.read_to_end(&mut text)?;
        Ok(api::gojson::from_slice(&text)?)
    }

    /// Reads a stream of JSON values, one at a time, as they come.
    #[must_use]
    pub fn lines<T: DeserializeOwned>(self) -> Lines<'c, T> {
        Lines { body: self, pending: Vec::new(), ended: false, value: std::marker::PhantomData }
    }

    fn finish(&mut self) {
        let connection = self.connection.take();
        if self.reusable && self.length != Length::UntilClose {
            *self.client.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = connection;
        }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        if !first {
            connection.line()?;
        }
        let line = connection.line()?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let len = u64::from_str_radix(digits, 16).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is not a chunk's length"))
        })?;
        if len == 0 {
            while !connection.line()?.is_empty() {}
        }
        Ok(len)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.connection.is_none() {
            return Ok(0);
        }
        if let Length::Chunked { remaining: 0, first } = self.length {
            let len = self.next_chunk(first)?;
            if len == 0 {
                self.finish();
                return Ok(0);
            }
            self.length = Length::Chunked { remaining: len, first: false };
        }
        let limit = match self.length {
            Length::Exactly(remaining) | Length::Chunked { remaining, .. } => {
                usize::try_from(remaining).unwrap_or(usize::MAX).min(into.len())
            }
            Length::UntilClose => into.len(),
        };
        let Some(connection) = self.connection.as_mut() else { return Ok(0) };
        let read = connection.read_direct(&mut into[..limit])?;
        match &mut self.length {
            Length::UntilClose if read == 0 => self.connection = None,
            Length::UntilClose => {}
            _ if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Length::Exactly(remaining) => {
                *remaining -= read as u64;
                if *remaining == 0 {
                    self.finish();
                }
            }
            Length::Chunked { remaining, .. } => *remaining -= read as u64,
        }
        Ok(read)
    }
}

/// JSON values one after another. Ends with the body; the first error is the last item.
#[derive(Debug)]
pub struct Lines<'c, T> {
    body: Body<'c>,
    pending: Vec<u8>,
    ended: bool,
    value: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<'_, T> {
    fn advance(&mut self) -> Result<Option<T>, Error> {
        let mut buffer = [0; 16 << 10];
        loop {
            let mut values =
                serde_json::Deserializer::from_slice(&self.pending).into_iter::<serde_json::Value>();
            match values.next() {
                Some(Ok(value)) => {
                    let used = values.byte_offset();
                    self.pending.drain(..used);
                    return Ok(Some(api::gojson::from_value(value)?));
                }
                Some(Err(error)) if !error.is_eof() => return Err(Error::Protocol(error.to_string())),
                Some(Err(_)) | None => {}
            }
            match self.body.read(&mut buffer)? {
                0 if self.pending.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                0 => return Err(Error::Io(io::ErrorKind::UnexpectedEof.into())),
                read => self.pending.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

impl<T: DeserializeOwned> Iterator for Lines<'_, T> {
    type Item = Result<T, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
