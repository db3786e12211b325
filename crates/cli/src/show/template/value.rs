//! What a template looks at: values of the daemon's JSON, and what functions made of them.
//!
//! JSON does not say which object is one of Go's maps and which is a structure with fields of its own, nor what a null
//! would be; the field that a value stands in does ([`super::go_types`]), so each value carries its name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value as Go;
use serde_json::Value;

use super::go_types;

/// As what the document is read. The stock client reads the daemon's answer into its own types, and applies the
/// template once more, to the JSON as it came, where that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As a type with this name: what is absent is there as nothing.
    Typed(&'static str),
    /// As the JSON that it is: what is absent is an error.
    Raw,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Val<'a> {
    /// Nothing for what is not there at all, which prints as `<no value>`.
    json: Option<Cow<'a, Value>>,
    /// The field that it stands in; empty for an element, and for what a function made.
    key: &'a str,
}

impl<'a> Val<'a> {
    /// What is not there.
    pub(super) const ABSENT: Self = Self { json: None, key: "" };

    /// The whole document.
    pub(super) fn root(document: &'a Value) -> Self {
        Self { json: Some(Cow::Borrowed(document)), key: "" }
    }

    /// What a function made.
    pub(super) fn made(value: impl Into<Value>) -> Self {
        Self { json: Some(Cow::Owned(value.into())), key: "" }
    }

    /// Its JSON; null where there is none.
    pub(super) fn json(&self) -> &Value {
        self.json.as_deref().unwrap_or(&Value::Null)
    }

    /// As the stock client encodes it.
    pub(super) fn encoded(&self, reading: Reading) -> String {
        let own = match reading {
            Reading::Typed(_) => go_types::encoded(self.key, self.json()),
            Reading::Raw => None,
        };
        own.as_ref().unwrap_or(self.json()).to_string()
    }

    /// Whether it is nothing that could be looked into.
    pub(super) fn is_nothing(&self) -> bool {
        self.json().is_null()
    }

    fn is_list(&self) -> bool {
        self.json().is_array() || (self.is_nothing() && go_types::NIL_LISTS.contains(&self.key))
    }

    fn is_map(&self, reading: Reading) -> bool {
        match self.json() {
            Value::Object(_) => reading == Reading::Raw || go_types::MAPS.contains(&self.key),
            Value::Null => self.json.is_some() && go_types::MAPS.contains(&self.key),
            _ => false,
        }
    }

    /// The name of its type, as Go's errors have it.
    pub(super) fn type_name(&self, reading: Reading) -> &'static str {
        match (self.json(), reading) {
            (Value::String(_), _) => "string",
            (Value::Bool(_), _) => "bool",
            (Value::Number(number), _) => {
                if number.is_f64() {
                    "float64"
                } else {
                    "int"
                }
            }
            (Value::Object(_), Reading::Raw) => "map[string]interface {}",
            (Value::Array(_), Reading::Raw) => "[]interface {}",
            (Value::Object(_), Reading::Typed(name)) => name,
            (Value::Array(_), Reading::Typed(_)) => "[]string",
            (Value::Null, _) => "interface {}",
        }
    }

    /// A field of it, or an entry.
    ///
    /// # Errors
    /// Go's reason why there is none.
    pub(super) fn field(&self, name: &'a str, reading: Reading) -> Result<Self, String> {
        let child = |json| Self { json: Some(json), key: name };
        match (&self.json, reading) {
            (None, Reading::Typed(_)) => return Ok(Self::ABSENT),
            _ if self.is_nothing() && self.is_map(reading) && reading != Reading::Raw => {
                return Ok(Self::ABSENT);
            }
            (Some(_), Reading::Typed(_)) if self.is_nothing() => {
                return Err(format!("nil pointer evaluating {}.{name}", self.type_name(reading)));
            }
            _ if self.is_nothing() => return Err(format!("nil data; no entry for key {name:?}")),
            _ => {}
        }
        let Value::Object(fields) = self.json() else {
            let kind = if reading == Reading::Raw { "interface {}" } else { self.type_name(reading) };
            return Err(format!("can't evaluate field {name} in type {kind}"));
        };
        let in_json = if reading == Reading::Raw || self.is_map(reading) {
            name
        } else {
            go_types::json_name(name, fields)
        };
        if fields.contains_key(in_json) {
            let found = match self.json.as_ref() {
                Some(Cow::Borrowed(Value::Object(fields))) => fields.get(in_json).map(Cow::Borrowed),
                _ => fields.get(in_json).cloned().map(Cow::Owned),
            };
            return Ok(found.map_or(Self::ABSENT, child));
        }
        match reading {
            Reading::Raw => Err(format!("map has no entry for key {name:?}")),
            Reading::Typed(_) if self.is_map(reading) => Ok(Self::ABSENT),
            Reading::Typed(kind) => {
                let mut absent = go_types::absent(self.key, fields).into_iter();
                let found = absent.find(|(field, _)| *field == in_json);
                found
                    .map(|(_, zero)| child(Cow::Owned(zero)))
                    .ok_or_else(|| format!("can't evaluate field {name} in type {kind}"))
            }
        }
    }

    /// An element of a list, an entry of a map, a byte of a text.
    ///
    /// # Errors
    /// Go's reason why there is none.
    pub(super) fn index(&self, key: &Self, reading: Reading) -> Result<Self, String> {
        let at = |length: usize| match key.json().as_i64() {
            Some(at) => match usize::try_from(at) {
                Ok(at) if at < length => Ok(at),
                _ => Err(format!("index out of range: {at}")),
            },
            None if key.is_nothing() => Err("cannot index slice/array with nil".into()),
            None => Err(format!("cannot index slice/array with type {}", key.type_name(reading))),
        };
        match self.json() {
            Value::Array(items) => Ok(Self::made(items[at(items.len())?].clone())),
            Value::String(text) => Ok(Self::made(text.as_bytes()[at(text.len())?])),
            Value::Object(map) if self.is_map(reading) => {
                let Some(name) = key.json().as_str() else {
                    return Err(format!("value has type {}; should be string", key.type_name(reading)));
                };
                match map.get(name) {
                    Some(found) => Ok(Self::made(found.clone())),
                    // Of a map of texts, an entry that is not there is an empty one.
                    None if reading != Reading::Raw && map.values().all(Value::is_string) => {
                        Ok(Self::made(""))
                    }
                    None => Ok(Self::ABSENT),
                }
            }
            Value::Null if self.is_list() => at(0).map(|_| Self::ABSENT),
            Value::Null if self.is_map(reading) => Ok(Self::made("")),
            Value::Null => Err("index of untyped nil".into()),
            _ => Err(format!("can't index item of type {}", self.type_name(reading))),
        }
    }

    /// What a loop goes over: keys and values.
    ///
    /// # Errors
    /// Go's reason why it cannot be gone over.
    pub(super) fn entries(&self, reading: Reading) -> Result<Vec<(Self, Self)>, String> {
        let element = |value: &Value| Self::made(value.clone());
        match self.json() {
            Value::Array(items) => {
                Ok(items.iter().enumerate().map(|(at, item)| (Self::made(at), element(item))).collect())
            }
            Value::Object(map) if self.is_map(reading) => {
                let sorted: BTreeMap<_, _> = map.iter().collect();
                Ok(sorted.into_iter().map(|(key, item)| (Self::made(key.as_str()), element(item))).collect())
            }
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                let count = number.as_i64().unwrap_or(0).clamp(0, MOST_ROUNDS);
                Ok((0..count).map(|at| (Self::made(at), Self::made(at))).collect())
            }
            Value::Null => Ok(Vec::new()),
            _ => Err(format!("range can't iterate over {}", self.text(reading))),
        }
    }

    /// Whether it counts as true: it is neither nothing nor empty nor zero.
    pub(super) fn is_true(&self) -> bool {
        match self.json() {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            // A structure is always something.
            Value::Object(fields) => !fields.is_empty(),
        }
    }

    /// How many bytes, elements or entries it has.
    pub(super) fn len(&self, reading: Reading) -> Option<usize> {
        match self.json() {
            Value::String(text) => Some(text.len()),
            Value::Array(items) => Some(items.len()),
            Value::Object(map) if self.is_map(reading) => Some(map.len()),
            Value::Null if self.is_list() || self.is_map(reading) => Some(0),
            _ => None,
        }
    }

    /// As Go prints it.
    pub(super) fn text(&self, reading: Reading) -> String {
        match self.json() {
            Value::String(text) => text.clone(),
            Value::Null if self.is_list() || self.is_map(reading) => self.go().to_string(),
            Value::Null if self.json.is_none() || reading == Reading::Raw => "<no value>".into(),
            _ => self.go().to_string(),
        }
    }

    /// As a value of the template library, whose formatting is Go's.
    pub(super) fn go(&self) -> Go {
        go(self.json(), self.key)
    }
}

/// More rounds than that of a loop over a number are a mistake.
const MOST_ROUNDS: i64 = 1_000_000;

fn go(value: &Value, key: &str) -> Go {
    match value {
        Value::Null if go_types::NIL_LISTS.contains(&key) => Go::List(Arc::from(Vec::new())),
        Value::Null if go_types::MAPS.contains(&key) => Go::Map(Arc::default()),
        Value::Null => Go::Nil,
        Value::Bool(flag) => Go::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Go::Int(int),
            (None, Some(int)) => Go::Uint(int),
            (None, None) => Go::Float(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => Go::String(Arc::from(text.as_str())),
        Value::Array(items) => Go::List(items.iter().map(|item| go(item, "")).collect()),
        Value::Object(map) => {
            let mut fields: BTreeMap<Arc<str>, Go> =
                map.iter().map(|(key, item)| (Arc::from(key.as_str()), go(item, key))).collect();
            for (absent, zero) in go_types::absent(key, map) {
                fields.entry(Arc::from(absent)).or_insert_with(|| go(&zero, absent));
            }
            Go::Map(Arc::new(fields))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn structures_have_fields_and_maps_have_entries() {
        let document = json!({"Labels": {"a": "b"}, "State": {"Id": "x", "OOMKilled": false}, "Env": null, "Ports": null});
        let (root, typed) = (Val::root(&document), Reading::Typed("*thing"));
        let text = |path: &[&'static str], reading| {
            let found = path.iter().try_fold(root.clone(), |value, name| value.field(name, reading));
            found.map_or_else(|why| why, |value| value.text(reading))
        };
        assert_eq!(text(&["Labels", "zz"], typed), "<no value>");
        assert_eq!(text(&["Labels", "zz", "y"], typed), "<no value>");
        assert_eq!(text(&["Labels", "zz"], Reading::Raw), "map has no entry for key \"zz\"");
        assert_eq!(text(&["State", "ID"], typed), "x");
        assert_eq!(text(&["State", "Health"], typed), "<nil>");
        assert_eq!(text(&["State", "Health"], Reading::Raw), "map has no entry for key \"Health\"");
        assert_eq!(text(&["State", "Nope"], typed), "can't evaluate field Nope in type *thing");
        assert_eq!(text(&["State", "Id", "x"], typed), "can't evaluate field x in type string");
        assert_eq!(text(&["Env"], typed) + &text(&["Ports"], typed), "[]map[]");
    }
}
