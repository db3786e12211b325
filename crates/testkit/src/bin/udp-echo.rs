//! Sends each datagram back to whom it came from, on the port given: BusyBox has no such program,
//! and a static binary runs in any container.

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let socket = std::net::UdpSocket::bind(("0.0.0.0", port))?;
    let mut buffer = [0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}
