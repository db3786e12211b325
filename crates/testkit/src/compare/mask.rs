//! What may differ between two daemons, by its shape.
//!
//! A mask stands at the call whose output it masks, and names one kind. It replaces exactly what has
//! that shape and leaves every other byte: an empty id, a zero time, a port of four digits stay and
//! are compared. Ids are numbered in the order in which the case shows them, the short form of an id
//! with its long form, so that they are compared as far as they can be.

use std::collections::HashMap;
use std::fmt;

/// A mask of one call.
#[derive(Debug, Clone)]
pub struct Mask {
    /// What it replaces.
    pub kind: Kind,
    /// Only in this field of a `json` layout.
    pub path: Option<String>,
    /// On standard error instead of standard output.
    pub stderr: bool,
}

/// The shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 64 hexadecimal digits: an id, or what follows `sha256:`.
    Id,
    /// 12 hexadecimal digits: the short form of an id.
    Id12,
    /// An RFC 3339 time that is not zero.
    Time,
    /// `2026-11-21 14:30:34 +0000 UTC`.
    Clock,
    /// Seconds since 1970, with or without a fraction.
    Epoch,
    /// `2 seconds`, `About a minute`, `Less than a second`.
    Age,
    /// An IPv4 address.
    Ip,
    /// A MAC address.
    Mac,
    /// A random port: a number from 32768 on.
    Port,
    /// A whole number that is not zero: a process id, a size in bytes.
    Number,
    /// How long a container ran, in whole seconds, as `execDuration=0` or `execDuration":"0` in an event.
    Ran,
    /// `12.3MB`.
    Size,
    /// A name that the daemon made up: `adjective_surname`.
    Name,
    /// Two or more blanks, as they fill up columns whose widths follow what is masked.
    Columns,
    /// An absolute path.
    Path,
    /// A version: numbers and dots, with what follows up to a blank or quote.
    Version,
}

const KINDS: [(&str, Kind); 16] = [
    ("id", Kind::Id),
    ("id12", Kind::Id12),
    ("time", Kind::Time),
    ("clock", Kind::Clock),
    ("epoch", Kind::Epoch),
    ("age", Kind::Age),
    ("ip", Kind::Ip),
    ("mac", Kind::Mac),
    ("port", Kind::Port),
    ("number", Kind::Number),
    ("ran", Kind::Ran),
    ("size", Kind::Size),
    ("name", Kind::Name),
    ("columns", Kind::Columns),
    ("path", Kind::Path),
    ("version", Kind::Version),
];

/// The numbers that ids have got so far in a case on one side.
#[derive(Debug, Default)]
pub struct Numbers {
    /// By an id's first twelve digits.
    known: HashMap<String, usize>,
}

impl Numbers {
    fn of(&mut self, id: &str) -> usize {
        let next = self.known.len() + 1;
        *self.known.entry(id[..12].to_owned()).or_insert(next)
    }
}

impl Kind {
    /// The kind of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, String> {
        KINDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("no kind of mask is called {name}"))
    }

    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The length of what has this shape at the beginning of a text.
    fn length(self, text: &str) -> Option<usize> {
        match self {
            Self::Id => exactly(text, 64, is_hex),
            Self::Id12 => exactly(text, 12, is_hex),
            Self::Time => fits(text, "dddd-dd-ddTdd:dd:dd").and_then(|length| {
                let fraction = after_fraction(text, length);
                let zone = match text.as_bytes().get(fraction)? {
                    b'Z' => 1,
                    _ => fits(&text[fraction..], "+dd:dd")?,
                };
                Some(fraction + zone).filter(|_| !text.starts_with("0001-"))
            }),
            Self::Clock => fits(text, "dddd-dd-dd dd:dd:dd").and_then(|length| {
                let fraction = after_fraction(text, length);
                let zone = fits(&text[fraction..], " +dddd ")?;
                let name = run(&text[fraction + zone..], |b| b.is_ascii_uppercase());
                Some(fraction + zone + name)
            }),
            Self::Epoch => {
                let digits = run(text, |b| b.is_ascii_digit());
                (digits == 10 || digits == 19).then(|| after_fraction(text, digits))
            }
            Self::Age => age(text),
            Self::Ip => address(text),
            Self::Mac => fits(text, "hh:hh:hh:hh:hh:hh"),
            Self::Port => {
                let digits = run(text, |b| b.is_ascii_digit());
                let number: u32 = text[..digits].parse().ok()?;
                (32_768..65_536).contains(&number).then_some(digits)
            }
            Self::Number => {
                let digits = run(text, |b| b.is_ascii_digit());
                (digits > 0 && !text.starts_with('0')).then_some(digits)
            }
            Self::Ran => {
                let value = text.strip_prefix("execDuration")?;
                let mark = ["=", "\":\"", ": \""].into_iter().find(|mark| value.starts_with(mark))?;
                let digits = run(&value[mark.len()..], |b| b.is_ascii_digit());
                (digits > 0).then_some(text.len() - value.len() + mark.len() + digits)
            }
            Self::Size => {
                let digits = run(text, |b| b.is_ascii_digit() || b == b'.');
                let unit = ["kB", "MB", "GB", "KiB", "MiB", "GiB", "B"]
                    .into_iter()
                    .find(|unit| text[digits..].starts_with(unit))?;
                (digits > 0 && text.as_bytes()[0] != b'.').then_some(digits + unit.len())
            }
            Self::Name => {
                let first = run(text, |b| b.is_ascii_lowercase());
                let rest = text[first..].strip_prefix('_')?;
                let second = run(rest, |b| b.is_ascii_lowercase());
                (first > 2 && second > 2).then_some(first + 1 + second)
            }
            Self::Columns => Some(run(text, |b| b == b' ')).filter(|&length| length > 1),
            Self::Path => {
                let path = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
                Some(run(text, path)).filter(|&length| length > 1 && text.starts_with('/'))
            }
            Self::Version => {
                let digits = run(text, |b| b.is_ascii_digit());
                let dotted = text[digits..].starts_with('.') && digits > 0;
                let tail = |b: u8| b.is_ascii_alphanumeric() || b".+~-_".contains(&b);
                dotted.then(|| run(text, tail))
            }
        }
    }
}

impl Mask {
    /// Replaces what has the kind's shape.
    #[must_use]
    pub fn apply(&self, text: &str, numbers: &mut Numbers) -> String {
        let Some(path) = &self.path else { return self.replace(text, numbers) };
        text.split_inclusive('\n')
            .map(|line| match line.split_once(": ") {
                Some((field, value)) if matches(path, field) => {
                    format!("{field}: {}", self.replace(value, numbers))
                }
                _ => line.to_owned(),
            })
            .collect()
    }

    fn replace(&self, text: &str, numbers: &mut Numbers) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        // A shape begins where a word does: not within a longer number or name.
        let mut within_word = false;
        while let Some(c) = text[at..].chars().next() {
            let word = c.is_ascii_alphanumeric();
            let found = if within_word && word { None } else { self.kind.length(&text[at..]) };
            let whole = |length: usize| {
                let last = text.as_bytes()[at + length - 1];
                let next = text.as_bytes().get(at + length).copied().unwrap_or(b' ');
                !(last.is_ascii_alphanumeric() && next.is_ascii_alphanumeric())
            };
            if let Some(length) = found.filter(|&length| whole(length)) {
                match self.kind {
                    Kind::Id | Kind::Id12 => out.push_str(&format!(
                        "<{} {}>",
                        self.kind.name(),
                        numbers.of(&text[at..at + length])
                    )),
                    Kind::Columns => out.push_str("  "),
                    kind => out.push_str(&format!("<{}>", kind.name())),
                }
                within_word = self.kind != Kind::Columns;
                at += length;
            } else {
                within_word = word || c == '_';
                out.push(c);
                at += c.len_utf8();
            }
        }
        out
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "at {path} {}", self.kind.name()),
            None if self.stderr => write!(f, "mask stderr {}", self.kind.name()),
            None => write!(f, "mask {}", self.kind.name()),
        }
    }
}

/// Whether a field's path is the one of a mask, `*` standing for any element.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(want), Some(have)) if want == "*" || want == have => {}
            _ => return false,
        }
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// How many bytes at the beginning are of a class.
fn run(text: &str, class: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| class(byte)).count()
}

fn exactly(text: &str, length: usize, class: impl Fn(u8) -> bool) -> Option<usize> {
    (run(text, class) == length).then_some(length)
}

/// Whether a text begins like a pattern in which `d` is a digit, `h` a hexadecimal one, `+` a sign.
fn fits(text: &str, pattern: &str) -> Option<usize> {
    let bytes = text.as_bytes().get(..pattern.len())?;
    let fit = bytes.iter().zip(pattern.bytes()).all(|(&byte, want)| match want {
        b'd' => byte.is_ascii_digit(),
        b'h' => is_hex(byte),
        b'+' => byte == b'+' || byte == b'-',
        _ => byte == want,
    });
    fit.then_some(pattern.len())
}

fn after_fraction(text: &str, at: usize) -> usize {
    match text[at..].strip_prefix('.') {
        Some(rest) => at + 1 + run(rest, |b| b.is_ascii_digit()),
        None => at,
    }
}

fn age(text: &str) -> Option<usize> {
    for fixed in ["Less than a second", "About a minute", "About an hour"] {
        if text.starts_with(fixed) {
            return Some(fixed.len());
        }
    }
    let digits = run(text, |b| b.is_ascii_digit());
    let unit = ["second", "minute", "hour", "day", "week", "month", "year"].into_iter().find(|unit| {
        text.get(digits..).and_then(|rest| rest.strip_prefix(' ')).is_some_and(|rest| rest.starts_with(unit))
    })?;
    let end = digits + 1 + unit.len();
    (digits > 0).then_some(end + usize::from(text[end..].starts_with('s')))
}

fn address(text: &str) -> Option<usize> {
    let length = run(text, |b| b.is_ascii_digit() || b == b'.');
    let parsed: std::net::Ipv4Addr = text[..length].trim_end_matches('.').parse().ok()?;
    // 0.0.0.0 and 127.0.0.1 are the same everywhere.
    (!parsed.is_unspecified() && !parsed.is_loopback()).then_some(text[..length].trim_end_matches('.').len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_replaces_its_shape_alone() {
        let id = "0123456789abcdef".repeat(4);
        for (kind, text, want) in [
            ("id", format!("sha256:{id} {id}0 x{id}"), format!("sha256:<id 1> {id}0 x{id}")),
            (
                "id12",
                "0123456789ab 0123456789abc 0123456789ab".to_owned(),
                "<id12 1> 0123456789abc <id12 1>".to_owned(),
            ),
            (
                "time",
                "a 2026-11-21T14:30:34.914133663Z 0001-01-01T00:00:00Z 2026-11-21T14:30:34+01:00".to_owned(),
                "a <time> 0001-01-01T00:00:00Z <time>".to_owned(),
            ),
            ("clock", "2026-11-21 14:30:34 +0000 UTC".to_owned(), "<clock>".to_owned()),
            ("epoch", "1763735434 1763735434.123456 17".to_owned(), "<epoch> <epoch> 17".to_owned()),
            (
                "age",
                "Up 2 seconds, Exited (0) About a minute ago, Less than a second ago, 1 hour".to_owned(),
                "Up <age>, Exited (0) <age> ago, <age> ago, <age>".to_owned(),
            ),
            (
                "ip",
                "172.17.0.2/16 0.0.0.0:80 127.0.0.1 1.2.3".to_owned(),
                "<ip>/16 0.0.0.0:80 127.0.0.1 1.2.3".to_owned(),
            ),
            ("mac", "02:42:ac:11:00:02".to_owned(), "<mac>".to_owned()),
            ("port", "0.0.0.0:32768->80/tcp 80".to_owned(), "0.0.0.0:<port>->80/tcp 80".to_owned()),
            ("number", "Pid: 4711 0 x12".to_owned(), "Pid: <number> 0 x12".to_owned()),
            (
                "ran",
                "die (execDuration=12, exitCode=3) {\"execDuration\":\"0\"} execDuration".to_owned(),
                "die (<ran>, exitCode=3) {\"<ran>\"} execDuration".to_owned(),
            ),
            ("size", "1.9MB 0B x".to_owned(), "<size> <size> x".to_owned()),
            ("name", "eager_lovelace a_b".to_owned(), "<name> a_b".to_owned()),
            ("columns", "A    B C".to_owned(), "A  B C".to_owned()),
            ("path", "\"/proc/1/ns\" a /".to_owned(), "\"<path>\" a /".to_owned()),
            ("version", "28.5.2+dfsg4 \"1.51\" 28".to_owned(), "<version> \"<version>\" 28".to_owned()),
        ] {
            let mask = Mask { kind: Kind::named(kind).expect("a kind"), path: None, stderr: false };
            assert_eq!(mask.apply(&text, &mut Numbers::default()), want, "{kind}");
        }
    }

    #[test]
    fn a_short_id_has_its_long_forms_number() {
        let mut numbers = Numbers::default();
        let other = "f".repeat(64);
        let id = "0123456789ab".to_owned() + &"0".repeat(52);
        let long = Mask { kind: Kind::Id, path: None, stderr: false };
        let short = Mask { kind: Kind::Id12, path: None, stderr: false };
        assert_eq!(long.apply(&format!("{other}\n{id}\n"), &mut numbers), "<id 1>\n<id 2>\n");
        assert_eq!(short.apply("0123456789ab", &mut numbers), "<id12 2>");
    }

    #[test]
    fn a_path_restricts_a_mask() {
        let mask = Mask { kind: Kind::Number, path: Some("/State/*/Pid".into()), stderr: false };
        let text = "/State/0/Pid: 12\n/State/0/Exit: 12\n";
        assert_eq!(mask.apply(text, &mut Numbers::default()), "/State/0/Pid: <number>\n/State/0/Exit: 12\n");
    }
}
