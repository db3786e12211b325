//! What is ours is found and removed; what is not stays.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use gantry_model::container::Protocol::Tcp;
use gantry_net::bridge;
use gantry_net::owned::{self, Owned};
use gantry_net::ports;
use gantry_sys::netlink::route::Route;
use gantry_sys::netlink::{Protocol, Socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::in_lab;

/// Waits for the kernel to take a link down, which it does some time after a namespace's last descriptor was
/// closed, and tells on this socket.
pub(crate) fn wait_until_gone(link: &str) {
    const RTNLGRP_LINK: u32 = 1;
    let mut events = Socket::open(Protocol::Route).expect("netlink is there");
    events.join(RTNLGRP_LINK).expect("a subscription");
    let mut route = Route::open().expect("netlink is there");
    let end = Instant::now() + Duration::from_secs(20);
    while route.link(link).expect("a look-up").is_some() {
        assert!(Instant::now() < end, "{link} is still there");
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&second));
        let _ = events.notifications(|_, _| {});
    }
}

#[test]
fn everything_is_listed_and_removed() {
    in_lab(|lab| {
        let container = lab.container(2);
        let published = [container.publication(Ipv4Addr::UNSPECIFIED, 80, Tcp, 80)];
        ports::publish(&lab.host, &published).expect("published");
        let mut all = owned::list(&lab.host).expect("a list");
        all.sort();
        assert_eq!(
            all,
            [
                Owned::Bridge { name: lab.host.identity().default_bridge_name(), owner: "network".into() },
                Owned::Endpoint { name: container.link.clone(), owner: "172.17.0.2".into() },
                Owned::Table { name: lab.host.identity().table_name(), ports: 1 },
            ]
        );
        let errors = owned::remove_all(&lab.host);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(owned::list(&lab.host).expect("a list"), []);
        let errors = owned::remove_all(&lab.host);
        assert!(errors.is_empty(), "{errors:?}");
    });
}

#[test]
fn a_namespace_takes_its_endpoint_along() {
    in_lab(|lab| {
        let links: Vec<String> = (2..20).map(|last| lab.container(last).link).collect();
        for link in links {
            wait_until_gone(&link);
        }
    });
}

#[test]
fn a_removed_bridge_leaves_no_chain_behind() {
    in_lab(|lab| {
        let name = lab.host.identity().default_bridge_name();
        bridge::remove(&lab.host, &name).expect("removed");
        let mut nft = gantry_sys::nft::Nft::open().expect("netlink is there");
        let chains = nft.chains().expect("a list");
        assert!(chains.iter().all(|chain| !chain.name.contains(&name)), "{chains:?}");
    });
}
