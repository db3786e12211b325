//! nf_tables: transactions on one table, and reading tables, chains, rules and elements.
//!
//! Expressions of rules are in [`expression`].

use std::io;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook as HookAttribute, HookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetFlags, SetMessage,
    TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::netlink::{DUMP, Error, Protocol, Request, Socket, attribute, text_of};
use crate::nft::expression::Expression;
pub use crate::nft::set::{Data, Element, Field, Leads, Mapping};
use crate::nft::set::{element_list, host_byte_order, key_attributes, length_of, parse_elements, type_of};

pub mod expression;
mod set;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFGENMSG: usize = 4;
/// An attribute's length is 16 bits; an element of ours takes below 100 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;

/// The group of notifications about nf_tables, for [`Socket::join`].
pub const NOTIFICATIONS: u32 = 7;

/// What tables a packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// Another, by its number.
    Other(u8),
}

impl Family {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ip,
            other => Self::Other(other),
        }
    }

    /// nft's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Other(3) => "arp",
            Self::Other(5) => "netdev",
            Self::Other(7) => "bridge",
            Self::Other(10) => "ip6",
            Self::Other(_) => "unknown",
        }
    }
}

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// When.
    pub point: Point,
    /// Lower comes first.
    pub priority: i32,
}

/// A packet's stations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before routing.
    Prerouting = 0,
    /// To this host.
    Input = 1,
    /// Through this host.
    Forward = 2,
    /// From this host.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// How long a table lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Anybody may change and remove it.
    Anybody,
    /// Only the socket that made or took over the table may change it while it is open; after that the
    /// table stays and may be taken over. Linux 6.9; others answer `EOPNOTSUPP` or `EINVAL`.
    Mine,
}

/// Changes to one table that happen together or not at all.
pub struct Transaction<'a> {
    family: Family,
    table: &'a str,
    request: Request,
    sets: u32,
}

impl Transaction<'_> {
    fn push(&mut self, message: NfTablesMessage, flags: u16) {
        self.request.push(in_family(self.family, message), flags);
    }

    fn table(&self) -> String {
        self.table.into()
    }

    /// Makes the table, or takes it over.
    pub fn add_table(&mut self, ownership: Ownership) {
        let mut attributes = vec![TableAttribute::Name(self.table())];
        if ownership == Ownership::Mine {
            attributes.push(TableAttribute::Flags(TableFlags::Owner | TableFlags::Persisent));
        }
        self.push(NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE);
    }

    /// Removes the table and all in it.
    pub fn delete_table(&mut self) {
        let attributes = vec![TableAttribute::Name(self.table())];
        self.push(NfTablesMessage::DeleteTable(TableMessage { attributes }), 0);
    }

    /// Makes a chain, if it is not there; with a hook, a base chain whose policy is to accept.
    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        const NF_ACCEPT: u32 = 1;
        let mut attributes = vec![ChainAttribute::Table(self.table()), ChainAttribute::Name(name.into())];
        if let Some(hook) = hook {
            attributes.push(ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Other(hook.point as u32)),
                HookAttribute::Priority(hook.priority.cast_unsigned()),
            ]));
            attributes.push(ChainAttribute::Policy(NF_ACCEPT));
            attributes.push(ChainAttribute::Type(hook.kind.into()));
        }
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        let attributes = vec![RuleAttribute::Table(self.table()), RuleAttribute::Chain(name.into())];
        self.push(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0);
    }

    /// Removes a chain without rules that nothing leads to.
    pub fn delete_chain(&mut self, name: &str) {
        let attributes = vec![ChainAttribute::Table(self.table()), ChainAttribute::Name(name.into())];
        self.push(NfTablesMessage::DeleteChain(ChainMessage { attributes }), 0);
    }

    /// Adds a rule at a chain's end.
    pub fn append_rule(&mut self, chain: &str, expressions: Vec<Expression>) {
        self.rule(chain, expressions, "", NLM_F_CREATE | NLM_F_APPEND);
    }

    /// Adds a rule at a chain's beginning, with a comment that lists show.
    pub fn prepend_rule(&mut self, chain: &str, expressions: Vec<Expression>, comment: &str) {
        self.rule(chain, expressions, comment, NLM_F_CREATE);
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Expression>, comment: &str, flags: u16) {
        let mut attributes = vec![
            RuleAttribute::Table(self.table()),
            RuleAttribute::Chain(chain.into()),
            RuleAttribute::Expressions(expressions.into_iter().map(|e| e.0).collect()),
        ];
        if !comment.is_empty() {
            attributes.push(RuleAttribute::UserData(comment_data(comment)));
        }
        self.push(NfTablesMessage::NewRule(RuleMessage { attributes }), flags);
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        let attributes = vec![
            RuleAttribute::Table(self.table()),
            RuleAttribute::Chain(chain.into()),
            RuleAttribute::Handle(handle),
        ];
        self.push(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0);
    }

    /// Makes a set or map, hashed and without a limit, if it is not there.
    pub fn add_set(&mut self, name: &str, key: &[Field], leads: Leads<'_>) {
        const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
        self.sets += 1;
        let mut attributes = vec![
            SetAttribute::Table(self.table()),
            SetAttribute::Name(name.into()),
            SetAttribute::KeyType(type_of(key)),
            SetAttribute::KeyLen(length_of(key)),
            SetAttribute::Id(self.sets),
        ];
        match leads {
            Leads::Nowhere => {}
            Leads::To(data) => attributes.extend([
                SetAttribute::Flags(SetFlags::Map),
                SetAttribute::DataType(type_of(data)),
                SetAttribute::DataLen(length_of(data)),
            ]),
            Leads::ToVerdict => attributes
                .extend([SetAttribute::Flags(SetFlags::Map), SetAttribute::DataType(NFT_DATA_VERDICT)]),
        }
        if key == [Field::LinkName] {
            attributes.push(SetAttribute::UserData(host_byte_order()));
        }
        self.push(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE);
    }

    /// Adds elements. One that is there with the same data: nothing. With other data: the transaction
    /// fails with `EEXIST`.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let list = part.iter().map(|element| {
                let mut attributes = key_attributes(&element.key);
                match &element.data {
                    Data::None => {}
                    Data::Value(bytes) => {
                        attributes.push(SetElementAttribute::Data(DataAttribute::Value(bytes.clone())));
                    }
                    Data::Verdict(verdict) => attributes.push(SetElementAttribute::Data(verdict.data())),
                }
                ListAttribute::Element(attributes)
            });
            let message = NfTablesMessage::NewSetElement(element_list(self.table, set, list));
            self.push(message, NLM_F_CREATE);
        }
    }

    /// Removes elements by their keys. One that is not there: the transaction fails with `ENOENT`.
    pub fn delete_elements<'k>(&mut self, set: &str, keys: impl IntoIterator<Item = &'k [u8]>) {
        let all: Vec<_> = keys.into_iter().map(|key| ListAttribute::Element(key_attributes(key))).collect();
        for part in all.chunks(ELEMENTS_PER_MESSAGE) {
            let message =
                NfTablesMessage::DeleteSetElement(element_list(self.table, set, part.iter().cloned()));
            self.push(message, 0);
        }
    }
}

/// A table as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// The port number of the socket that owns it, if one does.
    pub owner: Option<u32>,
}

/// A chain as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Of a base chain: the number of the [`Point`], and the priority.
    pub hook: Option<(u32, i32)>,
    /// Whether what no rule decides about is dropped.
    pub drops: bool,
}

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its handle.
    pub handle: u64,
    /// Its comment; empty if it has none.
    pub comment: String,
}

/// A conversation about the rules of one network namespace.
pub struct Nft(Socket);

impl Nft {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        Socket::open(Protocol::Netfilter).map(Self)
    }

    /// An empty transaction.
    #[must_use]
    pub fn transaction<'a>(&self, family: Family, table: &'a str) -> Transaction<'a> {
        let mut request = self.0.request();
        request.push_raw(BATCH_BEGIN, 0, &batch_payload());
        Transaction { family, table, request, sets: 0 }
    }

    /// Makes the changes of a transaction.
    ///
    /// # Errors
    /// The first refusal; nothing is changed then.
    pub fn commit(&mut self, transaction: Transaction<'_>) -> Result<(), Error> {
        let mut request = transaction.request;
        request.acknowledge_last();
        request.push_unanswered(BATCH_END, &batch_payload());
        self.0.change(request)
    }

    fn list(
        &mut self,
        family: Family,
        message: NfTablesMessage,
        mut each: impl FnMut(Family, &[u8]),
    ) -> Result<(), Error> {
        let mut request = self.0.request();
        request.push(in_family(family, message), DUMP);
        self.0.query(request, |_, payload| {
            if payload.len() >= NFGENMSG {
                each(Family::from_number(payload[0]), &payload[NFGENMSG..]);
            }
        })
    }

    /// All tables of all families.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        const NAME: u16 = 1;
        const OWNER: u16 = 7;
        let mut all = Vec::new();
        let message = NfTablesMessage::GetTable(TableMessage { attributes: vec![] });
        self.list(Family::Other(0), message, |family, payload| {
            if let Some(name) = attribute(payload, NAME).map(text_of) {
                all.push(Table { family, name, owner: attribute(payload, OWNER).and_then(be32) });
            }
        })?;
        Ok(all)
    }

    /// All chains of all tables.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn chains(&mut self) -> Result<Vec<Chain>, Error> {
        let mut all = Vec::new();
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
        self.list(Family::Other(0), message, |family, payload| all.extend(parse_chain(family, payload)))?;
        Ok(all)
    }

    /// The rules of a chain, in order.
    ///
    /// # Errors
    /// What the kernel said; `ENOENT` for no such chain.
    pub fn rules(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<Rule>, Error> {
        const CHAIN: u16 = 2;
        const HANDLE: u16 = 3;
        const USER_DATA: u16 = 7;
        let mut all = Vec::new();
        let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
        let message = NfTablesMessage::GetRule(RuleMessage { attributes });
        self.list(family, message, |_, payload| {
            let handle =
                attribute(payload, HANDLE).and_then(|b| Some(u64::from_be_bytes(b.try_into().ok()?)));
            let here = attribute(payload, CHAIN).is_some_and(|name| text_of(name) == chain);
            if let (Some(handle), true) = (handle, here) {
                let comment = attribute(payload, USER_DATA).map(comment_of).unwrap_or_default();
                all.push(Rule { handle, comment });
            }
        })?;
        Ok(all)
    }

    /// The keys and values of a map.
    ///
    /// # Errors
    /// What the kernel said; `ENOENT` for no such table or map.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Mapping>, Error> {
        let mut all = Vec::new();
        let message = NfTablesMessage::GetSetElement(element_list(table, set, std::iter::empty()));
        self.list(family, message, |_, payload| all.extend(parse_elements(payload)))?;
        Ok(all)
    }

    /// The value of a map for a key.
    ///
    /// # Errors
    /// What the kernel said; an absent element, map or table is `Ok(None)`.
    pub fn element(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let list = std::iter::once(ListAttribute::Element(key_attributes(key)));
        let message = NfTablesMessage::GetSetElement(element_list(table, set, list));
        let mut request = self.0.request();
        request.push(in_family(family, message), 0);
        request.acknowledge_last();
        let mut found = None;
        let result = self.0.query(request, |_, payload| {
            found =
                payload.get(NFGENMSG..).and_then(|rest| parse_elements(rest).next()).map(|(_, value)| value);
        });
        match result {
            Ok(()) => Ok(found),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// A table is gone.
    TableGone {
        /// Its name.
        table: String,
    },
    /// A table, chain or rule was made, changed or removed.
    Rules {
        /// The table's name.
        table: String,
    },
    /// The transaction that the notifications before this one belong to was made by this process.
    MadeBy {
        /// Its process id, as the reader sees it.
        pid: u32,
    },
}

/// Reads a notification, given its type and payload. Others than these (sets, elements) are `None`.
#[must_use]
pub fn notification(kind: u16, payload: &[u8]) -> Option<Notification> {
    const NEW_GENERATION: u16 = 15;
    const GENERATION_PID: u16 = 2;
    const TABLE: u16 = 1;
    if kind >> 8 != SUBSYSTEM {
        return None;
    }
    let rest = payload.get(NFGENMSG..)?;
    let table = || attribute(rest, TABLE).map(text_of);
    match kind & 0xff {
        2 => Some(Notification::TableGone { table: table()? }),
        0 | 3 | 5 | 6 | 8 => Some(Notification::Rules { table: table()? }),
        NEW_GENERATION => Some(Notification::MadeBy { pid: be32(attribute(rest, GENERATION_PID)?)? }),
        _ => None,
    }
}

fn in_family(family: Family, message: NfTablesMessage) -> NetfilterMessage {
    let family = match family {
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Ip => NetfilterProtoFamily::IPv4,
        Family::Other(number) => NetfilterProtoFamily::from(number),
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

fn batch_payload() -> [u8; NFGENMSG] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// User data of a rule: record 0 (comment), its length, the text closed by a zero byte.
fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut data = vec![0, u8::try_from(text.len() + 1).expect("at most 128")];
    data.extend_from_slice(text);
    data.push(0);
    data
}

fn comment_of(data: &[u8]) -> String {
    let mut rest = data;
    while let [kind, length, following @ ..] = rest {
        let Some((value, after)) = following.split_at_checked(usize::from(*length)) else { break };
        if *kind == 0 {
            return text_of(value);
        }
        rest = after;
    }
    String::new()
}

fn parse_chain(family: Family, payload: &[u8]) -> Option<Chain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const HOOK_POINT: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    let hook = attribute(payload, HOOK).and_then(|hook| {
        let priority = be32(attribute(hook, HOOK_PRIORITY)?)?;
        Some((be32(attribute(hook, HOOK_POINT)?)?, priority.cast_signed()))
    });
    Some(Chain {
        family,
        table: text_of(attribute(payload, TABLE)?),
        name: text_of(attribute(payload, NAME)?),
        hook,
        drops: attribute(payload, POLICY).and_then(be32) == Some(0),
    })
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_there_and_back() {
        for text in ["", "gantry:1234abcd:gantry0", &"x".repeat(127)] {
            assert_eq!(comment_of(&comment_data(text)), text);
        }
        assert_eq!(comment_of(&[1, 2, 9, 9, 0, 2, b'a', 0]), "a", "another record is stepped over");
        assert_eq!(comment_of(&[0, 9, b'a']), "", "a record cut short is none");
    }
}
