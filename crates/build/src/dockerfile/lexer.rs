//! Physical lines to logical ones: parser directives, comments, continuation, here-documents.

use super::parse::ParseError;

/// One logical line: an instruction with all its continuation lines, and its here-documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of its first physical line, from 1.
    pub number: usize,
    /// The text, continuation lines joined, without leading white space.
    pub text: String,
    /// The here-documents that it begins, in order.
    pub heredocs: Vec<Heredoc>,
}

/// A here-document: `<<NAME` … `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator, without quotes.
    pub name: String,
    /// The lines between, each with its line end.
    pub content: String,
    /// Whether variables in it are expanded: the terminator was not quoted.
    pub expand: bool,
}

/// A Dockerfile as logical lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexed {
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// The value of the `syntax` directive, if there is one.
    pub syntax: Option<String>,
    /// The lines.
    pub lines: Vec<Line>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The longest physical line, as in Docker.
const MAX_LINE_BYTES: usize = 65_535;

/// Splits a Dockerfile into logical lines.
///
/// # Errors
/// [`ParseError`] for bad directives, lines that are too long and here-documents without end.
pub fn lex(text: &str) -> Result<Lexed, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = split_lines(text);
    if physical.iter().any(|line| line.len() > MAX_LINE_BYTES) {
        return Err(ParseError::whole(format!(
            "dockerfile line greater than max allowed size of {MAX_LINE_BYTES}"
        )));
    }
    let mut lexed = Lexed { escape: '\\', syntax: None, lines: Vec::new(), warnings: Vec::new() };
    read_directives(&physical, &mut lexed)?;
    let mut at = 0;
    while at < physical.len() {
        let number = at + 1;
        let first = strip_comment(physical[at].trim_start_matches(is_blank));
        at += 1;
        let (start, mut ended) = trim_continuation(first, lexed.escape);
        if ended && start.is_empty() {
            continue;
        }
        let mut line = start.to_owned();
        let mut empty_continuation = false;
        while !ended && at < physical.len() {
            let next = physical[at];
            at += 1;
            if is_comment(next) {
                continue;
            }
            if next.trim().is_empty() {
                empty_continuation = true;
                continue;
            }
            let (part, end) = trim_continuation(next, lexed.escape);
            line.push_str(part);
            ended = end;
        }
        if empty_continuation {
            lexed.warnings.push(format!("[WARNING]: Empty continuation line found in: {line}"));
        }
        let mut heredocs = Vec::new();
        if may_have_heredocs(&line) {
            for (name, expand, chomp) in heredoc_starts(&line, lexed.escape) {
                let content = read_heredoc(&physical, &mut at, &name, chomp)
                    .ok_or(ParseError::whole("unterminated heredoc".into()))?;
                heredocs.push(Heredoc { name, content, expand });
            }
        }
        lexed.lines.push(Line { number, text: line, heredocs });
    }
    if !lexed.warnings.is_empty() {
        lexed
            .warnings
            .push("[WARNING]: Empty continuation lines will become errors in a future release.".into());
    }
    Ok(lexed)
}

fn split_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace()
}

fn is_comment(line: &str) -> bool {
    line.trim_start_matches(is_blank).starts_with('#')
}

fn strip_comment(line: &str) -> &str {
    if line.starts_with('#') { "" } else { line }
}

/// The line without a continuation mark, and whether it ended. A doubled mark is none.
fn trim_continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, false),
        _ => (line, true),
    }
}

/// Directives stand before everything else, one in a line: `# key=value`.
fn read_directives(lines: &[&str], lexed: &mut Lexed) -> Result<(), ParseError> {
    let mut seen: Vec<String> = Vec::new();
    for line in lines {
        let Some(directive) = line.strip_prefix('#') else { return Ok(()) };
        let Some((key, value)) = directive.split_once('=') else { return Ok(()) };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric()) || value.is_empty() {
            return Ok(());
        }
        if seen.contains(&key) {
            return Err(ParseError::whole(format!("only one {key} parser directive can be used")));
        }
        match key.as_str() {
            "escape" => match value {
                "\\" => lexed.escape = '\\',
                "`" => lexed.escape = '`',
                other => {
                    return Err(ParseError::whole(format!(
                        "invalid escape token '{other}' does not match ` or \\"
                    )));
                }
            },
            "syntax" => lexed.syntax = Some(value.to_owned()),
            "check" => {}
            _ => return Ok(()),
        }
        seen.push(key);
    }
    Ok(())
}

/// Only these take here-documents, and not in their JSON form.
fn may_have_heredocs(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let mut word = words.next().unwrap_or("").to_ascii_uppercase();
    if word == "ONBUILD" {
        word = words.next().unwrap_or("").to_ascii_uppercase();
    }
    let rest = words.find(|word| !word.starts_with("--"));
    matches!(word.as_str(), "RUN" | "COPY" | "ADD")
        && line.contains("<<")
        && !rest.is_some_and(|word| word.starts_with('['))
}

/// The here-documents that a line begins: terminator, whether variables are expanded, whether leading
/// tabs go. A word counts if it is `[digits]<<[-]NAME`, outside of quotes.
fn heredoc_starts(line: &str, escape: char) -> Vec<(String, bool, bool)> {
    split_quoted(line, escape).into_iter().filter_map(|word| heredoc_start(&word)).collect()
}

pub(super) fn heredoc_start(word: &str) -> Option<(String, bool, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, name) = match rest.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, rest),
    };
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let plain: String = name.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    if plain.is_empty() || plain.contains(|c: char| c.is_whitespace()) {
        return None;
    }
    let expand = plain.len() == name.len();
    Some((plain, expand, chomp))
}

/// Words as a shell would split them, quotes and escapes kept.
pub(super) fn split_quoted(line: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn read_heredoc(lines: &[&str], at: &mut usize, name: &str, chomp: bool) -> Option<String> {
    let mut content = String::new();
    while let Some(line) = lines.get(*at) {
        *at += 1;
        let line = if chomp { line.trim_start_matches('\t') } else { line };
        if line == name {
            return Some(content);
        }
        content.push_str(line);
        content.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, &str)]) {
        let lexed = lex(text).expect(text);
        let lines: Vec<(usize, &str)> =
            lexed.lines.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(lines, expected, "{text:?}");
    }

    #[test]
    fn lines_are_joined_as_docker_joins_them() {
        check("FROM a\nRUN b\n", &[(1, "FROM a"), (2, "RUN b")]);
        check("\u{feff}FROM a\r\n\r\nRUN b \\\r\n  c", &[(1, "FROM a"), (3, "RUN b   c")]);
        check(
            "  FROM a\n\t# x\nRUN b \\ \t\n# in between\n   # indented\n c\n",
            &[(1, "FROM a"), (3, "RUN b  c")],
        );
        check("RUN a \\\\\nb\n", &[(1, "RUN a \\\\"), (2, "b")]);
        check("# escape=`\nRUN a `\nb \\\nC\n", &[(2, "RUN a b \\"), (4, "C")]);
        check("# Escape = `\n# comment\nRUN a `\nb\n", &[(3, "RUN a b")]);
        check("# comment\n# escape=`\nRUN a `\nB\n", &[(3, "RUN a `"), (4, "B")]);
        check("RUN a \\", &[(1, "RUN a ")]);
        check("", &[]);
        check("\\\nRUN x", &[(1, "RUN x")]);
    }

    #[test]
    fn here_documents_end_at_their_name() {
        let lexed = lex("COPY <<A <<-\"B\" /x\n1 $a\nA\n\t2\n\tB\nRUN echo '<<no'\n").expect("two documents");
        let expected = [
            Heredoc { name: "A".into(), content: "1 $a\n".into(), expand: true },
            Heredoc { name: "B".into(), content: "2\n".into(), expand: false },
        ];
        assert_eq!(lexed.lines[0].heredocs, expected);
        assert_eq!(lexed.lines[1].text, "RUN echo '<<no'");
        let error = lex("FROM a\nRUN <<E\nx\n").expect_err("no end");
        assert_eq!(error.to_string(), "failed to parse Dockerfile: unterminated heredoc");
        assert_eq!(lex("ENV a=<<b\n").expect("not a document").lines.len(), 1);
        assert_eq!(lex("RUN [\"<<E\"]\n").expect("JSON").lines.len(), 1);
        assert_eq!(lex("RUN cat <<<E\n").expect("a here-string").lines[0].heredocs, []);
    }

    #[test]
    fn directives_and_warnings() {
        let lexed = lex("# syntax=docker/dockerfile:1\nRUN a \\\n\n  b\n").expect("a directive");
        assert_eq!(lexed.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(lexed.warnings.len(), 2);
        let error = lex("# escape=x\nFROM a\n").expect_err("no such escape");
        assert_eq!(
            error.to_string(),
            "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"
        );
        let text = |text: &str| lex(text).expect_err(text).to_string();
        assert_eq!(
            text("# escape=\\\n# escape=`\nFROM a\n"),
            "failed to parse Dockerfile: only one escape parser directive can be used"
        );
        assert!(lex(&format!("RUN {}\n", "x".repeat(MAX_LINE_BYTES - 4))).is_ok());
        assert_eq!(
            text(&format!("RUN {}\n", "x".repeat(MAX_LINE_BYTES - 3))),
            "failed to parse Dockerfile: dockerfile line greater than max allowed size of 65535"
        );
    }
}
