//! The sockets that hold ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};

use gantry_model::container::Protocol::{Tcp, Udp};
use gantry_net::bind::{self, BindError, PortAllocator, PortChoice};
use gantry_net::ports::{self, Publication};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::lab::{HOST, in_lab};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[test]
fn a_port_that_any_process_has_is_refused_in_dockers_words() {
    in_lab(|lab| {
        let to = SocketAddrV4::new(Ipv4Addr::new(172, 17, 0, 2), 80);
        let listener = TcpListener::bind("127.0.0.1:8080").expect("free");
        let error = bind::bind(ANY, 8080, Tcp).expect_err("127.0.0.1:8080 is taken").explain(&lab.host, to);
        assert_eq!(
            error.to_string(),
            "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use"
        );
        bind::bind(HOST.into(), 8080, Tcp).expect("another address is free");
        bind::bind(ANY, 8080, Udp).expect("another protocol is free");
        drop(listener);
        let _held = bind::bind(ANY, 8080, Tcp).expect("free by now");
        let published = Publication { address: ANY, port: 8080, protocol: Tcp, target: to };
        ports::publish(&lab.host, &[published]).expect("published");
        let error = bind::bind(ANY, 8080, Tcp).expect_err("ours").explain(&lab.host, to);
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let foreign = Ipv4Addr::new(198, 51, 100, 1).into();
        let error = bind::bind(foreign, 80, Tcp).expect_err("not an address of ours").explain(&lab.host, to);
        assert_eq!(
            error.to_string(),
            "failed to bind host port for 198.51.100.1:80:172.17.0.2:80/tcp: cannot assign requested address"
        );
    });
}

#[test]
fn a_held_port_is_nobody_elses_and_refuses_connections() {
    in_lab(|_| {
        let held = bind::bind(ANY, 8080, Tcp).expect("free");
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "std sets SO_REUSEADDR");
        assert!(TcpListener::bind("127.0.0.1:8080").is_err());
        let rude = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&rude, true).expect("set");
        sockopt::set_socket_reuseport(&rude, true).expect("set");
        let address: std::net::SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        assert!(rustix::net::bind(&rude, &address).is_err());
        let refused = TcpStream::connect("127.0.0.1:8080").expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        drop(held);
        TcpListener::bind("0.0.0.0:8080").expect("free again");
        let udp = bind::bind(ANY, 8080, Udp).expect("free");
        assert!(UdpSocket::bind("127.0.0.1:8080").is_err());
        drop(udp);
    });
}

#[test]
fn lingering_connections_do_not_hold_a_port() {
    in_lab(|_| {
        let listener = TcpListener::bind("127.0.0.1:8080").expect("free");
        let client = TcpStream::connect("127.0.0.1:8080").expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        // Who closes first keeps the connection in TIME_WAIT: here the port's holder.
        drop((server, listener, client));
        bind::bind(ANY, 8080, Tcp).expect("free but for TIME_WAIT");
    });
}

#[test]
fn random_ports_go_round_and_ranges_give_the_first_free() {
    in_lab(|_| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("writable");
        let ports = PortAllocator::new();
        let addresses: &[IpAddr] =
            if bind::has_ipv6() { &[ANY, IpAddr::V6(Ipv6Addr::UNSPECIFIED)] } else { &[ANY] };
        let _other = TcpListener::bind("127.0.0.1:40001").expect("free");
        let taken: Vec<_> =
            (0..3).map(|_| ports.bind(addresses, PortChoice::Any, Tcp).expect("a free port")).collect();
        let numbers: Vec<u16> = taken.iter().map(|bound| bound.port).collect();
        assert_eq!(numbers, [40000, 40002, 40003]);
        assert!(taken.iter().all(|bound| bound.sockets.len() == addresses.len()));
        assert!(matches!(ports.bind(addresses, PortChoice::Any, Tcp), Err(BindError::Exhausted)));
        drop(taken);
        let range = PortChoice::Range { first: 40001, last: 40003 };
        assert_eq!(ports.bind(addresses, range, Tcp).expect("a free port").port, 40002);
        assert!(matches!(
            ports.bind(addresses, PortChoice::exactly(40001), Tcp),
            Err(BindError::InUse { .. })
        ));
    });
}
