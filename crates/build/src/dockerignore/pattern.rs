//! Patterns of paths: Go's `filepath.Match`, and Docker's `**` on top of it. Matching takes time in
//! proportion to pattern and path, whatever the pattern.

/// Says that a bracket or escape of a pattern has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: any byte but `/`.
    Any,
    /// `[…]`: a byte in the ranges, or not in them.
    Class { negated: bool, ranges: Vec<(u8, u8)> },
    /// `*`: any bytes but `/`.
    Star,
    /// `**` at the end or before something else than `/`: any bytes.
    Everything,
    /// `**/`: nothing, or any bytes up to a `/`.
    Directories,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// Compiles a pattern of paths, in which `**` spans directories.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn path(pattern: &[u8]) -> Result<Self, BadPattern> {
        Self::compile(pattern, true)
    }

    /// Compiles a pattern of one component of a path.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn component(pattern: &[u8]) -> Result<Self, BadPattern> {
        Self::compile(pattern, false)
    }

    fn compile(pattern: &[u8], spans: bool) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            tokens.push(match first {
                b'*' if spans && rest.first() == Some(&b'*') => {
                    while rest.first() == Some(&b'*') {
                        rest = &rest[1..];
                    }
                    match rest.first() {
                        Some(b'/') => {
                            rest = &rest[1..];
                            Token::Directories
                        }
                        Some(_) => Token::Directories,
                        None => Token::Everything,
                    }
                }
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => class(&mut rest)?,
                b'\\' => {
                    let (&byte, after) = rest.split_first().ok_or(BadPattern)?;
                    rest = after;
                    Token::Byte(byte)
                }
                byte => Token::Byte(byte),
            });
            // Docker reads `a**b` as `a`, anything, `b`.
            if tokens.last() == Some(&Token::Directories)
                && !rest.is_empty()
                && !ended_by_slash(pattern, rest)
            {
                *tokens.last_mut().expect("just pushed") = Token::Everything;
            }
        }
        Ok(Self(tokens))
    }

    /// Whether a whole text fits.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut now = vec![false; self.0.len() + 1];
        self.reach(&mut now, 0);
        for &byte in text {
            let mut next = vec![false; self.0.len() + 1];
            for (at, token) in self.0.iter().enumerate() {
                if !now[at] {
                    continue;
                }
                match token {
                    Token::Star if byte != b'/' => self.reach(&mut next, at),
                    Token::Everything => self.reach(&mut next, at),
                    Token::Directories => {
                        // Only behind a `/` may it end, so what follows is not reached by staying.
                        next[at] = true;
                        if byte == b'/' {
                            self.reach(&mut next, at + 1);
                        }
                    }
                    token if token.fits(byte) => self.reach(&mut next, at + 1),
                    _ => {}
                }
            }
            now = next;
        }
        now[self.0.len()]
    }

    /// Marks a place and those that are reached from it by matching nothing.
    fn reach(&self, places: &mut [bool], mut at: usize) {
        places[at] = true;
        while matches!(self.0.get(at), Some(Token::Star | Token::Everything | Token::Directories)) {
            at += 1;
            places[at] = true;
        }
    }
}

/// Whether what was read before `rest` ends with a `/`.
fn ended_by_slash(pattern: &[u8], rest: &[u8]) -> bool {
    pattern[..pattern.len() - rest.len()].ends_with(b"/")
}

impl Token {
    fn fits(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => byte == *wanted,
            Self::Any => byte != b'/',
            Self::Class { negated, ranges } => {
                byte != b'/' && *negated != ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte))
            }
            Self::Star | Self::Everything | Self::Directories => false,
        }
    }
}

/// Reads a class behind its `[`.
fn class(rest: &mut &[u8]) -> Result<Token, BadPattern> {
    let mut take = || -> Result<u8, BadPattern> {
        let (&byte, after) = rest.split_first().ok_or(BadPattern)?;
        *rest = after;
        Ok(byte)
    };
    let mut byte = take()?;
    let negated = byte == b'^';
    if negated {
        byte = take()?;
    }
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    loop {
        if byte == b']' && !ranges.is_empty() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = if byte == b'\\' { take()? } else { byte };
        byte = take()?;
        let mut high = low;
        if byte == b'-' {
            byte = take()?;
            if byte == b']' {
                return Err(BadPattern);
            }
            high = if byte == b'\\' { take()? } else { byte };
            byte = take()?;
        }
        ranges.push((low, high));
    }
}

/// Whether a component of a path fits a pattern as Go's `filepath.Match` has it.
///
/// # Errors
/// [`BadPattern`].
pub fn match_component(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    Ok(Pattern::component(pattern)?.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_matched_as_go_does() {
        for (pattern, name, fits) in [
            ("*.txt", "a.txt", true),
            ("*.txt", ".txt", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[a-c]?", "bx", true),
            ("[\\]]", "]", true),
            ("**", "anything", true),
            ("\\*", "*", true),
        ] {
            assert_eq!(match_component(pattern.as_bytes(), name.as_bytes()), Ok(fits), "{pattern} {name}");
        }
        for bad in ["[", "[a", "[a-", "[a-]", "\\"] {
            assert_eq!(match_component(bad.as_bytes(), b"x"), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let pattern = Pattern::path(&b"*a".repeat(200)).expect("a pattern");
        assert!(!pattern.matches(&b"a".repeat(4000)[..].iter().chain(b"b").copied().collect::<Vec<u8>>()));
    }
}
