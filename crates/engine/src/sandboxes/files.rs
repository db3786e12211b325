//! `hosts`, `hostname` and `resolv.conf` of a container.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use gantry_net::dns::{self, HostEntry, Overrides};

use crate::containers::config::NameConfig;
use crate::settings::Defaults;

/// What the files say.
pub(crate) struct NetworkFiles<'a> {
    /// Resolver and hosts as asked for.
    pub(crate) names: &'a NameConfig,
    /// The daemon's.
    pub(crate) defaults: &'a Defaults,
    /// The name inside.
    pub(crate) hostname: &'a str,
    /// NIS domain, empty for none.
    pub(crate) domainname: &'a str,
    /// The container's own address, where it has one.
    pub(crate) address: Option<Ipv4Addr>,
    /// The bridge's own address, for `host-gateway`.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Whether it uses the host's network.
    pub(crate) on_host: bool,
}

/// Writes the three files into the directory.
///
/// # Errors
/// The file system's.
pub(crate) fn write(directory: &Path, files: &NetworkFiles<'_>) -> io::Result<()> {
    fs::write(directory.join("hostname"), format!("{}\n", files.hostname))?;
    fs::write(directory.join("hosts"), hosts(files))?;
    fs::write(directory.join("resolv.conf"), resolv_conf(files))
}

fn hosts(files: &NetworkFiles<'_>) -> String {
    let mut entries: Vec<HostEntry> =
        files.names.extra_hosts.iter().filter_map(|text| extra(text, files)).collect();
    if files.on_host {
        let mut text = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for entry in entries {
            text.push_str(&format!("{}\t{}\n", entry.address, entry.names.join(" ")));
        }
        return text;
    }
    if let Some(address) = files.address {
        entries.push(HostEntry { address: address.into(), names: own_names(files) });
    }
    dns::hosts_file(&entries)
}

/// The whole name, and the short one where they differ.
fn own_names(files: &NetworkFiles<'_>) -> Vec<String> {
    let mut names = vec![files.hostname.to_owned()];
    if !files.domainname.is_empty() {
        names = vec![format!("{}.{}", files.hostname, files.domainname)];
    }
    if let Some((short, _)) = names[0].split_once('.').filter(|(short, _)| !short.is_empty()) {
        names.push(short.to_owned());
    }
    names
}

/// `name:address`, `name=address`; the address may be `host-gateway`.
fn extra(text: &str, files: &NetworkFiles<'_>) -> Option<HostEntry> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
    let address: IpAddr = match address {
        "host-gateway" => files.gateway?.into(),
        text => text.trim_start_matches('[').trim_end_matches(']').parse().ok()?,
    };
    Some(HostEntry { address, names: vec![name.to_owned()] })
}

fn resolv_conf(files: &NetworkFiles<'_>) -> String {
    let or = |own: &[String], default: &[String]| {
        if own.is_empty() { default.to_vec() } else { own.to_vec() }
    };
    let overrides = Overrides {
        nameservers: or(&files.names.servers, &files.defaults.dns),
        search: or(&files.names.search, &files.defaults.dns_search),
        options: or(&files.names.options, &files.defaults.dns_options),
    };
    let host = dns::host_resolvers();
    if files.on_host {
        dns::resolv_conf_on_host(&host, &overrides)
    } else {
        dns::resolv_conf(&host, &overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_dots_has_a_short_one_as_well() {
        let (names, defaults) = (NameConfig::default(), Defaults::default());
        let files = |hostname, domainname| NetworkFiles {
            names: &names,
            defaults: &defaults,
            hostname,
            domainname,
            address: None,
            gateway: None,
            on_host: false,
        };
        assert_eq!(own_names(&files("h", "")), ["h"]);
        assert_eq!(own_names(&files("h", "d.e")), ["h.d.e", "h"]);
        assert_eq!(own_names(&files("a.b.c", "")), ["a.b.c", "a"]);
        assert_eq!(own_names(&files("a.b.c", "d.e")), ["a.b.c.d.e", "a"]);
    }
}
