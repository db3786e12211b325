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

    /// Whether every `label` filter (`key` or `key=value`) holds for these labels, and not every `label!` one.
    #[must_use]
    pub fn labels_match(&self, labels: &BTreeMap<String, String>) -> bool {
        let without = self.get("label!");
        self.has_labels(labels) && (without.is_empty() || !without.iter().all(|wanted| holds(wanted, labels)))
    }

    /// Whether every `label` filter holds for these labels, where nothing can be asked to be without one.
    #[must_use]
    pub fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.get("label").iter().all(|wanted| holds(wanted, labels))
    }

    /// Whether a text is one of a key's values, or any of them is a regular expression that is found in it. Without
    /// the key everything is. A value that is no expression is only itself.
    #[must_use]
    pub fn found_in(&self, key: &str, text: &str) -> bool {
        let values = self.get(key);
        let found = |value: &String| {
            value == text || regex::Regex::new(value).is_ok_and(|expression| expression.is_match(text))
        };
        values.is_empty() || values.iter().any(found)
    }

    /// A key whose value is `true` or `1`, `false` or `0`; `None` where it was not given.
    ///
    /// # Errors
    /// [`InvalidFlag`] where it is something else, or both.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, InvalidFlag> {
        if !self.contains(key) {
            return Ok(None);
        }
        let is = |texts: [&str; 2]| self.get(key).iter().any(|value| texts.contains(&value.as_str()));
        match (is(["true", "1"]), is(["false", "0"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(InvalidFlag { key: key.into(), values: self.get(key).join(" ") }),
        }
    }
}

fn holds(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

/// Says that a filter is no boolean, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter '{key}=[{values}]'")]
pub struct InvalidFlag {
    /// The filter.
    pub key: String,
    /// What was given.
    pub values: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(given: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::default();
        given.iter().for_each(|(key, value)| filters.add(*key, *value));
        filters
    }

    #[test]
    fn labels_are_wanted_or_not() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (given, want) in [
            (&[][..], true),
            (&[("label", "a")], true),
            (&[("label", "a=1"), ("label", "b=")], true),
            (&[("label", "a"), ("label", "c")], false),
            (&[("label", "a=2")], false),
            (&[("label!", "a")], false),
            (&[("label!", "a=2")], true),
            (&[("label!", "a"), ("label!", "c")], true),
            (&[("label", "a"), ("label!", "b")], false),
        ] {
            assert_eq!(filters(given).labels_match(&labels), want, "{given:?}");
        }
    }

    #[test]
    fn values_are_texts_or_expressions() {
        for (given, text, want) in [
            (&[][..], "x", true),
            (&[("name", "v")], "v1", true),
            (&[("name", "^v1$")], "v1", true),
            (&[("name", "^v1$")], "v10", false),
            (&[("name", "v[12]"), ("name", "z")], "v2", true),
            (&[("name", "[")], "v1", false),
            (&[("name", "a[")], "a[", true),
        ] {
            assert_eq!(filters(given).found_in("name", text), want, "{given:?}");
        }
    }

    #[test]
    fn flags_are_one_thing() {
        let flag =
            |given: &[(&str, &str)]| filters(given).flag("dangling").map_err(|error| error.to_string());
        assert_eq!(flag(&[]), Ok(None));
        assert_eq!(flag(&[("dangling", "1")]), Ok(Some(true)));
        assert_eq!(flag(&[("dangling", "false"), ("dangling", "0")]), Ok(Some(false)));
        assert_eq!(flag(&[("dangling", "True")]), Err("invalid filter 'dangling=[True]'".into()));
        let both = flag(&[("dangling", "false"), ("dangling", "true")]);
        assert_eq!(both, Err("invalid filter 'dangling=[false true]'".into()));
    }
}
