//! Bridges, ports and shared networks, with real connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use gantry_engine::containers::config::{ExposedPort, Port, PortBinding};
use gantry_engine::containers::{CreateRequest, RemoveOptions};
use gantry_model::container::Protocol;

use crate::lifecycle::run;
use crate::{World, world::eventually};

/// A web server of one page.
pub(crate) fn server(text: &str) -> CreateRequest {
    let mut request =
        World::shell(&format!("mkdir /www; echo {text} > /www/index.html; exec httpd -f -p 80 -h /www"));
    request.config.exposed_ports = [ExposedPort("80".into())].into();
    request.host.publish_all = true;
    request
}

/// Fetches the page; `None` while nothing answers.
pub(crate) fn fetch(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().last().map(str::to_owned)
}

/// The host's port of a container's port 80.
pub(crate) fn published(world: &World, id: &str) -> u16 {
    let view = world.engine().containers.inspect(id).expect("there");
    view.network.ports.values().next().expect("a port")[0].port
}

#[test]
fn published_ports_answer_on_every_address() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let id = world.block_on(async {
        let id = containers.create(server("hello")).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        id
    });
    let view = world.engine().containers.inspect(&id).expect("there");
    let own = view.network.endpoints["bridge"].address.expect("an address");
    let port = published(&world, &id);
    for address in [SocketAddr::from((own, 80)), SocketAddr::from((Ipv4Addr::LOCALHOST, port))] {
        eventually("the page comes", || fetch(address).as_deref() == Some("hello"));
    }
    let mut taken = server("other");
    taken.host.port_bindings = vec![PortBinding {
        port: Port { number: 80, protocol: Protocol::Tcp },
        host_ip: None,
        host_ports: (port, port),
    }];
    let error = world.block_on(async {
        let id = containers.create(taken).await.expect("created").id.to_string();
        containers.start(&id).await.expect_err("the port is taken").to_string()
    });
    assert!(error.starts_with("failed to set up container networking: driver failed programming external connectivity on endpoint "), "{error}");
    assert!(
        error.ends_with(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated")),
        "{error}"
    );
    world.block_on(containers.remove(&id, RemoveOptions { force: true, volumes: false })).expect("removed");
    assert_eq!(fetch(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), None);
}

#[test]
fn containers_reach_each_other_and_share_networks() {
    let Some(world) = World::open() else { return };
    let containers = world.engine().containers.clone();
    let id = world.block_on(async {
        let id = containers.create(server("shared")).await.expect("created").id.to_string();
        containers.start(&id).await.expect("started");
        id
    });
    let view = world.engine().containers.inspect(&id).expect("there");
    let own = view.network.endpoints["bridge"].address.expect("an address");
    eventually("it serves", || fetch(SocketAddr::from((own, 80))).is_some());
    let (code, text) = run(&world, World::shell(&format!("wget -qO- http://{own}/")));
    assert_eq!((code, text.trim()), (0, "shared"));
    let mut joined = World::shell("wget -qO- http://127.0.0.1/; hostname -i");
    joined.host.network_mode = format!("container:{id}");
    let (code, text) = run(&world, joined);
    assert_eq!(text.lines().next(), Some("shared"), "{code}");
    let network = world.engine().networks.inspect("bridge").expect("there");
    assert_eq!(network.containers.len(), 1, "{network:?}");
}

#[test]
fn none_has_loopback_only_and_host_has_the_hosts() {
    let Some(world) = World::open() else { return };
    for (mode, alone) in [("none", true), ("host", false)] {
        let mut request = World::shell("ls /sys/class/net | wc -l; hostname");
        request.host.network_mode = mode.into();
        let (code, text) = run(&world, request);
        let links: usize = text.lines().next().and_then(|line| line.parse().ok()).expect("a number");
        assert!(code == 0 && (links == 1) == alone, "{mode}: {text}");
    }
}
