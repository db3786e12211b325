//! Capabilities by Docker's rules: a default list, `--cap-add`, `--cap-drop`, `--privileged`.

use std::collections::HashSet;
use std::str::FromStr;

use gantry_runtime::defaults::CAPABILITIES;
use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::containers::Error;
use crate::containers::config::Security;

/// All capabilities in the order of their numbers.
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// Reads the host's bounding set from `/proc/self/status`.
pub(crate) fn parse_bounding_set(status: &str) -> Vec<Capability> {
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    (0..)
        .zip(BY_NUMBER)
        .filter(|(number, _)| bits >> number & 1 == 1)
        .map(|(_, capability)| capability)
        .collect()
}

/// What a process gets.
///
/// # Errors
/// [`Error::Invalid`] for a name that is none.
pub(super) fn capabilities(security: &Security, host: &[Capability]) -> Result<LinuxCapabilities, Error> {
    if security.privileged {
        return Ok(all(host));
    }
    let (add, add_all) = parse("CapAdd", &security.cap_add)?;
    let (drop, drop_all) = parse("CapDrop", &security.cap_drop)?;
    let base: Vec<Capability> = match (add_all, drop_all) {
        (true, _) => host.to_vec(),
        (false, true) => Vec::new(),
        (false, false) => CAPABILITIES.to_vec(),
    };
    // `--cap-drop` of one capability wins over the base, `--cap-add` of one over `--cap-drop ALL`.
    let set = base
        .into_iter()
        .filter(|capability| !drop.contains(capability))
        .chain(add.iter().copied().filter(|_| !add_all))
        .filter(|capability| host.contains(capability));
    Ok(sets(set.collect()))
}

/// All that the host can give.
pub(super) fn all(host: &[Capability]) -> LinuxCapabilities {
    sets(host.iter().copied().collect())
}

fn sets(set: HashSet<Capability>) -> LinuxCapabilities {
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(Some(HashSet::new()))
        .set_ambient(Some(HashSet::new()));
    capabilities
}

fn parse(field: &str, names: &[String]) -> Result<(Vec<Capability>, bool), Error> {
    let mut all = false;
    let mut set = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" {
            all = true;
            continue;
        }
        let known = Capability::from_str(bare).ok();
        let unknown = || Error::Invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\""));
        set.push(known.ok_or_else(unknown)?);
    }
    Ok((set, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], want: &[Capability], count: usize) {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = Security { cap_add: list(add), cap_drop: list(drop), ..Security::default() };
        let got = capabilities(&security, &BY_NUMBER).expect("known names");
        let bounding = got.bounding().clone().expect("always set");
        assert_eq!(bounding.len(), count, "+{add:?} -{drop:?}: {bounding:?}");
        assert!(want.iter().all(|wanted| bounding.contains(wanted)), "+{add:?} -{drop:?}: {bounding:?}");
    }

    #[test]
    fn capabilities_follow_dockers_rules() {
        check(&[], &[], &CAPABILITIES, 14);
        check(&["NET_ADMIN"], &[], &[Capability::NetAdmin], 15);
        check(&["cap_net_admin", "chown"], &["KILL"], &[Capability::NetAdmin], 14);
        check(&["CHOWN"], &["ALL"], &[Capability::Chown], 1);
        check(&["ALL"], &["SYS_ADMIN"], &[Capability::SysTime], 40);
        check(&[], &["ALL"], &[], 0);
        let unknown = Security { cap_add: vec!["FLY".into()], ..Security::default() };
        assert!(capabilities(&unknown, &BY_NUMBER).is_err());
    }

    #[test]
    fn the_bounding_set_is_read_by_number() {
        let got = parse_bounding_set("Name:\tx\nCapBnd:\t0000000000000021\n");
        assert_eq!(got, [Capability::Chown, Capability::Kill]);
    }
}
