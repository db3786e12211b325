//! A base image out of one file: Debian's static BusyBox and a link for each of its applets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::workspace::read;

/// Writes the image's archive into `work`, once, and returns its path.
pub(crate) fn archive(work: &Path) -> Result<PathBuf> {
    let archive = work.join("busybox.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let root = work.join("busybox");
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("tmp"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in read(Command::new("/bin/busybox").arg("--list"))?.lines() {
        if applet != "busybox" {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    read(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."))?;
    Ok(archive)
}
