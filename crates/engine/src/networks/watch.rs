//! A thread that notices when somebody else changes the host's firewall, and puts ours right.
//!
//! | change | done |
//! | --- | --- |
//! | other tables: dockerd or a firewall started | our accepts go where they are needed, warnings are brought up to date |
//! | our own table is gone | it is made again, with all published ports |
//!
//! It ends with the first change after the engine was dropped; until then it costs a descriptor and a stack that
//! is not touched.

use std::sync::{Arc, Weak};

use gantry_net::firewall::{Change, Watch};

use crate::containers::core::Core;

/// The thread's stack: netlink's buffers are on it.
const STACK_BYTES: usize = 256 << 10;

/// Starts the thread, where there is a bridge and we make rules at all. Without it everything works until
/// somebody else changes the rules, so a failure is only logged.
pub(crate) fn start(core: &Arc<Core>) {
    if !core.networks.bridge().is_some_and(|bridge| bridge.publishes) {
        return;
    }
    let mut watch = match Watch::open(core.networks.host()) {
        Ok(watch) => watch,
        Err(error) => {
            return tracing::warn!("changes of the host's firewall go unnoticed: {}", crate::chain(&error));
        }
    };
    let core = Arc::downgrade(core);
    let thread = std::thread::Builder::new().name("firewall".into()).stack_size(STACK_BYTES);
    if let Err(error) = thread.spawn(move || run(&mut watch, &core)) {
        tracing::warn!("changes of the host's firewall go unnoticed: {error}");
    }
}

fn run(watch: &mut Watch, core: &Weak<Core>) {
    loop {
        let change = match watch.wait(None) {
            Ok(change) => change,
            Err(error) => {
                return tracing::warn!("changes of the host's firewall go unnoticed from now on: {error}");
            }
        };
        let Some(core) = core.upgrade() else { return };
        let (networks, host) = (&core.networks, core.networks.host());
        match (change, networks.bridge()) {
            (Some(Change::Others), Some(bridge)) => bridge.coexist(host),
            (Some(Change::OursGone), Some(bridge)) => {
                let restored = bridge.restore(host);
                if restored {
                    core.sandboxes.restore_ports();
                }
            }
            _ => {}
        }
    }
}
