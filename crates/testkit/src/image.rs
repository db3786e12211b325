//! Images made from what the machine has: BusyBox over nothing.

use std::path::PathBuf;
use std::sync::OnceLock;

use tar::{Builder, EntryType, Header};

/// The applets that cases use.
const APPLETS: [&str; 46] = [
    "[", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "find",
    "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "md5sum", "mkdir", "mount", "nc",
    "nproc", "ps", "pwd", "rm", "sed", "seq", "sh", "sleep", "sort", "stat", "stty", "tail", "test", "touch",
    "true", "ulimit", "wc", "wget", "yes",
];

/// The machine's statically linked BusyBox.
#[must_use]
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

/// A root file system of BusyBox as a tar; `None` without BusyBox. Made once.
pub fn busybox_tar() -> Option<&'static [u8]> {
    static TAR: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    TAR.get_or_init(|| {
        let program = std::fs::read(busybox()?).ok()?;
        make(&program).ok()
    })
    .as_deref()
}

fn make(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut entry = |name: &str, kind: EntryType, mode: u32, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes)
    };
    for (name, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("home/", 0o755), ("tmp/", 0o1777), ("www/", 0o755)]
    {
        entry(name, EntryType::Directory, mode, b"")?;
    }
    entry("bin/busybox", EntryType::Regular, 0o755, program)?;
    entry(
        "etc/passwd",
        EntryType::Regular,
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n",
    )?;
    entry("etc/group", EntryType::Regular, 0o644, b"root:x:0:\nstaff:x:50:app\napp:x:1001:\n")?;
    entry("www/index.html", EntryType::Regular, 0o644, b"hello from busybox\n")?;
    for applet in APPLETS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}
