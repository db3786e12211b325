//! What the cache takes up, and what of it may go.
//!
//! A result names all the layers of its outputs, most of which are those of the step before it. So that sizes can be
//! added up, each layer counts for the oldest result that names it. A layer that an image or a container needs
//! as well costs the cache nothing: a result whose layers are all such is *shared*.

use std::collections::{HashMap, HashSet};

use gantry_model::{LayerId, Timestamp};
use gantry_store::Held;

use crate::solver::cache::Entry;

/// A result as `system df` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// Its key, in hexadecimal.
    pub id: String,
    /// The step.
    pub description: String,
    /// The bytes of the layers that count for it; where it is not shared, of those that it alone keeps.
    pub size_bytes: u64,
    /// Whether images or containers need all of it anyway.
    pub shared: bool,
    /// Whether a build under way may use it.
    pub in_use: bool,
    /// When it was made.
    pub made: Timestamp,
    /// When a build last made or found it.
    pub used: Timestamp,
    /// How many builds found it.
    pub uses: u64,
}

/// What is to be forgotten. All of the conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also what is shared, and what has no layers.
    pub all: bool,
    /// Only what no build used since then.
    pub unused_since: Option<Timestamp>,
    /// So many bytes, of what was used last, stay.
    pub keep_bytes: u64,
    /// Only what has one of these keys; none is any.
    pub ids: Vec<String>,
    /// Only what is, or is not, shared.
    pub shared: Option<bool>,
}

/// A result and what it takes up.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) entry: Entry,
    size_bytes: u64,
    shared: bool,
    /// The layers that it names and the cache alone keeps.
    own: Vec<Held>,
}

impl Looked {
    /// Whether lists show it: a step of configuration alone has nothing to show.
    pub(crate) fn is_listed(&self) -> bool {
        !self.entry.stored.outputs.is_empty()
    }

    pub(crate) fn record(self, in_use: bool) -> CacheRecord {
        // Results from before both times were recorded have one.
        let made_secs = if self.entry.made_secs == 0 { self.entry.used_secs } else { self.entry.made_secs };
        CacheRecord {
            id: self.entry.key,
            description: self.entry.stored.name,
            size_bytes: self.size_bytes,
            shared: self.shared,
            in_use,
            made: Timestamp::from_secs(made_secs),
            used: Timestamp::from_secs(self.entry.used_secs),
            uses: self.entry.uses.try_into().unwrap_or(0),
        }
    }
}

/// Says what each result takes up of what the cache holds.
pub(crate) fn looked(entries: Vec<Entry>, held: &[Held]) -> Vec<Looked> {
    let held: HashMap<LayerId, Held> = held.iter().map(|one| (one.layer, *one)).collect();
    let mut counted = HashSet::new();
    let look = |entry: Entry| {
        let mut named = HashSet::new();
        let layers = entry.stored.outputs.iter().flatten();
        let named: Vec<Held> = layers
            .filter(|layer| named.insert(layer.id))
            .filter_map(|layer| held.get(&layer.id).copied())
            .collect();
        let mine: Vec<Held> = named.iter().copied().filter(|one| counted.insert(one.layer)).collect();
        let sum =
            |shared: bool| mine.iter().filter(|one| one.shared == shared).map(|one| one.size_bytes).sum();
        let own: Vec<Held> = named.iter().copied().filter(|one| !one.shared).collect();
        let shared = own.is_empty() && !named.is_empty();
        Looked { entry, size_bytes: sum(shared), shared, own }
    };
    entries.into_iter().map(look).collect()
}

/// What is to go, the oldest first.
pub(crate) fn doomed<'a>(all: &'a [Looked], wanted: &Prune) -> Vec<&'a Looked> {
    let since = wanted.unused_since.map(Timestamp::secs);
    let mut doomed: Vec<&Looked> = all
        .iter()
        .filter(|one| wanted.all || (one.is_listed() && !one.shared))
        .filter(|one| since.is_none_or(|since| one.entry.used_secs < since))
        .filter(|one| wanted.ids.is_empty() || wanted.ids.contains(&one.entry.key))
        .filter(|one| wanted.shared.is_none_or(|shared| one.shared == shared))
        .collect();
    if wanted.keep_bytes > 0 {
        let mut newest: Vec<&Looked> = all.iter().collect();
        newest.sort_by_key(|one| std::cmp::Reverse((one.entry.used_secs, one.entry.id)));
        let (mut kept, mut kept_bytes) = (HashSet::new(), 0);
        let stays = |one: &&Looked| {
            let fresh: Vec<&Held> = one.own.iter().filter(|layer| !kept.contains(&layer.layer)).collect();
            kept_bytes += fresh.iter().map(|layer| layer.size_bytes).sum::<u64>();
            kept.extend(fresh.into_iter().map(|layer| layer.layer));
            kept_bytes <= wanted.keep_bytes
        };
        let stay: HashSet<i64> = newest.into_iter().take_while(stays).map(|one| one.entry.id).collect();
        doomed.retain(|one| !stay.contains(&one.entry.id));
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::LayerRef;
    use crate::solver::cache::Stored;
    use gantry_model::Digest;

    fn entry(id: i64, layers: &[u64], used_secs: i64) -> Entry {
        let layer = |id: &u64| LayerRef { id: LayerId(*id), diff_id: Digest::from_sha256([0; 32]) };
        let outputs = vec![layers.iter().map(layer).collect()];
        let stored = Stored { outputs, note: String::new(), name: format!("RUN {id}") };
        Entry { id, key: format!("k{id}"), stored, made_secs: 1, used_secs, uses: 0 }
    }

    fn held(layer: u64, size_bytes: u64, shared: bool) -> Held {
        Held { layer: LayerId(layer), size_bytes, shared }
    }

    fn ids(of: &[&Looked]) -> Vec<i64> {
        of.iter().map(|one| one.entry.id).collect()
    }

    /// 1 and 2 build upon a shared base, 3 upon another; 4 is an image's.
    fn some() -> Vec<Looked> {
        looked(
            vec![entry(1, &[1, 2], 10), entry(2, &[1, 2, 3], 30), entry(3, &[7], 20), entry(4, &[1, 9], 5)],
            &[
                held(1, 1000, true),
                held(2, 20, false),
                held(3, 3, false),
                held(7, 7, false),
                held(9, 900, true),
            ],
        )
    }

    #[test]
    fn each_layer_counts_once_and_shared_ones_cost_nothing() {
        let sizes: Vec<(u64, bool)> = some().iter().map(|one| (one.size_bytes, one.shared)).collect();
        assert_eq!(sizes, [(20, false), (3, false), (7, false), (900, true)]);
    }

    #[test]
    fn what_goes_is_what_was_asked_for() {
        let all = some();
        let go = |wanted: &Prune| ids(&doomed(&all, wanted));
        assert_eq!(go(&Prune::default()), [1, 2, 3]);
        assert_eq!(go(&Prune { all: true, ..Prune::default() }), [1, 2, 3, 4]);
        let since = Some(Timestamp::from_secs(20));
        assert_eq!(go(&Prune { all: true, unused_since: since, ..Prune::default() }), [1, 4]);
        assert_eq!(go(&Prune { ids: vec!["k3".into()], ..Prune::default() }), [3]);
        assert_eq!(go(&Prune { all: true, shared: Some(true), ..Prune::default() }), [4]);
        // 2 was used last and needs the layers of 1 as well: 23 bytes; with 3 they are 30.
        assert_eq!(go(&Prune { keep_bytes: 22, ..Prune::default() }), [1, 2, 3]);
        assert_eq!(go(&Prune { keep_bytes: 23, ..Prune::default() }), [1, 3]);
        assert_eq!(go(&Prune { keep_bytes: 30, ..Prune::default() }), Vec::<i64>::new());
    }
}
