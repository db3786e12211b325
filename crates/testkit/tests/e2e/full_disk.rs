//! A container fills the disk that everything lies on, the daemon's own log included: output is lost, and
//! nothing else.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::{finish, in_path};
use gantry_testkit::{Bench, image, ours, skip, until};

/// A small file system over the daemon's root, which is stopped meanwhile.
struct SmallDisk<'a> {
    bench: &'a Bench,
    root: PathBuf,
    _files: tempfile::TempDir,
}

impl<'a> SmallDisk<'a> {
    /// Of 64 MiB.
    fn mount(bench: &'a Bench) -> Option<Self> {
        if in_path("mkfs.ext4").is_none() {
            skip("no mkfs.ext4: apt-get install e2fsprogs");
            return None;
        }
        let files = bench.directory();
        let image = files.path().join("disk");
        let file = std::fs::File::create(&image).expect("made");
        file.set_len(64 << 20).expect("sparse");
        let made = finish(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        assert_eq!(made.code, 0, "{made:?}");
        let root = bench.daemon.root().expect("a daemon of our own").to_owned();
        bench.daemon.stop();
        let mounted = finish(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&root));
        if mounted.code != 0 {
            skip(&format!("no loop device: {}", mounted.stderr));
            bench.daemon.start_again();
            return None;
        }
        bench.daemon.start_again();
        Some(Self { bench, root, _files: files })
    }

    /// Whether little is left: less than the log's next writes need.
    fn is_nearly_full(&self) -> bool {
        rustix::fs::statvfs(&self.root).is_ok_and(|disk| disk.f_bfree * disk.f_frsize < 8 << 20)
    }

    /// Takes the last blocks too, also those that a log's write took and gave back because it did not fit.
    fn fill_up(&self) {
        let file = std::fs::File::create(self.root.join("filler")).expect("a name takes no block");
        let mut at = 0;
        for _ in 0..20 {
            while file.write_all_at(&[1; 4096], at).is_ok() {
                at += 4096;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Else the container would write to a file system that nobody sees any more.
            let ids = self.bench.cli.run(&["ps", "-q"]).stdout;
            let kills: Vec<&str> = ["kill"].into_iter().chain(ids.split_whitespace()).collect();
            self.bench.cli.run(&kills);
        }
        self.bench.daemon.stop();
        let done = finish(Command::new("umount").arg("-l").arg(&self.root));
        if !std::thread::panicking() {
            assert_eq!(done.code, 0, "{done:?}");
            self.bench.daemon.start_again();
        }
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

ours! {
    fn a_full_disk_loses_output_and_nothing_else(bench) {
        let Some(disk) = SmallDisk::mount(bench) else { return };
        let tar = image::busybox_tar().expect("the bench has it");
        let done = bench.cli.with_input(&["import", "-", BUSYBOX], tar);
        assert_eq!(done.code, 0, "{done:?}");
        let (rests, yes, more) = (bench.name("rests"), bench.name("yes"), bench.name("more"));
        bench.cli.ok(&["run", "-d", "--name", &rests, BUSYBOX, "sleep", "1000"]);
        bench.cli.ok(&["run", "-d", "--name", &yes, BUSYBOX, "yes"]);
        until("the disk is nearly full", 60, || disk.is_nearly_full());
        disk.fill_up();
        // Reports about it find no room either.
        let log = disk.root.join("daemon.log");
        let before = size(&log);
        for _ in 0..20 {
            let refused = bench.cli.run(&["run", "-d", "--name", &more, BUSYBOX, "true"]);
            assert_ne!(refused.code, 0, "{refused:?}");
        }
        assert!(size(&log) < before + 8192, "the log grew from {before} to {}", size(&log));
        assert_eq!(bench.inspect(&yes, "/State/Status"), "running");
        assert_eq!(bench.inspect(&rests, "/State/Status"), "running");
        bench.cli.ok(&["exec", &rests, "true"]);
        bench.cli.ok(&["kill", &yes]);
        until("it is seen to have ended", 10, || bench.inspect(&yes, "/State/Status") == "exited");
        assert_eq!(bench.inspect(&yes, "/State/ExitCode"), 137);
        bench.cli.ok(&["rm", "-f", &yes]);
        assert_eq!(bench.shell(&[], "echo there is room").trim(), "there is room");
        bench.cli.ok(&["exec", &rests, "true"]);
        // What could not be recorded then is not forgotten.
        bench.daemon.kill();
        bench.daemon.start_again();
        assert_eq!(bench.cli.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).trim(), format!("{rests} running"));
        bench.cli.ok(&["rm", "-f", &rests]);
    }
}
