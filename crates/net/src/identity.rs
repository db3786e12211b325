//! How the things that one daemon makes in the kernel are named and tagged.

use std::fmt::Write as _;
use std::path::Path;

/// The exec root whose names are without a hash, because it is the one that nearly everybody has.
pub const DEFAULT_EXEC_ROOT: &str = "/run/gantry";

/// The longest name of a link: `IFNAMSIZ` less the closing zero.
pub const LINK_NAME_MAX: usize = 15;

/// Whose things these are. One for each exec root; two daemons never have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    tag: String,
    default: bool,
}

impl Identity {
    /// The identity of the daemon with this exec root. Pure: the path is taken as written, so the caller
    /// gives it absolute and always in the same form.
    #[must_use]
    pub fn from_exec_root(exec_root: &Path) -> Self {
        let path = exec_root.as_os_str().as_encoded_bytes();
        Self { tag: hash_hex(&[path], 8), default: exec_root == Path::new(DEFAULT_EXEC_ROOT) }
    }

    /// Eight hexadecimal digits.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The name of the default bridge: `gantry0`, or `gt` + tag + `b0` for another exec root.
    #[must_use]
    pub fn default_bridge_name(&self) -> String {
        if self.default { "gantry0".into() } else { format!("gt{}b0", self.tag) }
    }

    /// The name of the bridge of another network, from its id: `gb` and 13 hexadecimal digits.
    #[must_use]
    pub fn bridge_name(&self, network_id: &str) -> String {
        format!("gb{}", hash_hex(&[self.tag.as_bytes(), b"bridge", network_id.as_bytes()], 13))
    }

    /// The name of the host's end of an endpoint, from the endpoint's id (or the sandbox's, where it has one
    /// endpoint only): `gv` and 13 hexadecimal digits.
    #[must_use]
    pub fn endpoint_name(&self, endpoint_id: &str) -> String {
        format!("gv{}", hash_hex(&[self.tag.as_bytes(), b"endpoint", endpoint_id.as_bytes()], 13))
    }

    /// The name of the nft table, of family `inet`.
    #[must_use]
    pub fn table_name(&self) -> String {
        format!("gantry-{}", self.tag)
    }

    /// What every link's alias starts with (`ip -d link` shows it); after it comes the owner's id.
    #[must_use]
    pub fn alias_prefix(&self) -> String {
        format!("gantry:{}:", self.tag)
    }
}

/// FNV-1a over the parts, each closed by a zero byte, then mixed; the first `digits` hexadecimal digits.
/// Names need to differ, not to resist anybody: who can choose exec roots is root.
fn hash_hex(parts: &[&[u8]], digits: usize) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    let mut text = String::with_capacity(16);
    let _ = write!(text, "{hash:016x}");
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_by_exec_root_and_id() {
        let default = Identity::from_exec_root(Path::new("/run/gantry"));
        let other = Identity::from_exec_root(Path::new("/tmp/x/run"));
        assert_eq!(default.default_bridge_name(), "gantry0");
        assert_eq!(other.default_bridge_name(), format!("gt{}b0", other.tag()));
        assert_ne!(default.table_name(), other.table_name());
        for name in [
            other.default_bridge_name(),
            default.bridge_name("a"),
            default.bridge_name("b"),
            other.bridge_name("a"),
            default.endpoint_name("a"),
            other.endpoint_name("a"),
        ] {
            assert!(name.len() <= LINK_NAME_MAX, "{name}");
        }
        assert_ne!(default.bridge_name("a"), default.bridge_name("b"));
        assert_ne!(default.endpoint_name("a"), other.endpoint_name("a"));
    }
}
