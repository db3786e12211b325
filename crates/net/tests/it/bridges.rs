//! Bridges and endpoints: what a container sees, and what it can and cannot reach.

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use gantry_net::bridge::{self, BridgeError, BridgeSpec, Traffic};
use gantry_net::endpoint::{self, BridgePort, EndpointSpec};
use gantry_net::{Ipv4Net, MacAddress, ipam};
use gantry_sys::netlink::route::{NewBridge, Route};

use crate::lab::{GATEWAY, HOST, OUTSIDE, Space, bridge_spec, in_lab};

#[test]
fn an_endpoint_is_complete_and_goes_with_its_namespace() {
    in_lab(|lab| {
        let container = lab.container(2);
        let (link, addresses, ipv6) = container.space.run(|| {
            let mut route = Route::open().expect("netlink is there");
            let link = route.link("eth0").expect("a list").expect("eth0 is there");
            let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
            let ipv6 = ["eth0", "default", "lo"]
                .map(|name| read(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")));
            (link, route.addresses(0).expect("a list"), ipv6)
        });
        assert!(link.up && link.kind == "veth");
        assert!(addresses.contains(&(container.address, 16)), "{addresses:?}");
        if std::path::Path::new("/proc/thread-self/net/if_inet6").exists() {
            assert_eq!(ipv6.map(|value| value.expect("readable")), ["1", "0", "0"], "as under Docker");
        }
        let mut route = Route::open().expect("netlink is there");
        let outer = route.link(&container.link).expect("a list").expect("the host's end is there");
        assert_eq!(outer.master, lab.bridge.index);
        assert!(outer.up && outer.alias.ends_with(":endpoint:172.17.0.2"), "{outer:?}");

        lab.outside.serve_tcp(OUTSIDE, 80);
        assert_eq!(container.space.call(OUTSIDE, 80).expect("an answer"), HOST.to_string(), "masqueraded");
        let link = container.link.clone();
        drop(container);
        crate::ownership::wait_until_gone(&link);
    });
}

#[test]
fn ensure_is_idempotent_and_corrects() {
    in_lab(|lab| {
        let mut spec = bridge_spec(&lab.host, Traffic::default());
        let again = bridge::ensure(&lab.host, &spec).expect("the same again");
        assert_eq!(again.index, lab.bridge.index);
        let container = lab.container(2);
        spec.gateway = "172.17.0.9/16".parse().expect("an address");
        spec.mtu = 1400;
        bridge::ensure(&lab.host, &spec).expect("a correction");
        assert_eq!(bridge::address(&lab.host, &spec.name).expect("a look-up"), Some(spec.gateway));
        let mut route = Route::open().expect("netlink is there");
        assert_eq!(route.link(&spec.name).expect("a list").expect("there").mtu, 1400);
        drop(container);
        bridge::remove(&lab.host, &spec.name).expect("removal");
        bridge::remove(&lab.host, &spec.name).expect("removal of nothing");
        assert_eq!(bridge::address(&lab.host, &spec.name).expect("a look-up"), None);
    });
}

#[test]
fn the_host_forwards_as_long_as_it_is_for_us() {
    const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
    in_lab(|lab| {
        let spec = bridge_spec(&lab.host, Traffic::default());
        let forwards = || std::fs::read_to_string(FORWARDING).expect("readable").trim() == "1";
        let write = |value: &str| std::fs::write(FORWARDING, value).expect("the name space is ours");
        let remove = || bridge::remove(&lab.host, &spec.name).expect("removal");
        let warned =
            |bridge: &bridge::Bridge| bridge.warnings.iter().any(|it| it.name == "ip-forward-enabled");
        remove();
        write("0");
        let made = bridge::ensure(&lab.host, &spec).expect("a bridge");
        assert!(forwards() && warned(&made));
        // The next daemon knows why, too.
        let again = bridge::ensure(&lab.host, &spec).expect("the same again");
        assert!(!warned(&again));
        remove();
        assert!(!forwards(), "as before");
        write("1");
        bridge::ensure(&lab.host, &spec).expect("a bridge");
        remove();
        assert!(forwards(), "it did before us");
        write("0");
        bridge::ensure(&lab.host, &spec).expect("a bridge");
        let mut route = Route::open().expect("netlink is there");
        let mut changes = route.changes();
        changes.add_bridge(&NewBridge { name: "br-other", mac: [2, 0, 0, 0, 0, 1], mtu: 0 });
        route.apply(changes).expect("a bridge of somebody's");
        remove();
        assert!(forwards(), "another may count on it by now");
    });
}

#[test]
fn a_link_of_others_is_not_touched() {
    in_lab(|lab| {
        let mut route = Route::open().expect("netlink is there");
        let mut changes = route.changes();
        changes.add_bridge(&NewBridge { name: "br-other", mac: [2, 0, 0, 0, 0, 1], mtu: 0 });
        route.apply(changes).expect("a bridge");
        let spec = BridgeSpec { name: "br-other".into(), ..bridge_spec(&lab.host, Traffic::default()) };
        let refused = |result| matches!(result, Err(BridgeError::Foreign { name }) if name == "br-other");
        assert!(refused(bridge::ensure(&lab.host, &spec).map(|_| ())));
        assert!(refused(bridge::remove(&lab.host, "br-other")));
        assert!(route.link("br-other").expect("a list").is_some());
    });
}

#[test]
fn a_stale_link_of_the_same_name_is_replaced() {
    in_lab(|lab| {
        let first = lab.container(2);
        let second = lab.container(2);
        lab.outside.serve_tcp(OUTSIDE, 80);
        assert!(second.space.reaches(OUTSIDE, 80));
        assert!(!first.space.reaches(OUTSIDE, 80), "the first endpoint is gone");
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    in_lab(|lab| {
        let space = Space::new();
        let spec = EndpointSpec {
            port: BridgePort {
                bridge: lab.bridge.index,
                name: "gv-broken",
                owner: "x",
                between_containers: true,
            },
            namespace: space.0.as_fd(),
            name: "eth0",
            address: Ipv4Net::new(Ipv4Addr::new(172, 17, 0, 2), 16).expect("below 32"),
            // Not on the link, so the route is refused.
            gateway: Some(Ipv4Addr::new(10, 9, 9, 9)),
            mac: MacAddress([2, 0, 0, 0, 0, 2]),
            mtu: 0,
        };
        let error = endpoint::attach(&lab.host, &spec).expect_err("the gateway is elsewhere");
        assert_eq!(error.to_string(), "configuration of endpoint gv-broken failed");
        let mut route = Route::open().expect("netlink is there");
        assert!(route.link("gv-broken").expect("a list").is_none());
    });
}

#[test]
fn containers_reach_each_other_unless_told_not_to() {
    in_lab(|lab| {
        let (one, two) = (lab.container(2), lab.container(3));
        two.space.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(one.space.reaches(two.address, 80));

        let traffic = Traffic { between_containers: false, ..Traffic::default() };
        let spec = BridgeSpec {
            name: "gb-closed".into(),
            gateway: "172.18.0.1/16".parse().expect("an address"),
            ..bridge_spec(&lab.host, traffic)
        };
        let closed = bridge::ensure(&lab.host, &spec).expect("a bridge");
        let three = lab.container_on(&closed, spec.gateway, 2, traffic);
        let four = lab.container_on(&closed, spec.gateway, 3, traffic);
        four.space.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(!three.space.reaches(four.address, 80), "between containers");
        assert!(!one.space.reaches(four.address, 80), "between bridges");
        assert!(!three.space.reaches(two.address, 80), "between bridges");
        lab.outside.serve_tcp(OUTSIDE, 80);
        assert!(three.space.reaches(OUTSIDE, 80));
    });
}

#[test]
fn an_internal_network_ends_at_the_host() {
    in_lab(|lab| {
        let traffic = Traffic { internal: true, ..Traffic::default() };
        let spec = BridgeSpec {
            name: "gb-internal".into(),
            gateway: "172.19.0.1/16".parse().expect("an address"),
            ..bridge_spec(&lab.host, traffic)
        };
        let internal = bridge::ensure(&lab.host, &spec).expect("a bridge");
        // With a default route all the same, as a container with the right to would add it.
        let routed = Traffic { internal: false, ..traffic };
        let one = lab.container_on(&internal, spec.gateway, 2, routed);
        let two = lab.container_on(&internal, spec.gateway, 3, traffic);
        two.space.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        lab.outside.serve_tcp(OUTSIDE, 80);
        assert!(one.space.reaches(two.address, 80));
        assert!(!one.space.reaches(OUTSIDE, 80));
    });
}

#[test]
fn a_subnet_in_use_is_not_chosen() {
    in_lab(|lab| {
        let pools = ipam::default_pools();
        let chosen = ipam::choose_subnet(&lab.host, &pools, &[]).expect("a subnet");
        assert_eq!(chosen.to_string(), "172.18.0.0/16", "the bridge has {GATEWAY}");
        let next = ipam::choose_subnet(&lab.host, &pools, &[chosen]).expect("a subnet");
        assert_eq!(next.to_string(), "172.19.0.0/16");
    });
}
