//! What the daemon decides at start: roots, bridge, defaults of containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::containers::config::{LogConfig, Ulimit};

/// How the engine is set up. `Default` gives Docker's defaults under Gantry's own paths.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What lasts: `/var/lib/gantry`.
    pub data_root: PathBuf,
    /// What lives while shims do: `/run/gantry`.
    pub exec_root: PathBuf,
    /// Where `gantry-shim` and `gantry-init` are; `None` is the directory of `/proc/self/exe`.
    pub bin_dir: Option<PathBuf>,
    /// The name of the host as `info` shows it, and labels of the daemon (`key=value`).
    pub labels: Vec<String>,
    /// The default bridge network.
    pub bridge: BridgeSettings,
    /// Defaults of containers.
    pub defaults: Defaults,
}

/// The default bridge network.
#[derive(Debug, Clone, Default)]
pub struct BridgeSettings {
    /// The link's name; `None` is derived from the exec root. `Some("none")` disables the network.
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge, such as `172.30.0.1/24`; `None` picks a free subnet.
    pub address: Option<String>,
    /// Bytes; 0 is the kernel's default (1500).
    pub mtu: u32,
    /// Whether containers may not talk to each other (`--icc=false`).
    pub isolate: bool,
    /// Whether outgoing packets keep the container's address (`--ip-masq=false`).
    pub no_masquerade: bool,
    /// Whether the firewall is left alone (`--iptables=false`): no ports are published then.
    pub no_firewall: bool,
    /// `--ip`: the host address that ports are published on by default; `None` is all.
    pub publish_address: Option<std::net::IpAddr>,
}

/// Defaults of containers.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `--cgroup-parent`: `None` is `/gantry`.
    pub cgroup_parent: Option<String>,
    /// `--default-ulimit`, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `--default-shm-size` in bytes; 0 is 64 MiB.
    pub shm_size_bytes: u64,
    /// `--init`.
    pub init: bool,
    /// `--log-driver`, `--log-opt`.
    pub log: LogConfig,
    /// `--dns`, `--dns-opt`, `--dns-search`.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `--no-new-privileges`.
    pub no_new_privileges: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/gantry".into(),
            exec_root: "/run/gantry".into(),
            bin_dir: None,
            labels: Vec::new(),
            bridge: BridgeSettings::default(),
            defaults: Defaults::default(),
        }
    }
}
