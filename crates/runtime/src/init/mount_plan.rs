//! Mounts decided: from the specification's options to what the kernel is told. Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use gantry_sys::mount::{Attributes, Reach};
use oci_spec::runtime::Mount;

use crate::LaunchError;
use crate::init::plan::{c_string, invalid};

/// One mount of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Where, relative to the root, without `.` and `..`; empty means the root itself.
    pub(crate) destination: CString,
    /// What.
    pub(crate) what: What,
    /// Attributes of this mount.
    pub(crate) single: Attributes,
    /// Attributes of this mount and those below it (`rro` and the like).
    pub(crate) recursive: Attributes,
    /// Propagation changes, in order.
    pub(crate) propagation: Vec<(u64, Reach)>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A new file system.
    Filesystem {
        /// Its type.
        kind: CString,
        /// Its source, shown in the mount table.
        source: CString,
        /// Its own options.
        options: Vec<(CString, Option<CString>)>,
    },
    /// A path of the host.
    Bind {
        /// The path.
        source: CString,
        /// What is mounted below it: resolved beneath it when it is mounted, whatever the links there say.
        below: Option<CString>,
        /// Whether mounts below come along.
        reach: Reach,
    },
    /// The host's control groups, as the container may see them.
    Cgroup,
}

/// The option of a bind that mounts what is below its source, and `=`; ours alone, as the engine writes it for a
/// volume's subpath.
pub const BIND_BELOW: &str = "gantry.below=";

/// What the options of one mount say.
#[derive(Debug, Default)]
struct Options {
    single: Attributes,
    recursive: Attributes,
    propagation: Vec<(u64, Reach)>,
    bind: Option<Reach>,
    below: Option<CString>,
    data: Vec<(CString, Option<CString>)>,
}

/// Decides one mount.
///
/// # Errors
/// Where the specification makes no sense.
pub(crate) fn plan(mount: &Mount) -> Result<MountPlan, LaunchError> {
    let kind = mount.typ().as_deref().unwrap_or("");
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let mut options = parse(mount.options().as_deref().unwrap_or_default())?;
    let destination = clean(mount.destination())?;
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(invalid(format!(
            "mount {}: idmapped mounts are not supported yet",
            mount.destination().display()
        )));
    }
    let bind = options.bind.or((kind == "bind").then_some(Reach::Single));
    let what = match (bind, kind) {
        (Some(reach), _) => What::Bind {
            source: c_string(source.as_os_str().as_bytes())?,
            below: options.below.take(),
            reach,
        },
        (None, "cgroup" | "cgroup2") => What::Cgroup,
        (None, "") => {
            return Err(invalid(format!("mount {}: no type is given", mount.destination().display())));
        }
        (None, _) => {
            let kind = if kind == "none" { "tmpfs" } else { kind };
            let shown =
                if source.as_os_str().is_empty() { kind.as_bytes() } else { source.as_os_str().as_bytes() };
            What::Filesystem {
                kind: c_string(kind.as_bytes())?,
                source: c_string(shown)?,
                options: std::mem::take(&mut options.data),
            }
        }
    };
    check_proc(&destination, &what)?;
    Ok(MountPlan {
        destination,
        what,
        single: options.single,
        recursive: options.recursive,
        propagation: options.propagation,
    })
}

/// Nothing but a proc is mounted at `/proc`, and below it only what containers are shown other numbers in, as lxcfs
/// does: what is masked and read-only there would be so in vain, and programs trust what they find there.
fn check_proc(destination: &CString, what: &What) -> Result<(), LaunchError> {
    const ALLOWED: [&[u8]; 10] = [
        b"cpuinfo",
        b"diskstats",
        b"loadavg",
        b"meminfo",
        b"slabinfo",
        b"stat",
        b"swaps",
        b"sys/crypto/fips_enabled",
        b"sys/kernel/ns_last_pid",
        b"uptime",
    ];
    let Some(rest) = destination.to_bytes().strip_prefix(b"proc") else { return Ok(()) };
    let source = match what {
        What::Bind { source, .. } if rest.is_empty() && source.as_c_str() == c"/proc" => return Ok(()),
        What::Filesystem { kind, .. } if rest.is_empty() && kind.as_c_str() == c"proc" => return Ok(()),
        What::Bind { source, .. } | What::Filesystem { source, .. } => source.as_c_str(),
        What::Cgroup => c"cgroup",
    };
    let why = match rest.strip_prefix(b"/") {
        None if rest.is_empty() => "cannot be mounted because it is not of type proc",
        // Another name that begins so.
        None => return Ok(()),
        Some(below) if ALLOWED.contains(&below) => return Ok(()),
        Some(_) => "cannot be mounted because it is inside /proc",
    };
    let shown = String::from_utf8_lossy(destination.to_bytes());
    Err(LaunchError::new(
        crate::Reason::Setup,
        format!(
            "error mounting {source:?} to rootfs at \"/{shown}\": create mountpoint for /{shown} mount: check proc-safety of /{shown} mount: \"/{shown}\" {why}"
        ),
    ))
}

/// A bind mount of one file, as `--init` needs it.
pub(crate) fn read_only_file(source: &Path, destination: &str) -> Result<MountPlan, LaunchError> {
    Ok(MountPlan {
        destination: clean(Path::new(destination))?,
        what: What::Bind {
            source: c_string(source.as_os_str().as_bytes())?,
            below: None,
            reach: Reach::Single,
        },
        single: Attributes { set: Attributes::RDONLY, ..Attributes::default() },
        recursive: Attributes::default(),
        propagation: vec![(libc::MS_PRIVATE, Reach::Single)],
    })
}

/// The path from the root, lexically cleaned: `..` never rises above it.
pub(crate) fn clean(path: &Path) -> Result<CString, LaunchError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.as_bytes()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    c_string(&parts.join(&b'/'))
}

/// Options that set or clear attribute bits: (name, bits to set, bits to clear). With `r` before it, each
/// reaches all mounts below.
const ATTRIBUTES: [(&str, u64, u64); 17] = [
    ("ro", Attributes::RDONLY, 0),
    ("rw", 0, Attributes::RDONLY),
    ("nosuid", Attributes::NOSUID, 0),
    ("suid", 0, Attributes::NOSUID),
    ("nodev", Attributes::NODEV, 0),
    ("dev", 0, Attributes::NODEV),
    ("noexec", Attributes::NOEXEC, 0),
    ("exec", 0, Attributes::NOEXEC),
    ("noatime", Attributes::NOATIME, Attributes::ATIME),
    ("atime", 0, Attributes::ATIME),
    ("relatime", 0, Attributes::ATIME),
    ("norelatime", Attributes::STRICTATIME, Attributes::ATIME),
    ("strictatime", Attributes::STRICTATIME, Attributes::ATIME),
    ("nostrictatime", 0, Attributes::ATIME),
    ("nodiratime", Attributes::NODIRATIME, 0),
    ("diratime", 0, Attributes::NODIRATIME),
    ("nosymfollow", Attributes::NOSYMFOLLOW, 0),
];

const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

fn parse(options: &[String]) -> Result<Options, LaunchError> {
    let mut parsed = Options::default();
    for option in options {
        let option = option.as_str();
        let (plain, reach) = match option.strip_prefix('r') {
            Some(rest) if known_attribute(rest).is_some() && option != "rw" && option != "relatime" => {
                (rest, Reach::Recursive)
            }
            _ => (option, Reach::Single),
        };
        if let Some((set, clear)) = known_attribute(plain) {
            let target = match reach {
                Reach::Single => &mut parsed.single,
                Reach::Recursive => &mut parsed.recursive,
            };
            target.set = target.set & !clear & !(set & Attributes::ATIME) | set;
            target.clear = target.clear & !set | clear;
            continue;
        }
        if let Some(change) = propagation(option) {
            parsed.propagation.push(change);
            continue;
        }
        match option {
            "bind" => parsed.bind = Some(parsed.bind.unwrap_or(Reach::Single)),
            "rbind" => parsed.bind = Some(Reach::Recursive),
            _ if option.starts_with(BIND_BELOW) => {
                parsed.below = Some(c_string(&option.as_bytes()[BIND_BELOW.len()..])?);
            }
            // What the kernel does anyway, what only other tools read, or (copying up) what no caller of ours asks.
            "defaults" | "remount" | "async" | "loud" | "nomand" | "tmpcopyup" | "" => {}
            "idmap" | "ridmap" => return Err(invalid("idmapped mounts are not supported yet".into())),
            _ => {
                let (key, value) = match option.split_once('=') {
                    Some((key, value)) => (key, Some(c_string(value.as_bytes())?)),
                    None => (option, None),
                };
                parsed.data.push((c_string(key.as_bytes())?, value));
            }
        }
    }
    Ok(parsed)
}

fn known_attribute(option: &str) -> Option<(u64, u64)> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == option).map(|(_, set, clear)| (*set, *clear))
}

/// `rslave`, `private`, … as the kernel's number.
pub(crate) fn propagation(option: &str) -> Option<(u64, Reach)> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, bits)| *bits);
    if let Some(bits) = find(option) {
        return Some((bits, Reach::Single));
    }
    option.strip_prefix('r').and_then(find).map(|bits| (bits, Reach::Recursive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn check(kind: &str, options: &[&str]) -> MountPlan {
        let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
        let mount = MountBuilder::default().destination("/x/../y/.").typ(kind).source("/s").options(options);
        plan(&mount.build().expect("a mount")).expect("a plan")
    }

    #[test]
    fn options_become_attributes_propagation_and_data() {
        let tmpfs = check("tmpfs", &["nosuid", "ro", "rw", "mode=755", "strictatime", "inode64"]);
        assert_eq!(tmpfs.destination.as_bytes(), b"y");
        assert_eq!(tmpfs.single.set, Attributes::NOSUID | Attributes::STRICTATIME);
        let What::Filesystem { options, .. } = &tmpfs.what else { panic!("{tmpfs:?}") };
        assert_eq!(options, &[(c"mode".into(), Some(c"755".into())), (CString::from(c"inode64"), None)]);
        let bind = check("bind", &["rbind", "rro", "rslave", "relatime"]);
        assert_eq!(bind.what, What::Bind { source: c"/s".into(), below: None, reach: Reach::Recursive });
        assert_eq!((bind.single.set, bind.recursive.set), (0, Attributes::RDONLY));
        assert_eq!(bind.propagation, [(libc::MS_SLAVE, Reach::Recursive)]);
    }

    #[test]
    fn destinations_stay_below_the_root() {
        for (path, expected) in
            [("/a/../../../b", "b"), ("../..", ""), ("/", ""), ("a//./b/", "a/b"), ("/proc/../etc", "etc")]
        {
            assert_eq!(clean(Path::new(path)).expect("clean").to_bytes(), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn only_a_proc_is_mounted_at_proc() {
        let at = |kind: &str, source: &str, destination: &str| {
            let mount = MountBuilder::default().destination(destination).typ(kind).source(source);
            plan(&mount.options(Vec::new()).build().expect("a mount")).err().map(|error| error.text)
        };
        for (kind, source, destination) in [
            ("proc", "proc", "/proc"),
            ("bind", "/proc", "/proc"),
            ("bind", "/x", "/proc/uptime"),
            ("bind", "/x", "/process"),
            ("bind", "/x", "/x/proc"),
        ] {
            assert_eq!(at(kind, source, destination), None, "{kind} {destination}");
        }
        let text = "error mounting \"/x\" to rootfs at \"/proc\": create mountpoint for /proc mount: check proc-safety of /proc mount: \"/proc\" cannot be mounted because it is not of type proc";
        assert_eq!(at("bind", "/x", "/proc/").as_deref(), Some(text));
        assert!(at("tmpfs", "tmpfs", "/a/../proc").is_some());
        assert!(at("proc", "proc", "/proc/1").is_some_and(|text| text.ends_with("it is inside /proc")));
    }
}
