//! What this machine has, and installing what it lacks (Debian packages, by apt).

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace;

/// A program that a verb needs and the Debian package that has it.
pub(crate) struct Need {
    /// A path that exists once it is installed.
    pub(crate) path: &'static str,
    /// The Debian package.
    pub(crate) package: &'static str,
}

/// The C compiler and cmake that bundled SQLite and the hashes are built with.
pub(crate) const TO_BUILD: &[Need] = &[
    Need { path: "/usr/bin/cc", package: "gcc" },
    Need { path: "/usr/bin/make", package: "make" },
    Need { path: "/usr/lib/x86_64-linux-gnu/libc.a", package: "libc6-dev" },
    Need { path: "/usr/bin/cmake", package: "cmake" },
];

/// What base images are made from.
pub(crate) const TO_MAKE_IMAGES: &[Need] = &[
    Need { path: "/bin/busybox", package: "busybox-static" },
    Need { path: "/usr/bin/mmdebstrap", package: "mmdebstrap" },
];

/// What the tests look at the host with.
pub(crate) const TO_TEST: &[Need] = &[
    Need { path: "/usr/bin/curl", package: "curl" },
    Need { path: "/usr/bin/docker", package: "docker.io" },
    Need { path: "/usr/sbin/runc", package: "runc" },
    Need { path: "/usr/sbin/nft", package: "nftables" },
    Need { path: "/usr/sbin/iptables", package: "iptables" },
    Need { path: "/usr/bin/ip", package: "iproute2" },
    Need { path: "/usr/lib/python3/dist-packages/docker/__init__.py", package: "python3-docker" },
];

/// What the bench compares with.
pub(crate) const TO_COMPARE: &[Need] = &[
    Need { path: "/usr/sbin/dockerd", package: "docker.io" },
    Need { path: "/usr/sbin/iptables", package: "iptables" },
];

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    // Only root may list another user's descriptors, so reading init's is a test without `unsafe`.
    std::fs::read_dir("/proc/1/fd").is_ok()
}

/// Installs what is missing of `needs`; as another user than root it says what to install.
pub(crate) fn install(needs: &[&[Need]]) -> Result<Vec<&'static str>> {
    let mut missing: Vec<&'static str> = needs
        .iter()
        .flat_map(|group| group.iter())
        .filter(|need| !Path::new(need.path).exists())
        .map(|need| need.package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(missing);
    }
    if !is_root() {
        bail!("these Debian packages are missing; install them as root: {}", missing.join(" "));
    }
    let mut update = Command::new("apt-get");
    workspace::run(update.args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"])
        .args(&missing)
        .stdout(std::process::Stdio::null());
    workspace::run(&mut install)?;
    Ok(missing)
}
