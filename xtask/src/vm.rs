//! `cargo xtask vm`: the end-to-end tests in a small virtual machine, with Debian's own kernel, cgroup v2, and a clock
//! that a test may set.
//!
//! Nothing is booted that is not made here, and nothing of the host is mounted there: a disk image is filled with
//! BusyBox, our programs, the compiled tests, the few programs that they call, and the kernel's modules; a tiny
//! initramfs finds it. Without hardware's help (`-accel tcg`), so it runs wherever this runs; it boots in some seconds.
//! The machine has no network but its own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::{self, Need};
use crate::test::{Tally, watch};
use crate::workspace::{self, BINARIES, Profile, cargo, read, run, target_dir};

/// Which tests to run there.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only tests whose name contains one of these
    filter: Vec<String>,
}

/// What the machine is made with.
pub(crate) const TO_RUN_A_VM: &[Need] = &[
    Need { path: "/usr/bin/qemu-system-x86_64", package: "qemu-system-x86" },
    Need { path: "/usr/sbin/mke2fs", package: "e2fsprogs" },
    Need { path: "/usr/bin/strip", package: "binutils" },
];

/// The package that depends on today's kernel for machines of this kind.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What finds the disk, in the order in which it is loaded.
const DISK_MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"];

/// What tests call and BusyBox has not, or not well enough.
const PROGRAMS: [&str; 8] = [
    "/usr/sbin/ip",
    "/usr/sbin/nft",
    "/usr/sbin/mke2fs",
    "/usr/bin/nsenter",
    "/usr/bin/mount",
    "/usr/bin/umount",
    "/usr/bin/ps",
    "/usr/bin/setsid",
];

/// What is not run there: what needs other binaries, and what is about the stock CLI, which is the same everywhere.
const NOT_THERE: [&str; 3] = ["crashes::", "bad_disks::", "::docker"];

/// How many bytes the disk has. Sparse.
const DISK_BYTES: u64 = 6 << 30;

/// Builds everything and runs the tests there.
pub(crate) fn run_alone(args: &Args) -> Result<()> {
    host::install(&[host::TO_BUILD, host::TO_MAKE_IMAGES, host::TO_TEST, TO_RUN_A_VM])?;
    let binaries = workspace::build(Profile::Dev)?;
    let mut tally = Tally::default();
    let passed = tests(&binaries, &args.filter, &mut tally)?;
    println!("{tally}");
    if passed { Ok(()) } else { bail!("{} tests failed in the virtual machine", tally.failed) }
}

/// Runs the end-to-end tests in the machine with these binaries, adds up what they say, and returns whether all passed.
pub(crate) fn tests(binaries: &Path, filter: &[String], tally: &mut Tally) -> Result<bool> {
    let work = target_dir().join("vm");
    fs::create_dir_all(&work)?;
    let kernel = Kernel::fetch(&work)?;
    let initramfs = initramfs(&work, &kernel)?;
    let disk = disk(&work, &kernel, binaries, filter)?;
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"]);
    machine.args(["-nographic", "-no-reboot", "-nic", "none"]);
    machine.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initramfs);
    machine.args(["-append", "console=ttyS0 panic=-1 quiet"]);
    machine.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    machine.stdin(Stdio::null());
    let mut ended_well = false;
    watch(&mut machine, tally, |line| ended_well |= line.trim_end() == "the tests ended with 0")?;
    fs::remove_file(&disk)?;
    Ok(ended_well)
}

/// A Debian kernel, unpacked and not installed.
struct Kernel {
    image: PathBuf,
    /// `lib/modules/VERSION` lies in it, with its tables.
    root: PathBuf,
}

impl Kernel {
    /// Gets the kernel that Debian has today, if it is not there already.
    fn fetch(work: &Path) -> Result<Self> {
        let depends = read(Command::new("apt-cache").args(["depends", KERNEL]))?;
        let package = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .with_context(|| format!("apt knows no {KERNEL}: run apt-get update"))?;
        let root = work.join(package);
        if !root.exists() {
            let partial = work.join("partial");
            let _ = fs::remove_dir_all(&partial);
            fs::create_dir(&partial)?;
            run(Command::new("apt-get").args(["download", "-qq", package]).current_dir(&partial))?;
            let archive = only_file(&partial)?;
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?;
            fs::remove_file(&archive)?;
            let version = package.trim_start_matches("linux-image-");
            run(Command::new("busybox").arg("depmod").arg("-b").arg(&partial).arg(version))?;
            fs::rename(&partial, &root)?;
        }
        let boot = root.join("boot");
        let image = fs::read_dir(&boot)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-"))
            })
            .with_context(|| format!("{} has no kernel", boot.display()))?;
        Ok(Self { image, root })
    }
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(directory)?.next().context("apt-get download left no file")?;
    Ok(entry?.path())
}

/// Packs what finds the disk.
fn initramfs(work: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let root = work.join("initramfs");
    let _ = fs::remove_dir_all(&root);
    for directory in ["bin", "dev", "lib", "root"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    write_program(&root.join("init"), include_str!("vm/initramfs.sh"))?;
    fs::write(root.join("modules"), DISK_MODULES.join("\n"))?;
    let mut found = BTreeSet::new();
    copy_modules(&kernel.root.join("lib/modules"), &root.join("lib"), &mut found)?;
    if found.len() != DISK_MODULES.len() {
        bail!("of the modules for the disk the kernel has {found:?} alone");
    }
    let packed = work.join("initramfs.cpio");
    let script = "busybox find . | busybox cpio -o -H newc";
    let mut pack = Command::new("sh");
    pack.args(["-ec", script]).current_dir(&root).stdout(File::create(&packed)?).stderr(Stdio::null());
    run(&mut pack)?;
    Ok(packed)
}

fn copy_modules(from: &Path, to: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.is_dir() {
            copy_modules(&path, to, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && DISK_MODULES.contains(&name)
        {
            fs::copy(&path, to.join(format!("{name}.ko")))?;
            found.insert(name.to_owned());
        }
    }
    Ok(())
}

/// Makes the machine's disk.
fn disk(work: &Path, kernel: &Kernel, binaries: &Path, filter: &[String]) -> Result<PathBuf> {
    let root = work.join("root");
    let _ = fs::remove_dir_all(&root);
    for directory in [
        "bin", "dev", "etc", "gantry", "lib", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin",
        "usr/sbin", "var/lib",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    run(Command::new("cp").arg("-a").arg(kernel.root.join("lib/modules")).arg(root.join("lib")))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in read(Command::new("/bin/busybox").arg("--list"))?.lines().filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    symlink("../bin/busybox", root.join("sbin/modprobe"))?;
    for program in PROGRAMS.map(Path::new).into_iter().filter(|program| program.exists()) {
        add_program(&root, program)?;
    }
    symlink("mke2fs", root.join("usr/sbin/mkfs.ext4"))?;
    for (name, _) in BINARIES {
        strip(&binaries.join(name), &root.join("gantry").join(name))?;
    }
    strip(&compiled_tests()?, &root.join("gantry/e2e"))?;
    // Where the tests were compiled to look for it.
    add_program(&root, &workspace::binary_dir(Profile::Dev).join("udp-echo"))?;
    fs::write(root.join("etc/hostname"), "gantry-vm\n")?;
    write_program(&root.join("init"), include_str!("vm/init.sh"))?;
    fs::write(root.join("tests"), test_command(filter))?;
    let image = work.join("disk");
    let _ = fs::remove_file(&image);
    File::create(&image)?.set_len(DISK_BYTES)?;
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image))?;
    Ok(image)
}

/// What the machine's shell runs.
fn test_command(filter: &[String]) -> String {
    let quoted = filter.iter().map(|word| format!(" '{}'", word.replace('\'', r"'\''")));
    let skips = NOT_THERE.iter().map(|tests| format!(" --skip {tests}"));
    format!(
        "exec e2e --show-output --test-threads 2{}{}\n",
        quoted.collect::<String>(),
        skips.collect::<String>()
    )
}

/// Puts a program of the host's there, with what it is linked with.
fn add_program(root: &Path, program: &Path) -> Result<()> {
    let copy = |path: &Path| -> Result<()> {
        let to = root.join(path.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a file has a directory")?)?;
        // One of BusyBox's name goes; a link is followed.
        let _ = fs::remove_file(&to);
        fs::copy(path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        Ok(())
    };
    copy(program)?;
    if let Some(name) = program.file_name() {
        let _ = fs::remove_file(root.join("bin").join(name));
    }
    // It fails on a static program, which needs nothing.
    let linked = workspace::output(Command::new("ldd").arg(program))?;
    for word in
        String::from_utf8_lossy(&linked.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        copy(Path::new(word))?;
    }
    Ok(())
}

/// Compiles the end-to-end tests and says where they are.
fn compiled_tests() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--package", "gantry-testkit", "--test", "e2e", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = read(&mut command)?;
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "e2e")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no compiled tests")
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(from))
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_reach_the_tests_as_they_are() {
        let command = test_command(&["run::".into(), "it's".into()]);
        assert!(
            command.starts_with(r"exec e2e --show-output --test-threads 2 'run::' 'it'\''s' --skip "),
            "{command}"
        );
    }
}
