//! `.dockerignore`: Go's `filepath.Match` patterns with `**`, exceptions by `!`, the last match wins.

/// What a `.dockerignore` says.
#[derive(Debug, Default)]
pub(crate) struct Ignore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    parts: Vec<String>,
    keeps: bool,
}

impl Ignore {
    /// Parses a file's text. Lines of `#` are comments.
    pub(crate) fn parse(text: &str) -> Self {
        let mut patterns = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (line, keeps) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let mut parts: Vec<String> = Vec::new();
            for part in line.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part.to_owned()),
                }
            }
            if !parts.is_empty() {
                patterns.push(Pattern { parts, keeps });
            }
        }
        Self(patterns)
    }

    /// Whether the file at this path (with `/`, relative to the root) is left out. What lies in a
    /// directory that is left out is left out as well.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut excluded = false;
        for pattern in &self.0 {
            if pattern.keeps == excluded
                && (1..=parts.len()).any(|length| matches_path(&pattern.parts, &parts[..length]))
            {
                excluded = !excluded;
            }
        }
        excluded
    }

    /// Whether a directory that is left out must be walked all the same, for an exception below it.
    pub(crate) fn may_keep_below(&self, directory: &str) -> bool {
        let parts: Vec<&str> = directory.split('/').collect();
        self.0.iter().filter(|pattern| pattern.keeps).any(|pattern| {
            pattern.parts.iter().any(|part| part == "**")
                || (pattern.parts.len() > parts.len() && matches_path(&pattern.parts[..parts.len()], &parts))
        })
    }
}

fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => {
            // At the end it stands for what is below, so for one part at least.
            if rest.is_empty() {
                !path.is_empty()
            } else {
                (0..=path.len()).any(|skip| matches_path(rest, &path[skip..]))
            }
        }
        Some((first, rest)) => match path.split_first() {
            Some((part, others)) => {
                let (pattern, text): (Vec<char>, Vec<char>) =
                    (first.chars().collect(), part.chars().collect());
                matches_part(&pattern, &text) && matches_path(rest, others)
            }
            None => false,
        },
    }
}

/// One path component: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
fn matches_part(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => {
            let rest = rest.strip_prefix(&['*']).unwrap_or(rest);
            (0..=text.len()).any(|skip| matches_part(rest, &text[skip..]))
        }
        Some(('?', rest)) => !text.is_empty() && matches_part(rest, &text[1..]),
        Some(('[', rest)) => match (rest.iter().skip(1).position(|&c| c == ']'), text.split_first()) {
            (Some(end), Some((&letter, others))) => {
                let (class, rest) = (&rest[..=end], &rest[end + 2..]);
                in_class(class, letter) && matches_part(rest, others)
            }
            _ => false,
        },
        Some(('\\', rest)) if !rest.is_empty() => {
            text.first() == rest.first() && matches_part(&rest[1..], &text[1..])
        }
        Some((letter, rest)) => text.first() == Some(letter) && matches_part(rest, &text[1..]),
    }
}

fn in_class(class: &[char], letter: char) -> bool {
    let (class, negated) = match class.strip_prefix(&['^']) {
        Some(rest) => (rest, true),
        None => (class, false),
    };
    let mut found = false;
    let mut at = 0;
    while at < class.len() {
        if at + 2 < class.len() && class[at + 1] == '-' {
            found |= (class[at]..=class[at + 2]).contains(&letter);
            at += 3;
        } else {
            found |= class[at] == letter;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let ignore =
            Ignore::parse("# comment\n*.log\n/tmp/\n**/node_modules\ndocs/*\n!docs/keep.md\na?c\n[x-z]1\n");
        for (path, excluded) in [
            ("a.log", true),
            ("sub/a.log", false),
            ("tmp", true),
            ("tmp/x/y", true),
            ("node_modules", true),
            ("a/b/node_modules/c", true),
            ("docs", false),
            ("docs/x.md", true),
            ("docs/keep.md", false),
            ("abc", true),
            ("abbc", false),
            ("y1", true),
            ("w1", false),
            ("Dockerfile", false),
        ] {
            assert_eq!(ignore.excludes(path), excluded, "{path}");
        }
        let all_but = Ignore::parse("**\n!src/main.rs");
        assert!(
            all_but.excludes("src") && !all_but.excludes("src/main.rs") && all_but.excludes("src/lib.rs")
        );
        assert!(all_but.may_keep_below("src") && !all_but.may_keep_below("target"));
    }
}
