//! Sets and maps of nf_tables: their fields, and their elements on the wire.

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, SetElementAttribute, SetElementList, SetElementMessage,
};

use crate::netlink::{attribute, attributes};
use crate::nft::expression::Verdict;

/// A field of a set's key or data, as nft's user space names types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// 4 bytes.
    Ipv4Address,
    /// 1 byte, padded to 4.
    InetProtocol,
    /// 2 bytes of network byte order, padded to 4.
    InetService,
    /// 16 bytes.
    LinkName,
}

impl Field {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::InetProtocol => 12,
            Self::InetService => 13,
            Self::LinkName => 41,
        }
    }

    fn bytes(self) -> u32 {
        if self == Self::LinkName { 16 } else { 4 }
    }
}

/// What a set's elements lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads<'a> {
    /// To nothing: it is a set.
    Nowhere,
    /// To data of these fields.
    To(&'a [Field]),
    /// To a verdict.
    ToVerdict,
}

/// The data of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Of a set.
    None,
    /// Of a map.
    Value(Vec<u8>),
    /// Of a verdict map.
    Verdict(Verdict),
}

/// An element: the key's bytes, each field padded, and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The key.
    pub key: Vec<u8>,
    /// What it leads to.
    pub data: Data,
}

/// A key of a map and its value.
pub type Mapping = (Vec<u8>, Vec<u8>);

pub(crate) fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | field.number())
}

pub(crate) fn length_of(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.bytes()).sum()
}

/// User data that tells nft's lists how to print keys: record 0 (byte order of the key), 4 bytes, 1 (the host's).
pub(crate) fn host_byte_order() -> Vec<u8> {
    let mut data = vec![0, 4];
    data.extend_from_slice(&1_u32.to_ne_bytes());
    data
}

pub(crate) fn key_attributes(key: &[u8]) -> Vec<SetElementAttribute> {
    vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))]
}

pub(crate) fn element_list(
    table: &str,
    set: &str,
    elements: impl Iterator<Item = ListAttribute<SetElementAttribute>>,
) -> SetElementMessage {
    let mut attributes = vec![SetElementList::Table(table.into()), SetElementList::Set(set.into())];
    let elements: Vec<_> = elements.collect();
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}

pub(crate) fn parse_elements(payload: &[u8]) -> impl Iterator<Item = Mapping> {
    const LIST: u16 = 3;
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const VALUE: u16 = 1;
    attributes(attribute(payload, LIST).unwrap_or_default()).filter_map(|(_, element)| {
        let key = attribute(attribute(element, KEY)?, VALUE)?;
        let value = attribute(element, DATA).and_then(|data| attribute(data, VALUE)).unwrap_or_default();
        Some((key.to_vec(), value.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_packed_as_nft_packs_them() {
        assert_eq!(type_of(&[Field::InetProtocol, Field::InetService]), 12 << 6 | 13);
        assert_eq!(length_of(&[Field::Ipv4Address, Field::InetProtocol, Field::InetService]), 12);
        assert_eq!(length_of(&[Field::LinkName]), 16);
    }
}
