//! Tells systemd how the daemon is (`sd_notify(3)`); without systemd it does nothing.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1` or `STOPPING=1` to the service manager that started us, if one did.
pub(crate) fn tell(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Whoever does not hear us cannot be told so either.
    if let Err(error) = send(&address, state) {
        tracing::warn!(%error, "cannot tell the service manager {state}");
    }
}

fn send(address: &OsString, state: &str) -> std::io::Result<()> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reaches_an_abstract_socket() {
        let name = format!("gantry-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        send(&OsString::from(format!("@{name}")), "READY=1").expect("sent");
        let mut buffer = [0; 16];
        let read = manager.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..read], b"READY=1");
    }
}
