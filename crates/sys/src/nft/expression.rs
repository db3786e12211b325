//! Expressions of nf_tables rules: each takes packet data or a register and leaves its result in a register,
//! or ends the rule where it does not match. A rule is a list of them, read from the first to the last.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, Register, Verdict as Code, VerdictAttribute,
};

/// One expression.
#[derive(Debug, Clone)]
pub struct Expression(pub(crate) ListAttribute<ExpressionAttribute>);

/// A 32-bit register, 0 to 15. Data that is longer fills those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }

    fn register(self) -> Register {
        Register::from(self.number())
    }
}

/// What a rule decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The packet passes this base chain.
    Accept,
    /// The packet is gone.
    Drop,
    /// On with that chain, and back.
    Jump(String),
    /// On with that chain.
    Goto(String),
    /// Back to the calling chain.
    Return,
}

impl Verdict {
    pub(crate) fn data(&self) -> DataAttribute {
        const NF_DROP: u32 = 0;
        const NF_ACCEPT: u32 = 1;
        let (code, chain) = match self {
            Self::Accept => (Code::Other(NF_ACCEPT), None),
            Self::Drop => (Code::Other(NF_DROP), None),
            Self::Jump(chain) => (Code::Jump, Some(chain)),
            Self::Goto(chain) => (Code::Goto, Some(chain)),
            Self::Return => (Code::Return, None),
        };
        let mut attributes = vec![VerdictAttribute::Code(code)];
        attributes.extend(chain.map(|name| VerdictAttribute::Chain(name.clone())));
        DataAttribute::Verdict(attributes)
    }
}

/// What the kernel knows of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// 1 byte: 2 is IPv4, 10 is IPv6.
    Family,
    /// 1 byte: the protocol above IP.
    Protocol,
    /// 16 bytes: the name of the link it came by.
    InputName,
    /// 16 bytes: the name of the link it leaves by.
    OutputName,
}

/// Which header a packet's bytes are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// IP.
    Network,
    /// TCP, UDP, …
    Transport,
}

/// What connection tracking knows, as bits of a 32-bit number of the host's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracked {
    /// [`STATE_ESTABLISHED`], [`STATE_RELATED`], …
    State,
    /// [`STATUS_DESTINATION_TRANSLATED`], …
    Status,
}

/// Part of a connection that was answered.
pub const STATE_ESTABLISHED: u32 = 2;
/// Part of, or an error about, what belongs to another connection.
pub const STATE_RELATED: u32 = 4;
/// The connection's destination was translated.
pub const STATUS_DESTINATION_TRANSLATED: u32 = 1 << 5;

fn of(expressions: Expressions) -> Expression {
    Expression(expressions.into())
}

fn other(name: &str, attributes: &[(u16, u32)]) -> Expression {
    of(Expressions::Other {
        expression_type: name.into(),
        attributes: attributes
            .iter()
            .map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()))
            .collect(),
    })
}

/// Loads what the kernel knows of the packet.
#[must_use]
pub fn meta(known: Known, to: Reg) -> Expression {
    let key = match known {
        Known::Family => MetaKey::Nfproto,
        Known::Protocol => MetaKey::L4Proto,
        Known::InputName => MetaKey::Iifname,
        Known::OutputName => MetaKey::Oifname,
    };
    of(Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(to.register())]))
}

/// Loads bytes of the packet. A packet too short ends the rule.
#[must_use]
pub fn payload(header: Header, offset_bytes: u32, length_bytes: u32, to: Reg) -> Expression {
    let base = match header {
        Header::Network => 1,
        Header::Transport => 2,
    };
    of(Expressions::Payload(vec![
        Payload::DestinationRegister(to.register()),
        Payload::Base(base),
        Payload::Offset(offset_bytes),
        Payload::Len(length_bytes),
    ]))
}

/// Loads what connection tracking knows.
#[must_use]
pub fn tracked(what: Tracked, to: Reg) -> Expression {
    const NFTA_CT_DREG: u16 = 1;
    const NFTA_CT_KEY: u16 = 2;
    let key = match what {
        Tracked::State => 0,
        Tracked::Status => 2,
    };
    other("ct", &[(NFTA_CT_DREG, to.number()), (NFTA_CT_KEY, key)])
}

/// Loads what kind of address the packet's destination is, by the routing table (`RTN_LOCAL` is 2), as a
/// 32-bit number of the host's byte order.
#[must_use]
pub fn destination_kind(to: Reg) -> Expression {
    const NFTA_FIB_DREG: u16 = 1;
    const NFTA_FIB_RESULT: u16 = 2;
    const NFTA_FIB_FLAGS: u16 = 3;
    const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
    const NFTA_FIB_F_DADDR: u32 = 2;
    other(
        "fib",
        &[
            (NFTA_FIB_DREG, to.number()),
            (NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
            (NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
        ],
    )
}

/// Goes on only if the register holds these bytes.
#[must_use]
pub fn equal(register: Reg, bytes: &[u8]) -> Expression {
    compare(register, Operator::Equal, bytes)
}

/// Goes on only if the register does not hold these bytes.
#[must_use]
pub fn not_equal(register: Reg, bytes: &[u8]) -> Expression {
    compare(register, Operator::NotEqual, bytes)
}

fn compare(register: Reg, operator: Operator, bytes: &[u8]) -> Expression {
    of(Expressions::Cmp(vec![
        Cmp::SourceRegister(register.register()),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(bytes.to_vec())),
    ]))
}

/// Clears the bits of the register that are not in the mask.
#[must_use]
pub fn mask(register: Reg, mask: [u8; 4]) -> Expression {
    of(Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register.register()),
        Bitwise::DestinationRegister(register.register()),
        Bitwise::Length(4),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
    ]))
}

/// Goes on only if the set has what the register holds.
#[must_use]
pub fn in_set(set: &str, register: Reg) -> Expression {
    of(Expressions::Lookup(vec![Lookup::Set(set.into()), Lookup::SourceRegister(register.register())]))
}

/// Loads what the map has for what the register holds; goes on only if it has it.
#[must_use]
pub fn look_up(map: &str, key: Reg, to: Reg) -> Expression {
    of(Expressions::Lookup(vec![
        Lookup::Set(map.into()),
        Lookup::SourceRegister(key.register()),
        Lookup::DestinationRegister(to.register()),
    ]))
}

/// Does what the verdict map has for what the register holds, if it has it.
#[must_use]
pub fn decide_by(map: &str, key: Reg) -> Expression {
    of(Expressions::Lookup(vec![
        Lookup::Set(map.into()),
        Lookup::SourceRegister(key.register()),
        Lookup::DestinationRegister(Register::Verdict),
    ]))
}

/// Decides.
#[must_use]
pub fn decide(verdict: &Verdict) -> Expression {
    of(Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(verdict.data()),
    ]))
}

/// Counts packets and bytes.
#[must_use]
pub fn counter() -> Expression {
    other("counter", &[])
}

/// Translates the connection's destination to the IPv4 address and port that the registers hold.
#[must_use]
pub fn translate_destination(address: Reg, port: Reg) -> Expression {
    const NFTA_NAT_TYPE: u16 = 1;
    const NFTA_NAT_FAMILY: u16 = 2;
    const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
    const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
    const NFT_NAT_DNAT: u32 = 1;
    const NFPROTO_IPV4: u32 = 2;
    other(
        "nat",
        &[
            (NFTA_NAT_TYPE, NFT_NAT_DNAT),
            (NFTA_NAT_FAMILY, NFPROTO_IPV4),
            (NFTA_NAT_REG_ADDR_MIN, address.number()),
            (NFTA_NAT_REG_PROTO_MIN, port.number()),
        ],
    )
}

/// Translates the connection's source to the address of the link that it leaves by.
#[must_use]
pub fn masquerade() -> Expression {
    other("masq", &[])
}

/// The 16 bytes of a link's name, as [`Known::InputName`] gives it.
#[must_use]
pub fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}
