//! Paths inside a root file system that nobody trusts.
//!
//! Every look-up goes through `openat2` with `RESOLVE_IN_ROOT`: absolute links, `..` and links to
//! links stay inside. Nothing here allocates, so that a child before `execve` can use it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The longest path, in bytes without the final zero.
pub const PATH_MAX: usize = 4095;

/// A path in a buffer of its own: no allocation.
#[derive(Clone)]
pub struct PathBuffer {
    bytes: [u8; PATH_MAX + 1],
    len: usize,
}

impl std::fmt::Debug for PathBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl Default for PathBuffer {
    fn default() -> Self {
        Self { bytes: [0; PATH_MAX + 1], len: 0 }
    }
}

impl PathBuffer {
    /// Copies parts one after the other.
    ///
    /// # Errors
    /// `NAMETOOLONG`, or `INVAL` if a part contains a zero byte.
    pub fn new(parts: &[&[u8]]) -> Result<Self, Errno> {
        let mut path = Self::default();
        for part in parts {
            if part.contains(&0) {
                return Err(Errno::INVAL);
            }
            let end = path.len + part.len();
            if end > PATH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            path.bytes[path.len..end].copy_from_slice(part);
            path.len = end;
        }
        Ok(path)
    }

    /// The path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The path as a C string.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// Opens a path inside `root`, following links inside it. Magic links (`/proc/*/fd/…`) are refused.
///
/// # Errors
/// `NOENT`, `NOTDIR`, `LOOP` and the like.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, ResolveFlags::empty())
}

/// As [`open`], and no component may be a symbolic link.
///
/// # Errors
/// `LOOP` where one is.
pub fn open_no_links(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// Opens a path beneath `root`, following links that stay there.
///
/// # Errors
/// `XDEV` where the path, or a link on it, leads out of `root`, or is absolute; else as [`open`].
pub fn open_beneath(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::BENEATH)
}

fn open_with(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | more)
}

fn resolve(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { c"." } else { path };
    // The kernel answers EAGAIN when a rename or mount elsewhere raced with `..`.
    for _ in 0..64 {
        let result = rustix::fs::openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS | how,
        );
        match result {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// What [`ensure`] makes where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A directory.
    Directory,
    /// An empty file (its parents are directories).
    File,
}

/// A path found or made by [`ensure`].
#[derive(Debug)]
pub struct Ensured {
    /// An `O_PATH` descriptor of it.
    pub fd: OwnedFd,
    /// Whether it had to be made.
    pub made: bool,
}

/// Opens a path inside `root` (`O_PATH`, links followed inside it) and makes what is missing with
/// `mode` (parents: 0755). A dangling link's target is made where the link points, inside the root.
///
/// # Errors
/// What the kernel says; `LOOP` after 255 steps.
pub fn ensure(root: BorrowedFd<'_>, path: &CStr, missing: Missing, mode: Mode) -> Result<Ensured, Errno> {
    let mut made = false;
    let mut current = PathBuffer::new(&[trim(path.to_bytes())])?;
    for _ in 0..255 {
        match open(root, current.as_c_str(), OFlags::PATH) {
            Ok(fd) => return Ok(Ensured { fd, made }),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let (parent, start, end) = deepest(root, current.as_bytes())?;
        let bytes = current.as_bytes();
        let name = PathBuffer::new(&[&bytes[start..end]])?;
        let last = trim(&bytes[end..]).is_empty();
        let result = if last && missing == Missing::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name.as_c_str(), flags, mode).map(drop)
        } else {
            let mode = if last { mode } else { Mode::from_raw_mode(0o755) };
            rustix::fs::mkdirat(&parent, name.as_c_str(), mode)
        };
        match result {
            Ok(()) => made = true,
            // It was not there for the look-up, but the name is taken: a dangling link.
            Err(Errno::EXIST) => current = through_link(parent.as_fd(), &current, start, end)?,
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP)
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// The deepest directory of `path` that exists, and where the next component starts and ends.
fn deepest(root: BorrowedFd<'_>, path: &[u8]) -> Result<(OwnedFd, usize, usize), Errno> {
    let mut end = path.len();
    loop {
        let start = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let prefix = PathBuffer::new(&[trim(&path[..start])])?;
        match open(root, prefix.as_c_str(), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => return Ok((fd, start, end)),
            Err(Errno::NOENT) if start > 0 => end = trim_end(&path[..start]),
            Err(error) => return Err(error),
        }
    }
}

fn trim_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1)
}

/// The path with the dangling link at `start..end` replaced by what it says.
fn through_link(
    parent: BorrowedFd<'_>,
    path: &PathBuffer,
    start: usize,
    end: usize,
) -> Result<PathBuffer, Errno> {
    let bytes = path.as_bytes();
    let name = PathBuffer::new(&[&bytes[start..end]])?;
    let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); PATH_MAX];
    let (target, _) = rustix::fs::readlinkat_raw(parent, name.as_c_str(), &mut buffer)?;
    let before: &[u8] = if target.starts_with(b"/") { b"" } else { &bytes[..start] };
    PathBuffer::new(&[before, target, b"/", trim(&bytes[end..])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-rooted-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).expect("mkdir");
            Self(path)
        }
        fn root(&self) -> OwnedFd {
            std::fs::File::open(self.0.join("root")).expect("open").into()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn whatever_is_missing_is_made_inside_the_root() {
        let scratch = Scratch::new("ensure");
        let root = scratch.0.join("root");
        std::fs::create_dir(scratch.0.join("outside")).expect("mkdir");
        let outside = scratch.0.join("outside");
        symlink("/run/lock", root.join("dangling")).expect("link");
        symlink("../../../../../outside", root.join("up")).expect("link");
        symlink(&outside, root.join("absolute")).expect("link");
        symlink("loop", root.join("loop")).expect("link");
        let fd = scratch.root();
        let cases: [(&CStr, Missing, Option<&str>); 7] = [
            (c"/a/b/c", Missing::Directory, Some("a/b/c")),
            (c"a/b/file", Missing::File, Some("a/b/file")),
            (c"/dangling/x", Missing::Directory, Some("run/lock/x")),
            (c"/up/y", Missing::Directory, Some("outside/y")),
            (c"/../../etc", Missing::Directory, Some("etc")),
            (c"/loop/x", Missing::Directory, None),
            (c"/a/b/file/x", Missing::Directory, None),
        ];
        for (path, missing, expected) in cases {
            let result = ensure(fd.as_fd(), path, missing, Mode::from_raw_mode(0o755));
            match expected {
                Some(expected) => {
                    assert!(result.expect("made").made, "{path:?}");
                    let made = root.join(expected);
                    assert_eq!(made.is_file(), missing == Missing::File, "{path:?}");
                    assert!(made.exists(), "{path:?} did not make {expected}");
                }
                None => assert!(result.is_err(), "{path:?}"),
            }
        }
        assert!(ensure(fd.as_fd(), c"absolute/z", Missing::Directory, Mode::RWXU).expect("made").made);
        assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0, "something was made outside");
    }
}
