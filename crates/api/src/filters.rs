//! The `filters` parameter, in both forms that clients send: a list of values per key
//! (`{"label":["a"]}`, docker-py and old clients) and a set per key (`{"label":{"a":true}}`, Docker's).

use gantry_model::filter::Filters;
use serde_json::Value;

/// A `filters` parameter that is neither form. `Display` is the whole message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// It is not JSON of one of the two forms.
    #[error("invalid filter")]
    Form,
    /// A key that this endpoint does not know.
    #[error("invalid filter{}", quoted(.0))]
    Unknown(String),
    /// A value that its key does not take.
    #[error("invalid filter '{key}={value}'")]
    Value {
        /// The key.
        key: String,
        /// What it said.
        value: String,
    },
}

/// A key behind a blank; nothing where it is empty, as Docker has it.
fn quoted(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" '{key}'") }
}

/// Reads a `filters` parameter; an empty one filters nothing.
///
/// # Errors
/// [`InvalidFilter::Form`].
pub fn parse(text: &str) -> Result<Filters, InvalidFilter> {
    let mut filters = Filters::default();
    if text.trim().is_empty() {
        return Ok(filters);
    }
    let keys = match serde_json::from_str(text) {
        Ok(Value::Object(keys)) => keys,
        // Go leaves a map as it is when it meets `null`.
        Ok(Value::Null) => return Ok(filters),
        _ => return Err(InvalidFilter::Form),
    };
    for (key, values) in keys {
        match values {
            Value::Object(set) => {
                for (value, on) in set {
                    // Docker takes a value that is set to `false` for given as well.
                    if !on.is_boolean() {
                        return Err(InvalidFilter::Form);
                    }
                    filters.add(&key, value);
                }
            }
            Value::Array(list) => {
                for value in list {
                    let Value::String(value) = value else { return Err(InvalidFilter::Form) };
                    filters.add(&key, value);
                }
            }
            _ => return Err(InvalidFilter::Form),
        }
    }
    Ok(filters)
}

/// Checks that every key is one that the endpoint takes.
///
/// # Errors
/// [`InvalidFilter::Unknown`] with the first that is not.
pub fn accept(filters: &Filters, known: &[&str]) -> Result<(), InvalidFilter> {
    match filters.keys().find(|key| !known.contains(key)) {
        Some(key) => Err(InvalidFilter::Unknown(key.into())),
        None => Ok(()),
    }
}

/// A filter that is a boolean: `true`, `1`, `t`, `false`, `0`, `f` in any case; `None` where not given.
///
/// # Errors
/// [`InvalidFilter::Value`] where it is anything else, or both.
pub fn bool(filters: &Filters, key: &str) -> Result<Option<bool>, InvalidFilter> {
    let mut answer = None;
    for value in filters.get(key) {
        let this = match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => true,
            "0" | "f" | "false" => false,
            _ => return Err(InvalidFilter::Value { key: key.into(), value: value.clone() }),
        };
        if answer.is_some_and(|before| before != this) {
            return Err(InvalidFilter::Value { key: key.into(), value: value.clone() });
        }
        answer = Some(this);
    }
    Ok(answer)
}

/// Writes filters in the form that Docker's own client sends; empty filters are an empty text.
#[must_use]
pub fn encode(filters: &Filters) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let set = |key| filters.get(key).iter().map(|value| (value.clone(), Value::Bool(true))).collect();
    let keys = filters.keys().map(|key| (key.to_owned(), Value::Object(set(key))));
    Value::Object(keys.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for text in [
            r#"{"label":["a=b","c"],"status":["exited"]}"#,
            r#"{"label":{"a=b":true,"c":false},"status":{"exited":true}}"#,
        ] {
            let filters = parse(text).expect(text);
            assert_eq!(filters.get("label"), ["a=b", "c"], "{text}");
            assert_eq!(parse(&encode(&filters)).as_ref(), Ok(&filters));
            assert_eq!(accept(&filters, &["label"]), Err(InvalidFilter::Unknown("status".into())));
        }
        assert_eq!(parse("").map(|f| encode(&f)), Ok(String::new()));
        assert_eq!(parse("null"), Ok(Filters::default()));
        for bad in ["[]", "x", r#"{"a":"b"}"#, r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn booleans_are_gos() {
        let filters = |value: &str| parse(&format!(r#"{{"dangling":["{value}"]}}"#)).expect("a filter");
        assert_eq!(bool(&filters("true"), "dangling"), Ok(Some(true)));
        assert_eq!(bool(&filters("0"), "dangling"), Ok(Some(false)));
        assert!(bool(&filters("yes"), "dangling").is_err());
        assert_eq!(bool(&filters("true"), "other"), Ok(None));
    }
}
