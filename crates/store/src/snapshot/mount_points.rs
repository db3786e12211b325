//! The mount points that every container needs, in a directory that lies below all layers of all
//! containers.
//!
//! ```text
//! layers/0/mount-points/{dev,proc,sys}/          0755, empty
//! layers/0/mount-points/etc/{hosts,hostname,resolv.conf}   0755, empty
//! ```
//! What an image has at these places hides them; in a container mounts do. It is never changed while a
//! container may have it mounted: a release that wants another set takes another directory.

use std::fs;
use std::path::Path;

use super::overlay::{make_directory, set_mode};
use crate::Error;

/// Where they are, below the data root.
pub(crate) const DIRECTORY: &str = "layers/0/mount-points";

const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

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
    fs::rename(&new, &place).map_err(Error::io("rename to", &place))
}
