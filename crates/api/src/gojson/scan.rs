//! What Go says of a text that is no JSON. Clients show it, and some look for it.
//!
//! The reader proper is serde's; this is asked once it has refused a text.

/// Where a scan stands, and so what may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A value must begin.
    Value,
    /// After `[`: a value, or the end.
    FirstElement,
    /// After `{`: a key, or the end.
    FirstKey,
    /// After `,` in an object.
    Key,
    AfterKey,
    /// After a value, in what it is in.
    AfterValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Object,
    Array,
}

/// Go's message for the first value in `text`; `None` where Go finds nothing wrong with it.
pub(super) fn fault(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    scan.value().err()
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte must be one of some; if not, what was being looked for.
    fn take(&mut self, wanted: impl Fn(u8) -> bool, context: &str) -> Result<u8, String> {
        let byte = self.peek().ok_or("unexpected EOF")?;
        if !wanted(byte) {
            return Err(format!("invalid character {} {context}", quoted(byte)));
        }
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.at += 1;
        }
    }

    /// One value with all that is in it.
    fn value(&mut self) -> Result<(), String> {
        let (mut state, mut within) = (At::Value, Vec::new());
        loop {
            if state == At::AfterValue && within.is_empty() {
                return Ok(());
            }
            self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            state = match (state, self.peek()) {
                (At::FirstElement, Some(b']')) | (At::FirstKey, Some(b'}')) => {
                    self.at += 1;
                    within.pop();
                    At::AfterValue
                }
                (At::Value | At::FirstElement, Some(b'[')) => {
                    self.at += 1;
                    within.push(Within::Array);
                    At::FirstElement
                }
                (At::Value | At::FirstElement, Some(b'{')) => {
                    self.at += 1;
                    within.push(Within::Object);
                    At::FirstKey
                }
                (At::Value | At::FirstElement, _) => {
                    self.scalar()?;
                    At::AfterValue
                }
                (At::Key | At::FirstKey, _) => {
                    self.take(|byte| byte == b'"', "looking for beginning of object key string")?;
                    self.string()?;
                    At::AfterKey
                }
                (At::AfterKey, _) => {
                    self.take(|byte| byte == b':', "after object key")?;
                    At::Value
                }
                (At::AfterValue, _) => self.after_value(&mut within)?,
            };
        }
    }

    fn after_value(&mut self, within: &mut Vec<Within>) -> Result<At, String> {
        let (end, context, next) = match within.last() {
            Some(Within::Array) => (b']', "after array element", At::Value),
            _ => (b'}', "after object key:value pair", At::Key),
        };
        if self.take(|byte| byte == end || byte == b',', context)? == b',' {
            return Ok(next);
        }
        within.pop();
        Ok(At::AfterValue)
    }

    fn scalar(&mut self) -> Result<(), String> {
        let begins = |byte: u8| byte.is_ascii_digit() || b"-\"tfn".contains(&byte);
        match self.take(begins, "looking for beginning of value")? {
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            first => self.number(first),
        }
    }

    /// The rest of a word whose first letter was read.
    fn literal(&mut self, word: &str) -> Result<(), String> {
        for wanted in word.bytes().skip(1) {
            let context = format!("in literal {word} (expecting {})", quoted(wanted));
            self.take(|byte| byte == wanted, &context)?;
        }
        Ok(())
    }

    /// The rest of a string whose quotation mark was read.
    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.take(|byte| byte >= 0x20, "in string literal")? {
                b'"' => return Ok(()),
                b'\\' => {
                    let escapes = |byte: u8| b"bfnrt\\/\"u".contains(&byte);
                    if self.take(escapes, "in string escape code")? == b'u' {
                        for _ in 0..4 {
                            let context = "in \\u hexadecimal character escape";
                            self.take(|byte| byte.is_ascii_hexdigit(), context)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The rest of a number whose first character was read.
    fn number(&mut self, mut first: u8) -> Result<(), String> {
        let digit = |byte: u8| byte.is_ascii_digit();
        if first == b'-' {
            first = self.take(digit, "in numeric literal")?;
        }
        if first != b'0' {
            self.skip(digit);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.take(digit, "after decimal point in numeric literal")?;
            self.skip(digit);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.take(digit, "in exponent of numeric literal")?;
            self.skip(digit);
        }
        Ok(())
    }
}

/// A byte as Go quotes it: for itself, not for the character that it is a part of.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'\\' => r"'\\'".into(),
        0x07 => r"'\a'".into(),
        0x08 => r"'\b'".into(),
        0x0b => r"'\v'".into(),
        0x0c => r"'\f'".into(),
        b'\n' => r"'\n'".into(),
        b'\r' => r"'\r'".into(),
        b'\t' => r"'\t'".into(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        byte => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_gos_words() {
        for (text, want) in [
            ("{invalid", "invalid character 'i' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[01]", "invalid character '1' after array element"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            ("nul", "unexpected EOF"),
            ("{\"a\": [", "unexpected EOF"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("[']", "invalid character '\\'' looking for beginning of value"),
            ("[é]", "invalid character 'Ã' looking for beginning of value"),
            ("[\0]", "invalid character '\\x00' looking for beginning of value"),
        ] {
            assert_eq!(fault(text.as_bytes()).as_deref(), Some(want), "{text:?}");
        }
    }

    #[test]
    fn what_is_json_has_no_fault() {
        for text in [
            "{}",
            " [ ] ",
            "{\"a\":{\"b\":[1,-0.5e-3,\"x\\u00e9\\n\",true,false,null]},\"c\":[]}",
            "0 and then something",
            "\"\u{fffd}\"",
        ] {
            assert_eq!(fault(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(fault(b"\"\xff\""), None, "Go takes bytes that are no UTF-8");
    }
}
