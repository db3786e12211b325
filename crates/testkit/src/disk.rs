//! A small file system of a test's own, in a file: it can be full, and it can lose power.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{finish, in_path};
use crate::skip;

/// An ext4, mounted over a directory until it is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    _files: tempfile::TempDir,
}

impl Disk {
    /// Makes one and mounts it over `at`, which is made if it is not there; says why not and gives `None` where the
    /// machine cannot.
    ///
    /// # Panics
    /// `/tmp` cannot be written.
    #[must_use]
    pub fn mount(size_mib: u64, at: &Path) -> Option<Self> {
        if in_path("mkfs.ext4").is_none() {
            skip("no mkfs.ext4: apt-get install e2fsprogs");
            return None;
        }
        let files = crate::sweep::directory("disk-");
        let image = files.path().join("disk");
        let file = std::fs::File::create(&image).expect("/tmp can be written");
        file.set_len(size_mib << 20).expect("a sparse file needs no room");
        // No blocks for root alone: root is who fills it.
        let made = finish(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        assert_eq!(made.code, 0, "{made:?}");
        std::fs::create_dir_all(at).expect("/tmp can be written");
        let disk = Self { image, at: at.into(), _files: files };
        match disk.try_mount() {
            Ok(()) => Some(disk),
            Err(why) => {
                skip(&format!("no loop device: {why}"));
                None
            }
        }
    }

    fn try_mount(&self) -> Result<(), String> {
        let mounted = finish(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at));
        if mounted.code == 0 { Ok(()) } else { Err(mounted.stderr) }
    }

    /// Mounts it again after it was unmounted, with what was on it.
    ///
    /// # Panics
    /// It cannot be mounted.
    pub fn mount_again(&self) {
        // The loop device of the lazy unmount goes when its last user has.
        let mut last = String::new();
        for _ in 0..100 {
            match self.try_mount() {
                Ok(()) => return,
                Err(why) => last = why,
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{last}");
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        finish(Command::new("umount").arg("-l").arg(&self.at));
    }
}
