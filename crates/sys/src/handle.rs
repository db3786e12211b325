//! What tells an inode from every other that its file system ever had.
//!
//! An inode's number is given to another file at once when the file is gone, and the time at which a file was made
//! is that of a clock that stands still for milliseconds. The handle by which a file server would know the file has a
//! generation beside the number.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The longest handle that the kernel gives.
const MOST_BYTES: u32 = 128;

/// As the kernel has it: what comes in, what goes out, and the handle behind both.
#[repr(C)]
struct Handle {
    length: u32,
    kind: i32,
    bytes: [u8; MOST_BYTES as usize],
}

/// The handle of an open file.
///
/// # Errors
/// `EOPNOTSUPP` of a file system without handles.
pub fn of(file: impl AsFd) -> io::Result<Vec<u8>> {
    read(file.as_fd().as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// The handle of what is at a path; a symbolic link is followed.
///
/// # Errors
/// As of [`of`], and those of a look-up.
pub fn of_path(path: &CStr) -> io::Result<Vec<u8>> {
    read(libc::AT_FDCWD, path, libc::AT_SYMLINK_FOLLOW)
}

fn read(directory: i32, path: &CStr, flags: i32) -> io::Result<Vec<u8>> {
    let mut handle = Handle { length: MOST_BYTES, kind: 0, bytes: [0; MOST_BYTES as usize] };
    let mut mount = 0;
    // SAFETY: `Handle` is laid out as `struct file_handle` with room for `length` bytes behind it, the kernel writes
    // no more than that, and path and mount id live across the call.
    let result = unsafe {
        libc::name_to_handle_at(
            directory,
            path.as_ptr(),
            (&raw mut handle).cast::<libc::file_handle>(),
            &raw mut mount,
            flags,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(handle.bytes[..handle.length.min(MOST_BYTES) as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn files_with_the_number_of_one_that_is_gone_have_other_handles() {
        let path = std::env::temp_dir().join(format!("gantry-handle-{}", std::process::id()));
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let mut seen = Vec::new();
        for _ in 0..32 {
            let file = std::fs::File::create(&path).expect("made");
            let handle = match of(&file) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => break,
                handle => handle.expect("a handle"),
            };
            assert_eq!(of_path(&name).expect("a handle"), handle);
            assert!(!seen.contains(&handle), "{handle:?} names two files");
            seen.push(handle);
            drop(file);
            std::fs::remove_file(&path).expect("removed");
        }
        let _ = std::fs::remove_file(&path);
    }
}
