//! JSON as Go's `encoding/json` reads and Docker's daemon writes it, decided once.
//!
//! Reading: `null` means a field's default wherever it stands; keys match without regard to case;
//! the last of several equal keys wins; unknown keys are ignored; more text after the value is an
//! error. This is done by one wrapper around serde's deserializer ([`from_slice`]), so that wire
//! types need nothing but `#[derive(Deserialize)] #[serde(default)]`.
//!
//! Writing ([`to_vec`]): compact, `<`, `>` and `&` as they are, one line feed at the end. Whether an
//! empty value is `null`, `[]` or left out is said at each field: `Option<Vec<_>>` without an
//! attribute is `null`, `Vec<_>` is `[]`, and `skip_serializing_if` is Go's `omitempty`.

mod scan;

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;
use serde_json::map::IntoIter as MapIntoIter;

/// A body that is not the JSON that was expected. `Display` is the whole message for the client.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJson {
    /// There was nothing.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// It is not JSON, or a value has the wrong type.
    #[error("invalid JSON: {0}")]
    Syntax(String),
    /// There was more after the first value.
    #[error("unexpected content after JSON")]
    Trailing,
}

/// Reads a value the way Go would.
///
/// # Errors
/// [`InvalidJson`].
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, InvalidJson> {
    from_value(parse(text)?)
}

/// Reads a JSON text into a tree, without deciding yet what it is.
///
/// # Errors
/// [`InvalidJson`].
pub fn parse(text: &[u8]) -> Result<Value, InvalidJson> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(InvalidJson::Empty);
    }
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let value = match stream.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            return Err(InvalidJson::Syntax(scan::fault(text).unwrap_or_else(|| error.to_string())));
        }
        None => return Err(InvalidJson::Empty),
    };
    if text[stream.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
        Ok(value)
    } else {
        Err(InvalidJson::Trailing)
    }
}

/// Interprets a tree the way Go would.
///
/// # Errors
/// [`InvalidJson::Syntax`] where a value has the wrong type.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, InvalidJson> {
    T::deserialize(Lenient(value)).map_err(|error| InvalidJson::Syntax(error.to_string()))
}

/// Writes a value as Docker's daemon does: compact, with a line feed at the end.
///
/// # Panics
/// Never for this crate's types: their keys are strings and their numbers finite.
#[must_use]
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("wire types have string keys and finite numbers");
    text.push(b'\n');
    text
}

type Error = serde_json::Error;

/// The wrapper: a JSON tree that answers as Go's decoder would.
struct Lenient(Value);

impl Lenient {
    /// What Go leaves in a field of a type when it meets `null`: the type's zero.
    fn or_zero(self, zero: impl FnOnce() -> Value) -> Value {
        if self.0.is_null() { zero() } else { self.0 }
    }
}

macro_rules! zeroed {
    ($($method:ident => $zero:expr),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.or_zero(|| $zero).$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => Lenient(Value::Array(items)).deserialize_seq(visitor),
            Value::Object(map) => Lenient(Value::Object(map)).deserialize_map(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    zeroed! {
        deserialize_bool => Value::Bool(false),
        deserialize_i8 => 0.into(), deserialize_i16 => 0.into(), deserialize_i32 => 0.into(),
        deserialize_i64 => 0.into(), deserialize_u8 => 0.into(), deserialize_u16 => 0.into(),
        deserialize_u32 => 0.into(), deserialize_u64 => 0.into(), deserialize_i128 => 0.into(),
        deserialize_u128 => 0.into(), deserialize_f32 => 0.into(), deserialize_f64 => 0.into(),
        deserialize_char => "\0".into(), deserialize_str => "".into(), deserialize_string => "".into(),
        deserialize_bytes => "".into(), deserialize_byte_buf => "".into(), deserialize_identifier => "".into(),
        deserialize_unit => Value::Null,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or_zero(|| Value::Array(Vec::new())) {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        // Go fills a fixed-size array with zeros and drops what is too much.
        let mut items = match self.or_zero(|| Value::Array(Vec::new())) {
            Value::Array(items) => items,
            other => return other.deserialize_seq(visitor),
        };
        items.resize(len, Value::Null);
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or_zero(|| Value::Object(serde_json::Map::new())) {
            Value::Object(map) => visitor.visit_map(Entries { map: map.into_iter(), value: None }),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let map = match self.or_zero(|| Value::Object(serde_json::Map::new())) {
            Value::Object(map) => map,
            other => return other.deserialize_struct(name, fields, visitor),
        };
        let mut chosen: Vec<(&'static str, Value)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let field = fields
                .iter()
                .find(|field| **field == key)
                .or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
            // A null leaves the field as it was: the default, or what an equal key set before.
            let Some(field) = field.filter(|_| !value.is_null()) else { continue };
            match chosen.iter_mut().find(|(name, _)| name == field) {
                Some(slot) => slot.1 = value,
                None => chosen.push((field, value)),
            }
        }
        visitor.visit_map(Fields { fields: chosen.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Lenient(value))).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries {
    map: MapIntoIter,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.map.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Lenient(Value::String(key))).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Lenient(self.value.take().unwrap_or_default()))
    }
}

struct Fields {
    fields: std::vec::IntoIter<(&'static str, Value)>,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Fields {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::<Error>::new(key)).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Lenient(self.value.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Map;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Sample {
        name: String,
        count: i64,
        on: bool,
        list: Vec<String>,
        maybe: Option<Vec<String>>,
        map: Map<String>,
        size: [u32; 2],
        inner: Inner,
        pointer: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        key: String,
    }

    fn check(text: &str, want: &Sample) {
        assert_eq!(&from_slice::<Sample>(text.as_bytes()).expect(text), want, "{text}");
    }

    #[test]
    fn texts_are_read_as_go_reads_them() {
        check("{}", &Sample::default());
        check("null", &Sample::default());
        check(
            r#"{"Name":null,"Count":null,"On":null,"List":null,"Maybe":null,"Map":null,"Size":null,"Inner":null,"Pointer":null}"#,
            &Sample::default(),
        );
        check(
            r#"{"NAME":"a","count":3,"oN":true}"#,
            &Sample { name: "a".into(), count: 3, on: true, ..Sample::default() },
        );
        check(r#"{"name":"a","Name":"b","NAME":null}"#, &Sample { name: "b".into(), ..Sample::default() });
        check(
            r#"{"List":[null,"x"],"Maybe":[],"Map":{"Key":null},"Size":[1]}"#,
            &Sample {
                list: vec![String::new(), "x".into()],
                maybe: Some(vec![]),
                map: [("Key".to_owned(), String::new())].into(),
                size: [1, 0],
                ..Sample::default()
            },
        );
        check(
            r#" {"Unknown":{"a":[1]},"inner":{"KEY":"v"},"pointer":{}} "#,
            &Sample {
                inner: Inner { key: "v".into() },
                pointer: Some(Inner::default()),
                ..Sample::default()
            },
        );
    }

    #[test]
    fn wrong_texts_are_named() {
        for (text, want) in [
            ("", "invalid JSON: got EOF while reading request body"),
            (" \n", "invalid JSON: got EOF while reading request body"),
            ("{}{}", "unexpected content after JSON"),
            ("{} x", "unexpected content after JSON"),
        ] {
            let error = from_slice::<Sample>(text.as_bytes()).expect_err(text);
            assert_eq!(error.to_string(), want, "{text:?}");
        }
        for text in [r#"{"Name":1}"#, r#"{"Count":"1"}"#, r#"{"List":{}}"#, "[1", r#"{"Count":1.5}"#, "\"x\""]
        {
            assert!(matches!(from_slice::<Sample>(text.as_bytes()), Err(InvalidJson::Syntax(_))), "{text:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_a_crash() {
        let text = "[".repeat(100_000);
        assert!(from_slice::<Sample>(text.as_bytes()).is_err());
    }
}
