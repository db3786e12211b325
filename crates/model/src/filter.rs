//! Filters: `--filter key=value`, several values of one key in the order given.

use std::collections::BTreeMap;

/// What a list or an event stream is narrowed to: all keys must match, any value of a key suffices
/// (labels excepted: all must match).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Adds a value to a key; one that is there already is not added again.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (values, value) = (self.0.entry(key.into()).or_default(), value.into());
        if !values.contains(&value) {
            values.push(value);
        }
    }

    /// The values of a key; empty where the key was not given.
    #[must_use]
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the key was given.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The keys that were given, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether nothing is filtered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every `label` filter (`key` or `key=value`) holds for these labels.
    #[must_use]
    pub fn labels_match(&self, labels: &BTreeMap<String, String>) -> bool {
        self.get("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }
}
