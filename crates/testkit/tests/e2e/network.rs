//! Published ports, the bridge, no network, the host's, another container's.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::{Bench, Daemon, against_dockerd, both, command, full, http, skip, until};
use serde_json::json;

const HTTPD: [&str; 6] = ["httpd", "-f", "-p", "80", "-h", "/www"];

/// Starts a web server with flags.
fn serve(bench: &Bench, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.push(BUSYBOX);
    args.extend(HTTPD);
    bench.cli.ok(&args);
}

/// A script that gets the page of a web server: BusyBox's wget looks names up, and static glibc cannot.
fn fetch(address: &str, port: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port} | tail -1")
}

fn answers(address: &str) {
    until(&format!("{address} answers"), 10, || {
        http::get(address, "/").is_some_and(|body| body == "hello from busybox\n")
    });
}

both! {
    fn a_published_port_answers(bench) {
        let name = bench.name("web");
        serve(bench, &name, &["-P", "--expose", "80"]);
        let address = bench.address(&name, "80");
        answers(&address);
        let port = address.rsplit(':').next().expect("a port");
        // From the host by the host's own address, too.
        let gateway = bench.inspect(&name, "/NetworkSettings/Networks/bridge/Gateway");
        answers(&format!("{}:{port}", gateway.as_str().expect("an address")));
        let ip = bench.inspect(&name, "/NetworkSettings/Networks/bridge/IPAddress");
        answers(&format!("{}:80", ip.as_str().expect("an address")));
        assert!(bench.cli.ok(&["ps", "-f", &format!("name={name}")]).contains(&format!("->{}/tcp", 80)));
        bench.cli.ok(&["stop", "-t", "0", &name]);
        until("the port is closed", 10, || http::get(&address, "/").is_none());
        assert_eq!(bench.cli.ok(&["port", &name]), "");
        bench.cli.ok(&["start", &name]);
        answers(&bench.address(&name, "80"));
    }

    fn a_container_reaches_its_own_port(bench) {
        let name = bench.name("self");
        serve(bench, &name, &["-p", "80"]);
        let port = bench.address(&name, "80").rsplit(':').next().expect("a port").to_owned();
        let gateway = bench.inspect(&name, "/NetworkSettings/Networks/bridge/Gateway");
        let fetch = fetch(gateway.as_str().expect("an address"), &port);
        assert_eq!(bench.cli.ok(&["exec", &name, "sh", "-c", &fetch]), "hello from busybox");
        assert_eq!(bench.shell(&[], &fetch), "hello from busybox", "another one's port");
    }

    fn a_fixed_port_and_a_taken_one(bench) {
        let taken = TcpListener::bind("127.0.0.1:0").expect("the host has a port left");
        let port = taken.local_addr().expect("it is bound").port();
        let name = bench.name("fixed");
        let publish = format!("127.0.0.1:{port}:80");
        let said = bench.cli.fails(125, &["run", "-d", "--name", &name, "-p", &publish, BUSYBOX, "sleep", "600"]);
        assert!(said.contains("driver failed programming external connectivity on endpoint"), "{said}");
        assert!(said.contains("address already in use") || said.contains("port is already allocated"), "{said}");
        bench.cli.ok(&["rm", &name]);
        drop(taken);
        serve(bench, &name, &["-p", &publish]);
        answers(&format!("127.0.0.1:{port}"));
        let said = bench.cli.fails(125, &["run", "--rm", "-p", &publish, BUSYBOX, "true"]);
        assert!(said.contains("port is already allocated") || said.contains("address already in use"), "{said}");
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "the port is held while the container runs");
    }

    fn udp(bench) {
        let name = bench.name("udp");
        let echo = format!("{}:/echo:ro", env!("CARGO_BIN_EXE_udp-echo"));
        bench.cli.ok(&["run", "-d", "--name", &name, "-p", "127.0.0.1::53/udp", "-v", &echo, BUSYBOX, "/echo", "53"]);
        let address = bench.address(&name, "53/udp");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("the host has a port left");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket has a timeout");
        until("the datagram comes back", 20, || {
            let mut buffer = [0; 16];
            socket.send_to(b"ping", &address).is_ok() && socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"ping")
        });
    }

    fn a_range_of_ports(bench) {
        let name = bench.name("range");
        // Tests run side by side, so each has ports of its own: all below the random ones.
        let base = 20_000 + name.bytes().fold(0_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 2_500) * 4;
        bench.cli.ok(&["run", "-d", "--name", &name, "-p", &format!("{base}-{}:80-83", base + 3), BUSYBOX, "sleep", "600"]);
        let ports = bench.cli.ok(&["port", &name]);
        for offset in 0..4 {
            assert!(ports.contains(&format!("{}/tcp -> 0.0.0.0:{}", 80 + offset, base + offset)), "{ports}");
        }
        let shown = bench.cli.ok(&["ps", "-f", &format!("name={name}")]);
        assert!(shown.contains(&format!("0.0.0.0:{base}->80/tcp")), "{shown}");
    }

    fn no_network(bench) {
        let links = bench.shell(&["--net", "none"], "ls /sys/class/net; cat /sys/class/net/lo/operstate");
        assert_eq!(links.split_whitespace().next(), Some("lo"));
        assert!(!links.contains("eth0"), "{links}");
    }

    fn the_hosts_network(bench) {
        let inside = bench.shell(&["--net", "host"], "ls -l /proc/self/ns/net | sed 's/.*-> //'");
        let outside = std::fs::read_link("/proc/self/ns/net").expect("we have a namespace");
        assert_eq!(inside, outside.to_string_lossy());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host has a name");
        assert_eq!(bench.shell(&["--net", "host"], "hostname"), host.trim());
    }

    fn another_containers_network(bench) {
        let name = bench.name("owner");
        serve(bench, &name, &["--hostname", "owner"]);
        let flag = format!("container:{name}");
        assert_eq!(bench.shell(&["--net", &flag], &fetch("127.0.0.1", "80")), "hello from busybox");
        assert_eq!(bench.shell(&["--net", &flag], "hostname"), "owner");
        let said = bench.cli.fails(125, &["run", "--rm", "--net", "container:nosuch", BUSYBOX, "true"]);
        assert!(said.contains("No such container: nosuch"), "{said}");
        let said = bench.cli.fails(125, &["run", "--rm", "--net", &flag, "-p", "80", BUSYBOX, "true"]);
        assert!(said.contains("conflicting options: port publishing and the container type network mode"), "{said}");
    }

    fn addresses_and_resolver(bench) {
        let name = bench.name("address");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        let ip = bench.inspect(&name, "/NetworkSettings/Networks/bridge/IPAddress");
        let inside = bench.cli.ok(&["exec", &name, "ip", "-4", "addr", "show", "eth0"]);
        assert!(inside.contains(&format!("inet {}/", ip.as_str().expect("an address"))), "{inside}");
        let hosts = bench.cli.ok(&["exec", &name, "cat", "/etc/hosts"]);
        assert!(hosts.contains(&format!("{}\t", ip.as_str().expect("an address"))) && hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
        let mine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with("nameserver") && !line.contains("127.")).map(str::to_owned).collect()
        };
        let theirs = bench.cli.ok(&["exec", &name, "cat", "/etc/resolv.conf"]);
        if !servers(&mine).is_empty() {
            assert_eq!(servers(&theirs), servers(&mine));
        }
        let given = bench.shell(&["--dns", "10.9.8.7", "--dns-search", "example.org"], "cat /etc/resolv.conf");
        assert!(given.contains("nameserver 10.9.8.7") && given.contains("search example.org"), "{given}");
        assert_eq!(bench.inspect(&name, "/NetworkSettings/Networks/bridge/Gateway").as_str().map(str::is_empty), Some(false));
    }

    fn networks_are_listed(bench) {
        let names = bench.cli.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
        for line in ["bridge bridge", "host host", "none null"] {
            assert!(names.lines().any(|have| have == line), "{names}");
        }
        let subnet = bench.cli.ok(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", "bridge"]);
        assert!(subnet.contains('/'), "{subnet}");
        assert!(bench.cli.fails(1, &["network", "inspect", "nosuch"]).contains("network nosuch not found"));
    }

    fn many_containers_all_answer(bench) {
        let count = if full() { 100 } else { 10 };
        let names: Vec<String> = (0..count).map(|number| bench.name(&format!("many{number}"))).collect();
        for name in &names {
            serve(bench, name, &["-P", "--expose", "80"]);
        }
        for name in &names {
            answers(&bench.address(name, "80"));
        }
        let mut args = vec!["rm", "-f"];
        args.extend(names.iter().map(String::as_str));
        assert_eq!(bench.cli.ok(&args).lines().count(), count);
    }
}

/// Published ports answer while a dockerd, whose FORWARD policy drops, runs on the same host.
#[test]
fn beside_a_dockerd() {
    if against_dockerd() {
        return skip("the case is about gantryd beside a dockerd");
    }
    let Some(dockerd) = command::in_path("dockerd") else {
        return skip("no dockerd: apt-get install docker.io");
    };
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, gantry_testkit::Client::Gantry) else { return };
    let directory = bench.directory();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let bridge = format!("gte2e{}", std::process::id() % 100_000);
    let ip = |args: &[&str]| command::finish(std::process::Command::new("ip").args(args)).code == 0;
    assert!(
        ip(&["link", "add", &bridge, "type", "bridge"])
            && ip(&["addr", "add", "10.213.77.1/24", "dev", &bridge])
    );
    let mut other = std::process::Command::new(dockerd)
        .args([
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("run"),
            "-p",
            &path("pid"),
            "--bridge",
            &bridge,
        ])
        .args(["-H", &format!("unix://{}", path("sock"))])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("dockerd was found a moment ago");
    let socket = directory.path().join("sock");
    let mut ended = false;
    until("dockerd answers or gives up", 60, || {
        ended = matches!(other.try_wait(), Ok(Some(_)));
        ended || http::pings(&socket)
    });
    let name = bench.name("beside");
    serve(&bench, &name, &["-P", "--expose", "80"]);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        answers(&bench.address(&name, "80"));
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
    }));
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_child(&other),
        rustix::process::Signal::TERM,
    );
    let _ = other.wait();
    ip(&["link", "delete", &bridge]);
    if ended {
        return skip("dockerd does not start here");
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    bench.clear();
    gantry_testkit::leak::check(&bench.daemon);
}

/// A web server's files can be changed while it serves: the bind is the host's directory.
#[test]
fn a_bound_directory_is_served() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, gantry_testkit::Client::Gantry) else { return };
    let directory = bench.directory();
    write(&directory.path().join("index.html"), "first\n");
    let name = bench.name("bound");
    serve(&bench, &name, &["-P", "--expose", "80", "-v", &format!("{}:/www:ro", directory.path().display())]);
    let address = bench.address(&name, "80");
    until("the first version is served", 10, || {
        http::get(&address, "/").is_some_and(|body| body == "first\n")
    });
    write(&directory.path().join("index.html"), "second\n");
    until("the second version is served", 10, || {
        http::get(&address, "/").is_some_and(|body| body == "second\n")
    });
    bench.clear();
    gantry_testkit::leak::check(&bench.daemon);
}
