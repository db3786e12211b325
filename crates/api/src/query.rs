//! Query strings: repeated keys, Go's idea of a boolean and of a number.

/// The decoded parameters of a request, in the order sent. A key may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

/// A parameter that cannot be used. `Display` is the whole message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("invalid URL escape {0:?}")]
    Escape(String),
    /// A number was expected.
    #[error("strconv.Atoi: parsing {value:?}: invalid syntax")]
    Number {
        /// The parameter.
        key: String,
        /// What it said.
        value: String,
    },
}

impl Query {
    /// Parses what stands after `?` in a URL, or a body of type `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    /// [`InvalidQuery::Escape`].
    pub fn parse(text: &str) -> Result<Self, InvalidQuery> {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(key, Plus::IsSpace)?, decode(value, Plus::IsSpace)?))
        };
        text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// Adds a parameter behind the others.
    pub fn push(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.push((key.into(), value.into()));
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.push(key, value);
        self
    }

    /// Removes every occurrence of a parameter.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(have, _)| have != key);
    }

    /// The first value of a parameter; empty where it was not sent, as Go's `FormValue`.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or("")
    }

    /// The first value of a parameter, if it was sent.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, in the order sent.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(have, _)| have == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as Docker reads it: everything is true but nothing, `0`, `no`, `false` and `none`.
    #[must_use]
    pub fn bool(&self, key: &str) -> bool {
        !matches!(self.get(key).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A boolean with a default for a parameter that was not sent at all.
    #[must_use]
    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        if self.find(key).is_some() { self.bool(key) } else { default }
    }

    /// A number; `None` where it was not sent or is empty.
    ///
    /// # Errors
    /// [`InvalidQuery::Number`] where it is anything else.
    pub fn number(&self, key: &str) -> Result<Option<i64>, InvalidQuery> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| InvalidQuery::Number { key: key.into(), value: text.into() }),
        }
    }

    /// Whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters as they stand in a URL, escaped, without `?`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            encode_into(key, &mut text);
            text.push('=');
            encode_into(value, &mut text);
        }
        text
    }
}

/// What a `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsSpace,
    IsPlus,
}

/// Decodes the escapes of a URL's path; `+` stays.
///
/// # Errors
/// [`InvalidQuery::Escape`].
pub fn decode_path(text: &str) -> Result<String, InvalidQuery> {
    decode(text, Plus::IsPlus)
}

fn decode(text: &str, plus: Plus) -> Result<String, InvalidQuery> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let source = text.as_bytes();
    let mut at = 0;
    while at < source.len() {
        match source[at] {
            b'%' => {
                let (high, low) = (digit(source.get(at + 1)), digit(source.get(at + 2)));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(InvalidQuery::Escape(text.into()));
                };
                bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                at += 2;
            }
            b'+' if plus == Plus::IsSpace => bytes.push(b' '),
            byte => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8(bytes).map_err(|_| InvalidQuery::Escape(text.into()))
}

/// Escapes a text for one segment of a URL's path or one side of a parameter.
pub fn encode_into(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            into.push('%');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_encoded() {
        let query = Query::parse("t=a%3A1&t=b+c&flag&x=&&filters=%7B%7D").expect("a query");
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["a:1", "b c"]);
        assert_eq!((query.get("t"), query.get("flag"), query.find("no")), ("a:1", "", None));
        assert_eq!(Query::parse(&query.encode()), Ok(query));
        for bad in ["a=%", "a=%4", "a=%zz", "%ff=1"] {
            assert!(Query::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(decode_path("/images/a%2Fb+c"), Ok("/images/a/b+c".into()));
    }

    #[test]
    fn booleans_are_dockers() {
        let value = |text: &str| Query::default().with("k", text).bool("k");
        for no in ["", "0", "no", "No", "false", "FALSE", "none", " "] {
            assert!(!value(no), "{no:?}");
        }
        for yes in ["1", "true", "True", "yes", "2", "x"] {
            assert!(value(yes), "{yes:?}");
        }
        assert!(Query::default().bool_or("k", true) && !Query::default().with("k", "0").bool_or("k", true));
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(Query::default().number("t"), Ok(None));
        assert_eq!(Query::default().with("t", "-1").number("t"), Ok(Some(-1)));
        assert!(Query::default().with("t", "1s").number("t").is_err());
    }
}
