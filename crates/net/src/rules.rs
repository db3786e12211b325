//! What our nft table says. Pure: lists of chains, sets and rules.
//!
//! ```text
//! table inet gantry-<tag>
//!   map published     protocol . port           → address . port     for every address of the host
//!   map published-on  address . protocol . port → address . port     for one address
//!   set bridges       link
//!   map forward-to, forward-from, nat-to, nat-from      link → jump to that bridge's own chain
//!
//!   chain spoofed      prerouting -300   what our bridges send to or from 127/8 is dropped
//!   chain prerouting   prerouting -100   translate destination by published-on, then published
//!   chain output       output     -100   the same for what the host itself sends
//!   chain forward      forward       0   oifname → forward-to-<bridge>, iifname → forward-from-<bridge>
//!   chain postrouting  postrouting 100   iifname → nat-from-<bridge>, oifname → nat-to-<bridge>
//! ```
//!
//! A packet costs a fixed number of hash look-ups, however many bridges and ports there are.
//!
//! A connection of the host to 127.0.0.1 is translated in `output`; its source is then still 127.0.0.1, which the
//! kernel lets out by a bridge with `route_localnet` only, and `nat-to` replaces it by the bridge's address.
//! `route_localnet` would also let a container reach services that listen on the host's 127.0.0.1, which
//! `spoofed` prevents, before connection tracking sees the packet: answers are still addressed to the
//! bridge there.

use gantry_sys::nft::expression::{
    Expression, Header, Known, Reg, STATE_ESTABLISHED, STATE_RELATED, STATUS_DESTINATION_TRANSLATED, Tracked,
    Verdict, counter, decide, decide_by, destination_kind, equal, in_set, link_name, look_up, mask,
    masquerade, meta, not_equal, payload, tracked, translate_destination,
};
use gantry_sys::nft::{Field, Hook, Leads, Point};

use crate::address::Ipv4Net;
use crate::bridge::Traffic;

pub(crate) const PUBLISHED: &str = "published";
pub(crate) const PUBLISHED_ON: &str = "published-on";
pub(crate) const BRIDGES: &str = "bridges";
/// The maps from a link to a bridge's own chain; the chain's name is the map's, a hyphen, and the link's.
pub(crate) const DISPATCH: [&str; 4] = ["forward-to", "forward-from", "nat-to", "nat-from"];

const IPV4: [u8; 1] = [2];
const LOOPBACK: Ipv4Net = match Ipv4Net::new(std::net::Ipv4Addr::new(127, 0, 0, 0), 8) {
    Some(net) => net,
    None => unreachable!(),
};

/// A set or map of the table.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) leads: Leads<'static>,
}

/// All sets and maps.
pub(crate) const SETS: [Set; 7] = {
    const TARGET: Leads<'static> = Leads::To(&[Field::Ipv4Address, Field::InetService]);
    const LINK: &[Field] = &[Field::LinkName];
    [
        Set { name: PUBLISHED, key: &[Field::InetProtocol, Field::InetService], leads: TARGET },
        Set {
            name: PUBLISHED_ON,
            key: &[Field::Ipv4Address, Field::InetProtocol, Field::InetService],
            leads: TARGET,
        },
        Set { name: BRIDGES, key: LINK, leads: Leads::Nowhere },
        Set { name: DISPATCH[0], key: LINK, leads: Leads::ToVerdict },
        Set { name: DISPATCH[1], key: LINK, leads: Leads::ToVerdict },
        Set { name: DISPATCH[2], key: LINK, leads: Leads::ToVerdict },
        Set { name: DISPATCH[3], key: LINK, leads: Leads::ToVerdict },
    ]
};

/// A chain and all its rules.
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Vec<Expression>>,
}

/// The base chains.
pub(crate) fn base_chains() -> Vec<Chain> {
    let chain = |name: &str, kind, point, priority, rules| Chain {
        name: name.into(),
        hook: Some(Hook { kind, point, priority }),
        rules,
    };
    let to_link = |known, map| vec![meta(known, Reg(0)), decide_by(map, Reg(0))];
    vec![
        chain(
            "spoofed",
            "filter",
            Point::Prerouting,
            -300,
            vec![spoofed(AddressField::Source), spoofed(AddressField::Destination)],
        ),
        chain("prerouting", "nat", Point::Prerouting, -100, vec![by_address(), by_port()]),
        chain("output", "nat", Point::Output, -100, vec![by_address(), by_port()]),
        chain(
            "forward",
            "filter",
            Point::Forward,
            0,
            vec![to_link(Known::InputName, "forward-from"), to_link(Known::OutputName, "forward-to")],
        ),
        chain(
            "postrouting",
            "nat",
            Point::Postrouting,
            100,
            vec![to_link(Known::InputName, "nat-from"), to_link(Known::OutputName, "nat-to")],
        ),
    ]
}

/// The chains of one bridge, in the order of [`DISPATCH`].
pub(crate) fn bridge_chains(link: &str, subnet: Ipv4Net, traffic: Traffic) -> Vec<Chain> {
    let [to, from, nat_to, nat_from] = DISPATCH.map(|map| chain_of(map, link));
    let dropped = |mut matches: Vec<Expression>| {
        matches.extend([counter(), decide(&Verdict::Drop)]);
        matches
    };
    let accepted = |mut matches: Vec<Expression>| {
        matches.push(decide(&Verdict::Accept));
        matches
    };

    let mut to_rules = vec![accepted(track_any(Tracked::State, STATE_ESTABLISHED | STATE_RELATED))];
    if traffic.between_containers {
        to_rules.push(accepted(link_is(Known::InputName, link)));
    }
    if !traffic.internal {
        to_rules.push(accepted(track_any(Tracked::Status, STATUS_DESTINATION_TRANSLATED)));
    }
    to_rules.push(dropped(vec![]));

    let from_rules =
        if traffic.internal { vec![dropped(link_is_not(Known::OutputName, link))] } else { vec![] };

    let mut loopback = address_in(AddressField::Source, LOOPBACK);
    loopback.push(masquerade());
    let mut own_port = address_in(AddressField::Source, subnet);
    own_port.extend(track_any(Tracked::Status, STATUS_DESTINATION_TRANSLATED));
    own_port.push(masquerade());

    let mut leaving = address_in(AddressField::Source, subnet);
    leaving.extend(link_is_not(Known::OutputName, link));
    leaving.push(masquerade());
    let nat_from_rules = if traffic.masquerade && !traffic.internal { vec![leaving] } else { vec![] };

    [(to, to_rules), (from, from_rules), (nat_to, vec![loopback, own_port]), (nat_from, nat_from_rules)]
        .map(|(name, rules)| Chain { name, hook: None, rules })
        .into()
}

/// The name of a bridge's own chain.
pub(crate) fn chain_of(map: &str, link: &str) -> String {
    format!("{map}-{link}")
}

/// The accepts of a bridge in another firewall's chain, what comes from it and what goes to it, as
/// iptables-nft would write them, so that it can list them.
pub(crate) fn foreign_accepts(link: &str) -> [Vec<Expression>; 2] {
    [Known::InputName, Known::OutputName].map(|known| {
        let mut rule = link_is(known, link);
        rule.extend([counter(), decide(&Verdict::Accept)]);
        rule
    })
}

/// An address field of an IPv4 header.
#[derive(Clone, Copy)]
enum AddressField {
    Source,
    Destination,
}

fn is_ipv4() -> [Expression; 2] {
    [meta(Known::Family, Reg(0)), equal(Reg(0), &IPV4)]
}

fn address_in(field: AddressField, net: Ipv4Net) -> Vec<Expression> {
    let offset = match field {
        AddressField::Source => 12,
        AddressField::Destination => 16,
    };
    let mut rule = Vec::from(is_ipv4());
    rule.push(payload(Header::Network, offset, 4, Reg(0)));
    rule.push(mask(Reg(0), net.mask_bits().to_be_bytes()));
    rule.push(equal(Reg(0), &net.network().address().octets()));
    rule
}

fn spoofed(field: AddressField) -> Vec<Expression> {
    let mut rule = vec![meta(Known::InputName, Reg(0)), in_set(BRIDGES, Reg(0))];
    rule.extend(address_in(field, LOOPBACK));
    rule.extend([counter(), decide(&Verdict::Drop)]);
    rule
}

/// `dnat ip to ip daddr . meta l4proto . th dport map @published-on`
fn by_address() -> Vec<Expression> {
    let mut rule = Vec::from(is_ipv4());
    rule.extend([
        payload(Header::Network, 16, 4, Reg(0)),
        meta(Known::Protocol, Reg(1)),
        payload(Header::Transport, 2, 2, Reg(2)),
        look_up(PUBLISHED_ON, Reg(0), Reg(0)),
        translate_destination(Reg(0), Reg(1)),
    ]);
    rule
}

/// `fib daddr type local dnat ip to meta l4proto . th dport map @published`
fn by_port() -> Vec<Expression> {
    const RTN_LOCAL: u32 = 2;
    let mut rule = Vec::from(is_ipv4());
    rule.extend([
        destination_kind(Reg(0)),
        equal(Reg(0), &RTN_LOCAL.to_ne_bytes()),
        meta(Known::Protocol, Reg(0)),
        payload(Header::Transport, 2, 2, Reg(1)),
        look_up(PUBLISHED, Reg(0), Reg(0)),
        translate_destination(Reg(0), Reg(1)),
    ]);
    rule
}

fn track_any(what: Tracked, bits: u32) -> Vec<Expression> {
    vec![tracked(what, Reg(0)), mask(Reg(0), bits.to_ne_bytes()), not_equal(Reg(0), &[0; 4])]
}

/// The name with its closing zero, so that another name that only begins like it does not match.
fn link_is(known: Known, link: &str) -> Vec<Expression> {
    vec![meta(known, Reg(0)), equal(Reg(0), &link_name(link))]
}

fn link_is_not(known: Known, link: &str) -> Vec<Expression> {
    vec![meta(known, Reg(0)), not_equal(Reg(0), &link_name(link))]
}
