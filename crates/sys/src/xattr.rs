//! Extended attributes of things that are named by a directory and a name, symbolic links included.
//!
//! The kernel's calls take a path or an open descriptor, and a symbolic link, device or fifo cannot be
//! opened for this. `/proc/self/fd/<directory>/<name>` with the `l` calls reaches exactly the thing
//! meant: the magic link leads to the directory whatever its path is now, and the last component is
//! not followed. (`setxattrat` would do it directly, from Linux 6.13 on.)

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The thing whose attributes are meant.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// An open file or directory (not `O_PATH`).
    Open(BorrowedFd<'a>),
    /// A name in a directory; a symbolic link is itself.
    At(BorrowedFd<'a>, &'a CStr),
}

impl Target<'_> {
    fn path(directory: BorrowedFd<'_>, name: &CStr) -> CString {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        CString::new(path).expect("neither a number nor a C string has a zero byte")
    }
}

/// The names of a thing's attributes, sorted; none where its file system has no attributes.
///
/// # Errors
/// What the kernel said.
pub fn list(target: Target<'_>) -> io::Result<Vec<CString>> {
    let bytes = match grow(|buffer| match target {
        Target::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        Target::At(directory, name) => rustix::fs::llistxattr(Target::path(directory, name), buffer),
    }) {
        Ok(bytes) => bytes,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<CString> = bytes
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| CString::new(name).expect("split at zero bytes"))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// An attribute's value; `None` where the thing has no such attribute.
///
/// # Errors
/// What the kernel said.
pub fn get(target: Target<'_>, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
    match grow(|buffer| match target {
        Target::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
        Target::At(directory, name) => {
            rustix::fs::lgetxattr(Target::path(directory, name), attribute, buffer)
        }
    }) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives an attribute a value, new or not.
///
/// # Errors
/// What the kernel said; `Unsupported` where the file system has no such attributes.
pub fn set(target: Target<'_>, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    match target {
        Target::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
        Target::At(directory, name) => {
            rustix::fs::lsetxattr(Target::path(directory, name), attribute, value, XattrFlags::empty())
        }
    }
    .map_err(io::Error::from)
}

/// Takes an attribute away; one that is not there is no error.
///
/// # Errors
/// What the kernel said.
pub fn remove(target: Target<'_>, attribute: &CStr) -> io::Result<()> {
    match match target {
        Target::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
        Target::At(directory, name) => rustix::fs::lremovexattr(Target::path(directory, name), attribute),
    } {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Calls with ever larger buffers until the answer fits: it may grow between asking and reading.
fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // Values and lists are at most 64 KiB (XATTR_SIZE_MAX, XATTR_LIST_MAX).
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_link_has_attributes_of_its_own() {
        let dir = std::env::temp_dir().join(format!("gantry-xattr-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        std::fs::write(dir.join("file"), "x").expect("a file");
        std::os::unix::fs::symlink("file", dir.join("link")).expect("a link");
        let root = std::fs::File::open(&dir).expect("the directory");
        let (link, file) = (Target::At(root.as_fd(), c"link"), Target::At(root.as_fd(), c"file"));
        let long = vec![7; 3000];
        // Only trusted.* and security.* are allowed on symbolic links, and only to root.
        if set(link, c"trusted.gantry", &long).is_ok() {
            assert_eq!(get(link, c"trusted.gantry").expect("read"), Some(long));
            assert_eq!(get(file, c"trusted.gantry").expect("read"), None, "the link was followed");
            assert_eq!(list(link).expect("list"), [c"trusted.gantry".to_owned()]);
            remove(link, c"trusted.gantry").expect("remove");
            remove(link, c"trusted.gantry").expect("removing what is gone");
        }
        std::fs::remove_dir_all(&dir).expect("clean");
    }
}
