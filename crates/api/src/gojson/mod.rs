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

use std::fmt;

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

impl InvalidJson {
    /// What is wrong, in the words of Go's `json.Unmarshal`: how it is said of JSON in a parameter.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Empty => "unexpected end of JSON input".into(),
            Self::Syntax(why) => why.clone(),
            Self::Trailing => self.to_string(),
        }
    }
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
/// [`InvalidJson::Syntax`] where a value has the wrong type, with its place.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, InvalidJson> {
    T::deserialize(Lenient(value)).map_err(|wrong| InvalidJson::Syntax(wrong.to_string()))
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

/// A value that is not what its place takes. `Display` is in the words of Go's decoder, which clients know:
/// `json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    /// Where, from the innermost key to the outermost.
    place: Vec<String>,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A value of one type where another is taken.
    Type { found: String, wanted: &'static str },
    /// What a type says of its own values.
    Other(String),
}

type Error = Wrong;

impl Wrong {
    fn kind(value: &Value, wanted: &'static str) -> Self {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if number.is_f64() && wanted.contains("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Self { place: Vec::new(), what: What::Type { found, wanted } }
    }

    fn within(mut self, key: impl ToString) -> Self {
        // A separator within a key is written as a JSON pointer has it.
        self.place.push(key.to_string().replace('~', "~0").replace('/', "~1"));
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: String = self.place.iter().rev().map(|key| format!(".{key}")).collect();
        match (&self.what, place.as_str()) {
            (What::Type { found, wanted }, "") => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {wanted}")
            }
            (What::Type { found, wanted }, place) => {
                write!(f, "json: cannot unmarshal {found} into Go struct field {place} of type {wanted}")
            }
            (What::Other(text), "") => f.write_str(text),
            (What::Other(text), place) => write!(f, "{place}: {text}"),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { place: Vec::new(), what: What::Other(text.to_string()) }
    }
}

/// The wrapper: a JSON tree that answers as Go's decoder would.
struct Lenient(Value);

impl Lenient {
    /// What Go leaves in a field of a type when it meets `null`: the type's zero.
    fn or_zero(self, zero: impl FnOnce() -> Value) -> Value {
        if self.0.is_null() { zero() } else { self.0 }
    }
}

macro_rules! zeroed {
    ($($method:ident => $zero:expr, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.or_zero(|| $zero);
            // The value moves into its own deserializer, so what would be said of it is made before.
            let wrong = Wrong::kind(&value, $wanted);
            value.$method(visitor).map_err(|_| wrong)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => Lenient(Value::Array(items)).deserialize_seq(visitor),
            Value::Object(map) => Lenient(Value::Object(map)).deserialize_map(visitor),
            other => other.deserialize_any(visitor).map_err(de::Error::custom),
        }
    }

    zeroed! {
        deserialize_bool => Value::Bool(false), "bool";
        deserialize_i8 => 0.into(), "int8";
        deserialize_i16 => 0.into(), "int16";
        deserialize_i32 => 0.into(), "int32";
        deserialize_i64 => 0.into(), "int64";
        deserialize_i128 => 0.into(), "int64";
        deserialize_u8 => 0.into(), "uint8";
        deserialize_u16 => 0.into(), "uint16";
        deserialize_u32 => 0.into(), "uint32";
        deserialize_u64 => 0.into(), "uint64";
        deserialize_u128 => 0.into(), "uint64";
        deserialize_f32 => 0.into(), "float32";
        deserialize_f64 => 0.into(), "float64";
        deserialize_char => "\0".into(), "string";
        deserialize_str => "".into(), "string";
        deserialize_string => "".into(), "string";
        deserialize_bytes => "".into(), "string";
        deserialize_byte_buf => "".into(), "string";
        deserialize_identifier => "".into(), "string";
        deserialize_unit => Value::Null, "struct";
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
            Value::Array(items) => visitor.visit_seq(Items::of(items)),
            other => Err(Wrong::kind(&other, "array")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        // Go fills a fixed-size array with zeros and drops what is too much.
        let mut items = match self.or_zero(|| Value::Array(Vec::new())) {
            Value::Array(items) => items,
            other => return Err(Wrong::kind(&other, "array")),
        };
        items.resize(len, Value::Null);
        visitor.visit_seq(Items::of(items))
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
            Value::Object(map) => visitor.visit_map(Entries { map: map.into_iter(), at: None }),
            other => Err(Wrong::kind(&other, "map")),
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
            other => return Err(Wrong::kind(&other, name)),
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
        visitor.visit_map(Fields { fields: chosen.into_iter(), at: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor).map_err(de::Error::custom)
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

struct Items {
    items: std::vec::IntoIter<Value>,
    next: usize,
}

impl Items {
    fn of(items: Vec<Value>) -> Self {
        Self { items: items.into_iter(), next: 0 }
    }
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let at = self.next;
        self.next += 1;
        seed.deserialize(Lenient(value)).map(Some).map_err(|wrong| wrong.within(at))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries {
    map: MapIntoIter,
    /// The key that was read last, and its value.
    at: Option<(String, Value)>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.map.next() else { return Ok(None) };
        self.at = Some((key.clone(), value));
        seed.deserialize(Lenient(Value::String(key))).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.at.take().unwrap_or_default();
        seed.deserialize(Lenient(value)).map_err(|wrong| wrong.within(key))
    }
}

struct Fields {
    fields: std::vec::IntoIter<(&'static str, Value)>,
    /// The field that was read last, and its value.
    at: Option<(&'static str, Value)>,
}

impl<'de> de::MapAccess<'de> for Fields {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.fields.next() else { return Ok(None) };
        self.at = Some((key, value));
        seed.deserialize(StrDeserializer::<Error>::new(key)).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.at.take().unwrap_or_default();
        seed.deserialize(Lenient(value)).map_err(|wrong| wrong.within(key))
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
        for (text, want) in [
            (r#"{"name":1}"#, "number into Go struct field .Name of type string"),
            (r#"{"Count":"1"}"#, "string into Go struct field .Count of type int64"),
            (r#"{"Count":1.5}"#, "number 1.5 into Go struct field .Count of type int64"),
            (r#"{"On":"true"}"#, "string into Go struct field .On of type bool"),
            (r#"{"List":{}}"#, "object into Go struct field .List of type array"),
            (r#"{"List":["a",2]}"#, "number into Go struct field .List.1 of type string"),
            (r#"{"Map":{"80/tcp":[]}}"#, "array into Go struct field .Map.80~1tcp of type string"),
            (r#"{"Map":[]}"#, "array into Go struct field .Map of type map"),
            (r#"{"Pointer":{"Key":{}}}"#, "object into Go struct field .Pointer.Key of type string"),
            (r#"{"Inner":[]}"#, "array into Go struct field .Inner of type Inner"),
            ("\"x\"", "string into Go value of type Sample"),
            ("[]", "array into Go value of type Sample"),
        ] {
            let error = from_slice::<Sample>(text.as_bytes()).expect_err(text);
            assert_eq!(error.to_string(), format!("invalid JSON: json: cannot unmarshal {want}"), "{text:?}");
        }
        let error = from_slice::<Sample>(b"[1").expect_err("it ends too early");
        assert_eq!(error.to_string(), "invalid JSON: unexpected EOF");
    }

    #[test]
    fn deep_nesting_is_refused_not_a_crash() {
        let text = "[".repeat(100_000);
        assert!(from_slice::<Sample>(text.as_bytes()).is_err());
    }
}
