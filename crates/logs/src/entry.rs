//! One entry of a log: how it looks on disk.
//!
//! ```text
//! {"log":"a line of output\n","stream":"stdout","time":"2015-05-06T07:08:09.123456789Z"}
//! {"log":"another\n","stream":"stderr","attrs":{"label":"value"},"time":"2015-05-06T07:08:09.2Z"}
//! ```
//! One JSON object a line, as Docker's `json-file` driver writes it, so that whatever reads
//! Docker's files reads these. A line of output longer than 16 KiB is several entries, of which only
//! the last ends with `\n`; so is a last line without a line feed. Bytes that are not UTF-8 become
//! U+FFFD, as they do with Docker.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gantry_model::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The most bytes of output that one entry has.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, or all of a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word on disk.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One entry, as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the shim read it.
    pub time: Timestamp,
    /// From where.
    pub stream: Stream,
    /// The output, with its line feed; without one it is partial, and the next entry of the same
    /// stream goes on.
    pub line: Vec<u8>,
    /// Labels, variables and a tag of the container, where they were asked for.
    pub attributes: BTreeMap<String, String>,
}

/// Whether attributes are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Details {
    /// They are not.
    #[default]
    Omitted,
    /// They are.
    Read,
}

impl Entry {
    /// Whether the next entry of the stream continues this one's line.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.line.last() != Some(&b'\n')
    }

    /// Reads one line of a file, without its line feed. `None` where it is no entry: torn by a crash,
    /// or overwritten.
    #[must_use]
    pub fn decode(line: &[u8], details: Details) -> Option<Self> {
        #[derive(Deserialize)]
        struct OnDisk<'a> {
            #[serde(borrow, default)]
            log: Cow<'a, str>,
            #[serde(borrow, default)]
            stream: Cow<'a, str>,
            #[serde(borrow)]
            time: Cow<'a, str>,
            #[serde(borrow, default)]
            attrs: Option<&'a RawValue>,
        }
        let entry: OnDisk<'_> = serde_json::from_slice(line).ok()?;
        Some(Self {
            time: Timestamp::parse_rfc3339(&entry.time).ok()?,
            stream: if entry.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
            line: entry.log.into_owned().into_bytes(),
            attributes: match (details, entry.attrs) {
                (Details::Read, Some(attributes)) => {
                    serde_json::from_str(attributes.get()).unwrap_or_default()
                }
                _ => BTreeMap::new(),
            },
        })
    }
}

/// Reads only the time of a line: it is last in what we and Docker write.
pub(crate) fn time_of(line: &[u8]) -> Option<Timestamp> {
    let line = line.strip_suffix(b"\"}")?;
    let at = line.iter().rposition(|&byte| byte == b'"')?;
    let time = std::str::from_utf8(&line[at + 1..]).ok()?;
    line[..=at].ends_with(b"\"time\":\"").then(|| Timestamp::parse_rfc3339(time).ok())?
}

/// What stands behind each line of an entry: all lines of one read share it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) stream: Stream,
    /// A JSON object, or empty.
    pub(crate) attributes: &'a str,
    /// In RFC 3339.
    pub(crate) time: &'a str,
}

/// Appends one entry to `to`.
pub(crate) fn encode(to: &mut Vec<u8>, frame: Frame<'_>, line: &[u8], ends: bool) {
    to.extend_from_slice(b"{\"log\":\"");
    for chunk in line.utf8_chunks() {
        escape(to, chunk.valid().as_bytes());
        // Docker's encoder, Go's, replaces every bad byte, not every bad sequence.
        for _ in chunk.invalid() {
            to.extend_from_slice(b"\\ufffd");
        }
    }
    if ends {
        to.extend_from_slice(b"\\n");
    }
    to.extend_from_slice(b"\",\"stream\":\"");
    to.extend_from_slice(frame.stream.as_str().as_bytes());
    to.push(b'"');
    if !frame.attributes.is_empty() {
        to.extend_from_slice(b",\"attrs\":");
        to.extend_from_slice(frame.attributes.as_bytes());
    }
    to.extend_from_slice(b",\"time\":\"");
    to.extend_from_slice(frame.time.as_bytes());
    to.extend_from_slice(b"\"}\n");
}

/// Which bytes must be escaped; Go escapes `<`, `>` and `&` too.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table
};

/// Appends UTF-8 with what JSON wants escaped.
fn escape(to: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| ESCAPED[usize::from(byte)]) {
        to.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => to.extend_from_slice(b"\\\""),
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            byte => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
                to.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            }
        }
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_look_like_dockers_and_read_back() {
        for (line, ends, want) in [
            (&b"hello"[..], true, r#"{"log":"hello\n","stream":"stderr","time":"T"}"#),
            (b"", true, r#"{"log":"\n","stream":"stderr","time":"T"}"#),
            (b"part", false, r#"{"log":"part","stream":"stderr","time":"T"}"#),
            (
                b"<a href=\"x\">&\\\t\r\x1b",
                false,
                r#"{"log":"\u003ca href=\"x\"\u003e\u0026\\\u0009\r\u001b","stream":"stderr","time":"T"}"#,
            ),
            (
                "grün\u{2603}".as_bytes(),
                false,
                "{\"log\":\"grün\u{2603}\",\"stream\":\"stderr\",\"time\":\"T\"}",
            ),
            (b"a\xff\xfeb", false, r#"{"log":"a\ufffd\ufffdb","stream":"stderr","time":"T"}"#),
        ] {
            let mut got = Vec::new();
            let frame = Frame { stream: Stream::Stderr, attributes: "", time: "T" };
            encode(&mut got, frame, line, ends);
            assert_eq!(String::from_utf8(got).expect("UTF-8"), format!("{want}\n"));
        }
        let time = "2015-05-06T07:08:09.5Z";
        let mut bytes = Vec::new();
        let attributes = r#"{"a":"b","c":"d"}"#;
        encode(&mut bytes, Frame { stream: Stream::Stdout, attributes, time }, b"x\ty\"", true);
        let line = bytes.strip_suffix(b"\n").expect("a line");
        let entry = Entry::decode(line, Details::Omitted).expect("an entry");
        assert!(entry.attributes.is_empty());
        let read = Entry::decode(line, Details::Read).expect("an entry").attributes;
        assert_eq!(serde_json::to_string(&read).expect("JSON"), attributes);
        assert_eq!((entry.line.as_slice(), entry.time.to_string().as_str()), (&b"x\ty\"\n"[..], time));
        assert_eq!(time_of(line), Some(entry.time));
    }

    #[test]
    fn torn_lines_are_no_entries() {
        for bad in ["", "{", r#"{"log":"a\n","stream":"stdout","time":"2015-05-06T0"#, "\0\0\0", "[]"] {
            assert_eq!(Entry::decode(bad.as_bytes(), Details::Read), None, "{bad:?}");
        }
        assert_eq!(time_of(br#"{"log":"\"time\":\"2015-05-06T07:08:09Z"}"#), None);
    }
}
