//! `--chown`: names are resolved by the target's own files.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::tree;
use crate::error::BuildError;

/// `/etc/passwd` and `/etc/group` above this are refused.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Resolves `user[:group]` in a tree. Without a group, the group is the one of the same name, or the
/// user's own, or of the same number.
///
/// # Errors
/// [`BuildError::Invalid`] with Docker's text for names that are not there.
pub(super) fn resolve(root: BorrowedFd<'_>, text: &str) -> Result<(u32, u32), BuildError> {
    let (user, group) = match text.split_once(':') {
        Some((_, group)) if group.contains(':') => {
            return Err(BuildError::Invalid(format!(
                "unable to convert uid/gid chown string to host mapping: invalid chown string format: {text}"
            )));
        }
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let missing = |what: &str, kind: &str, name: &str| {
        BuildError::Invalid(format!(
            "unable to convert uid/gid chown string to host mapping: can't find {what} for {kind} {name}: no such {kind}: {name}"
        ))
    };
    let (uid, primary) = match user.parse::<u32>() {
        Ok(uid) => (uid, Some(uid)),
        Err(_) => {
            let line = find(root, "etc/passwd", user)?.ok_or_else(|| missing("uid", "user", user))?;
            let uid = line.first().and_then(|uid| uid.parse().ok());
            (uid.ok_or_else(|| missing("uid", "user", user))?, line.get(1).and_then(|gid| gid.parse().ok()))
        }
    };
    let group_named = |name: &str| -> Result<Option<u32>, BuildError> {
        Ok(find(root, "etc/group", name)?.and_then(|line| line.first()?.parse().ok()))
    };
    let gid = match group {
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group_named(group)?.ok_or_else(|| missing("gid", "group", group))?,
        },
        None if user.parse::<u32>().is_ok() => uid,
        None => match group_named(user)?.or(primary) {
            Some(gid) => gid,
            None => return Err(missing("gid", "group", user)),
        },
    };
    Ok((uid, gid))
}

/// The fields after the password of the line with that name: `name:password:id:…`.
fn find(root: BorrowedFd<'_>, path: &str, name: &str) -> Result<Option<Vec<String>>, BuildError> {
    let bytes = tree::read_file(root, Path::new(path), MAX_FILE_BYTES)
        .map_err(|error| BuildError::internal(format!("reading the image's /{path} failed"), error))?;
    let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default());
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.skip(1).map(str::to_owned).collect())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_are_those_of_the_tree() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("etc")).expect("etc");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join("etc").join(name), text).expect("written");
        };
        write("passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\nsolo:x:7:8::/:\n");
        write("group", "root:x:0:\nstaff:x:50:\napp:x:1001:\n");
        let root = std::fs::File::open(directory.path()).expect("the root");
        let check = |text: &str, expected: (u32, u32)| {
            assert_eq!(resolve(root.as_fd(), text).expect(text), expected, "{text}");
        };
        check("app", (1000, 1001));
        check("solo", (7, 8));
        check("app:staff", (1000, 50));
        check("12", (12, 12));
        check("12:34", (12, 34));
        let text = |text: &str| resolve(root.as_fd(), text).expect_err(text).to_string();
        assert_eq!(
            text("nosuch"),
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nosuch: no such user: nosuch"
        );
        assert_eq!(
            text(":34"),
            "unable to convert uid/gid chown string to host mapping: can't find uid for user : no such user: "
        );
        assert_eq!(
            text("root:"),
            "unable to convert uid/gid chown string to host mapping: can't find gid for group : no such group: "
        );
        assert_eq!(
            text("a:b:c"),
            "unable to convert uid/gid chown string to host mapping: invalid chown string format: a:b:c"
        );
        assert_eq!(
            text("app:nosuch"),
            "unable to convert uid/gid chown string to host mapping: can't find gid for group nosuch: no such group: nosuch"
        );
    }
}
