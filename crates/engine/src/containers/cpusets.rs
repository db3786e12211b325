//! `--cpuset-cpus` and `--cpuset-mems`: lists such as `0-3,7`, checked against what the host has.

use std::collections::BTreeSet;
use std::fs;

use super::Error;
use super::config::Resources;

/// What the host has, as the kernel writes it: `0-3,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Available {
    cpus: String,
    mems: String,
}

impl Available {
    /// Asks the kernel. What it does not say is not checked.
    pub(super) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            cpus: read("/sys/devices/system/cpu/online"),
            mems: read("/sys/devices/system/node/has_memory"),
        }
    }
}

/// Checks both lists.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words, for a list that cannot be read or asks for what is not there.
pub(super) fn check(resources: &Resources, available: impl FnOnce() -> Available) -> Result<(), Error> {
    if resources.cpuset_cpus.is_empty() && resources.cpuset_mems.is_empty() {
        return Ok(());
    }
    let available = available();
    for (asked, have, name, things) in [
        (&resources.cpuset_cpus, &available.cpus, "cpuset cpus", "CPUs"),
        (&resources.cpuset_mems, &available.mems, "cpuset mems", "memory nodes"),
    ] {
        let Some(wanted) = parse(asked) else {
            return Err(Error::Invalid(format!("Invalid value {asked} for {name}: invalid format: {asked}")));
        };
        let there = parse(have).filter(|there| !there.is_empty());
        if there.is_some_and(|there| !wanted.is_subset(&there)) {
            return Err(Error::Invalid(format!(
                "Requested {things} are not available - requested {asked}, available: {have}"
            )));
        }
    }
    Ok(())
}

/// Reads `0-3,7`; numbers up to 8191, as many as a kernel can have.
fn parse(text: &str) -> Option<BTreeSet<u16>> {
    const MOST: u16 = 8191;
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        if first > last || last > MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_checked_against_the_hosts() {
        for (cpus, mems, want) in [
            ("", "", None),
            ("0", "0", None),
            ("0-1", "", None),
            ("1,0", "", None),
            ("2", "", Some("Requested CPUs are not available - requested 2, available: 0-1")),
            ("0-9", "", Some("Requested CPUs are not available - requested 0-9, available: 0-1")),
            ("x", "", Some("Invalid value x for cpuset cpus: invalid format: x")),
            ("1-0", "", Some("Invalid value 1-0 for cpuset cpus: invalid format: 1-0")),
            ("0", "5", Some("Requested memory nodes are not available - requested 5, available: 0")),
        ] {
            let resources =
                Resources { cpuset_cpus: cpus.into(), cpuset_mems: mems.into(), ..Resources::default() };
            let got = check(&resources, || Available { cpus: "0-1".into(), mems: "0".into() });
            assert_eq!(got.err().map(|error| error.to_string()).as_deref(), want, "{cpus} {mems}");
        }
    }
}
