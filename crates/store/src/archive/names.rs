//! Names in archives and the targets of links: taken apart, and put together again if they lead nowhere that
//! they must not.

use super::entry::too_much;
use super::error::{ArchiveError, shown};
use super::{Limits, Onto};

/// A path's components joined again. Refuses what could lead anywhere but below the root.
pub(super) fn normal_path(name: &[u8], limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
    let bad = |reason| Err(ArchiveError::BadPath { path: shown(name), reason });
    if name.len() > limits.path_bytes {
        return Err(too_much("bytes of a path", limits.path_bytes as u64));
    }
    if name.is_empty() {
        return bad("it has no name");
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return bad("a path must not contain .."),
            _ if component.len() > 255 => return bad("a name has more than 255 bytes"),
            _ if component.contains(&0) => return bad("a name contains a zero byte"),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    if name[0] == b'/' && !path.is_empty() {
        return bad("a path must not be absolute");
    }
    Ok(path)
}

/// A path's components joined again, absolute or not; `..` takes back the one before it. `None` where it
/// takes back more than there is.
pub(super) fn cleaned_path(name: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, ArchiveError> {
    let bad = |reason| Err(ArchiveError::BadPath { path: shown(name), reason });
    if name.len() > limits.path_bytes {
        return Err(too_much("bytes of a path", limits.path_bytes as u64));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            // Nothing is above the root.
            b".." if components.is_empty() && name.starts_with(b"/") => {}
            b".." if components.pop().is_none() => return Ok(None),
            b".." => {}
            _ if component.len() > 255 => return bad("a name has more than 255 bytes"),
            _ if component.contains(&0) => return bad("a name contains a zero byte"),
            _ => components.push(component),
        }
    }
    Ok(Some(components.join(&b'/')))
}

pub(super) fn link_path(name: &[u8], target: &[u8], limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
    let bad = |reason| ArchiveError::BadLink { path: shown(name), target: shown(target), reason };
    match normal_path(target, limits) {
        Ok(path) if path.is_empty() => Err(bad("a hard link must name a file")),
        Ok(path) => Ok(path),
        Err(ArchiveError::BadPath { reason, .. }) => Err(bad(reason)),
        Err(error) => Err(error),
    }
}

/// A symbolic link's target, verbatim. An absolute one is meant inside the root, where it will be
/// resolved; a relative one that climbs above the root cannot be meant, and Docker refuses it too.
pub(super) fn symlink_target(
    name: &[u8],
    target: Vec<u8>,
    limits: &Limits,
    onto: Onto,
) -> Result<Vec<u8>, ArchiveError> {
    let bad = |reason| Err(ArchiveError::BadLink { path: shown(name), target: shown(&target), reason });
    if target.len() > limits.path_bytes {
        return Err(too_much("bytes of a link target", limits.path_bytes as u64));
    }
    if target.is_empty() || target.contains(&0) {
        return bad("its target is empty or contains a zero byte");
    }
    if target[0] != b'/' && onto == Onto::New {
        let parts = |path: &[u8]| path.split(|&b| b == b'/').filter(|c| !c.is_empty() && *c != b".").count();
        let mut depth = parts(name).saturating_sub(1);
        for component in target.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." if depth == 0 => return bad("it leads out of the root"),
                b".." => depth -= 1,
                _ => depth += 1,
            }
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_a_living_tree_are_cleaned_as_docker_cleans_them() {
        let limits = Limits::default();
        for (name, path) in [
            ("a/b", Some("a/b")),
            ("/abs//x/", Some("abs/x")),
            ("a/../b", Some("b")),
            ("./a/./b/..", Some("a")),
            ("/../x", Some("x")),
            ("./", Some("")),
            ("../x", None),
            ("a/../../x", None),
        ] {
            let got = cleaned_path(name.as_bytes(), &limits).expect(name);
            assert_eq!(got.as_deref(), path.map(str::as_bytes), "{name}");
        }
        for bad in ["a\0b", &"x".repeat(256), &"x/".repeat(3000)] {
            assert!(cleaned_path(bad.as_bytes(), &limits).is_err(), "{bad:?}");
        }
        let living = Onto::Living(crate::archive::Overwrite::SameKind);
        let target = |to: &str| symlink_target(b"a", to.into(), &limits, living).is_ok();
        assert!(target("../../etc") && target("/etc/passwd") && !target("") && !target("a\0"));
    }

    #[test]
    fn paths_stay_below_the_root() {
        let limits = Limits::default();
        for (name, path) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("./", ""), ("/", ""), ("a/./b", "a/b")] {
            assert_eq!(normal_path(name.as_bytes(), &limits).expect(name), path.as_bytes());
        }
        for bad in ["", "/a", "../a", "a/..", "a/../../b", "a\0b", &"x".repeat(256), &"x/".repeat(3000)] {
            assert!(normal_path(bad.as_bytes(), &limits).is_err(), "{bad:?}");
        }
        let target =
            |name: &str, to: &str| symlink_target(name.as_bytes(), to.into(), &limits, Onto::New).is_ok();
        assert!(target("a/b", "../c") && target("a", "/etc/passwd") && target("a/b/c", "../../x"));
        assert!(
            !target("a", "../c")
                && !target("a/b", "../../c")
                && !target("a", "x/../../y")
                && !target("a", "")
        );
    }
}
