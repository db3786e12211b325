//! Connections that the kernel tracks: listing UDP flows, and forgetting them.
//!
//! A flow keeps the translation that was decided for its first packet. Whoever changes a
//! translation has to forget the flows from before, or datagrams go the old way for as long as they keep coming.

use std::io;
use std::net::SocketAddrV4;

use crate::netlink::{DUMP, Error, Protocol, Socket, attribute, put};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NFGENMSG: usize = 4;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
const NESTED: u16 = 0x8000;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

/// A UDP flow over IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where the first datagram was sent to, before translation.
    pub destination: SocketAddrV4,
    /// Where answers come from: the destination after translation.
    pub answered_by: SocketAddrV4,
    original: Vec<u8>,
    id: Vec<u8>,
}

/// A conversation about the connections of one network namespace.
pub struct Conntrack(Socket);

impl Conntrack {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        Socket::open(Protocol::Netfilter).map(Self)
    }

    /// The UDP flows over IPv4, all or those that were first sent to this port. The kernel selects them.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn udp_flows(&mut self, port: Option<u16>) -> Result<Vec<Flow>, Error> {
        let mut request = self.0.request();
        request.push_raw(GET, DUMP, &selection(port));
        let mut flows = Vec::new();
        self.0.query(request, |_, payload| flows.extend(payload.get(NFGENMSG..).and_then(parse)))?;
        Ok(flows)
    }

    /// Forgets a flow. One that is gone already: nothing.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn forget(&mut self, flow: &Flow) -> Result<(), Error> {
        let mut payload = header();
        put(&mut payload, TUPLE_ORIGINAL | NESTED, &flow.original);
        put(&mut payload, ID, &flow.id);
        let mut request = self.0.request();
        request.push_raw(DELETE, 0, &payload);
        request.acknowledge_last();
        match self.0.change(request) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

fn header() -> Vec<u8> {
    const AF_INET: u8 = 2;
    vec![AF_INET, 0, 0, 0]
}

fn selection(port: Option<u16>) -> Vec<u8> {
    const ORIGINAL_FLAGS: u16 = 1;
    const BY_PROTOCOL_NUMBER: u32 = 1 << 3;
    const BY_DESTINATION_PORT: u32 = 1 << 5;
    const IPPROTO_UDP: u8 = 17;
    let mut protocol = Vec::new();
    put(&mut protocol, PROTOCOL_NUMBER, &[IPPROTO_UDP]);
    let mut by = BY_PROTOCOL_NUMBER;
    if let Some(port) = port {
        put(&mut protocol, PROTOCOL_DESTINATION_PORT, &port.to_be_bytes());
        by |= BY_DESTINATION_PORT;
    }
    let mut tuple = Vec::new();
    put(&mut tuple, TUPLE_PROTOCOL | NESTED, &protocol);
    let mut filter = Vec::new();
    put(&mut filter, ORIGINAL_FLAGS, &by.to_ne_bytes());
    let mut payload = header();
    put(&mut payload, TUPLE_ORIGINAL | NESTED, &tuple);
    put(&mut payload, FILTER | NESTED, &filter);
    payload
}

fn parse(payload: &[u8]) -> Option<Flow> {
    let original = attribute(payload, TUPLE_ORIGINAL)?;
    let reply = attribute(payload, TUPLE_REPLY)?;
    Some(Flow {
        destination: end(original, IP_V4_DESTINATION, PROTOCOL_DESTINATION_PORT)?,
        answered_by: end(reply, IP_V4_SOURCE, PROTOCOL_SOURCE_PORT)?,
        original: original.to_vec(),
        id: attribute(payload, ID)?.to_vec(),
    })
}

fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let address: [u8; 4] = attribute(attribute(tuple, TUPLE_IP)?, address)?.try_into().ok()?;
    let port: [u8; 2] = attribute(attribute(tuple, TUPLE_PROTOCOL)?, port)?.try_into().ok()?;
    Some(SocketAddrV4::new(address.into(), u16::from_be_bytes(port)))
}
