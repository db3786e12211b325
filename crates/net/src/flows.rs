//! UDP flows that the kernel remembers from before a port was published or unpublished.
//!
//! The kernel finds flows only by walking its whole table (20 ms for its default size on a large machine), so
//! this happens beside the callers, one walk for all that came together: on a thread that starts with the first
//! request and ends when there are none. A failure is not one of publishing: an old flow ends by itself 30
//! seconds after its last datagram.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gantry_model::container::Protocol;
use gantry_sys::netlink::Error;
use gantry_sys::netlink::conntrack::{Conntrack, Flow};
use gantry_sys::netlink::route::Route;

use crate::ports::Publication;

/// Which flows of a publication are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It was published: those to the host's port that do not go to its target.
    Others,
    /// It was unpublished: those to its target.
    Own,
}

/// The flows to be forgotten.
#[derive(Default)]
pub(crate) struct Flows {
    queue: Mutex<Queue>,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    requests: Vec<(Stale, Publication)>,
    working: bool,
}

impl Flows {
    /// Has the stale flows of these publications forgotten soon.
    pub(crate) fn forget(self: &Arc<Self>, stale: Stale, publications: &[Publication]) {
        let udp = |p: &&Publication| p.protocol == Protocol::Udp && p.address.is_ipv4();
        let mut queue = self.lock();
        queue.requests.extend(publications.iter().filter(udp).map(|publication| (stale, *publication)));
        if queue.requests.is_empty() || queue.working {
            return;
        }
        // The thread inherits this one's network namespace.
        let flows = Arc::clone(self);
        let thread = std::thread::Builder::new().name("net-flows".into());
        match thread.spawn(move || flows.work()) {
            Ok(_) => queue.working = true,
            Err(_) => queue.requests.clear(),
        }
    }

    /// Waits until all that was asked for is done.
    pub(crate) fn wait(&self) {
        let mut queue = self.lock();
        while queue.working {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let requests = {
                let mut queue = self.lock();
                if queue.requests.is_empty() {
                    queue.working = false;
                    self.done.notify_all();
                    return;
                }
                mem::take(&mut queue.requests)
            };
            // See above: flows end by themselves.
            let _ = forget(&requests);
        }
    }
}

fn forget(requests: &[(Stale, Publication)]) -> Result<(), Error> {
    let mut by_port: HashMap<u16, Vec<&(Stale, Publication)>> = HashMap::new();
    for request in requests {
        by_port.entry(request.1.port).or_default().push(request);
    }
    let local: HashSet<Ipv4Addr> =
        Route::open()?.addresses(0)?.into_iter().map(|(address, _)| address).collect();
    let only = if by_port.len() == 1 { by_port.keys().next().copied() } else { None };
    let mut conntrack = Conntrack::open()?;
    for flow in conntrack.udp_flows(only)? {
        let candidates = by_port.get(&flow.destination.port());
        if candidates.is_some_and(|all| all.iter().any(|(stale, by)| is_stale(&flow, *stale, by, &local))) {
            conntrack.forget(&flow)?;
        }
    }
    Ok(())
}

fn is_stale(flow: &Flow, stale: Stale, publication: &Publication, local: &HashSet<Ipv4Addr>) -> bool {
    let to = *flow.destination.ip();
    let meant = match publication.address {
        IpAddr::V4(address) if !address.is_unspecified() => to == address,
        _ => to.is_loopback() || local.contains(&to),
    };
    meant
        && match stale {
            Stale::Others => flow.answered_by != publication.target,
            Stale::Own => flow.answered_by == publication.target,
        }
}
