//! Patterns of names, as Go's `path.Match` reads them.
//!
//! | in a pattern | stands for |
//! | --- | --- |
//! | `*` | any text without a slash |
//! | `?` | any character but a slash |
//! | `[a-z_]`, `[^a-z]` | one character of a class, or not of it |
//! | `\\c` | the character c |

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text,
    Any,
    One(char),
    Class { except: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads a pattern; `None` where it is none: a class without an end, say.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Text,
                '?' => Token::Any,
                '\\' => Token::One(rest.next()?),
                '[' => {
                    let except = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                        let first = bound(&mut rest)?;
                        let last = if rest.next_if_eq(&'-').is_some() { bound(&mut rest)? } else { first };
                        ranges.push((first, last));
                    }
                    Token::Class { except, ranges }
                }
                c => Token::One(c),
            });
        }
        Some(Self(tokens))
    }

    /// Whether all of a text fits.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // How much of the text what came of the pattern can be.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            let mut next = vec![false; text.len() + 1];
            for at in 0..=text.len() {
                if *token == Token::Text {
                    next[at] = reached[at] || at > 0 && next[at - 1] && text[at - 1] != '/';
                } else if at > 0 {
                    next[at] = reached[at - 1] && token.fits(text[at - 1]);
                }
            }
            reached = next;
        }
        reached[text.len()]
    }
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Text | Self::Any => c != '/',
            Self::One(wanted) => c == *wanted,
            Self::Class { except, ranges } => {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&c)) != *except
            }
        }
    }
}

/// One character of a class.
fn bound(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, text, good) in [
            ("web", "web", true),
            ("we*", "web:1", true),
            ("*", "a/b", false),
            ("*", "", true),
            ("*/b", "a/b", true),
            ("**", "a", true),
            ("w?b", "web", true),
            ("a?b", "a/b", false),
            ("web", "web2", false),
            ("*:1", "web:1", true),
            ("b[ab]", "bb", true),
            ("[^c]b", "bb", true),
            ("[^b]b", "bb", false),
            ("[a-c]b", "bb", true),
            ("[\\]]", "]", true),
            ("b\\*", "b*", true),
            ("b\\*", "bb", false),
            ("a*b*c", "abcbc", true),
            ("b{b}", "bb", false),
        ] {
            let read = Pattern::parse(pattern).expect(pattern);
            assert_eq!(read.matches(text), good, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["[", "a[b", "[]", "[]a]", "[-]", "[a-]", "[^", "a\\", "[a\\"] {
            assert_eq!(Pattern::parse(pattern), None, "{pattern}");
        }
    }
}
