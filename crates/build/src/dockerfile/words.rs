//! Variables in words: `$x`, `${x}`, `${x:-word}` and its sisters, quotes and escapes, as the builder's
//! own small shell has them.

/// Deeper nesting than this is an attack, not a Dockerfile.
const MAX_DEPTH: usize = 64;
/// No word may grow beyond this; the kernel takes arguments up to 128 KiB.
const MAX_BYTES: usize = 1 << 20;

/// Expands words with the variables of one place in a Dockerfile.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The escape character.
    pub escape: char,
    /// Says a variable's value.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// How the text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Quotes and escapes are taken away.
    Word,
    /// Only variables are expanded: the body of a here-document.
    Text,
}

impl Expander<'_> {
    /// Expands one word: variables are replaced, quotes and escapes taken away.
    ///
    /// # Errors
    /// The text that the user sees: `failed to process "…": …`.
    pub fn word(&self, word: &str) -> Result<String, String> {
        self.expand(word, Mode::Word)
    }

    /// Expands the body of a here-document: quotes stay as they are.
    ///
    /// # Errors
    /// As [`Self::word`].
    pub fn text(&self, text: &str) -> Result<String, String> {
        self.expand(text, Mode::Text)
    }

    /// Expands to several words: blanks outside of quotes part them, also those from variables.
    ///
    /// # Errors
    /// As [`Self::word`].
    pub fn words(&self, word: &str) -> Result<Vec<String>, String> {
        let mut scan = self.scan(word, Mode::Word);
        let result = scan.until(&[], 0);
        finish(word, result.map(|_| scan.words.finish()))
    }

    fn expand(&self, word: &str, mode: Mode) -> Result<String, String> {
        let mut scan = self.scan(word, mode);
        finish(word, scan.until(&[], 0))
    }

    fn scan<'s>(&'s self, word: &'s str, mode: Mode) -> Scan<'s> {
        Scan { rest: word, escape: self.escape, lookup: self.lookup, mode, words: Words::default() }
    }
}

fn finish<T>(word: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|reason| {
        let shown: String = word.chars().take(256).collect();
        format!("failed to process {shown:?}: {reason}")
    })
}

/// The words of a text whose blanks outside of quotes part them.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: Option<String>,
}

impl Words {
    fn push(&mut self, text: &str) {
        self.open.get_or_insert_default().push_str(text);
    }

    /// Adds a variable's value, whose blanks part words too.
    fn push_split(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() { self.part() } else { self.open.get_or_insert_default().push(c) }
        }
    }

    fn part(&mut self) {
        self.done.extend(self.open.take());
    }

    fn finish(&mut self) -> Vec<String> {
        self.part();
        std::mem::take(&mut self.done)
    }
}

struct Scan<'a> {
    rest: &'a str,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mode: Mode,
    words: Words,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Reads up to one of `stops`, which is not taken, or to the end where there are none.
    fn until(&mut self, stops: &[char], depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("variables are nested more than {MAX_DEPTH} deep"));
        }
        let mut out = String::new();
        while let Some(c) = self.peek() {
            if stops.contains(&c) {
                return Ok(out);
            }
            let part = match c {
                '\'' if self.mode == Mode::Word => self.single_quoted()?,
                '"' if self.mode == Mode::Word => self.double_quoted(depth)?,
                '$' => {
                    let value = self.dollar(depth)?;
                    if depth == 0 {
                        self.words.push_split(&value);
                    }
                    out.push_str(&value);
                    if out.len() > MAX_BYTES {
                        return Err(too_long());
                    }
                    continue;
                }
                c if c == self.escape => match self.escaped() {
                    Some(text) => text,
                    None => break,
                },
                _ => {
                    self.next();
                    if depth == 0 && c.is_whitespace() {
                        self.words.part();
                        out.push(c);
                        continue;
                    }
                    c.to_string()
                }
            };
            if depth == 0 {
                self.words.push(&part);
            }
            out.push_str(&part);
            if out.len() > MAX_BYTES {
                return Err(too_long());
            }
        }
        match stops {
            [] => Ok(out),
            [stop, ..] => Err(format!("unexpected end of statement while looking for matching {stop}")),
        }
    }

    /// An escape outside of quotes; `None` at the end of the text, where it vanishes.
    fn escaped(&mut self) -> Option<String> {
        self.next();
        let c = self.next();
        match (self.mode, c) {
            (Mode::Word, c) => c.map(String::from),
            (Mode::Text, Some(c)) if c == '$' || c == self.escape => Some(c.to_string()),
            (Mode::Text, c) => Some(std::iter::once(self.escape).chain(c).collect()),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        self.next();
        let Some(end) = self.rest.find('\'') else {
            return Err("unexpected end of statement while looking for matching single-quote".into());
        };
        let text = self.rest[..end].to_owned();
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    fn double_quoted(&mut self, depth: usize) -> Result<String, String> {
        self.next();
        let mut out = String::new();
        loop {
            match self.peek() {
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
                Some('"') => {
                    self.next();
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.dollar(depth)?),
                Some(c) if c == self.escape => {
                    self.next();
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.next();
                            out.push(next);
                        }
                        Some(_) => out.push(c),
                        None => {}
                    }
                }
                Some(c) => {
                    self.next();
                    out.push(c);
                }
            }
            if out.len() > MAX_BYTES {
                return Err(too_long());
            }
        }
    }

    /// A variable, or a lone `$`.
    fn dollar(&mut self, depth: usize) -> Result<String, String> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        self.next();
        let name = self.name();
        match self.next() {
            Some('}') if name.is_empty() => Err("syntax error: bad substitution".into()),
            Some('}') => Ok((self.lookup)(&name).unwrap_or_default()),
            None if name.is_empty() => Err("syntax error: missing '}'".into()),
            Some(_) if name.is_empty() => Err("unsupported modifier in substitution".into()),
            Some(':') => {
                let modifier = self.next();
                self.conditional(&name, modifier, true, depth)
            }
            Some(c @ ('-' | '+' | '?')) => self.conditional(&name, Some(c), false, depth),
            Some(c @ ('#' | '%')) => {
                let greedy = self.peek() == Some(c);
                if greedy {
                    self.next();
                }
                let pattern = self.operand(&['}'], depth)?;
                self.next();
                let value = (self.lookup)(&name).unwrap_or_default();
                Ok(if c == '#' {
                    trim_prefix(&value, &pattern, greedy)
                } else {
                    trim_suffix(&value, &pattern, greedy)
                })
            }
            Some('/') => {
                let all = self.peek() == Some('/');
                if all {
                    self.next();
                }
                let pattern = self.operand(&['/'], depth)?;
                self.next();
                let replacement = self.operand(&['}'], depth)?;
                self.next();
                let value = (self.lookup)(&name).unwrap_or_default();
                replace(&value, &pattern, &replacement, all)
            }
            Some(c) => Err(unsupported(&c.to_string())),
            // Go prints its end-of-file rune, which is none.
            None => Err(unsupported("\u{fffd}")),
        }
    }

    fn operand(&mut self, stops: &[char], depth: usize) -> Result<String, String> {
        self.until(stops, depth + 1)
    }

    /// `${x:-w}`, `${x-w}` and the like; with a colon an empty value counts as unset.
    fn conditional(
        &mut self,
        name: &str,
        modifier: Option<char>,
        colon: bool,
        depth: usize,
    ) -> Result<String, String> {
        let shown = |c: char| if colon { format!(":{c}") } else { c.to_string() };
        let Some(modifier) = modifier else { return Err(unsupported(":\u{fffd}")) };
        if !matches!(modifier, '-' | '+' | '?') {
            return Err(unsupported(&shown(modifier)));
        }
        let word = self.operand(&['}'], depth)?;
        self.next();
        let value = (self.lookup)(name).filter(|value| !(colon && value.is_empty()));
        match (modifier, value) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            _ if !word.is_empty() => Err(format!("{name}: {word}")),
            _ if colon => Err(format!("{name}: is not allowed to be unset")),
            _ => Err(format!("{name}: is not allowed to be unset")),
        }
    }

    /// A name: letters, digits and `_`; or one digit or special character.
    fn name(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let name = match self.rest.as_bytes().first() {
            Some(b'0'..=b'9') => &self.rest[..1],
            Some(b'@' | b'*' | b'#' | b'!' | b'?' | b'-') => &self.rest[..1],
            _ => &self.rest[..end],
        };
        let name = name.to_owned();
        self.rest = &self.rest[name.len()..];
        name
    }
}

fn too_long() -> String {
    format!("the value is longer than {MAX_BYTES} bytes")
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

/// Whether a whole text matches a pattern of `*`, `?` and escapes. Linear in the product of the lengths.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => Some(2),
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(step), _) => {
                p += step;
                t += 1;
            }
            (None, Some((after, from))) => {
                (p, t) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn trim_prefix(value: &str, pattern: &str, greedy: bool) -> String {
    let (value, pattern) = (chars(value), chars(pattern));
    let fits = |end: &usize| matches(&pattern, &value[..*end]);
    let end = if greedy { (0..=value.len()).rev().find(fits) } else { (0..=value.len()).find(fits) };
    value[end.unwrap_or(0)..].iter().collect()
}

fn trim_suffix(value: &str, pattern: &str, greedy: bool) -> String {
    let (value, pattern) = (chars(value), chars(pattern));
    let fits = |start: &usize| matches(&pattern, &value[*start..]);
    let start = if greedy { (0..=value.len()).find(fits) } else { (0..=value.len()).rev().find(fits) };
    value[..start.unwrap_or(value.len())].iter().collect()
}

/// Values beyond this are not searched: the search is quadratic.
const MAX_SEARCHED: usize = 4096;

fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, String> {
    let (value, pattern) = (chars(value), chars(pattern));
    if value.len() > MAX_SEARCHED {
        return Err(format!("cannot replace in a value of more than {MAX_SEARCHED} characters"));
    }
    let mut out = String::new();
    let mut at = 0;
    let mut left = if all { usize::MAX } else { 1 };
    while at < value.len() {
        let longest =
            (at + 1..=value.len()).rev().find(|&end| left > 0 && matches(&pattern, &value[at..end]));
        match longest {
            Some(end) if left > 0 => {
                out.push_str(replacement);
                left -= 1;
                at = end;
            }
            _ => {
                out.push(value[at]);
                at += 1;
            }
        }
        if out.len() > MAX_BYTES {
            return Err(too_long());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "x" => Some("X".into()),
            "path" => Some("/a/b/c.tar.gz".into()),
            "two" => Some("1 2".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    fn check(word: &str, expected: &str) {
        let expander = Expander { escape: '\\', lookup: &lookup };
        assert_eq!(expander.word(word).as_deref(), Ok(expected), "{word}");
    }

    #[test]
    fn variables_quotes_and_escapes() {
        check("$x${x}b", "XXb");
        check("$xb", "");
        check("\\$x", "$x");
        check("'$x'\"$x\"", "$xX");
        check("\"a\\\"b\\c\"", "a\"b\\c");
        check("a$", "a$");
        check("a\\", "a");
        check("${no:-d}${no-d}${empty:-d}${empty-d}|", "ddd|");
        check("${x:+s}${no:+s}${empty+s}", "ss");
        check("${no:-${x:-y}}", "X");
        check("${no:-\"a b\"}", "a b");
        check("${x:?}", "X");
        check("${path##*/}|${path#*/}|${path%.*}|${path%%.*}", "c.tar.gz|a/b/c.tar.gz|/a/b/c.tar|/a/b/c");
        check("${path/b/B}|${path//a/A}", "/a/B/c.tar.gz|/A/b/c.tAr.gz");
        check("$two", "1 2");
    }

    #[test]
    fn blanks_part_words() {
        let expander = Expander { escape: '\\', lookup: &lookup };
        assert_eq!(
            expander.words("$two \"$two\" a\\ b"),
            Ok(vec!["1".into(), "2".into(), "1 2".into(), "a b".into()])
        );
    }

    #[test]
    fn here_documents_keep_their_quotes() {
        let expander = Expander { escape: '\\', lookup: &lookup };
        assert_eq!(expander.text("'$x' \"a\" \\$x \\n\n").as_deref(), Ok("'X' \"a\" $x \\n\n"));
    }

    #[test]
    fn errors_are_dockers() {
        let expander = Expander { escape: '\\', lookup: &lookup };
        for (word, reason) in [
            ("${b", "unsupported modifier (\u{fffd}) in substitution"),
            ("${", "syntax error: missing '}'"),
            ("${b:?}", "b: is not allowed to be unset"),
            ("${b:?nope}", "b: nope"),
            ("${b!c}", "unsupported modifier (!) in substitution"),
            ("\"b", "unexpected end of statement while looking for matching double-quote"),
            ("'b", "unexpected end of statement while looking for matching single-quote"),
        ] {
            assert_eq!(expander.word(word), Err(format!("failed to process {word:?}: {reason}")));
        }
    }

    #[test]
    fn hostile_words_are_refused() {
        let deep = "${a:-".repeat(10_000) + &"}".repeat(10_000);
        let expander = Expander { escape: '\\', lookup: &lookup };
        assert!(expander.word(&deep).expect_err("too deep").contains("nested"));
        let big = "b".repeat(MAX_BYTES / 2);
        let lookup = |_: &str| Some(big.clone());
        let expander = Expander { escape: '\\', lookup: &lookup };
        assert!(expander.word("$a$a$a").expect_err("too long").contains("longer"));
    }
}
