//! The plan of a child: everything that can be known, converted and allocated before the clone. Pure,
//! but for reading what the caller handed in.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gantry_model::container::is_sysctl_of_ipc;
use gantry_model::mount::RootMount;
use gantry_sys::caps;
use gantry_sys::descriptors;
use gantry_sys::mount::Reach;
use gantry_sys::process::Rlimit;
use gantry_sys::seccomp::{Flags, Instruction};
use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDeviceType, LinuxSeccomp, PosixRlimitType, Process, Spec,
};

use crate::init::mount_plan::{self, MountPlan, What};
use crate::launch::Stdio;
use crate::user::Wanted;
use crate::{LaunchError, Reason, seccomp};

/// What the container's file system becomes.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// The root file system.
    pub(crate) mount: RootSource,
    /// Whether it is read-only in the end.
    pub(crate) readonly: bool,
    /// Its propagation in the end; the host's is never touched.
    pub(crate) propagation: Option<(u64, Reach)>,
    /// Mounts in it, in order.
    pub(crate) mounts: Vec<MountPlan>,
    /// Device nodes.
    pub(crate) devices: Vec<DevicePlan>,
    /// Whether `/dev` is the container's own, to be filled.
    pub(crate) fill_dev: bool,
    /// Paths that show nothing.
    pub(crate) masked: Vec<CString>,
    /// Paths that cannot be written.
    pub(crate) read_only: Vec<CString>,
}

/// A root file system with its paths as C strings.
#[derive(Debug)]
pub(crate) enum RootSource {
    /// See [`RootMount::Overlay`].
    Overlay { lower: Vec<CString>, upper: Option<CString>, work: Option<CString> },
    /// See [`RootMount::Bind`].
    Bind { source: CString },
}

/// One device node.
#[derive(Debug)]
pub(crate) struct DevicePlan {
    pub(crate) path: CString,
    pub(crate) kind: rustix::fs::FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The program and what it runs as.
#[derive(Debug)]
pub(crate) struct ProgramPlan {
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// The value of `PATH`, for the look-up.
    pub(crate) path: Vec<u8>,
    /// Whether the environment says `HOME`.
    pub(crate) has_home: bool,
    pub(crate) cwd: CString,
    pub(crate) user: Wanted,
    pub(crate) umask: Option<u32>,
    pub(crate) caps: Option<CapsPlan>,
    pub(crate) rlimits: Vec<(u32, Rlimit)>,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: Option<(Vec<Instruction>, Flags)>,
    pub(crate) personality: Option<u64>,
    pub(crate) oom_score_adj: Option<i32>,
    /// Descriptors from 3 on that the program inherits (`--preserve-fds`).
    pub(crate) preserve_fds: u32,
}

/// Capability sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapsPlan {
    pub(crate) bounding: caps::Set,
    pub(crate) sets: caps::Sets,
    pub(crate) ambient: caps::Set,
}

/// An error in the specification.
pub(crate) fn invalid(text: String) -> LaunchError {
    LaunchError::new(Reason::Invalid, text)
}

/// A C string of bytes that contain no zero.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString, LaunchError> {
    CString::new(bytes)
        .map_err(|_| invalid(format!("{:?} contains a zero byte", String::from_utf8_lossy(bytes))))
}

fn c_path(path: &Path) -> Result<CString, LaunchError> {
    c_string(path.as_os_str().as_bytes())
}

/// Decides the file system.
pub(crate) fn root(spec: &Spec, mount: &RootMount, init: Option<&Path>) -> Result<RootPlan, LaunchError> {
    let linux = spec.linux().as_ref();
    let mut mounts = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        mounts.push(mount_plan::plan(mount)?);
    }
    if let Some(init) = init {
        mounts.push(mount_plan::read_only_file(init, "/sbin/docker-init")?);
    }
    let own_dev =
        |plan: &MountPlan| plan.destination.as_bytes() == b"dev" && !matches!(plan.what, What::Bind { .. });
    let paths = |pick: fn(&Linux) -> &Option<Vec<String>>| -> Result<Vec<CString>, LaunchError> {
        let paths = linux.and_then(|linux| pick(linux).as_ref());
        paths.into_iter().flatten().map(|path| mount_plan::clean(Path::new(path))).collect()
    };
    let propagation = match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        None | Some("") => None,
        Some(text) => Some(
            mount_plan::propagation(text)
                .ok_or_else(|| invalid(format!("rootfsPropagation={text} is not supported")))?,
        ),
    };
    Ok(RootPlan {
        mount: root_source(mount)?,
        readonly: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
        propagation,
        fill_dev: mounts.iter().any(own_dev),
        mounts,
        devices: devices(linux)?,
        masked: paths(Linux::masked_paths)?,
        read_only: paths(Linux::readonly_paths)?,
    })
}

fn root_source(mount: &RootMount) -> Result<RootSource, LaunchError> {
    Ok(match mount {
        RootMount::Overlay { lower, upper, work } => {
            if lower.is_empty() {
                return Err(invalid("the root file system has no layer".into()));
            }
            RootSource::Overlay {
                lower: lower.iter().map(|path| c_path(path)).collect::<Result<_, _>>()?,
                upper: upper.as_deref().map(c_path).transpose()?,
                work: work.as_deref().map(c_path).transpose()?,
            }
        }
        RootMount::Bind { source } => RootSource::Bind { source: c_path(source)? },
    })
}

/// The devices that every container has: (path, major, minor).
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("dev/null", 1, 3),
    ("dev/zero", 1, 5),
    ("dev/full", 1, 7),
    ("dev/random", 1, 8),
    ("dev/urandom", 1, 9),
    ("dev/tty", 5, 0),
];

fn devices(linux: Option<&Linux>) -> Result<Vec<DevicePlan>, LaunchError> {
    use rustix::fs::FileType;
    let mut plans = Vec::new();
    for device in linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => {
                return Err(invalid(format!("device {}: no such type", device.path().display())));
            }
        };
        let number = |value: i64| {
            u32::try_from(value)
                .map_err(|_| invalid(format!("device {}: no such number", device.path().display())))
        };
        let (major, minor) = match kind {
            FileType::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        plans.push(DevicePlan {
            path: mount_plan::clean(device.path())?,
            kind,
            major,
            minor,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    for (path, major, minor) in DEFAULT_DEVICES {
        if plans.iter().any(|plan| plan.path.as_bytes() == path.as_bytes()) {
            continue;
        }
        let path = c_string(path.as_bytes())?;
        let kind = FileType::CharacterDevice;
        plans.push(DevicePlan { path, kind, major, minor, mode: 0o666, uid: 0, gid: 0 });
    }
    Ok(plans)
}

/// Decides the program.
pub(crate) fn program(
    process: &Process,
    annotations: &HashMap<String, String>,
    profile: Option<&LinuxSeccomp>,
    prefix: &[&str],
    stdio: &Stdio,
) -> Result<ProgramPlan, LaunchError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(invalid("args must not be empty".into()));
    }
    if process.terminal().unwrap_or(false) != matches!(stdio, Stdio::Terminal { .. }) {
        return Err(invalid("process.terminal and the kind of streams given differ".into()));
    }
    let args = prefix.iter().copied().chain(args.iter().map(String::as_str));
    let env = process.env().as_deref().unwrap_or_default();
    let variable = |name: &str| env.iter().rev().find_map(|entry| entry.strip_prefix(name));
    let caps = process.capabilities().as_ref().map(capabilities);
    let bounding = caps.map_or(0, |caps| caps.bounding);
    let filter = match annotations.get("gantry.seccomp").map(String::as_str) {
        Some("default") => Some(seccomp::default_filter(bounding)),
        _ => profile.map(seccomp::compile).transpose().map_err(|error| invalid(error.to_string()))?,
    };
    let cwd = process.cwd();
    if !cwd.is_absolute() && !cwd.as_os_str().is_empty() {
        return Err(invalid("Cwd must be an absolute path".into()));
    }
    Ok(ProgramPlan {
        args: args.map(|arg| c_string(arg.as_bytes())).collect::<Result<_, _>>()?,
        env: environment(env)?,
        path: variable("PATH=").unwrap_or("").into(),
        has_home: variable("HOME=").is_some_and(|home| !home.is_empty()),
        cwd: mount_plan::clean(cwd)?,
        user: Wanted::new(process.user(), annotations),
        umask: process.user().umask(),
        caps,
        rlimits: rlimits(process),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp: filter.map(|filter| (filter.instructions, filter.flags)),
        personality: None,
        oom_score_adj: process.oom_score_adj(),
        preserve_fds: 0,
    })
}

/// A variable given twice counts once, the last value at the first place, as runc has it.
fn environment(env: &[String]) -> Result<Vec<CString>, LaunchError> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(env.len());
    let mut result: Vec<CString> = Vec::with_capacity(env.len());
    for entry in env {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(invalid(format!("invalid environment variable: {entry:?}")));
        };
        if name == "HOME" && value.is_empty() {
            continue;
        }
        let entry = c_string(entry.as_bytes())?;
        match seen.get(name) {
            Some(at) => result[*at] = entry,
            None => {
                seen.insert(name, result.len());
                result.push(entry);
            }
        }
    }
    Ok(result)
}

fn capabilities(caps: &LinuxCapabilities) -> CapsPlan {
    let set = |set: &Option<Capabilities>| {
        let names = set.iter().flatten();
        names.filter_map(|cap| caps::bit(&format!("CAP_{cap}"))).fold(0, |all, bit| all | bit)
    };
    CapsPlan {
        bounding: set(caps.bounding()),
        sets: caps::Sets {
            effective: set(caps.effective()),
            permitted: set(caps.permitted()),
            inheritable: set(caps.inheritable()),
        },
        ambient: set(caps.ambient()),
    }
}

fn rlimits(process: &Process) -> Vec<(u32, Rlimit)> {
    let limits = process.rlimits().iter().flatten();
    // What was raised for ourselves is not for what we run, unless that is wanted.
    let given = descriptors::given_limit().map(|limit| (libc::RLIMIT_NOFILE, limit));
    given
        .into_iter()
        .chain(
            limits
                .map(|limit| (rlimit_number(limit.typ()), Rlimit { soft: limit.soft(), hard: limit.hard() })),
        )
        .collect()
}

fn rlimit_number(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as T;
    match kind {
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitStack => libc::RLIMIT_STACK,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// A kernel setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// With dots, as it is told.
    pub(crate) key: CString,
    /// Below `/proc/sys`.
    pub(crate) path: CString,
    /// What is written.
    pub(crate) value: CString,
}

/// Kernel settings. Any that is not of a namespace of the container's own is
/// refused: it would change the host.
pub(crate) fn sysctls(linux: Option<&Linux>) -> Result<Vec<Sysctl>, LaunchError> {
    use oci_spec::runtime::LinuxNamespaceType as Type;
    let mut plans = Vec::new();
    let has = |kind: Type| {
        let mut namespaces = linux.iter().flat_map(|linux| linux.namespaces().iter().flatten());
        namespaces.any(|namespace| namespace.typ() == kind)
    };
    for (key, value) in linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten() {
        let key = dotted(key);
        let refused =
            |why: &str| Err(LaunchError::new(crate::Reason::Setup, format!("sysctl {key:?} {why}")));
        match key.as_str() {
            key if is_sysctl_of_ipc(key) => {
                if !has(Type::Ipc) {
                    return refused("is not allowed in the hosts ipc namespace");
                }
            }
            key if key.starts_with("net.") => {
                if !has(Type::Network) {
                    return refused("not allowed in host network namespace");
                }
            }
            "kernel.domainname" if has(Type::Uts) => {}
            "kernel.hostname" if has(Type::Uts) => {
                return refused("is not allowed as it conflicts with the OCI \"hostname\" field");
            }
            _ => return refused("is not in a separate kernel namespace"),
        }
        // `net.ipv4.conf.eth0/1.x` writes a dot of a name as a slash, as sysctl(8) does.
        plans.push(Sysctl {
            key: c_string(key.as_bytes())?,
            path: c_string(swapped(&key).as_bytes())?,
            value: c_string(value.as_bytes())?,
        });
    }
    Ok(plans)
}

/// `net/ipv4/ip_forward` is another way to write `net.ipv4.ip_forward`.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => swapped(key),
        _ => key.to_owned(),
    }
}

/// Dots for slashes, and slashes for dots.
fn swapped(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_variable_counts_at_its_first_place() {
        let env: Vec<String> = ["A=1", "B=2", "A=3", "HOME="].iter().map(|s| (*s).to_owned()).collect();
        let expected: Vec<CString> = vec![c"A=3".into(), c"B=2".into()];
        assert_eq!(environment(&env).expect("env"), expected);
        assert!(environment(&["no".to_owned()]).is_err());
    }

    #[test]
    fn only_settings_of_the_containers_own_namespaces_are_taken() {
        let check = |namespaces: &str, key: &str| {
            let text = format!(r#"{{"namespaces":[{namespaces}],"sysctl":{{"{key}":"1"}}}}"#);
            let linux: Linux = serde_json::from_str(&text).expect("a section");
            sysctls(Some(&linux))
                .map(|plans| plans[0].path.to_string_lossy().into_owned())
                .map_err(|error| error.text)
        };
        let all = r#"{"type":"ipc"},{"type":"network"},{"type":"uts"}"#;
        for (namespaces, key, want) in [
            (all, "kernel.shmmax", Ok("kernel/shmmax")),
            (all, "net/ipv4/ip_forward", Ok("net/ipv4/ip_forward")),
            (all, "net.ipv4.conf.eth0/1.x", Ok("net/ipv4/conf/eth0.1/x")),
            (all, "kernel.domainname", Ok("kernel/domainname")),
            (all, "kernel.panic", Err("sysctl \"kernel.panic\" is not in a separate kernel namespace")),
            (all, "vm/swappiness", Err("sysctl \"vm.swappiness\" is not in a separate kernel namespace")),
            ("", "kernel.shmmax", Err("sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace")),
            (
                "",
                "fs/mqueue/msg_max",
                Err("sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace"),
            ),
            ("", "net.core.x", Err("sysctl \"net.core.x\" not allowed in host network namespace")),
            (
                "",
                "kernel.domainname",
                Err("sysctl \"kernel.domainname\" is not in a separate kernel namespace"),
            ),
        ] {
            assert_eq!(check(namespaces, key), want.map(str::to_owned).map_err(str::to_owned), "{key}");
        }
    }

    #[test]
    fn capabilities_become_bits() {
        let caps: LinuxCapabilities =
            serde_json::from_str(r#"{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"],"effective":["CAP_CHOWN"]}"#)
                .expect("capabilities");
        let plan = capabilities(&caps);
        assert_eq!((plan.bounding, plan.sets.effective, plan.ambient), (1 | 1 << 21, 1, 0));
    }
}
