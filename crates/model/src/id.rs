//! Identifiers. A container, sandbox, exec or network id is 32 random bytes written as 64
//! lower-case hexadecimal digits, as Docker's are; layers and snapshots have ids of our own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Says why a text is not an id: it must be 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: expected 64 lower-case hexadecimal digits")]
pub struct InvalidId(pub String);

fn is_full_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Writes bytes as lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Makes an id from 32 random bytes, which the caller draws (this crate does no I/O).
            #[must_use]
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(to_hex(&bytes).into_boxed_str())
            }

            /// The 64 hexadecimal digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, as lists show them.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_full_id(text) { Ok(Self(text.into())) } else { Err(InvalidId(text.into())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}

hex_id!(
    /// A container. Chosen at create, never reused.
    ContainerId
);
hex_id!(
    /// A sandbox: the namespaces, endpoints and ports that one or more containers live in.
    SandboxId
);
hex_id!(
    /// One `exec` in a running container.
    ExecId
);
hex_id!(
    /// A network.
    NetworkId
);

/// An unpacked layer. Opaque, never reused; equal contents may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(pub u64);

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of a writable snapshot, chosen by its owner: a container id, or a build step's name.
/// 1 to 128 bytes of `[a-z0-9_.-]`, not starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(Box<str>);

impl SnapshotId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotId {
    type Err = InvalidSnapshotId;
    fn from_str(text: &str) -> Result<Self, InvalidSnapshotId> {
        let good = (1..=128).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'));
        if good { Ok(Self(text.into())) } else { Err(InvalidSnapshotId(text.into())) }
    }
}

/// Says why a text is not a snapshot's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a snapshot's name: expected 1 to 128 bytes of [a-z0-9_.-], not starting with a dot")]
pub struct InvalidSnapshotId(pub String);

impl TryFrom<String> for SnapshotId {
    type Error = InvalidSnapshotId;
    fn try_from(text: String) -> Result<Self, InvalidSnapshotId> {
        text.parse()
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> String {
        id.0.into()
    }
}

impl From<&ContainerId> for SnapshotId {
    fn from(id: &ContainerId) -> Self {
        Self(id.as_str().into())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_lower_case_hexadecimal_digits() {
        let id = ContainerId::from_random([0xa5; 32]);
        assert_eq!(id.as_str(), "a5".repeat(32));
        assert_eq!(id.short(), "a5a5a5a5a5a5");
        assert_eq!(id.as_str().parse::<ContainerId>().as_ref(), Ok(&id));
        for bad in ["", "a5", &"A5".repeat(32), &"g5".repeat(32), &"a5".repeat(33)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn snapshot_names_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "a/b", "A", "a\0", ".x"] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?} was taken");
        }
        assert!("build-1.step_2".parse::<SnapshotId>().is_ok());
    }
}
