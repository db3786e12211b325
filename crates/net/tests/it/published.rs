//! Published ports: from everywhere they must be reached, and from where they must not.

use std::net::{Ipv4Addr, UdpSocket};

use gantry_model::container::Protocol::{Tcp, Udp};
use gantry_net::bridge::{self, BridgeSpec, Traffic};
use gantry_net::ports::{self, Publication};
use gantry_net::{Host, owned};
use gantry_sys::netlink::route::Route;

use crate::lab::{GATEWAY, HOST, Lab, OUTSIDE, ask, bridge_spec, call, in_lab, reaches};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn tcp_is_reached_from_everywhere_whether_bridges_filter_or_not() {
    for filter in ["0", "1"] {
        in_lab(move |lab| {
            // Whether what a bridge only passes on goes through the rules for IP. Docker turns it on.
            match std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", filter) {
                Ok(()) => reached_from_everywhere(lab),
                Err(error) => eprintln!("skipped: the kernel's bridges cannot filter: {error}"),
            }
        });
    }
}

fn reached_from_everywhere(lab: &Lab) {
    let (web, other) = (lab.container(2), lab.container(3));
    web.space.serve_tcp(ANY, 80);
    ports::publish(&lab.host, &[web.publication(ANY, 8080, Tcp, 80)]).expect("published");

    assert_eq!(lab.outside.call(HOST, 8080).expect("from outside"), OUTSIDE.to_string());
    assert_eq!(call(LOCALHOST, 8080).expect("from the host's loopback"), GATEWAY.to_string());
    assert_eq!(call(Ipv4Addr::new(127, 9, 9, 9), 8080).expect("any loopback address"), GATEWAY.to_string());
    assert_eq!(call(HOST, 8080).expect("from the host"), HOST.to_string());
    assert_eq!(call(GATEWAY, 8080).expect("by the bridge's address"), GATEWAY.to_string());
    for through in [HOST, GATEWAY] {
        assert_eq!(web.space.call(through, 8080).expect("its own port"), GATEWAY.to_string());
        assert_eq!(other.space.call(through, 8080).expect("a neighbour's port"), GATEWAY.to_string());
    }
    let spec = BridgeSpec {
        name: "gb-second".into(),
        gateway: "172.18.0.1/16".parse().expect("an address"),
        ..bridge_spec(&lab.host, Traffic::default())
    };
    let second = bridge::ensure(&lab.host, &spec).expect("a bridge");
    let far = lab.container_on(&second, spec.gateway, 2, Traffic::default());
    assert!(far.space.reaches(HOST, 8080), "from another bridge, by the published port");
    assert!(!far.space.reaches(web.address, 80), "but not directly");

    assert!(!reaches(LOCALHOST, 8081) && !reaches(LOCALHOST, 80), "nothing else is open");
    ports::unpublish(&lab.host, &[web.publication(ANY, 8080, Tcp, 80)]).expect("unpublished");
    assert!(!lab.outside.reaches(HOST, 8080) && !reaches(LOCALHOST, 8080));
}

#[test]
fn an_address_is_published_alone() {
    in_lab(|lab| {
        let web = lab.container(2);
        web.space.serve_tcp(ANY, 80);
        let all = [web.publication(LOCALHOST, 8080, Tcp, 80), web.publication(HOST, 9090, Tcp, 80)];
        ports::publish(&lab.host, &all).expect("published");
        let reached = |port| [reaches(LOCALHOST, port), reaches(HOST, port), lab.outside.reaches(HOST, port)];
        assert_eq!(reached(8080), [true, false, false]);
        assert_eq!(reached(9090), [false, true, true]);
    });
}

#[test]
fn what_is_not_published_is_closed_to_neighbours_of_the_host() {
    in_lab(|lab| {
        let web = lab.container(2);
        web.space.serve_tcp(ANY, 80);
        lab.outside.run(|| {
            let mut route = Route::open().expect("netlink is there");
            let index = route.index_of("eth0").expect("there");
            let mut changes = route.changes();
            changes.add_default_route(index, HOST);
            route.apply(changes).expect("a route through the host");
        });
        assert!(!lab.outside.reaches(web.address, 80));
        assert!(reaches(web.address, 80), "the host itself may");
        remove_table(&lab.host);
        assert!(lab.outside.reaches(web.address, 80), "it is the rules that keep it closed");
    });
}

/// Takes away our rules and leaves everything else, to see that they were the reason.
fn remove_table(host: &Host) {
    let all = owned::list(host).expect("a list");
    let table = all.iter().find(|thing| matches!(thing, owned::Owned::Table { .. })).expect("our table");
    owned::remove(host, table).expect("removed");
}

#[test]
fn containers_do_not_reach_the_hosts_loopback() {
    in_lab(|lab| {
        let web = lab.container(2);
        let listener = std::net::TcpListener::bind("127.0.0.2:7777").expect("a port of the host's loopback");
        web.space.run(|| {
            // As a container with the right to would do it: 127.0.0.2 is to be found by way of eth0.
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("writable");
            let ip = |args: &str| std::process::Command::new("ip").args(args.split(' ')).status();
            let _ = ip("route del local 127.0.0.0/8 dev lo table local");
            let _ = ip("route del local 127.0.0.1 dev lo table local");
            let added = ip(&format!("route add 127.0.0.2/32 via {GATEWAY} dev eth0"));
            assert!(added.is_ok_and(|status| status.success()), "ip (iproute2) is needed");
        });
        let target = Ipv4Addr::new(127, 0, 0, 2);
        assert!(!web.space.reaches(target, 7777));
        // Without the rules, route_localnet lets it through: it is the rule that keeps it out.
        remove_table(&lab.host);
        assert!(web.space.reaches(target, 7777));
        drop(listener);
    });
}

#[test]
fn udp_is_reached_and_old_flows_are_forgotten() {
    in_lab(|lab| {
        let (one, two) = (lab.container(2), lab.container(3));
        one.space.serve_udp(53);
        two.space.serve_udp(53);
        let client = lab.outside.run(|| UdpSocket::bind((OUTSIDE, 5353)).expect("a port"));
        client.send_to(b"too early", (HOST, 5300)).expect("sent to nobody");
        let first = one.publication(ANY, 5300, Udp, 53);
        ports::publish(&lab.host, &[first]).expect("published");
        lab.host.settle();
        assert_eq!(ask(&client, HOST, 5300).expect("an answer"), OUTSIDE.to_string());
        let local = UdpSocket::bind((LOCALHOST, 0)).expect("a port");
        assert_eq!(ask(&local, LOCALHOST, 5300).expect("an answer"), GATEWAY.to_string());

        ports::unpublish(&lab.host, &[first]).expect("unpublished");
        drop(one);
        ports::publish(&lab.host, &[two.publication(ANY, 5300, Udp, 53)]).expect("published");
        lab.host.settle();
        assert_eq!(ask(&client, HOST, 5300).expect("the new container's answer"), OUTSIDE.to_string());
    });
}

#[test]
fn a_range_is_published_and_changed_as_one() {
    in_lab(|lab| {
        let web = lab.container(2);
        web.space.serve_tcp(ANY, 2345);
        let range: Vec<Publication> = (1000..4000)
            .map(|port| web.publication(ANY, port, if port % 2 == 0 { Tcp } else { Udp }, port))
            .collect();
        ports::publish(&lab.host, &range).expect("published");
        assert_eq!(ports::list(&lab.host).expect("a list").len(), 3000);
        assert!(!reaches(LOCALHOST, 2345), "2345 is udp");
        ports::publish(&lab.host, &[web.publication(ANY, 2344, Tcp, 2345)]).expect("taken over");
        assert!(reaches(LOCALHOST, 2344));
        ports::unpublish(&lab.host, &range).expect("unpublished");
        let left = ports::list(&lab.host).expect("a list");
        assert_eq!(left, [web.publication(ANY, 2344, Tcp, 2345)], "what leads elsewhere by now stays");
    });
}

#[test]
fn reconcile_touches_only_what_differs() {
    in_lab(|lab| {
        let (one, two) = (lab.container(2), lab.container(3));
        let on = |container: &crate::lab::Container, port| container.publication(ANY, port, Tcp, 80);
        ports::publish(&lab.host, &[on(&one, 1), on(&one, 2), one.publication(HOST, 3, Udp, 80)])
            .expect("published");
        let wanted = [on(&one, 1), on(&two, 2), two.publication(LOCALHOST, 4, Tcp, 80)];
        let changed = ports::reconcile(&lab.host, &wanted).expect("reconciled");
        assert_eq!((changed.added, changed.removed), (2, 2));
        let mut now = ports::list(&lab.host).expect("a list");
        now.sort_unstable_by_key(|publication| publication.port);
        assert_eq!(now, wanted);
        let changed = ports::reconcile(&lab.host, &wanted).expect("reconciled");
        assert_eq!((changed.added, changed.removed), (0, 0));
    });
}

#[test]
fn ports_work_without_a_daemon_and_the_next_takes_them_over() {
    in_lab(|lab| {
        let web = lab.container(2);
        web.space.serve_tcp(ANY, 80);
        let second_identity =
            gantry_net::Identity::from_exec_root(std::path::Path::new("/tmp/gantry-net-test-other"));
        let first = Host::open(second_identity.clone()).expect("netlink is there");
        ports::publish(&first, &[web.publication(ANY, 8080, Tcp, 80)]).expect("published");

        let second = Host::open(second_identity).expect("netlink is there");
        let refused = ports::publish(&second, &[web.publication(ANY, 8081, Tcp, 80)]);
        assert!(matches!(refused, Err(ports::PublishError::Owned { .. })), "{refused:?}");
        // Closing its socket is all that the kernel sees of a daemon that is killed.
        drop(first);
        assert!(reaches(LOCALHOST, 8080) && lab.outside.reaches(HOST, 8080));
        ports::publish(&second, &[web.publication(ANY, 8081, Tcp, 80)]).expect("published");
        assert!(reaches(LOCALHOST, 8080) && reaches(LOCALHOST, 8081));
        assert_eq!(ports::list(&second).expect("a list").len(), 2);
    });
}
