//! How long the steps of a start over a bridge take: attach, first connection, publish, unpublish, and how they
//! grow with 10,000 published ports. Run as root; it works in a network namespace of its own:
//! `cargo run --release -p gantry-net --example latency`.
#![allow(clippy::print_stdout)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_model::container::Protocol;
use gantry_net::bind::{PortAllocator, PortChoice};
use gantry_net::bridge::{self, BridgeSpec, Traffic};
use gantry_net::endpoint::{self, BridgePort, EndpointSpec};
use gantry_net::ports::{self, Publication};
use gantry_net::{Host, Identity, Ipv4Net, MacAddress, owned};
use gantry_sys::netlink::route::{Change, LinkRef, Route};
use gantry_sys::ns::{self, Kinds};

const ROUNDS: u32 = 200;

fn main() {
    ns::unshare(Kinds::NET).expect("root");
    loopback_up();
    let host = Host::open(Identity::from_exec_root(Path::new("/tmp/gantry-latency"))).expect("netlink");
    let gateway: Ipv4Net = "172.17.0.1/16".parse().expect("an address");
    let spec = BridgeSpec {
        name: host.identity().default_bridge_name(),
        owner: "latency".into(),
        gateway,
        mtu: 0,
        traffic: Traffic::default(),
    };
    let bridge =
        measure("bridge::ensure, first", 1, |_| bridge::ensure(&host, &spec).expect("a bridge").index);
    measure("bridge::ensure, again", 20, |_| bridge::ensure(&host, &spec).expect("a bridge").index);

    let spaces: Vec<OwnedFd> = (0..ROUNDS).map(|_| new_namespace()).collect();
    measure("endpoint::attach", ROUNDS, |n| {
        let address = nth(gateway, n);
        let name = host.identity().endpoint_name(&address.to_string());
        let spec = EndpointSpec {
            port: BridgePort { bridge, name: &name, owner: "latency", between_containers: true },
            namespace: spaces[n as usize].as_fd(),
            name: "eth0",
            address: gateway.with_address(address),
            gateway: Some(gateway.address()),
            mac: MacAddress::for_ipv4(address),
            mtu: 0,
        };
        endpoint::attach(&host, &spec).expect("an endpoint");
    });
    fresh_bridges(&host);

    let allocator = PortAllocator::new();
    let any = [Ipv4Addr::UNSPECIFIED.into()];
    let mut held = Vec::new();
    measure("bind a random port", ROUNDS, |_| {
        held.push(allocator.bind(&any, PortChoice::Any, Protocol::Tcp).expect("a port"));
    });
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        publish_one_by_one(&host, gateway, protocol, "");
    }
    let many: Vec<Publication> =
        (0..10_000).map(|n| publication(gateway, 20_000 + n, Protocol::Tcp)).collect();
    measure("publish 10,000 at once", 1, |_| ports::publish(&host, &many).expect("published"));
    publish_one_by_one(&host, gateway, Protocol::Tcp, " beside 10,000");
    connect_through(&host, gateway, &spaces[1]);
    measure("list 10,000", 1, |_| assert!(ports::list(&host).expect("a list").len() >= 10_000));
    measure("reconcile 10,000, nothing to do", 1, |_| ports::reconcile(&host, &many).expect("reconciled"));
    measure("unpublish 1,000 of them", 1, |_| ports::unpublish(&host, &many[..1000]).expect("unpublished"));
    drop(spaces);
    assert!(owned::remove_all(&host).is_empty());
}

/// How long the first connection to the first container of a new bridge takes: a packet sent before the kernel
/// has everything in place is repeated a second later.
fn fresh_bridges(host: &Host) {
    let mut slowest = Duration::ZERO;
    for n in 0..20_u8 {
        let gateway = Ipv4Net::new(Ipv4Addr::new(10, 99, n, 1), 24).expect("below 32");
        let name = format!("gb-fresh{n}");
        let traffic = Traffic::default();
        let spec = BridgeSpec { name: name.clone(), owner: "latency".into(), gateway, mtu: 0, traffic };
        let bridge = bridge::ensure(host, &spec).expect("a bridge").index;
        let space = new_namespace();
        let fd = space.try_clone().expect("a descriptor");
        let _listener = std::thread::spawn(move || {
            ns::enter(fd.as_fd(), Kinds::NET).expect("entered");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a port")
        })
        .join()
        .expect("a listener");
        let address = nth(gateway, 1);
        let end = format!("gv-fresh{n}");
        let spec = EndpointSpec {
            port: BridgePort { bridge, name: &end, owner: "latency", between_containers: true },
            namespace: space.as_fd(),
            name: "eth0",
            address: gateway.with_address(address),
            gateway: Some(gateway.address()),
            mac: MacAddress::for_ipv4(address),
            mtu: 0,
        };
        endpoint::attach(host, &spec).expect("an endpoint");
        let start = Instant::now();
        TcpStream::connect_timeout(&SocketAddr::from((address, 80)), Duration::from_secs(5))
            .expect("connected");
        slowest = slowest.max(start.elapsed());
        bridge::remove(host, &name).expect("removed");
    }
    println!("first connection on a new bridge, slowest of 20 {:>9.3} ms", millis(slowest));
}

fn publish_one_by_one(host: &Host, gateway: Ipv4Net, protocol: Protocol, beside: &str) {
    let one = |n: u32| publication(gateway, 10_000 + u16::try_from(n).expect("few"), protocol);
    measure(&format!("publish one {}{beside}", protocol.as_str()), ROUNDS, |n| {
        ports::publish(host, &[one(n)]).expect("published");
    });
    measure(&format!("unpublish one {}{beside}", protocol.as_str()), ROUNDS, |n| {
        ports::unpublish(host, &[one(n)]).expect("unpublished");
    });
}

fn connect_through(host: &Host, gateway: Ipv4Net, space: &OwnedFd) {
    let fd = space.try_clone().expect("a descriptor");
    let listener = std::thread::spawn(move || {
        ns::enter(fd.as_fd(), Kinds::NET).expect("entered");
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a port")
    })
    .join()
    .expect("a listener");
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let target = SocketAddrV4::new(nth(gateway, 1), 80);
    let address = Ipv4Addr::UNSPECIFIED.into();
    let all = [Publication { address, port: 9_999, protocol: Protocol::Tcp, target }];
    ports::publish(host, &all).expect("published");
    measure("connect to 127.0.0.1 beside 10,000", ROUNDS, |_| {
        TcpStream::connect((Ipv4Addr::LOCALHOST, 9_999)).expect("connected");
    });
}

fn publication(gateway: Ipv4Net, port: u16, protocol: Protocol) -> Publication {
    let target = SocketAddrV4::new(nth(gateway, 0), 80);
    Publication { address: Ipv4Addr::UNSPECIFIED.into(), port, protocol, target }
}

fn nth(gateway: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(gateway.address().to_bits() + 1 + n)
}

fn loopback_up() {
    let mut route = Route::open().expect("netlink");
    let mut changes = route.changes();
    changes.change_link(LinkRef::Index(1), &Change { up: Some(true), ..Change::default() });
    route.apply(changes).expect("lo comes up");
}

fn new_namespace() -> OwnedFd {
    std::thread::spawn(|| {
        ns::unshare(Kinds::NET).expect("root");
        OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("proc"))
    })
    .join()
    .expect("a namespace")
}

/// Prints the median and the slowest of `rounds` calls; gives the last call's value.
fn measure<T>(what: &str, rounds: u32, mut call: impl FnMut(u32) -> T) -> T {
    let mut times = Vec::new();
    let mut value = None;
    for n in 0..rounds {
        let start = Instant::now();
        value = Some(call(n));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<40} {:>9.3} ms   worst {:>9.3} ms", millis(median), millis(worst));
    value.expect("at least one round")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
