//! What gantryd was told: dockerd's flags, `/etc/gantry/daemon.json`, and one [`Options`] made of both.
//!
//! A setting that stands on the command line and in the file with different values is an error, as in
//! dockerd; lists are no exception. A key that nobody knows is a named error and not ignored: a
//! misspelt limit that silently does not hold is worse than a daemon that does not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Map, Value};

/// Where the file is looked for without `--config-file`.
const DEFAULT_CONFIG_FILE: &str = "/etc/gantry/daemon.json";
/// The file may not be larger than this, in bytes.
const CONFIG_FILE_LIMIT: u64 = 1 << 20;

/// Everything that can be set.
#[derive(Debug, Clone, Parser)]
#[command(name = "gantryd", version, about = "Gantry's daemon: Docker's API over containers that outlive it")]
pub(crate) struct Options {
    /// Where to listen: unix:///path or tcp://address:port; may be repeated
    #[arg(short = 'H', long = "host", value_name = "address")]
    pub(crate) hosts: Vec<String>,
    /// Allow plain TCP on addresses other than loopback: whoever reaches it is root here
    #[arg(long)]
    pub(crate) allow_insecure_tcp: bool,
    /// Group that may use the unix socket
    #[arg(short = 'G', long, default_value = "docker")]
    pub(crate) group: String,
    /// What lasts: images, containers, volumes
    #[arg(long, alias = "graph", default_value = "/var/lib/gantry", value_name = "path")]
    pub(crate) data_root: PathBuf,
    /// What lives while containers do
    #[arg(long, default_value = "/run/gantry", value_name = "path")]
    pub(crate) exec_root: PathBuf,
    /// Where our process id is written
    #[arg(short = 'p', long, default_value = "/run/gantry.pid", value_name = "path")]
    pub(crate) pidfile: PathBuf,
    /// The configuration file
    #[arg(long, value_name = "path")]
    pub(crate) config_file: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    pub(crate) validate: bool,
    /// Log more
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) debug: bool,
    /// How much to log: debug, info, warn, error
    #[arg(short = 'l', long, default_value = "info", value_name = "level")]
    pub(crate) log_level: String,
    /// Labels of this daemon, key=value; may be repeated
    #[arg(long = "label", value_name = "key=value")]
    pub(crate) labels: Vec<String>,
    /// How layers are kept: overlay (also overlay2) or vfs
    #[arg(short = 's', long, value_name = "driver")]
    pub(crate) storage_driver: Option<String>,
    /// An existing bridge to use, or none
    #[arg(short = 'b', long, value_name = "name")]
    pub(crate) bridge: Option<String>,
    /// Address and prefix of the default bridge
    #[arg(long, value_name = "address/prefix")]
    pub(crate) bip: Option<String>,
    /// Bytes of the default bridge's packets; 0 is the kernel's default
    #[arg(long, default_value_t = 0, value_name = "bytes")]
    pub(crate) mtu: u32,
    /// Whether containers on the default bridge may talk to each other
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) icc: bool,
    /// Whether outgoing packets get the host's address
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) ip_masq: bool,
    /// Whether we make firewall rules; without, no port is published
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) iptables: bool,
    /// The host's address that ports are published on by default
    #[arg(long, value_name = "address")]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// Name servers of containers; may be repeated
    #[arg(long, value_name = "address")]
    pub(crate) dns: Vec<String>,
    /// Resolver options of containers; may be repeated
    #[arg(long = "dns-opt", alias = "dns-option", value_name = "option")]
    pub(crate) dns_opts: Vec<String>,
    /// Search domains of containers; may be repeated
    #[arg(long, value_name = "domain")]
    pub(crate) dns_search: Vec<String>,
    /// The cgroup that containers' are made in
    #[arg(long, value_name = "path")]
    pub(crate) cgroup_parent: Option<String>,
    /// Default limits of containers, name=soft[:hard]; may be repeated
    #[arg(long = "default-ulimit", value_name = "limit")]
    pub(crate) default_ulimits: Vec<String>,
    /// Default size of /dev/shm, such as 64m
    #[arg(long, value_name = "size")]
    pub(crate) default_shm_size: Option<String>,
    /// Run an init in every container
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) init: bool,
    /// No container gains privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) no_new_privileges: bool,
    /// Default log driver: json-file or none
    #[arg(long, default_value = "json-file", value_name = "driver")]
    pub(crate) log_driver: String,
    /// Options of the log driver, key=value; may be repeated
    #[arg(long = "log-opt", value_name = "key=value")]
    pub(crate) log_opts: Vec<String>,
    /// Accepted for dockerd's sake: containers always outlive the daemon
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) live_restore: bool,
    /// Default runtime: only ours, under the names gantry and runc
    #[arg(long, value_name = "name")]
    pub(crate) default_runtime: Option<String>,
    /// What was given of [`WITHOUT_EFFECT`]; each is named in the log.
    #[arg(skip)]
    pub(crate) without_effect: Vec<String>,
}

/// How a flag of dockerd's is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `--name`, `--name=false`.
    Switch,
    /// `--name value`, `--name=value`.
    Value,
}

/// Settings of dockerd's that change nothing here, taken so that what starts dockerd starts gantryd: parts
/// that we do not have, and limits of registries, which we do not speak to yet.
const WITHOUT_EFFECT: [(&str, Form); 21] = [
    ("containerd", Form::Value),
    ("containerd-namespace", Form::Value),
    ("containerd-plugins-namespace", Form::Value),
    ("default-cgroupns-mode", Form::Value),
    ("default-ipc-mode", Form::Value),
    ("exec-opt", Form::Value),
    ("experimental", Form::Switch),
    ("init-path", Form::Value),
    ("insecure-registry", Form::Value),
    ("ip-forward", Form::Switch),
    ("ip6tables", Form::Switch),
    ("max-concurrent-downloads", Form::Value),
    ("max-concurrent-uploads", Form::Value),
    ("max-download-attempts", Form::Value),
    ("oom-score-adjust", Form::Value),
    ("raw-logs", Form::Switch),
    ("registry-mirror", Form::Value),
    ("selinux-enabled", Form::Switch),
    ("shutdown-timeout", Form::Value),
    ("storage-opt", Form::Value),
    ("userland-proxy", Form::Switch),
];

/// The names that some of those have in the file.
const WITHOUT_EFFECT_LISTS: [&str; 5] =
    ["exec-opts", "insecure-registries", "registry-mirrors", "storage-opts", "features"];

/// The command line's definition.
fn command() -> clap::Command {
    let argument = |(name, form): (&'static str, Form)| {
        let argument = clap::Arg::new(name).long(name).hide(true).action(clap::ArgAction::Append);
        match form {
            Form::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Form::Value => argument.num_args(1),
        }
    };
    <Options as clap::CommandFactory>::command().args(WITHOUT_EFFECT.map(argument))
}

impl Options {
    /// Reads the command line and the file.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, has an unknown key, or contradicts a flag.
    pub(crate) fn read() -> Result<Self> {
        let matches = command().get_matches();
        let mut options = <Self as clap::FromArgMatches>::from_arg_matches(&matches)?;
        let given = WITHOUT_EFFECT.iter().filter(|(name, _)| matches.contains_id(name));
        options.without_effect.extend(given.map(|(name, _)| format!("--{name}")));
        if let Some(file) = configuration(options.config_file.as_deref())? {
            let given = |id: &str| {
                matches
                    .value_source(id)
                    .is_some_and(|source| source == clap::parser::ValueSource::CommandLine)
            };
            let path = options.config_file.clone().unwrap_or_else(|| DEFAULT_CONFIG_FILE.into());
            options.merge(&file, &given).with_context(|| format!("configuration file {}", path.display()))?;
        }
        if options.hosts.is_empty() {
            options.hosts.push(format!("unix://{}", options.exec_root.join("gantry.sock").display()));
        }
        options.make_absolute()?;
        Ok(options)
    }

    /// Records and shims keep these paths, and a shim has another working directory than the daemon.
    fn make_absolute(&mut self) -> Result<()> {
        for path in [&mut self.data_root, &mut self.exec_root, &mut self.pidfile] {
            *path = std::path::absolute(&*path).with_context(|| format!("path {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes over what the file says. `given` tells whether a flag was on the command line.
    fn merge(&mut self, file: &Map<String, Value>, given: &dyn Fn(&str) -> bool) -> Result<()> {
        for (key, value) in file {
            if flag_of(key).is_some_and(given) {
                bail!("{key} is specified both as a flag and in the configuration file: remove one of them");
            }
            self.set(key, value).with_context(|| format!("{key}: {value}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        match key {
            "hosts" => self.hosts = texts(value)?,
            "group" => self.group = text(value)?,
            "data-root" | "graph" => self.data_root = text(value)?.into(),
            "exec-root" => self.exec_root = text(value)?.into(),
            "pidfile" => self.pidfile = text(value)?.into(),
            "debug" => self.debug = truth(value)?,
            "log-level" => self.log_level = text(value)?,
            "labels" => self.labels = texts(value)?,
            "storage-driver" => self.storage_driver = Some(text(value)?),
            "bridge" => self.bridge = Some(text(value)?),
            "bip" => self.bip = Some(text(value)?),
            "mtu" => self.mtu = serde_json::from_value(value.clone())?,
            "icc" => self.icc = truth(value)?,
            "ip-masq" => self.ip_masq = truth(value)?,
            "iptables" => self.iptables = truth(value)?,
            "ip" => self.ip = Some(text(value)?.parse()?),
            "dns" => self.dns = texts(value)?,
            "dns-opts" => self.dns_opts = texts(value)?,
            "dns-search" => self.dns_search = texts(value)?,
            "cgroup-parent" => self.cgroup_parent = Some(text(value)?),
            "default-ulimits" => self.default_ulimits = ulimits(value)?,
            "default-shm-size" => self.default_shm_size = Some(text(value)?),
            "init" => self.init = truth(value)?,
            "no-new-privileges" => self.no_new_privileges = truth(value)?,
            "log-driver" => self.log_driver = text(value)?,
            "log-opts" => {
                let pairs: BTreeMap<String, String> = serde_json::from_value(value.clone())?;
                self.log_opts = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            }
            "live-restore" => self.live_restore = truth(value)?,
            "default-runtime" => self.default_runtime = Some(text(value)?),
            "allow-insecure-tcp" => self.allow_insecure_tcp = truth(value)?,
            key if WITHOUT_EFFECT_LISTS.contains(&key)
                || WITHOUT_EFFECT.iter().any(|(name, _)| *name == key) =>
            {
                self.without_effect.push(key.to_owned());
            }
            _ => bail!("unknown key: remove it, or see the list of supported keys in gantryd --help"),
        }
        Ok(())
    }
}

/// The flag's id in the command line's definition for a key of the file.
fn flag_of(key: &str) -> Option<&'static str> {
    const RENAMED: [(&str, &str); 2] = [("graph", "data_root"), ("log-opts", "log_opts")];
    if let Some((_, flag)) = RENAMED.iter().find(|(name, _)| *name == key) {
        return Some(flag);
    }
    const SAME: [&str; 28] = [
        "hosts",
        "group",
        "data_root",
        "exec_root",
        "pidfile",
        "debug",
        "log_level",
        "labels",
        "storage_driver",
        "bridge",
        "bip",
        "mtu",
        "icc",
        "ip_masq",
        "iptables",
        "ip",
        "dns",
        "dns_opts",
        "dns_search",
        "cgroup_parent",
        "default_ulimits",
        "default_shm_size",
        "init",
        "no_new_privileges",
        "log_driver",
        "live_restore",
        "default_runtime",
        "allow_insecure_tcp",
    ];
    let underscored = key.replace('-', "_");
    // A key that is in neither list is unknown; `set` says so.
    SAME.iter().find(|flag| **flag == underscored).copied()
}

/// Reads the configuration file: the one given, else the usual one if it is there.
///
/// # Errors
/// It cannot be read or is no JSON object.
pub(crate) fn configuration(given: Option<&Path>) -> Result<Option<Map<String, Value>>> {
    read_file(given.unwrap_or(Path::new(DEFAULT_CONFIG_FILE)), given.is_some())
}

fn read_file(path: &Path, must_exist: bool) -> Result<Option<Map<String, Value>>> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > CONFIG_FILE_LIMIT => {
            bail!("configuration file {} is larger than 1 MiB", path.display())
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("configuration file {}", path.display())),
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("configuration file {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let file = serde_json::from_str(&text)
        .with_context(|| format!("configuration file {} is not a JSON object", path.display()))?;
    Ok(Some(file))
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("expected a text")
}

fn truth(value: &Value) -> Result<bool> {
    value.as_bool().context("expected true or false")
}

fn texts(value: &Value) -> Result<Vec<String>> {
    serde_json::from_value(value.clone()).context("expected a list of texts")
}

/// Docker's form: `{"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}`.
fn ulimits(value: &Value) -> Result<Vec<String>> {
    let limits = value.as_object().context("expected an object")?;
    limits
        .iter()
        .map(|(name, limit)| {
            let bound =
                |key: &str| limit.get(key).and_then(Value::as_i64).with_context(|| format!("{name}.{key}"));
            Ok(format!("{name}={}:{}", bound("Soft")?, bound("Hard")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(arguments: &[&str], file: &str) -> Result<Options> {
        let matches = command().get_matches_from(std::iter::once("gantryd").chain(arguments.iter().copied()));
        let mut options = <Options as clap::FromArgMatches>::from_arg_matches(&matches)?;
        let file: Map<String, Value> = serde_json::from_str(file)?;
        let given =
            |id: &str| matches.value_source(id).is_some_and(|s| s == clap::parser::ValueSource::CommandLine);
        options.merge(&file, &given)?;
        Ok(options)
    }

    #[test]
    fn the_file_fills_in_what_flags_do_not_say() {
        let options = merged(
            &["--debug"],
            r#"{"data-root":"/d","icc":false,"log-opts":{"max-size":"1m"},
            "default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}}}"#,
        )
        .expect("a good file");
        assert_eq!(options.data_root, Path::new("/d"));
        assert!(!options.icc && options.debug);
        assert_eq!(options.log_opts, ["max-size=1m"]);
        assert_eq!(options.default_ulimits, ["nofile=1:2"]);
    }

    #[test]
    fn what_starts_dockerd_starts_us() {
        let arguments = [
            "--debug=false",
            "--init=true",
            "--live-restore",
            "--userland-proxy=false",
            "--exec-opt",
            "a=b",
            "--icc=false",
            "--bridge",
            "none",
            "-H",
            "unix:///a",
            "-H",
            "tcp://127.0.0.1:1",
            "--default-ulimit",
            "nofile=1:2",
        ];
        let options = merged(&arguments, r#"{"registry-mirrors":["https://m"],"features":{}}"#)
            .expect("dockerd's flags");
        assert!(!options.debug && options.init && options.live_restore && !options.icc);
        assert_eq!((options.bridge.as_deref(), options.hosts.len()), (Some("none"), 2));
        assert_eq!(options.without_effect, ["registry-mirrors", "features"]);
    }

    #[test]
    fn contradictions_and_unknown_keys_are_named() {
        for (arguments, file, says) in [
            (&["--data-root", "/a"][..], r#"{"data-root":"/b"}"#, "data-root is specified both"),
            (&[], r#"{"data-rot":"/b"}"#, "data-rot"),
            (&[], r#"{"icc":"no"}"#, "icc"),
            (&["--log-opt", "a=b"], r#"{"log-opts":{}}"#, "log-opts is specified both"),
        ] {
            let error = merged(arguments, file).expect_err(file);
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }

    #[test]
    fn every_key_of_the_file_has_its_flag() {
        let command = <Options as clap::CommandFactory>::command();
        for key in ["hosts", "data-root", "bip", "log-opts", "default-ulimits", "allow-insecure-tcp", "graph"]
        {
            let flag = flag_of(key).expect(key);
            assert!(command.get_arguments().any(|argument| argument.get_id() == flag), "{key}: {flag}");
        }
    }

    #[test]
    fn relative_roots_are_meant_from_where_the_daemon_is_started() {
        let mut options = merged(&["--data-root", "d", "--exec-root=./e"], "{}").expect("good flags");
        options.make_absolute().expect("a working directory");
        let here = std::env::current_dir().expect("a working directory");
        assert_eq!((options.data_root, options.exec_root), (here.join("d"), here.join("e")));
        assert_eq!(options.pidfile, Path::new("/run/gantry.pid"));
    }
}
