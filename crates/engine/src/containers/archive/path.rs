//! Paths in a container as Docker's engine treats them: by their text where it does, else inside the root.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use gantry_sys::rooted;
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

/// Links that are followed in one path.
const MOST_LINKS: usize = 255;

/// A path from the root on; a relative one is meant so, too.
pub(super) fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A rooted path without `.`, `..` (by text alone) and superfluous slashes.
pub(super) fn clean(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            component => components.push(component),
        }
    }
    format!("/{}", components.join("/"))
}

/// A cleaned path with what the original says at its end: `/.` or a slash.
pub(super) fn preserved(cleaned: &str, original: &str) -> String {
    let mut path = cleaned.to_owned();
    let slash = |path: &mut String| {
        if !path.ends_with('/') {
            path.push('/');
        }
    };
    if base(original) == "." && base(cleaned) != "." {
        slash(&mut path);
        path.push('.');
    }
    if original.ends_with('/') {
        slash(&mut path);
    }
    path
}

/// The last component, whatever slashes follow it; `/` of the root, `.` of nothing.
pub(super) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// What stands before the last slash, with it, and what after.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

/// What a path is; links before the last component are followed, and the last where a slash follows it.
pub(super) fn lstat(root: BorrowedFd<'_>, path: &str) -> Result<Stat, Errno> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let thing = rooted::open(root, &path, OFlags::PATH | OFlags::NOFOLLOW)?;
    rustix::fs::fstat(thing)
}

/// What becomes of components that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// They stay as they are.
    Kept,
    /// `NOENT`.
    Error,
}

/// A path with all links replaced by what they say, inside the root.
///
/// # Errors
/// `LOOP` after [`MOST_LINKS`]; `NOTDIR` where something below a file is named and nothing may be missing.
pub(super) fn follow(root: BorrowedFd<'_>, path: &str, missing: Missing) -> Result<String, Errno> {
    let components = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
    let (mut rest, mut done, mut links) = (components(path), String::new(), 0);
    while let Some(component) = rest.pop() {
        match component.as_str() {
            "" | "." => continue,
            ".." => {
                done.truncate(done.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = format!("{done}/{component}");
        let target = match link(root, &CString::new(next.as_str()).map_err(|_| Errno::INVAL)?) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) if missing == Missing::Kept => None,
            Err(error) => return Err(error),
        };
        match target {
            None => done = next,
            Some(_) if links == MOST_LINKS => return Err(Errno::LOOP),
            Some(target) => {
                links += 1;
                if target.starts_with('/') {
                    done.clear();
                }
                rest.extend(components(&target));
            }
        }
    }
    Ok(if done.is_empty() { "/".to_owned() } else { done })
}

/// What a link says; `None` for anything else.
fn link(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<String>, Errno> {
    let thing = rooted::open(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&thing)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Symlink {
        return Ok(None);
    }
    let target = rustix::fs::readlinkat(thing, c"", Vec::new())?;
    target.into_string().map(Some).map_err(|_| Errno::ILSEQ)
}

/// An error number as Go writes it.
pub(super) fn text(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, cleaned, whole, last) in [
            ("/a/b", "/a/b", "/a/b", "b"),
            ("a/../b/", "/b", "/b/", "b"),
            ("/a/.", "/a", "/a/.", "."),
            ("/a/./", "/a", "/a/./", "."),
            ("/", "/", "/", "/"),
            ("/.", "/", "/.", "."),
            ("/../..", "/", "/", "/"),
            (".", "/", "/.", "."),
        ] {
            let clean = clean(&rooted(path));
            assert_eq!(clean, cleaned, "{path}");
            let kept = preserved(&clean, path);
            assert_eq!((kept.as_str(), base(&kept)), (whole, last), "{path}");
        }
        assert_eq!(split("/a/b"), ("/a/", "b"));
        assert_eq!(split("/a"), ("/", "a"));
    }

    #[test]
    fn links_are_followed_inside_the_root_as_far_as_they_lead() {
        let scratch = std::env::temp_dir().join(format!("gantry-archive-path-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(scratch.join("root/d/e")).expect("made");
        fs::write(scratch.join("root/d/f"), "").expect("written");
        for (link, target) in
            [("abs", "/d"), ("up", "../../../d/e"), ("bad", "/no/where"), ("ring", "ring"), ("d/e/f", "../f")]
        {
            symlink(target, scratch.join("root").join(link)).expect("linked");
        }
        let root = fs::File::open(scratch.join("root")).expect("a directory");
        for (path, kept, strict) in [
            ("/abs", Ok("/d"), Ok("/d")),
            ("/abs/e/f", Ok("/d/f"), Ok("/d/f")),
            ("/up/..", Ok("/d"), Ok("/d")),
            ("/bad/x", Ok("/no/where/x"), Err(Errno::NOENT)),
            ("/d/f/x", Ok("/d/f/x"), Err(Errno::NOTDIR)),
            ("/ring", Err(Errno::LOOP), Err(Errno::LOOP)),
            ("/", Ok("/"), Ok("/")),
        ] {
            let got = |missing| follow(root.as_fd(), path, missing);
            assert_eq!(got(Missing::Kept), kept.map(str::to_owned), "{path}");
            assert_eq!(got(Missing::Error), strict.map(str::to_owned), "{path}");
        }
        fs::remove_dir_all(&scratch).expect("removed");
    }

    #[test]
    fn errors_are_told_as_go_tells_them() {
        assert_eq!(text(Errno::NOTDIR), "not a directory");
        assert_eq!(text(Errno::LOOP), "too many levels of symbolic links");
    }
}
