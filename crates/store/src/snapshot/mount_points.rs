//! The mount points that every container needs, and what programs look for to know that they are in one, in a
//! directory that lies below all layers of all containers.
//!
//! ```text
//! layers/0/mount-points.2/{dev,dev/pts,dev/shm,proc,sys}/    0755, empty
//! layers/0/mount-points.2/etc/{hosts,hostname,resolv.conf}   0755, empty
//! layers/0/mount-points.2/{.dockerenv,dev/console}           0755, empty
//! layers/0/mount-points.2/etc/mtab                           a link to /proc/mounts
//! ```
//! What an image has at these places hides them; in a container mounts do. It is never changed while a
//! container may have it mounted: a release that wants another set takes another directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::overlay::{make_directory, set_mode};
use crate::Error;

/// Where they are, below the data root.
pub(crate) const DIRECTORY: &str = "layers/0/mount-points.2";

const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
/// Where mount(8) and df(1) of old look.
const MTAB: (&str, &str) = ("etc/mtab", "/proc/mounts");

/// Whether a path, relative to the root, is that of a file among them.
pub(crate) fn is_file(path: &Path) -> bool {
    FILES.iter().any(|file| path == Path::new(file))
}

/// Whether a path, relative to the root, is that of a directory among them.
pub(crate) fn is_directory(path: &Path) -> bool {
    DIRECTORIES.iter().any(|directory| path == Path::new(directory))
}

/// Makes them, unless they are there. All or nothing: the directory gets its name when it is complete.
pub(crate) fn make(root: &Path) -> Result<(), Error> {
    let place = root.join(DIRECTORY);
    if place.is_dir() {
        return Ok(());
    }
    let new = root.join("tmp/mount-points");
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &new)(error));
        }
        _ => {}
    }
    make_directory(&new)?;
    set_mode(&new, 0o755)?;
    for name in DIRECTORIES {
        make_directory(&new.join(name))?;
        set_mode(&new.join(name), 0o755)?;
    }
    for name in FILES {
        let path = new.join(name);
        fs::File::create_new(&path).map_err(Error::io("make", &path))?;
        set_mode(&path, 0o755)?;
    }
    let mtab = new.join(MTAB.0);
    symlink(MTAB.1, &mtab).map_err(Error::io("make", &mtab))?;
    fs::rename(&new, &place).map_err(Error::io("rename to", &place))
}
