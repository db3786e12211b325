//! A small file system of a test's own, in a file: it can be full, and it can lose power.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{finish, in_path};
use crate::{skip, until};

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
        // A process that is starting a container elsewhere has a copy of all mounts for a moment. While one is there,
        // a mount of the file would be the old file system once more, with the power off.
        until("nobody has the disk any more", 30, || !self.is_attached());
        if let Err(why) = self.try_mount() {
            panic!("{why}");
        }
    }

    /// Whether a loop device has its file.
    fn is_attached(&self) -> bool {
        let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let mut files = devices.map(|device| device.path().join("loop/backing_file"));
        let image = self.image.to_string_lossy();
        files.any(|file| std::fs::read_to_string(file).is_ok_and(|path| path.trim_end() == image))
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
