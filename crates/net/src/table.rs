//! Our nft table in the kernel: making it, taking it over from a daemon that died, and changing elements.

use gantry_sys::netlink::Error;
use gantry_sys::nft::expression::{Verdict, link_name};
use gantry_sys::nft::{Data, Element, Family, Mapping, Nft, Ownership, Transaction};

use crate::rules::{self, BRIDGES, Chain, DISPATCH, SETS};

/// The family of the table: IPv4 and IPv6.
pub(crate) const FAMILY: Family = Family::Inet;

const EEXIST: i32 = 17;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const EPERM: i32 = 1;
const EOPNOTSUPP: i32 = 95;

/// The table and the socket that owns it.
pub(crate) struct Table {
    name: String,
    nft: Nft,
    ready: bool,
}

impl Table {
    pub(crate) fn open(name: String) -> std::io::Result<Self> {
        Ok(Self { name, nft: Nft::open()?, ready: false })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The conversation, for what is not about our table.
    pub(crate) fn nft(&mut self) -> &mut Nft {
        &mut self.nft
    }

    pub(crate) fn exists(&mut self) -> Result<bool, Error> {
        Ok(self.nft.tables()?.iter().any(|table| table.family == FAMILY && table.name == self.name))
    }

    /// Makes the table, its sets and its base chains, or takes the table over and writes the rules of its base
    /// chains anew, all in one transaction: elements stay, and no packet sees anything between.
    fn prepare(&mut self) -> Result<(), Error> {
        if self.ready {
            return Ok(());
        }
        match self.prepare_as(Ownership::Mine) {
            // Position 0 is the batch's beginning, 1 the table.
            Err(error) if error.position() == 1 && matches!(error.errno(), EOPNOTSUPP | EINVAL) => {
                self.prepare_as(Ownership::Anybody)?;
            }
            result => result?,
        }
        self.ready = true;
        Ok(())
    }

    fn prepare_as(&mut self, ownership: Ownership) -> Result<(), Error> {
        let mut change = self.nft.transaction(FAMILY, &self.name);
        change.add_table(ownership);
        for set in &SETS {
            change.add_set(set.name, set.key, set.leads);
        }
        for chain in rules::base_chains() {
            write_chain(&mut change, chain);
        }
        self.nft.commit(change)
    }

    /// Makes a change that `fill` describes. If somebody removed the table, it is made again first; the
    /// bridges' chains are then missing until their owner ensures them.
    pub(crate) fn change(&mut self, fill: impl Fn(&mut Transaction<'_>)) -> Result<(), Error> {
        self.prepare()?;
        match self.change_once(&fill) {
            Err(error) if error.is_absent() && !self.exists()? => {
                self.ready = false;
                self.prepare()?;
                self.change_once(&fill)
            }
            result => result,
        }
    }

    fn change_once(&mut self, fill: &impl Fn(&mut Transaction<'_>)) -> Result<(), Error> {
        let mut change = self.nft.transaction(FAMILY, &self.name);
        fill(&mut change);
        self.nft.commit(change)
    }

    /// Writes the chains of a bridge and lets packets into them.
    pub(crate) fn add_bridge(&mut self, link: &str, chains: impl Fn() -> Vec<Chain>) -> Result<(), Error> {
        let key = link_name(link).to_vec();
        self.change(|change| {
            for chain in chains() {
                write_chain(change, chain);
            }
            change.add_elements(BRIDGES, &[Element { key: key.clone(), data: Data::None }]);
            for map in DISPATCH {
                let data = Data::Verdict(Verdict::Jump(rules::chain_of(map, link)));
                change.add_elements(map, &[Element { key: key.clone(), data }]);
            }
        })
    }

    /// Removes the chains of a bridge. One that has none: nothing.
    pub(crate) fn remove_bridge(&mut self, link: &str) -> Result<(), Error> {
        let key = link_name(link).to_vec();
        if !self.exists()? || self.nft.element(FAMILY, &self.name, BRIDGES, &key)?.is_none() {
            return Ok(());
        }
        self.change(|change| {
            change.delete_elements(BRIDGES, [&key[..]]);
            for map in DISPATCH {
                change.delete_elements(map, [&key[..]]);
                let chain = rules::chain_of(map, link);
                change.flush_chain(&chain);
                change.delete_chain(&chain);
            }
        })
    }

    /// Adds elements to the maps, in one transaction; what is there with other data is replaced.
    pub(crate) fn put(&mut self, additions: &[(&'static str, Vec<Element>)]) -> Result<(), Error> {
        let result = self.change(|change| {
            for (map, elements) in additions {
                change.add_elements(map, elements);
            }
        });
        match result {
            Err(error) if matches!(error.errno(), EEXIST | EBUSY) => self.replace(additions),
            result => result,
        }
    }

    fn replace(&mut self, additions: &[(&'static str, Vec<Element>)]) -> Result<(), Error> {
        let mut stale = Vec::new();
        for (map, elements) in additions {
            let mut keys = Vec::new();
            for element in elements {
                if self.get(map, &element.key)?.is_some_and(|data| Data::Value(data) != element.data) {
                    keys.push(element.key.clone());
                }
            }
            stale.push((*map, keys));
        }
        self.change(|change| {
            for (map, keys) in &stale {
                change.delete_elements(map, keys.iter().map(Vec::as_slice));
            }
            for (map, elements) in additions {
                change.add_elements(map, elements);
            }
        })
    }

    /// Changes the maps: removes these keys, which must be there, and adds these elements, whose keys must not be
    /// there with other data once the removals are done.
    pub(crate) fn exchange(
        &mut self,
        removals: &[(&'static str, Vec<Vec<u8>>)],
        additions: &[(&'static str, Vec<Element>)],
    ) -> Result<(), Error> {
        if removals.iter().all(|(_, keys)| keys.is_empty()) && additions.iter().all(|(_, all)| all.is_empty())
        {
            return Ok(());
        }
        self.change(|change| {
            for (map, keys) in removals {
                change.delete_elements(map, keys.iter().map(Vec::as_slice));
            }
            for (map, elements) in additions {
                change.add_elements(map, elements);
            }
        })
    }

    /// The data of a key of a map; `None` if there is no such key, map or table.
    pub(crate) fn get(&mut self, map: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.nft.element(FAMILY, &self.name, map, key)
    }

    /// All keys and data of a map; empty if there is no such map or table.
    pub(crate) fn all(&mut self, map: &str) -> Result<Vec<Mapping>, Error> {
        match self.nft.elements(FAMILY, &self.name, map) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            result => result,
        }
    }

    /// Removes the table and everything in it.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        if !self.exists()? {
            return Ok(());
        }
        let mut change = self.nft.transaction(FAMILY, &self.name);
        change.delete_table();
        self.ready = false;
        self.nft.commit(change)
    }
}

/// Whether the table belongs to another socket that lives.
pub(crate) fn is_foreign(error: &Error) -> bool {
    error.errno() == EPERM
}

fn write_chain(change: &mut Transaction<'_>, chain: Chain) {
    change.add_chain(&chain.name, chain.hook);
    change.flush_chain(&chain.name);
    for rule in chain.rules {
        change.append_rule(&chain.name, rule);
    }
}
