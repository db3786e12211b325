//! Living beside other firewalls: what is opened (Docker's user chain only), what is only reported, and
//! noticing when somebody else changes the rules.

use std::fmt;

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

/// Puts two tagged accepts for each bridge into Docker's user chain where that exists, takes away
/// those of bridges that are gone, and looks for other chains that would drop our traffic. Idempotent; called by
/// [`crate::bridge::ensure`], and by the engine whenever [`Watch::wait`] says [`Change::Others`].
///
/// # Errors
/// [`FirewallError`].
pub fn coexist(_host: &Host, _bridges: &[&str]) -> Result<Vec<Warning>, FirewallError> {
    unimplemented!()
}

/// A subscription to changes of the host's nft rules.
pub struct Watch {
    _private: (),
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

impl Watch {
    /// Subscribes. Cheap; changes made by ourselves are not reported.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn open(_host: &Host) -> Result<Self, HostError> {
        unimplemented!()
    }

    /// Waits for the next change, then until it has been quiet for 100 ms (at most a second), so that a burst is
    /// one change. `None` after `timeout` without any.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn wait(&mut self, _timeout: Option<std::time::Duration>) -> std::io::Result<Option<Change>> {
        unimplemented!()
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
        source: std::io::Error,
    },
}

impl FirewallError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> gantry_model::ErrorKind {
        gantry_model::ErrorKind::Internal
    }
}
