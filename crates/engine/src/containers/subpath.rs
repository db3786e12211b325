//! What `volume-subpath` names: a path below a volume's directory, which the volume's users may fill with links.
//!
//! It is resolved beneath that directory by the kernel whenever it is mounted; what is checked before is for the
//! sake of a clear refusal, not of safety.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use gantry_model::mount::MountPoint;
use gantry_sys::rooted;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Error;

/// Whether a path stays below where it begins, as it is written.
pub(super) fn is_local(path: &str) -> bool {
    let mut depth = 0_usize;
    for component in Path::new(path).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !path.is_empty()
}

/// Opens (`O_PATH`) what a mount point mounts of its volume.
///
/// # Errors
/// `XDEV` where a link leads out of the volume; `NOENT`, `NOTDIR`, `LOOP`.
pub(super) fn open(source: &Path, subpath: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(source, flags, Mode::empty())?;
    let path = CString::new(Path::new(subpath).as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    rooted::open_beneath(base.as_fd(), &path, OFlags::PATH)
}

/// Checks before a start that what the mount points name is there.
///
/// # Errors
/// [`Error`] in Docker's words.
pub(super) fn check(points: &[MountPoint]) -> Result<(), Error> {
    for MountPoint { source, subpath, .. } in points.iter().filter(|point| !point.subpath.is_empty()) {
        let Err(error) = open(source, subpath) else { continue };
        let base = source.display();
        return Err(match error {
            Errno::XDEV => Error::Invalid(format!(
                "path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
            )),
            Errno::NOENT => Error::NotFound(format!(
                "cannot access path {base}/{subpath}: lstat {base}/{subpath}: no such file or directory"
            )),
            error => {
                let reason = std::io::Error::from(error);
                Error::Internal(format!("cannot access path {base}/{subpath}: {reason}"))
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn local_paths_do_not_rise_above_their_beginning() {
        for (path, local) in [
            ("a", true),
            ("a/../b", true),
            ("./a", true),
            ("", false),
            ("/a", false),
            ("..", false),
            ("a/../../b", false),
        ] {
            assert_eq!(is_local(path), local, "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_volume_alone() {
        let base = std::env::temp_dir().join(format!("gantry-subpath-{}", std::process::id()));
        std::fs::create_dir_all(base.join("sub/deep")).expect("mkdir");
        for (to, from) in [("sub", "link"), ("/etc", "out"), ("../..", "up"), ("sub/../../x", "around")] {
            symlink(to, base.join(from)).expect("link");
        }
        let text = |subpath: &str| {
            let point = MountPoint {
                source: base.clone(),
                subpath: subpath.into(),
                ..super::super::mountpoints::point(gantry_model::mount::MountKind::Volume, "/m")
            };
            check(&[point]).map_err(|error| error.to_string().replace(&*base.to_string_lossy(), "BASE"))
        };
        for good in ["sub", "sub/deep", "link/deep", "sub/../sub"] {
            assert_eq!(text(good), Ok(()), "{good}");
        }
        for bad in ["out", "up", "around"] {
            let want = format!("path concatenation escapes the base directory, base: BASE, subpath: {bad}");
            assert_eq!(text(bad), Err(want));
        }
        assert_eq!(
            text("nosuch"),
            Err("cannot access path BASE/nosuch: lstat BASE/nosuch: no such file or directory".into())
        );
        std::fs::remove_dir_all(&base).expect("ours");
    }
}
