//! What containers need to resolve names: `/etc/resolv.conf` from the host's resolvers, and `/etc/hosts`.
//! Pure but for [`host_resolvers`].

use std::net::IpAddr;
use std::path::PathBuf;

/// The contents of a `resolv.conf`, as far as containers get them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolvers {
    /// Addresses of name servers, in order; as text, because IPv6 ones may carry a zone.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options, such as `ndots:2`.
    pub options: Vec<String>,
    /// Which file they come from, for the comment.
    pub source: PathBuf,
}

/// What a container asks for instead of the host's (`--dns`, `--dns-search`, `--dns-option`). Empty: the host's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Search domains; a single `.` means none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// The host's resolvers as it uses them itself, for `--net host`, and unfiltered. Reads `/etc/resolv.conf`, or,
/// where that points to systemd-resolved's stub only, the file with the servers behind it
/// (`/run/systemd/resolve/resolv.conf`). An unreadable file gives an empty list.
#[must_use]
pub fn host_resolvers() -> Resolvers {
    unimplemented!()
}

/// Reads the text of a `resolv.conf`. Unknown lines are ignored, as libc does.
#[must_use]
pub fn parse(_text: &str) -> Resolvers {
    unimplemented!()
}

/// The text of a container's `resolv.conf` on a network of its own: the host's resolvers without those that
/// are the host's loopback (and IPv6 ones, which it cannot reach), or `overrides`. If none remains, Google's
/// public ones, as Docker does.
#[must_use]
pub fn resolv_conf(_host: &Resolvers, _overrides: &Overrides) -> String {
    unimplemented!()
}

/// The text of a `resolv.conf` for `--net host`: the host's as it is, but for `overrides`.
#[must_use]
pub fn resolv_conf_on_host(_host: &Resolvers, _overrides: &Overrides) -> String {
    unimplemented!()
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The address.
    pub address: IpAddr,
    /// Names, the first of which is canonical.
    pub names: Vec<String>,
}

/// The text of a container's `/etc/hosts`: Docker's fixed lines, then `entries` (`--add-host` first, the
/// container's own address and hostname last).
#[must_use]
pub fn hosts_file(_entries: &[HostEntry]) -> String {
    unimplemented!()
}
