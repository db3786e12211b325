//! Links, addresses and routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{DUMP, Error, Protocol, Request, Socket, attribute, attributes, text_of};

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias; empty if it has none.
    pub alias: String,
    /// What it is: `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// The index of the bridge it is plugged into; 0 if none.
    pub master: u32,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// A bridge to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address, which then does not change with its ports.
    pub mac: [u8; 6],
    /// In bytes; 0 for the kernel's default.
    pub mtu: u32,
}

/// A pair of virtual Ethernet links to be made, the first in the socket's namespace.
#[derive(Debug, Clone, Copy)]
pub struct NewPair<'a> {
    /// The first's name.
    pub name: &'a str,
    /// The bridge that the first is plugged into.
    pub master: u32,
    /// The second's name.
    pub peer_name: &'a str,
    /// The namespace in which the second is born.
    pub peer_namespace: BorrowedFd<'a>,
    /// The second's hardware address.
    pub peer_mac: [u8; 6],
    /// Of both, in bytes; 0 for the kernel's default.
    pub mtu: u32,
}

/// Which link a change is for.
#[derive(Debug, Clone, Copy)]
pub enum LinkRef<'a> {
    /// By index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

/// What to change of a link; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// The alias.
    pub alias: Option<&'a str>,
    /// In bytes.
    pub mtu: Option<u32>,
    /// Whether the link makes itself an IPv6 address. Fails where the kernel has no IPv6.
    pub ipv6_address: Option<bool>,
    /// For a port of a bridge.
    pub port: Option<BridgePort>,
}

/// How a bridge treats a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgePort {
    /// Frames may go out where they came in.
    pub hairpin: bool,
    /// Frames do not go to other isolated ports.
    pub isolated: bool,
}

/// A conversation about links, addresses and routes of one network namespace.
pub struct Route(Socket);

impl Route {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        Socket::open(Protocol::Route).map(Self)
    }

    /// An empty list of changes.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.request())
    }

    /// Makes the changes, in order, in one system call.
    ///
    /// # Errors
    /// The first refusal; the other changes are made all the same.
    pub fn apply(&mut self, mut changes: Changes) -> Result<(), Error> {
        if !changes.0.is_empty() {
            changes.0.acknowledge_last();
        }
        self.0.change(changes.0)
    }

    /// The index of the link with this name.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn index_of(&self, name: &str) -> Result<u32, Error> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    /// The link with this name.
    ///
    /// # Errors
    /// What the kernel said; an absent link is `Ok(None)`.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.links_by(message, 0) {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.links_by(LinkMessage::default(), DUMP)
    }

    /// Has the kernel finish now what it else does some time later: that a link which has come up passes
    /// packets, and that its bridge knows. A packet in between is lost, and the sender tries again a second
    /// later. Asking for a link does it, from Linux 6.8 on; give a bridge after its port.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn settle(&mut self, links: &[u32]) -> Result<(), Error> {
        let mut request = self.0.request();
        for index in links {
            let mut message = link_message(LinkRef::Index(*index));
            message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
            request.push(RouteNetlinkMessage::GetLink(message), 0);
        }
        request.acknowledge_last();
        self.0.query(request, |_, _| {})
    }

    fn links_by(&mut self, mut message: LinkMessage, flags: u16) -> Result<Vec<Link>, Error> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut request = self.0.request();
        request.push(RouteNetlinkMessage::GetLink(message), flags);
        if flags == 0 {
            request.acknowledge_last();
        }
        let mut links = Vec::new();
        self.0.query(request, |_, payload| links.extend(parse_link(payload)))?;
        Ok(links)
    }

    /// The IPv4 addresses of a link, or with index 0 of all links, and their prefix lengths.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut request = self.0.request();
        request.push(RouteNetlinkMessage::GetAddress(message), DUMP);
        let mut all = Vec::new();
        self.0.query(request, |_, payload| {
            let of = payload.get(4..8).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
            if index == 0 || of == Some(index) {
                const IFA_LOCAL: u16 = 2;
                let found = payload.get(8..).and_then(|rest| ipv4(attribute(rest, IFA_LOCAL)?));
                all.extend(found.map(|address| (address, payload[1])));
            }
        })?;
        Ok(all)
    }

    /// The destinations of the IPv4 routes of all tables but `local`, without default routes.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn routes(&mut self) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
        const RT_TABLE_LOCAL: u8 = 255;
        const RTA_DST: u16 = 1;
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let mut request = self.0.request();
        request.push(RouteNetlinkMessage::GetRoute(message), DUMP);
        let mut all = Vec::new();
        self.0.query(request, |_, payload| {
            if payload.len() >= 12 && payload[4] != RT_TABLE_LOCAL {
                let found = attribute(&payload[12..], RTA_DST).and_then(ipv4);
                all.extend(found.map(|address| (address, payload[1])));
            }
        })?;
        Ok(all)
    }
}

/// Changes to be made together.
pub struct Changes(Request);

impl Changes {
    /// Makes a bridge. `EEXIST` if the name is taken.
    pub fn add_bridge(&mut self, bridge: &NewBridge<'_>) {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(bridge.name.into()));
        message.attributes.push(LinkAttribute::Address(bridge.mac.to_vec()));
        if bridge.mtu > 0 {
            message.attributes.push(LinkAttribute::Mtu(bridge.mtu));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.0.push(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Makes a pair of links, both down. `EEXIST` if a name is taken.
    pub fn add_pair(&mut self, pair: &NewPair<'_>) {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(pair.peer_name.into()));
        peer.attributes.push(LinkAttribute::Address(pair.peer_mac.to_vec()));
        peer.attributes.push(LinkAttribute::NetNsFd(pair.peer_namespace.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(pair.name.into()));
        message.attributes.push(LinkAttribute::Controller(pair.master));
        if pair.mtu > 0 {
            peer.attributes.push(LinkAttribute::Mtu(pair.mtu));
            message.attributes.push(LinkAttribute::Mtu(pair.mtu));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.0.push(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Changes a link.
    pub fn change_link(&mut self, link: LinkRef<'_>, change: &Change<'_>) {
        let mut message = link_message(link);
        if let Some(up) = change.up {
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
            message.header.change_mask = LinkFlags::Up;
        }
        if let Some(alias) = change.alias {
            message.attributes.push(LinkAttribute::IfAlias(alias.into()));
        }
        if let Some(mtu) = change.mtu {
            message.attributes.push(LinkAttribute::Mtu(mtu));
        }
        if let Some(ipv6) = change.ipv6_address {
            let mode = if ipv6 { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None };
            message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
                AfSpecInet6::AddrGenMode(mode),
            ])]));
        }
        if let Some(port) = change.port {
            message.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::HairpinMode(port.hairpin),
                    InfoBridgePort::Isolated(port.isolated),
                ])),
            ]));
        }
        self.0.push(RouteNetlinkMessage::NewLink(message), 0);
    }

    /// Removes a link. `ENODEV` if there is none.
    pub fn remove_link(&mut self, link: LinkRef<'_>) {
        self.0.push(RouteNetlinkMessage::DelLink(link_message(link)), 0);
    }

    /// Adds an address, or replaces the same one.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8, broadcast: Ipv4Addr) {
        let mut message = address_message(index, address, prefix);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
        self.0.push(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE);
    }

    /// Removes an address. `EADDRNOTAVAIL` if there is none.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        self.0.push(RouteNetlinkMessage::DelAddress(address_message(index, address, prefix)), 0);
    }

    /// Adds the default route through a link.
    pub fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr) {
        const RT_TABLE_MAIN: u8 = 254;
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        message.attributes.push(RouteAttribute::Oif(index));
        self.0.push(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL);
    }
}

fn link_message(link: LinkRef<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    match link {
        LinkRef::Index(index) => message.header.index = index,
        LinkRef::Name(name) => message.attributes.push(LinkAttribute::IfName(name.into())),
    }
    message
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: AddressFamily::Inet,
        prefix_len: prefix,
        scope: AddressScope::Universe,
        index,
        ..AddressHeader::default()
    };
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    const HEADER: usize = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_IFALIAS: u16 = 20;
    const IFLA_INFO_KIND: u16 = 1;
    const IFF_UP: u32 = 1;
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
    let mut link = Link { index: word(payload.get(4..)?)?, ..Link::default() };
    link.up = word(payload.get(8..)?)? & IFF_UP != 0;
    for (kind, value) in attributes(payload.get(HEADER..)?) {
        match kind {
            IFLA_IFNAME => link.name = text_of(value),
            IFLA_IFALIAS => link.alias = text_of(value),
            IFLA_MTU => link.mtu = word(value)?,
            IFLA_MASTER => link.master = word(value)?,
            IFLA_LINKINFO => link.kind = attribute(value, IFLA_INFO_KIND).map(text_of).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}
