//! What is said of a path in a container, beside the archive itself: JSON in base64 in a header.

use serde::{Deserialize, Serialize};

/// The header's name.
pub const PATH_STAT_HEADER: &str = "x-docker-container-path-stat";

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    /// The last component.
    pub name: String,
    /// As `lstat(2)` has it.
    pub size: i64,
    /// Go's `os.FileMode`: see [`go_mode`].
    pub mode: u32,
    /// RFC 3339 with nanoseconds.
    pub mtime: String,
    /// Where a symbolic link leads in the end.
    pub link_target: String,
}

/// Go's bit of a directory.
pub const GO_DIRECTORY: u32 = 1 << 31;
/// Go's bit of a symbolic link.
pub const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SET_UID: u32 = 1 << 23;
const GO_SET_GID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;
const GO_IRREGULAR: u32 = 1 << 19;

/// Type and permission bits of `stat(2)` as Go's `os.FileMode` has them.
#[must_use]
pub fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o17_0000 {
        0o04_0000 => GO_DIRECTORY,
        0o12_0000 => GO_SYMLINK,
        0o06_0000 => GO_DEVICE,
        0o02_0000 => GO_DEVICE | GO_CHARACTER,
        0o01_0000 => GO_FIFO,
        0o14_0000 => GO_SOCKET,
        _ => 0,
    };
    let set = [(0o4000, GO_SET_UID), (0o2000, GO_SET_GID), (0o1000, GO_STICKY)];
    let set = set.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum::<u32>();
    mode & 0o777 | kind | set
}

impl PathStat {
    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        let text = crate::gojson::to_vec(self);
        encode(text.trim_ascii_end())
    }

    /// Reads the header's value; `None` where it is something else.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        crate::gojson::from_slice(&decode(value)?).ok()
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & GO_DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & GO_SYMLINK != 0
    }

    /// Whether it is neither a directory nor a file nor a link.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.mode & (GO_DEVICE | GO_FIFO | GO_SOCKET | GO_CHARACTER | GO_IRREGULAR) != 0
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// The same back; with padding or without.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|&have| have == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        for (mode, go) in [
            (0o04_0755, 2_147_484_141),
            (0o12_0777, 134_218_239),
            (0o10_0644, 420),
            (0o10_4755, 0o755 | 1 << 23),
            (0o04_1777, 0o777 | 1 << 31 | 1 << 20),
            (0o02_0666, 0o666 | 1 << 26 | 1 << 21),
            (0o01_0600, 0o600 | 1 << 25),
        ] {
            assert_eq!(go_mode(mode), go, "{mode:o}");
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for length in 0..5 {
            let stat = PathStat { name: "é/x".repeat(length), size: -1, ..PathStat::default() };
            assert_eq!(PathStat::from_header(&stat.to_header()), Some(stat));
        }
        assert_eq!(encode(b"ab"), "YWI=");
        assert_eq!(PathStat::from_header("*"), None);
        let of_docker = "eyJuYW1lIjoibm9wZSIsInNpemUiOjMsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTExLTIxVDE2OjAwOjA4WiIsImxpbmtUYXJnZXQiOiIifQ==";
        let stat = PathStat::from_header(of_docker).expect("a stat");
        assert_eq!((stat.name.as_str(), stat.size, stat.mode), ("nope", 3, 420));
        assert_eq!(stat.to_header(), of_docker);
    }
}
