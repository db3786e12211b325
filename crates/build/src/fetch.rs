//! What a build takes from elsewhere: files of `ADD`, and contexts. How it comes is the daemon's business.

use std::io::Read;

/// Fetches what addresses name.
pub trait Fetcher: Send + Sync {
    /// Asks for it, and waits until it begins to come. Blocks.
    ///
    /// # Errors
    /// [`FetchError`], such as of a server that does not answer or does not have it.
    fn fetch(&self, address: &str) -> Result<Fetched, FetchError>;
}

/// What is coming.
pub struct Fetched {
    /// Its bytes; an error ends them where the connection broke off.
    pub body: Box<dyn Read + Send>,
}

/// Says why nothing came, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Whether a text is an address that is fetched.
pub(crate) fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Whether an address is that of a repository, to the eyes of Docker's command line.
pub(crate) fn is_repository(address: &str) -> bool {
    let path = address.split('#').next().unwrap_or_default();
    ["git://", "git@", "github.com/"].iter().any(|prefix| address.starts_with(prefix))
        || is_address(address) && path.ends_with(".git")
}

/// The name of what an address names: the last part of its path; empty where that ends in a slash.
pub(crate) fn file_name(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let Some((_, path)) = rest.split_once('/') else { return String::new() };
    let name = decoded(path);
    match name.rsplit('/').next().unwrap_or_default() {
        "." | ".." => String::new(),
        name => name.to_owned(),
    }
}

/// A path with `%41` and the like resolved, as far as that is text.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = path.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) if byte != 0 => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_last_part_of_the_path_as_their_name() {
        for (address, name) in [
            ("http://host/a/b.txt", "b.txt"),
            ("http://host/b.txt?x=/y#z", "b.txt"),
            ("https://host/a/", ""),
            ("http://host", ""),
            ("http://host/a%20b", "a b"),
            ("http://host/a%2Fb", "b"),
            ("http://host/%2e%2e", ""),
            ("http://host/%zz", "%zz"),
        ] {
            assert_eq!(file_name(address), name, "{address}");
        }
    }

    #[test]
    fn repositories_are_told_from_files() {
        for (address, repository) in [
            ("git://host/x", true),
            ("git@host:x", true),
            ("github.com/a/b", true),
            ("https://host/x.git", true),
            ("https://host/x.git#branch:dir", true),
            ("https://host/x.tar", false),
            ("ftp://host/x.git", false),
        ] {
            assert_eq!(is_repository(address), repository, "{address}");
        }
    }
}
