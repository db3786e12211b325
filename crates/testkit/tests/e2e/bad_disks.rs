//! The disk of the data root loses power, or is full, at every place of an operation and at each state write of it.
//!
//! After a loss of power: what was acknowledged as an image or a name is there and whole, volumes are, nothing half
//! done is seen, fsck explains everything, and the operation can be repeated. On a full disk: the operation succeeds
//! or says why not; once there is room it succeeds, and nothing is left over.
//!
//! The places are those of `crashes`; the file system is an ext4 of the test's own.

use std::time::{Duration, Instant};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::command::finish;
use gantry_testkit::daemon::binary;
use gantry_testkit::disk::Disk;
use gantry_testkit::{Bench, Client, Daemon, leak};

use crate::crashes::{Base, IMAGE, NAME, OPERATIONS, Operation, clean, holds_and_repeats, places, walk};
use crate::survival::records_are_true;

/// A volume with a file that was on the disk before anything happened.
const KEPT: &str = "kept";

/// A daemon whose data lie on a disk of its own.
struct World {
    bench: Bench,
    /// After the bench: its daemon ends before its disk goes.
    disk: Disk,
    base: Base,
    /// What `md5sum` says of the image's program.
    sum: String,
    boots: u32,
}

impl World {
    fn new(size_mib: u64) -> Option<Self> {
        let daemon = Daemon::start(&[])?;
        daemon.stop();
        let disk = Disk::mount(size_mib, &daemon.root()?.join("data"))?;
        daemon.start_again();
        let bench = Bench::new(daemon, Client::Gantry)?;
        bench.cli.ok(&["volume", "create", KEPT]);
        bench.shell(&["-v", "kept:/kept"], "echo precious > /kept/file; sync");
        // The record of the volume too.
        finish(std::process::Command::new("sync").arg("-f").arg(disk.path()));
        let sum = bench.cli.run(&["run", "--rm", BUSYBOX, "/bin/busybox", "md5sum", "/bin/busybox"]);
        assert_eq!(sum.code, 0, "{sum:?}");
        let base = Base::of(&bench);
        Some(Self { bench, disk, base, sum: sum.stdout, boots: 0 })
    }

    /// Arms a place and starts the daemon again, does what is to be done, and says whether it came by there and what
    /// it answered.
    fn act(
        &self,
        operation: &Operation,
        place: &str,
        action: &str,
        then: &str,
    ) -> (bool, gantry_testkit::Done) {
        let daemon = &self.bench.daemon;
        let witness = daemon.root().expect("ours").join("witness");
        (operation.prepare)(&self.bench);
        daemon.kill();
        daemon.start_with(&[
            ("FAILPOINTS_WHEN_READY", &format!("{place}={action}")),
            ("FAILPOINTS_WITNESS", &witness.to_string_lossy()),
            ("FAILPOINTS_THEN", then),
        ]);
        let done = (operation.act)(&self.bench);
        // What is done in the background comes a second later.
        let patience = Duration::from_millis(if place.starts_with("daemon.state.") { 200 } else { 5000 });
        let begun = Instant::now();
        while !witness.exists() && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        (std::fs::remove_file(&witness).is_ok(), done)
    }

    /// All names of images with their ids.
    fn images(&self) -> Vec<String> {
        let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
        let listed = self.bench.cli.ok(&["images", "--no-trunc", "--format", format]);
        let mut all: Vec<String> = listed.lines().map(str::to_owned).collect();
        all.sort();
        all
    }

    /// The machine is started again: all that lived in the kernel is gone, and what was not on the disk.
    fn reboot(&mut self) {
        self.bench.daemon.kill();
        leak::reboot(&self.bench.daemon);
        self.disk.mount_again();
        self.boots += 1;
        let boot = format!("00000000-0000-4000-8000-{:012}", self.boots);
        self.bench.daemon.set("FAILPOINTS_BOOT_ID", &boot);
        self.bench.daemon.start_again();
    }

    fn lose_power(&mut self, operation: &Operation, place: &str, action: &str) -> bool {
        let what = format!("{} loses power at {place} ({action})", operation.word);
        let before = self.images();
        let power = format!("power {}", self.disk.path().display());
        let (fired, done) = self.act(operation, place, action, &power);
        let mut acknowledged = before;
        if fired {
            let ended = self.bench.daemon.has_ended_within(Duration::from_secs(10));
            assert!(ended, "{what}: gantryd did not end");
        } else {
            assert_eq!(done.code, 0, "{what}: {done:?}\n{}", self.bench.daemon.log());
            acknowledged = self.images();
            let gantryd = binary("gantryd").expect("it runs");
            let lost = finish(std::process::Command::new(gantryd).arg("--lose-power").arg(self.disk.path()));
            assert_eq!(lost.code, 0, "{lost:?}");
        }
        self.reboot();
        let images = self.images();
        for image in acknowledged.iter().filter(|image| operation.word != "rmi" || !image.starts_with(IMAGE))
        {
            assert!(
                images.contains(image),
                "{what}: {image} is lost of {images:?}\n{}",
                self.bench.daemon.log()
            );
        }
        records_are_true(&self.bench);
        leak::explained(&self.bench.daemon);
        let bench = &self.bench;
        let file = self.disk.path().join("volumes").join(KEPT).join("_data/file");
        assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some("precious\n"), "{what}");
        assert_eq!(bench.shell(&["-v", "kept:/kept"], "cat /kept/file"), "precious", "{what}");
        for image in images.iter().filter(|image| image.starts_with(IMAGE)) {
            // Every byte of its program is read: what it has was on the disk before its name was.
            let sum = bench.cli.run(&["run", "--rm", IMAGE, "/bin/busybox", "md5sum", "/bin/busybox"]);
            assert_eq!((sum.code, &sum.stdout), (0, &self.sum), "{what}: {image} is damaged: {sum:?}");
        }
        // What was acknowledged of a container or a name may be forgotten, but not in part.
        for name in
            bench.cli.ok(&["ps", "-a", "--filter", "status=created", "--format", "{{.Names}}"]).lines()
        {
            let started = bench.cli.run(&["start", name]);
            assert_eq!(started.code, 0, "{what}: {started:?}\n{}", bench.daemon.log());
        }
        let again = (operation.act)(bench);
        let may_say = [operation.done_already, "No such container", "No such image"];
        assert!(
            again.code == 0 || may_say.iter().any(|text| again.stderr.contains(text)),
            "{what}, once more: {again:?}\n{}",
            bench.daemon.log()
        );
        records_are_true(bench);
        self.clean(&what);
        fired
    }

    fn fill(&self, operation: &Operation, place: &str, action: &str) -> bool {
        let what = format!("{} on a disk that is full at {place} ({action})", operation.word);
        let filler = self.disk.path().join("filler");
        let (fired, done) = self.act(operation, place, action, &format!("fill {}", filler.display()));
        let bench = &self.bench;
        if done.code != 0 {
            let said = format!("{}{}", done.stdout, done.stderr).to_lowercase();
            assert!(
                fired && (said.contains("no space left on device") || said.contains("disk is full")),
                "{what}: {done:?}\n{}",
                bench.daemon.log()
            );
        }
        bench.cli.ok(&["ps", "-a"]);
        bench.cli.ok(&["images"]);
        if fired {
            std::fs::remove_file(&filler).expect("it was made where it was armed");
        } else {
            // What comes later must not come by there.
            bench.daemon.kill();
            bench.daemon.start_again();
            let _ = std::fs::remove_file(&filler);
        }
        holds_and_repeats(bench, operation, &what);
        self.clean(&what);
        fired
    }

    /// Removes all that was made, but the volume that is kept.
    fn clean(&self, what: &str) {
        let bench = &self.bench;
        clean(bench);
        // Of one that a loss of power took the container of: its directory says what it is.
        for volume in bench.cli.ok(&["volume", "ls", "-q"]).lines().filter(|name| *name != KEPT) {
            bench.cli.ok(&["volume", "rm", volume]);
        }
        self.base.check(bench, what);
    }
}

fn operation(word: &str) -> &'static Operation {
    OPERATIONS.iter().find(|operation| operation.word == word).expect("it is listed")
}

/// Places of the daemon's: a shim writes to `/run` alone, and its log may have gaps.
fn daemons() -> Option<Vec<String>> {
    let mut places = places()?;
    places.retain(|place| place.starts_with("daemon."));
    Some(places)
}

fn power(word: &str) {
    let Some(places) = daemons() else { return };
    let Some(mut world) = World::new(256) else { return };
    walk(&places, word, |place, action| world.lose_power(operation(word), place, action));
}

fn fill(word: &str) {
    let Some(places) = daemons() else { return };
    let Some(world) = World::new(64) else { return };
    walk(&places, word, |place, action| world.fill(operation(word), place, action));
}

macro_rules! each {
    ($run:ident: $($name:ident,)*) => { $(
        #[test]
        fn $name() {
            super::$run(stringify!($name));
        }
    )* };
}

mod power_loss {
    each! { power: import, rmi, tag, create, start, rm, build, load, commit, cp, volume, prune, update, }
}

mod full {
    each! {
        fill: import, rmi, tag, create, start, stop, rm, exec, build, load, commit, cp, volume, prune, update, rename, pause,
    }
}

/// What fills the disk is the writable layer of the container that is to be removed.
#[test]
fn a_container_that_filled_the_disk_can_be_removed() {
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("the reserve is ours");
    }
    let Some(world) = World::new(64) else { return };
    let bench = &world.bench;
    for flags in [&[][..], &["-v", "/volume"]] {
        let run = [&["run", "-d", "--name", NAME][..], flags, &[BUSYBOX]].concat();
        // What a write was promised and did not need comes back with the sync.
        let script = "n=0; while [ $n -lt 3 ]; do
            if cat /dev/zero >> /big || echo x >> /more; then n=0; else sync; n=$((n + 1)); fi
        done; s=60; exec sleep ${s}0";
        bench.cli.ok(&[&run[..], &["sh", "-c", script]].concat());
        let is_done = || bench.cli.ok(&["top", NAME]).contains("sleep 600");
        gantry_testkit::until("the disk is full", 60, is_done);
        // Nothing that has to be recorded can be.
        let refused = bench.cli.run(&["create", "--name", "another", BUSYBOX, "true"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        bench.cli.ok(&["rm", "-fv", NAME]);
        world.base.check(bench, "after the removal");
        bench.cli.ok(&["run", "--rm", BUSYBOX, "true"]);
    }
}

/// A disk that is full when the daemon starts: it starts, and what is not needed can be removed.
#[test]
fn a_daemon_starts_on_a_full_disk() {
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("the reserve is ours");
    }
    let Some(world) = World::new(64) else { return };
    let bench = &world.bench;
    let filler = world.disk.path().join("filler");
    for end in [Daemon::stop, Daemon::kill] {
        bench.cli.ok(&["create", "--name", NAME, BUSYBOX, "true"]);
        end(&bench.daemon);
        let mut file = std::fs::File::create(&filler).expect("there is room yet");
        for bytes in [1 << 20, 1024] {
            while std::io::Write::write_all(&mut file, &vec![1; bytes]).is_ok() {}
            file.sync_all().expect("what was written has its room");
        }
        drop(file);
        bench.daemon.start_again();
        assert!(bench.cli.ok(&["ps", "-a"]).contains(NAME));
        bench.cli.ok(&["rm", NAME]);
        std::fs::remove_file(&filler).expect("it was made");
        world.base.check(bench, "after the removal");
        bench.cli.ok(&["run", "--rm", BUSYBOX, "true"]);
    }
}
