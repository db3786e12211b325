//! PAX records: `"<length> <key>=<value>\n"`, and the sparse maps that GNU tar keeps in them.

/// The records of one extended header, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Parses a whole extended header; `None` where it is malformed.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        // GNU tar pads with zero bytes in places; nothing else may follow the last record.
        while let Some(&first) = bytes.first() {
            if first == 0 {
                return bytes.iter().all(|&b| b == 0).then_some(Self(records));
            }
            let space = bytes.iter().take(20).position(|&b| b == b' ')?;
            let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
            let record = bytes.get(space + 1..length)?;
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = &bytes[length..];
        }
        Some(Self(records))
    }

    /// The last value of a key; an empty one takes the key back, as POSIX says.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let value = self.0.iter().rev().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v.as_slice());
        value.filter(|value| !value.is_empty())
    }

    /// All records, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Bytes of all keys and values, for a limit.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len() + 64).sum()
    }

    /// Adds the records of a later header, which win.
    pub(super) fn extend(&mut self, later: Self) {
        for (key, value) in later.0 {
            self.0.retain(|(have, _)| *have != key || key.starts_with(b"GNU.sparse."));
            self.0.push((key, value));
        }
    }
}

/// Digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time, `[-]seconds[.fraction]`, in nanoseconds since 1970.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos: i64 = 0;
    for place in 0..9 {
        nanos = nanos * 10 + i64::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let total = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Some(if negative { -total } else { total })
}

/// A stretch of data in a sparse file; between stretches are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the file.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) length: u64,
}

/// The map of GNU's PAX forms 0.0 (a record for each number) and 0.1 (one list); `None` where the
/// header has neither, `Some(None)` where it is malformed.
pub(super) fn sparse_map(records: &Records) -> Option<Option<Vec<Segment>>> {
    if let Some(list) = records.get("GNU.sparse.map") {
        let numbers: Option<Vec<u64>> = list.split(|&b| b == b',').map(decimal).collect();
        return Some(numbers.and_then(|numbers| pairs(&numbers)));
    }
    let numbers: Vec<_> = records
        .iter()
        .filter(|(key, _)| matches!(*key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes"))
        .map(|(_, value)| decimal(value))
        .collect();
    if numbers.is_empty() {
        return None;
    }
    Some(numbers.into_iter().collect::<Option<Vec<u64>>>().and_then(|numbers| pairs(&numbers)))
}

/// Offsets and lengths in turn.
pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Segment>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|&[offset, length]| Segment { offset, length }).collect())
}

/// Whether a map ascends without overlap, stays within the file and has as much data as the archive.
pub(super) fn is_sound(map: &[Segment], file_bytes: u64, data_bytes: u64) -> bool {
    let (mut end, mut data) = (0_u64, 0_u64);
    for segment in map {
        let Some(next) = segment.offset.checked_add(segment.length) else { return false };
        if segment.offset < end || next > file_bytes {
            return false;
        }
        end = next;
        data += segment.length;
    }
    data == data_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_apart() {
        let records = Records::parse(b"12 path=abc\n6 a=b\n13 path=a=bc\n5 c=\n\0\0").expect("good");
        assert_eq!(records.get("path"), Some(&b"a=bc"[..]));
        assert_eq!((records.get("a"), records.get("c"), records.get("d")), (Some(&b"b"[..]), None, None));
        let bad_ones =
            ["12 path=ab\n", "x", "5 a=b\n", "99 a=b\n", "6 ab\n\n", "-1 a=b\n", "6 a=b\n\0x", "4 =\n"];
        for bad in bad_ones {
            assert!(Records::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn times_and_maps_are_read() {
        for (text, nanos) in [
            ("1", Some(1_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("-0.25", Some(-250_000_000)),
            ("1.1234567899", Some(1_123_456_789)),
            ("", None),
            ("1.x", None),
            (".5", None),
            ("1e3", None),
        ] {
            assert_eq!(time(text.as_bytes()), nanos, "{text}");
        }
        let map = [Segment { offset: 1, length: 2 }, Segment { offset: 5, length: 0 }];
        assert_eq!(pairs(&[1, 2, 5, 0]).as_deref(), Some(&map[..]));
        assert!(is_sound(&map, 5, 2) && !is_sound(&map, 4, 2) && !is_sound(&map, 5, 3));
        assert!(!is_sound(&[Segment { offset: u64::MAX, length: 2 }], u64::MAX, 2));
        assert!(!is_sound(&[map[1], map[0]], 9, 2));
    }
}
