//! A host of one's own: a namespace with an uplink to another one, `outside`, that knows no way back to
//! containers. The thread that runs a test lives in the host's namespace.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gantry_model::container::Protocol;
use gantry_net::bridge::{self, Bridge, BridgeSpec, Traffic};
use gantry_net::endpoint::{self, BridgePort, EndpointSpec};
use gantry_net::ports::Publication;
use gantry_net::{Host, Identity, Ipv4Net, MacAddress};
use gantry_sys::netlink::route::{Change, LinkRef, NewPair, Route};
use gantry_sys::ns::{self, Kinds};

/// The host's address on its uplink, and that of the machine outside.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The bridge's address.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// How long a connection that must not come about is waited for.
const REFUSED: Duration = Duration::from_millis(300);
/// How long one that must come about may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Lab {
    pub(crate) host: Host,
    pub(crate) bridge: Bridge,
    pub(crate) outside: Space,
}

/// A network namespace.
pub(crate) struct Space(pub(crate) OwnedFd);

/// A namespace with an endpoint.
pub(crate) struct Container {
    pub(crate) space: Space,
    pub(crate) address: Ipv4Addr,
    pub(crate) link: String,
}

/// Runs a test in a host of its own.
pub(crate) fn in_lab(test: impl FnOnce(&Lab) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(errno) = ns::unshare(Kinds::NET) {
            let reason = io::Error::from_raw_os_error(errno);
            eprintln!("skipped: a network namespace cannot be made here: {reason}");
            return;
        }
        let outside = Space::new();
        uplink(&outside);
        let host = Host::open(identity()).expect("netlink is there");
        let bridge = bridge::ensure(&host, &bridge_spec(&host, Traffic::default())).expect("a bridge");
        test(&Lab { host, bridge, outside });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// An identity that no other test has.
fn identity() -> Identity {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path =
        format!("/tmp/gantry-net-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Identity::from_exec_root(&PathBuf::from(path))
}

pub(crate) fn bridge_spec(host: &Host, traffic: Traffic) -> BridgeSpec {
    BridgeSpec {
        name: host.identity().default_bridge_name(),
        owner: "network".into(),
        gateway: Ipv4Net::new(GATEWAY, 16).expect("below 32"),
        mtu: 0,
        traffic,
    }
}

fn uplink(outside: &Space) {
    let mut route = Route::open().expect("netlink is there");
    let mut changes = route.changes();
    changes.change_link(LinkRef::Index(1), &Change { up: Some(true), ..Change::default() });
    changes.add_pair(&NewPair {
        name: "up0",
        master: 0,
        peer_name: "eth0",
        peer_namespace: outside.0.as_fd(),
        peer_mac: MacAddress::for_ipv4(OUTSIDE).0,
        mtu: 0,
    });
    route.apply(changes).expect("a pair of links");
    set_up("up0", HOST);
    outside.run(|| set_up("eth0", OUTSIDE));
}

fn set_up(link: &str, address: Ipv4Addr) {
    let mut route = Route::open().expect("netlink is there");
    let index = route.index_of(link).expect("the link is there");
    let mut changes = route.changes();
    let net = Ipv4Net::new(address, 24).expect("below 32");
    changes.add_address(index, address, 24, net.broadcast());
    changes.change_link(LinkRef::Index(index), &Change { up: Some(true), ..Change::default() });
    route.apply(changes).expect("the link comes up");
}

impl Space {
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            ns::unshare(Kinds::NET).expect("the test thread could");
            let mut route = Route::open().expect("netlink is there");
            let mut changes = route.changes();
            changes.change_link(LinkRef::Index(1), &Change { up: Some(true), ..Change::default() });
            route.apply(changes).expect("lo comes up");
            OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("proc is mounted"))
        });
        Self(made.join().expect("the thread made a namespace"))
    }

    /// Runs something inside and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> T {
        match self.start(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs something inside.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let fd = self.0.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            ns::enter(fd.as_fd(), Kinds::NET).expect("the namespace can be entered");
            drop(fd);
            inside()
        })
    }

    /// Serves TCP connections there for as long as the process lives: each is told its peer's address.
    pub(crate) fn serve_tcp(&self, address: Ipv4Addr, port: u16) {
        let listener = self.run(move || TcpListener::bind((address, port)).expect("the port is free"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
                let _ = stream.write_all(peer.as_bytes());
            }
        });
    }

    /// Answers datagrams there with their sender's address.
    pub(crate) fn serve_udp(&self, port: u16) {
        let socket =
            self.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free"));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    }

    /// Who the server at this address thinks is calling.
    pub(crate) fn call(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.run(move || call(address, port))
    }

    /// Whether a connection comes about within a moment.
    pub(crate) fn reaches(&self, address: Ipv4Addr, port: u16) -> bool {
        self.run(move || reaches(address, port))
    }
}

pub(crate) fn call(address: Ipv4Addr, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub(crate) fn reaches(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), REFUSED).is_ok()
}

/// Sends a datagram and gives the answer.
pub(crate) fn ask(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"?", (address, port))?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

impl Lab {
    /// A container on the default bridge with address 172.17.0.`last`.
    pub(crate) fn container(&self, last: u8) -> Container {
        self.container_on(
            &self.bridge,
            Ipv4Net::new(GATEWAY, 16).expect("below 32"),
            last,
            Traffic::default(),
        )
    }

    pub(crate) fn container_on(
        &self,
        bridge: &Bridge,
        gateway: Ipv4Net,
        last: u8,
        traffic: Traffic,
    ) -> Container {
        let [a, b, c, _] = gateway.address().octets();
        let address = Ipv4Addr::new(a, b, c, last);
        let space = Space::new();
        let link = self.host.identity().endpoint_name(&address.to_string());
        let spec = EndpointSpec {
            port: BridgePort {
                bridge: bridge.index,
                name: &link,
                owner: &address.to_string(),
                between_containers: traffic.between_containers,
            },
            namespace: space.0.as_fd(),
            name: "eth0",
            address: gateway.with_address(address),
            gateway: (!traffic.internal).then_some(gateway.address()),
            mac: MacAddress::for_ipv4(address),
            mtu: 0,
        };
        endpoint::attach(&self.host, &spec).expect("an endpoint");
        Container { space, address, link }
    }
}

impl Container {
    /// A publication of one of its ports.
    pub(crate) fn publication(&self, on: Ipv4Addr, port: u16, protocol: Protocol, to: u16) -> Publication {
        Publication { address: on.into(), port, protocol, target: SocketAddrV4::new(self.address, to) }
    }
}
