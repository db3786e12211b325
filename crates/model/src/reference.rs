//! Image references: `[domain/]path[:tag][@digest]`, with Docker's defaults (`docker.io`,
//! `library/`, `latest`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// A normalised reference: the domain is always there, the tag or digest may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not a reference, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The grammar does not allow it.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Domain and path together are over 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// A name of 64 hexadecimal digits would be confused with an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

impl Reference {
    /// Parses what a user typed and fills in domain and `library/`, not the tag.
    ///
    /// # Errors
    /// [`InvalidReference`] with Docker's text.
    pub fn parse_normalized(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::LooksLikeId(text.into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| InvalidReference::Format)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Format);
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (if first == "index.docker.io" { DEFAULT_DOMAIN } else { first }, path.to_owned())
            }
            _ => (DEFAULT_DOMAIN, name.to_owned()),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let official = domain == DEFAULT_DOMAIN && !path.contains('/');
            return Err(InvalidReference::Uppercase(if official {
                format!("{OFFICIAL_PREFIX}{path}")
            } else {
                path
            }));
        }
        if !is_domain(domain) || !is_path(&path) {
            return Err(InvalidReference::Format);
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path
        };
        if domain.len() + 1 + path.len() > 255 {
            return Err(InvalidReference::TooLong);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's host, with its port where there is one.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/debian`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// [`InvalidReference::Format`] where it is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// Domain and path as users see them: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as users see it: `debian:bookworm`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The full form: `docker.io/library/debian:bookworm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.domain, self.path)))
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;
    fn try_from(text: String) -> Result<Self, InvalidReference> {
        Self::parse_normalized(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Components of lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = component.as_bytes();
        if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
            return false;
        }
        bytes
            .split(alphanumeric)
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|&b| b == b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, full: &str, familiar: &str) {
        let reference = Reference::parse_normalized(text).expect(text);
        assert_eq!(
            (reference.to_string().as_str(), reference.familiar().as_str()),
            (full, familiar),
            "{text}"
        );
    }

    #[test]
    fn names_are_filled_in_and_shortened_again() {
        check("debian", "docker.io/library/debian", "debian");
        check("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm");
        check("me/web", "docker.io/me/web", "me/web");
        check("localhost/web", "localhost/web", "localhost/web");
        check("r.example:5000/a/b:1", "r.example:5000/a/b:1", "r.example:5000/a/b:1");
        check("index.docker.io/library/x", "docker.io/library/x", "x");
        check("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f");
        let digest = format!("x@sha256:{}", "ab".repeat(32));
        check(&digest, &format!("docker.io/library/{digest}"), &digest);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a::b",
            "/a",
            "a/",
            "a//b",
            "a b",
            "-a",
            "a-",
            "a___b",
            "a._b",
            "a@sha256:12",
            "a:-b",
            "é",
            "a\n",
            "r.example:x/a",
        ] {
            assert_eq!(Reference::parse_normalized(bad), Err(InvalidReference::Format), "{bad:?}");
        }
        assert!(matches!(Reference::parse_normalized("Web"), Err(InvalidReference::Uppercase(_))));
        assert!(matches!(
            Reference::parse_normalized(&"ab".repeat(32)),
            Err(InvalidReference::LooksLikeId(_))
        ));
        assert_eq!(
            Reference::parse_normalized("a/".repeat(150).trim_end_matches('/')),
            Err(InvalidReference::TooLong)
        );
    }
}
