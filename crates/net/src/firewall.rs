//! Living beside other firewalls: what is opened (Docker's user chain only), what is only reported, and
//! noticing when somebody else changes the rules.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use gantry_sys::netlink::{self, Protocol, Socket};
use gantry_sys::nft::{self, Chain, Family, Notification, Point};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::rules;
use crate::{Host, HostError};

/// Something that an operator should know and may want to change. Shown in the log and in `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A stable word for it, such as `forward-drop`, `ip-forward-enabled`, `legacy-iptables-drop`.
    pub name: &'static str,
    /// What it is about, and what it does to containers. Whole sentences.
    pub text: String,
    /// The command that would open it; empty where there is nothing to do.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " To open it: {}", self.remedy) }
    }
}

/// Docker's user chain, as iptables-nft and nft both name it.
const DOCKER_TABLE: &str = "filter";
const DOCKER_CHAIN: &str = "DOCKER-USER";
const FORWARD: u32 = Point::Forward as u32;

/// Puts two tagged accepts for each bridge into Docker's user chain where that exists, takes away
/// those of bridges that are not named, and looks for other chains that would drop our traffic. Idempotent;
/// [`crate::bridge::ensure`] does it for its bridge, and the engine for all whenever [`Watch::wait`] says
/// [`Change::Others`].
///
/// # Errors
/// [`FirewallError`].
pub fn coexist(host: &Host, bridges: &[&str]) -> Result<Vec<Warning>, FirewallError> {
    let failed = |action| move |source| FirewallError::Kernel { action, source };
    let chains = host.table().nft().chains().map_err(failed("listing nft chains"))?;
    if has_docker_chain(&chains) {
        for (bridge, _) in accepts(host).map_err(failed("listing the accepts in Docker's chain"))? {
            if !bridges.contains(&bridge.as_str()) {
                close_for(host, &bridge).map_err(failed("removing accepts from Docker's chain"))?;
            }
        }
        for bridge in bridges {
            insert_accepts(host, bridge).map_err(failed("adding accepts to Docker's chain"))?;
        }
    }
    Ok(bridges.iter().flat_map(|bridge| judge(&chains, bridge, legacy_drops())).collect())
}

/// [`coexist`] for one bridge, leaving the others' accepts alone.
pub(crate) fn open_for(host: &Host, bridge: &str) -> Result<Vec<Warning>, netlink::Error> {
    let chains = host.table().nft().chains()?;
    if has_docker_chain(&chains) {
        insert_accepts(host, bridge)?;
    }
    Ok(judge(&chains, bridge, legacy_drops()))
}

/// Takes away a bridge's accepts.
pub(crate) fn close_for(host: &Host, bridge: &str) -> Result<(), netlink::Error> {
    let handles: Vec<u64> =
        accepts(host)?.into_iter().filter(|(of, _)| of == bridge).map(|(_, handle)| handle).collect();
    if handles.is_empty() {
        return Ok(());
    }
    let mut table = host.table();
    let nft = table.nft();
    let mut change = nft.transaction(Family::Ip, DOCKER_TABLE);
    for handle in handles {
        change.delete_rule(DOCKER_CHAIN, handle);
    }
    nft.commit(change)
}

/// Our accepts in Docker's user chain: the bridge, and the rule's handle.
pub(crate) fn accepts(host: &Host) -> Result<Vec<(String, u64)>, netlink::Error> {
    let prefix = host.identity().alias_prefix();
    match host.table().nft().rules(Family::Ip, DOCKER_TABLE, DOCKER_CHAIN) {
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(rules) => Ok(rules
            .into_iter()
            .filter_map(|rule| Some((rule.comment.strip_prefix(&prefix)?.to_owned(), rule.handle)))
            .collect()),
    }
}

/// The table and chain that [`accepts`] are in, for lists.
pub(crate) fn docker_chain() -> String {
    format!("{} {DOCKER_TABLE} {DOCKER_CHAIN}", Family::Ip.as_str())
}

fn insert_accepts(host: &Host, bridge: &str) -> Result<(), netlink::Error> {
    let rules = rules::foreign_accepts(bridge);
    let present = accepts(host)?.iter().filter(|(of, _)| of == bridge).count();
    if present == rules.len() {
        return Ok(());
    }
    close_for(host, bridge)?;
    let comment = format!("{}{bridge}", host.identity().alias_prefix());
    let mut table = host.table();
    let nft = table.nft();
    let mut change = nft.transaction(Family::Ip, DOCKER_TABLE);
    for rule in rules {
        change.prepend_rule(DOCKER_CHAIN, rule, &comment);
    }
    nft.commit(change)
}

fn has_docker_chain(chains: &[Chain]) -> bool {
    chains.iter().any(is_docker_chain)
}

fn is_docker_chain(chain: &Chain) -> bool {
    chain.family == Family::Ip && chain.table == DOCKER_TABLE && chain.name == DOCKER_CHAIN
}

/// Where the legacy table cannot be read, nobody has one.
fn legacy_drops() -> bool {
    gantry_sys::xtables::drops_forwarded().unwrap_or(false)
}

/// What of these chains stands in the way of a bridge's forwarded traffic.
fn judge(chains: &[Chain], bridge: &str, legacy_drops: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for chain in chains {
        let forwards = chain.hook.is_some_and(|(point, _)| point == FORWARD)
            && matches!(chain.family, Family::Ip | Family::Inet);
        if !forwards || !chain.drops {
            continue;
        }
        let is_iptables = chain.family == Family::Ip && chain.table == DOCKER_TABLE;
        if is_iptables && has_docker_chain(chains) {
            continue;
        }
        let place = format!("{} {} {}", chain.family.as_str(), chain.table, chain.name);
        let rule = |direction: &str| {
            if is_iptables {
                let option = if direction == "iifname" { "-i" } else { "-o" };
                format!("iptables -I {} {option} {bridge} -j ACCEPT", chain.name)
            } else {
                format!("nft insert rule {place} {direction} {bridge} accept")
            }
        };
        warnings.push(Warning {
            name: "forward-drop",
            text: format!(
                "The firewall chain \"{place}\" drops what it does not know, so containers on {bridge} \
                 reach nothing beyond the host and nothing beyond the host reaches them."
            ),
            remedy: format!("{}; {}", rule("iifname"), rule("oifname")),
        });
    }
    if chains.iter().any(|chain| chain.family == Family::Inet && chain.table == "firewalld") {
        warnings.push(Warning {
            name: "firewalld",
            text: format!("firewalld is active and decides about traffic of {bridge} by its zone."),
            remedy: format!(
                "firewall-cmd --permanent --zone=trusted --add-interface={bridge}; firewall-cmd --reload"
            ),
        });
    }
    if legacy_drops {
        warnings.push(Warning {
            name: "legacy-forward-drop",
            text: format!(
                "The FORWARD chain of iptables-legacy drops what it does not know, so containers on {bridge} \
                 reach nothing beyond the host and nothing beyond the host reaches them."
            ),
            remedy: format!(
                "iptables-legacy -I FORWARD -i {bridge} -j ACCEPT; iptables-legacy -I FORWARD -o {bridge} -j ACCEPT"
            ),
        });
    }
    warnings
}

/// The warning that other firewalls could not be looked at.
pub(crate) fn unexamined(bridge: &str, error: &netlink::Error) -> Warning {
    Warning {
        name: "firewall-unexamined",
        text: format!("Whether other firewalls block {bridge} could not be found out: {error}."),
        remedy: String::new(),
    }
}

/// A subscription to changes of the host's nft rules.
pub struct Watch {
    socket: Socket,
    table: String,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Our own table was removed by somebody (kernels below 6.9, or while no daemon owned it): call
    /// [`crate::bridge::ensure`] and [`crate::ports::reconcile`].
    OursGone,
    /// Other tables' chains or rules changed (dockerd or a firewall started): call [`coexist`].
    Others,
}

/// A burst of changes (dockerd makes a hundred at its start) is over after this much quiet.
const QUIET: Duration = Duration::from_millis(100);
/// A burst is reported after this long even if it goes on.
const BURST: Duration = Duration::from_secs(1);

impl Watch {
    /// Subscribes. Cheap; changes made by this process are not reported.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn open(host: &Host) -> Result<Self, HostError> {
        let failed = |source| HostError::Socket { protocol: "netfilter", source };
        let socket = Socket::open(Protocol::Netfilter).map_err(failed)?;
        socket.join(nft::NOTIFICATIONS).map_err(failed)?;
        Ok(Self { socket, table: host.identity().table_name() })
    }

    /// Waits for the next change, then until it has been quiet for 100 ms (at most a second), so that a burst is
    /// one change. `None` after `timeout` without any.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Change>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut found = None;
        while found.is_none() {
            if !self.readable(deadline.map(|at| at.saturating_duration_since(Instant::now())))? {
                return Ok(None);
            }
            found = self.read();
        }
        let end = Instant::now() + BURST;
        while Instant::now() < end && self.readable(Some(QUIET))? {
            found = strongest(found, self.read());
        }
        Ok(found)
    }

    fn readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout =
            timeout.map(|t| Timespec::try_from(t).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match poll(&mut sockets, timeout.as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(ready) => return Ok(ready > 0),
            }
        }
    }

    fn read(&mut self) -> Option<Change> {
        let table = &self.table;
        let own_pid = std::process::id();
        let mut change = None;
        let mut transaction = None;
        let result = self.socket.notifications(|kind, payload| match nft::notification(kind, payload) {
            Some(Notification::TableGone { table: gone }) => {
                let is_ours = gone == *table;
                transaction =
                    strongest(transaction, Some(if is_ours { Change::OursGone } else { Change::Others }));
            }
            Some(Notification::Rules { table: of }) if of != *table => {
                transaction = strongest(transaction, Some(Change::Others));
            }
            Some(Notification::MadeBy { pid }) => {
                let ended = transaction.take();
                if pid != own_pid {
                    change = strongest(change, ended);
                }
            }
            _ => {}
        });
        // Notifications were lost: anything may have happened.
        if result.is_err() { Some(Change::OursGone) } else { strongest(change, transaction) }
    }
}

fn strongest(one: Option<Change>, other: Option<Change>) -> Option<Change> {
    match (one, other) {
        (Some(Change::OursGone), _) | (_, Some(Change::OursGone)) => Some(Change::OursGone),
        (one, other) => one.or(other),
    }
}

/// Why the firewalls could not be examined or opened.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The kernel refused.
    #[error("{action} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: netlink::Error,
    },
}

impl FirewallError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> gantry_model::ErrorKind {
        gantry_model::ErrorKind::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: Family, table: &str, name: &str, drops: bool) -> Chain {
        let hook = (name != DOCKER_CHAIN).then_some((FORWARD, 0));
        Chain { family, table: table.into(), name: name.into(), hook, drops }
    }

    fn check(chains: &[Chain], legacy: bool, expected: &[&str]) {
        let warnings = judge(chains, "gantry0", legacy);
        let names: Vec<_> = warnings.iter().map(|warning| warning.name).collect();
        assert_eq!(names, expected, "{chains:?}");
        assert!(warnings.iter().all(|warning| warning.to_string().contains("gantry0")));
    }

    #[test]
    fn each_firewall_in_the_way_has_its_warning() {
        let docker = chain(Family::Ip, "filter", DOCKER_CHAIN, false);
        let iptables = chain(Family::Ip, "filter", "FORWARD", true);
        check(&[], false, &[]);
        check(&[chain(Family::Ip, "filter", "FORWARD", false)], false, &[]);
        check(std::slice::from_ref(&iptables), false, &["forward-drop"]);
        check(&[iptables.clone(), docker], false, &[]);
        check(&[chain(Family::Inet, "mine", "fwd", true)], false, &["forward-drop"]);
        check(&[chain(Family::Other(10), "filter", "FORWARD", true)], false, &[]);
        check(
            &[chain(Family::Inet, "firewalld", "filter_FORWARD", false)],
            true,
            &["firewalld", "legacy-forward-drop"],
        );
        assert_eq!(
            judge(&[iptables], "gantry0", false)[0].remedy,
            "iptables -I FORWARD -i gantry0 -j ACCEPT; iptables -I FORWARD -o gantry0 -j ACCEPT"
        );
    }
}
