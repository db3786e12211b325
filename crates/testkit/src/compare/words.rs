//! A line of a case into words, with a shell's quotes but nothing else of a shell.

/// Splits at blanks; `'…'` is literal, in `"…"` and outside a backslash takes the next character.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a ' is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a \" is not closed")? {
                        '"' => break,
                        '\\' => word.push(rest.next().ok_or("a \\ ends the line")?),
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next().ok_or("a \\ ends the line")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Resolves `\n`, `\t`, `\r`, `\e`, `\0` (NUL), `\xHH` and `\\` of a text in a case.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('e') => out.push('\x1b'),
            Some('0') => out.push('\0'),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).map_or('?', char::from));
            }
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_a_shells() {
        for (line, want) in [
            ("ps -a", &["ps", "-a"][..]),
            ("run  x", &["run", "x"]),
            ("sh -c 'exit 3; \"a\" \\n'", &["sh", "-c", "exit 3; \"a\" \\n"]),
            ("-f \"{{json .}} \\\"q\\\"\"", &["-f", "{{json .}} \"q\""]),
            ("a'b'\"c\"d ''", &["abcd", ""]),
            ("a\\ b", &["a b"]),
        ] {
            assert_eq!(split(line).expect("closed"), want, "{line}");
        }
        assert!(split("'open").is_err());
        assert_eq!(unescape("a\\nb\\x10\\\\"), "a\nb\x10\\");
    }
}
