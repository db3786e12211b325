//! `.dockerignore`: which files of a directory belong to the context.
//!
//! Patterns are tried in order and the last that fits a path, or a directory above it, decides; one that
//! begins with `!` takes paths back in. The client applies the file before it sends the context; here it
//! decides whether the Dockerfile and the file itself are seen by `COPY`, as in Docker.

pub mod pattern;

use pattern::Pattern;

/// The patterns of a `.dockerignore` file.
#[derive(Debug, Clone, Default)]
pub struct DockerIgnore {
    patterns: Vec<(Pattern, bool)>,
}

/// Why a `.dockerignore` file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyExclusion,
    /// A pattern with a bracket or escape that has no end.
    #[error("error in .dockerignore: the pattern {0:?} is not valid")]
    BadPattern(String),
}

impl DockerIgnore {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`IgnoreError`].
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (pattern, includes) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            if pattern.is_empty() {
                if includes {
                    return Err(IgnoreError::EmptyExclusion);
                }
                continue;
            }
            let clean = clean(pattern);
            let compiled =
                Pattern::path(clean.as_bytes()).map_err(|_| IgnoreError::BadPattern(pattern.into()))?;
            patterns.push((compiled, includes));
        }
        Ok(Self { patterns })
    }

    /// Whether a path, relative and with `/` between its parts, is left out.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        let mut excluded = false;
        for (pattern, includes) in &self.patterns {
            // A pattern that would change nothing need not be tried.
            if *includes != excluded {
                continue;
            }
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            if parents.chain([path]).any(|path| pattern.matches(path.as_bytes())) {
                excluded = !includes;
            }
        }
        excluded
    }
}

/// Cleans a pattern as Go's `filepath.Clean` does, and takes a leading `/` away.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, excluded: &[&str], kept: &[&str]) {
        let ignore = DockerIgnore::parse(text).expect(text);
        for path in excluded {
            assert!(ignore.excludes(path), "{text:?} keeps {path}");
        }
        for path in kept {
            assert!(!ignore.excludes(path), "{text:?} leaves {path} out");
        }
    }

    #[test]
    fn paths_are_left_out_as_docker_does() {
        check("a", &["a", "a/b", "a/b/c"], &["b", "b/a", "aa"]);
        check("/a", &["a", "a/b"], &["b/a"]);
        check("a/", &["a", "a/b"], &["b/a"]);
        check("./a/../b/", &["b"], &["a"]);
        check("*", &["a", "a/b", ".x"], &[]);
        check("*.md\n!README.md", &["x.md", "a.md"], &["README.md", "d/x.md"]);
        check("*/x", &["a/x", "a/x/y"], &["x", "a/b/x"]);
        check("**/x", &["x", "a/x", "a/b/x", "a/b/x/y"], &["ax", "a/bx"]);
        check("**", &["a", "a/b"], &[]);
        check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
        check("**/*.go", &["x.go", "a/b.go"], &["x.goo"]);
        check("a**b", &["ab", "axb", "ax/yb"], &["a"]);
        check("?x", &["ax"], &["x", "/x", "a/x"]);
        check("[ab]x", &["ax", "bx"], &["cx"]);
        check("[^ab]x", &["cx"], &["ax"]);
        check("a\\*", &["a*"], &["ab"]);
        check("a.b", &["a.b"], &["axb"]);
        check("# comment\n\n  a  \n", &["a"], &["# comment"]);
        check("a\n!a/b\na/b/c", &["a", "a/x", "a/b/c"], &["a/b", "a/b/d"]);
        check("!a", &[], &["a"]);
        check("*\n!a/b", &["a", "a/c", "x"], &["a/b", "a/b/c"]);
        check(".dockerignore\n.dockerfile.0a", &[".dockerignore", ".dockerfile.0a"], &["Dockerfile"]);
    }

    #[test]
    fn bad_files_are_refused() {
        assert_eq!(DockerIgnore::parse("!").expect_err("nothing"), IgnoreError::EmptyExclusion);
        assert!(DockerIgnore::parse("[a").is_err());
    }
}
