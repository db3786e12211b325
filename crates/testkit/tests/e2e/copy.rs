//! `cp`: files and trees into containers and out of them, hostile ones included.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use gantry_testkit::bench::{BUSYBOX, Bench, write};
use gantry_testkit::{Daemon, both, ours, until};

/// A tree of everything that a file system has.
fn tree(root: &Path) {
    write(&root.join("d/e/file"), "text");
    fs::set_permissions(root.join("d/e/file"), fs::Permissions::from_mode(0o4750)).expect("set");
    std::os::unix::fs::chown(root.join("d/e/file"), Some(1234), Some(1235)).expect("changed");
    // The owner goes first: it takes the set-user-id bit away.
    fs::set_permissions(root.join("d/e/file"), fs::Permissions::from_mode(0o4750)).expect("set");
    fs::hard_link(root.join("d/e/file"), root.join("d/hard")).expect("linked");
    symlink("e/file", root.join("d/soft")).expect("linked");
    symlink("/etc/passwd", root.join("d/absolute")).expect("linked");
    symlink("nowhere", root.join("d/dangling")).expect("linked");
    fs::File::create(root.join("sparse")).and_then(|file| file.set_len(1 << 20)).expect("made");
    write(&root.join("odd \t$name'é\n"), "x");
    write(&root.join("n".repeat(200)), "long");
    write(&root.join(".wh.file"), "no whiteout");
    fs::create_dir(root.join("empty")).expect("made");
    let made = Command::new("sh")
        .args(["-c", "mkfifo fifo && mknod dev c 1 3 && find . -print0 | xargs -0 touch -h -d 2020-02-02"])
        .current_dir(root)
        .status();
    assert!(made.expect("sh runs").success());
}

/// What there is in a tree, a line for each thing: name, type, mode, owner, size, time, links, target.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
            let size = if metadata.is_dir() { 0 } else { metadata.size() };
            let content = if metadata.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            lines.push(format!(
                "{:?} {:o} {} {} {} {} {} {:?} {:?} {}",
                path.strip_prefix(root).expect("below"),
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                size,
                metadata.mtime(),
                if metadata.is_dir() { 0 } else { metadata.nlink() },
                metadata.file_type().is_char_device(),
                fs::read_link(&path).ok(),
                content.len(),
            ));
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn sleeper(bench: &Bench, name: &str, flags: &[&str]) -> String {
    let name = bench.name(name);
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(flags);
    args.extend([BUSYBOX, "sleep", "600"]);
    bench.cli.ok(&args);
    name
}

both! {
    fn a_tree_goes_in_and_comes_out_equal(bench) {
        let files = bench.directory();
        let from = files.path().join("from");
        tree(&from);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let running = sleeper(bench, "up", &[]);
        let stopped = bench.name("down");
        bench.cli.ok(&["create", "--name", &stopped, BUSYBOX, "true"]);
        let paused = sleeper(bench, "paused", &[]);
        bench.cli.ok(&["pause", &paused]);
        for (number, name) in [&running, &stopped, &paused].into_iter().enumerate() {
            bench.cli.ok(&["cp", &text(&from), &format!("{name}:/tree")]);
            let to = files.path().join(format!("to{number}"));
            bench.cli.ok(&["cp", &format!("{name}:/tree"), &text(&to)]);
            // What comes out is the user's own.
            let wanted: Vec<String> =
                listing(&from).into_iter().map(|line| line.replace(" 1234 1235 ", " 0 0 ")).collect();
            assert_eq!(listing(&to), wanted, "{name}");
            assert_eq!(fs::metadata(to.join("d/hard")).expect("there").ino(), fs::metadata(to.join("d/e/file")).expect("there").ino());
        }
        bench.cli.ok(&["unpause", &paused]);
        let stat = bench.cli.ok(&["exec", &running, "stat", "-c", "%a %u:%g %h", "/tree/d/e/file"]);
        assert_eq!(stat, "4750 1234:1235 2");
        bench.cli.ok(&["start", &stopped]);
    }

    fn where_things_arrive(bench) {
        let files = bench.directory();
        let at = |name: &str| files.path().join(name).to_string_lossy().into_owned();
        write(&files.path().join("file"), "one");
        write(&files.path().join("tree/sub/x"), "x");
        let name = sleeper(bench, "where", &[]);
        let inside = |path: &str| format!("{name}:{path}");
        let list = |path: &str| bench.cli.ok(&["exec", &name, "find", path]).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        bench.cli.ok(&["exec", &name, "mkdir", "/here"]);
        bench.cli.ok(&["exec", &name, "ln", "-s", "/here", "/link"]);
        bench.cli.ok(&["cp", &at("file"), &inside("/here")]);
        bench.cli.ok(&["cp", &at("file"), &inside("/here/renamed")]);
        bench.cli.ok(&["cp", &at("file"), &inside("/link/linked")]);
        bench.cli.ok(&["cp", &at("tree"), &inside("/here")]);
        bench.cli.ok(&["cp", &at("tree/."), &inside("/here")]);
        bench.cli.ok(&["cp", &at("tree"), &inside("/new")]);
        let mut here = list("/here");
        here.sort();
        assert_eq!(here, ["/here", "/here/file", "/here/linked", "/here/renamed", "/here/sub", "/here/sub/x", "/here/tree", "/here/tree/sub", "/here/tree/sub/x"]);
        assert_eq!(list("/new"), ["/new", "/new/sub", "/new/sub/x"]);
        bench.cli.ok(&["cp", &inside("/here/file"), &at("back")]);
        bench.cli.ok(&["cp", &inside("/here/sub"), &at("sub")]);
        bench.cli.ok(&["cp", &inside("/here/sub/."), &at("content")]);
        bench.cli.ok(&["cp", "-L", &inside("/link"), &at("followed")]);
        bench.cli.ok(&["cp", &inside("/link"), &at("link")]);
        assert_eq!(fs::read_to_string(at("back")).expect("read"), "one");
        assert!(files.path().join("sub/x").is_file() && files.path().join("content/x").is_file());
        assert!(files.path().join("followed/sub/x").is_file());
        assert_eq!(fs::read_link(at("link")).expect("a link"), Path::new("/here"));
        // Standard streams.
        let archive = bench.cli.command(&["cp", &inside("/here/sub"), "-"]).output().expect("it runs").stdout;
        assert!(archive.starts_with(b"sub/\0"));
        let done = bench.cli.with_input(&["cp", "-", &inside("/new/sub")], &archive);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(list("/new").contains(&"/new/sub/sub/x".to_owned()));
    }

    fn refusals_in_dockers_words(bench) {
        let files = bench.directory();
        let at = |name: &str| files.path().join(name).to_string_lossy().into_owned();
        write(&files.path().join("file"), "one");
        write(&files.path().join("tree/etc/x"), "x");
        write(&files.path().join("clash/file/x"), "x");
        let name = sleeper(bench, "no", &["-v", &format!("{}:/ro:ro", files.path().display())]);
        let locked = sleeper(bench, "locked", &["--read-only", "--tmpfs", "/mem"]);
        let inside = |path: &str| format!("{name}:{path}");
        bench.cli.ok(&["cp", &at("file"), &inside("/file")]);
        let daemon = "Error response from daemon: ";
        for (from, to, want) in [
            (inside("/no/x"), at("o"), format!("{daemon}Could not find the file /no/x in container {name}")),
            (inside("/file/x"), at("o"), format!("{daemon}lstat /file/x: not a directory")),
            (inside("/file"), at("o/"), "no such directory".into()),
            (inside("/file"), at("no/o"), format!("invalid output path: directory {:?} does not exist", at("no"))),
            (inside("/etc"), at("file"), "cannot copy directory".into()),
            (at("file"), inside("/no/x"), format!("{daemon}Could not find the file /no in container {name}")),
            (at("file"), inside("/file/x"), format!("{daemon}extraction point is not a directory")),
            (at("tree"), inside("/file"), "cannot copy directory".into()),
            (at("clash/."), inside("/"), format!("{daemon}cannot overwrite non-directory \"file\" with directory \"/\"")),
            (at("file"), inside("/ro/y"), format!("{daemon}mounted volume is marked read-only")),
            (at("file"), format!("{locked}:/y"), format!("{daemon}container rootfs is marked read-only")),
            (at("none"), inside("/y"), format!("lstat {}: no such file or directory", at("none"))),
            (at("a"), at("b"), "must specify at least one container source".into()),
            (inside("/a"), inside("/b"), "copying between containers is not supported".into()),
            (inside(""), at("o"), format!("{daemon}bad parameter: pathcannot be empty")),
            ("-".into(), inside("/file"), format!("destination \"{name}:/file\" must be a directory")),
        ] {
            let told = bench.cli.fails(1, &["cp", &from, &to]);
            // A client that is refused early complains of its own writing, too.
            assert!(told.contains(&want), "{from} {to}: {told}");
        }
    }

    fn volumes_and_binds_are_reached_running_and_stopped(bench) {
        let files = bench.directory();
        let at = |name: &str| files.path().join(name).to_string_lossy().into_owned();
        write(&files.path().join("bound/file"), "bound");
        let bound = format!("{}:/bound", at("bound"));
        let name = sleeper(bench, "mounts", &["-v", "/vol", "-v", &bound]);
        bench.cli.ok(&["exec", &name, "sh", "-c", "echo in volume >/vol/file"]);
        for state in ["running", "stopped"] {
            bench.cli.ok(&["cp", &format!("{name}:/vol/file"), &at("vol")]);
            assert_eq!(fs::read_to_string(at("vol")).expect("read"), "in volume\n", "{state}");
            bench.cli.ok(&["cp", &format!("{name}:/bound/file"), &at("bound-file")]);
            bench.cli.ok(&["cp", &at("vol"), &format!("{name}:/bound/{state}")]);
            assert_eq!(fs::read_to_string(at(&format!("bound/{state}"))).expect("on the host"), "in volume\n");
            bench.cli.ok(&["cp", &at("vol"), &format!("{name}:/vol/{state}")]);
            bench.cli.ok(&["cp", &format!("{name}:/etc/hostname"), &at("hostname")]);
            assert_eq!(fs::read_to_string(at("hostname")).expect("read").trim_end(), &bench.inspect(&name, "/Config/Hostname"));
            if state == "running" {
                bench.cli.ok(&["stop", "-t", "0", &name]);
            }
        }
        bench.cli.ok(&["start", &name]);
        assert_eq!(bench.cli.ok(&["exec", &name, "ls", "/vol"]), "file\nrunning\nstopped");
    }

    fn archive_mode_gives_files_to_the_user(bench) {
        let files = bench.directory();
        write(&files.path().join("file"), "one");
        let from = files.path().join("file").to_string_lossy().into_owned();
        let name = sleeper(bench, "user", &["-u", "app"]);
        bench.cli.ok(&["cp", "-a", &from, &format!("{name}:/mine")]);
        bench.cli.ok(&["cp", &from, &format!("{name}:/roots")]);
        assert_eq!(bench.cli.ok(&["exec", &name, "stat", "-c", "%u:%g", "/mine", "/roots"]), "1000:1001\n0:0");
    }

    fn hostile_archives_reach_nothing_outside(bench) {
        let files = bench.directory();
        let outside = files.path().join("outside");
        write(&outside.join("file"), "untouched");
        let name = sleeper(bench, "hostile", &["-v", &format!("{}:/bound", files.path().display())]);
        bench.cli.ok(&["exec", &name, "mkdir", "/in"]);
        bench.cli.ok(&["exec", &name, "sh", "-c", "echo safe >/top; ln -s / /in/root; ln -s ../../.. /in/up"]);
        let put = |archive: Vec<u8>| bench.cli.with_input(&["cp", "-", &format!("{name}:/in")], &archive);
        let entry = |name: &str, kind: tar::EntryType, link: &str| {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_cksum();
            header
        };
        let archive = |entries: &[(&str, tar::EntryType, &str)]| {
            let mut builder = tar::Builder::new(Vec::new());
            for (name, kind, link) in entries {
                builder.append(&entry(name, *kind, link), std::io::empty()).expect("written");
            }
            builder.into_inner().expect("written")
        };
        let (file, soft, hard) = (tar::EntryType::Regular, tar::EntryType::Symlink, tar::EntryType::Link);
        let refused = put(archive(&[("../esc", file, "")]));
        assert!(refused.code == 1 && refused.stderr.contains("invalid entry name \"../esc\""), "{refused:?}");
        let refused = put(archive(&[("h", hard, "../../top")]));
        assert!(refused.code == 1 && refused.stderr.contains("invalid hardlink target \"../../top\""), "{refused:?}");
        assert_eq!(put(archive(&[("h", hard, "/top")])).code, 1, "a hard link to what is not below");
        // Absolute names, and links that point out, stay in the directory.
        assert_eq!(put(archive(&[("/abs", file, ""), ("a/../flat", file, ""), ("l", soft, "/bound"), ("l/escaped", file, "")])).code, 0);
        put(archive(&[("root/top", file, ""), ("up/top", file, "")]));
        assert_eq!(bench.cli.ok(&["exec", &name, "cat", "/top"]), "safe");
        assert!(!files.path().join("escaped").exists());
        assert_eq!(bench.cli.ok(&["exec", &name, "ls", "/in/abs", "/in/flat"]), "/in/abs\n/in/flat");
        let bomb: Vec<(String, tar::EntryType, &str)> = (0..5000).map(|n| (format!("dev{n}"), tar::EntryType::Char, "")).collect();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, link) in &bomb {
            let mut header = entry(name, *kind, link);
            header.set_device_major(1).and_then(|()| header.set_device_minor(3)).expect("set");
            header.set_cksum();
            builder.append(&header, std::io::empty()).expect("written");
        }
        let refused = put(builder.into_inner().expect("written"));
        if bench.daemon.root().is_some() {
            assert!(refused.code == 1 && refused.stderr.contains("device nodes exceed the limit"), "{refused:?}");
        }
        assert_eq!(fs::read_to_string(outside.join("file")).expect("read"), "untouched");
    }

    fn a_link_that_races_leads_nowhere_else(bench) {
        let files = bench.directory();
        write(&files.path().join("secret"), "of the host");
        let at = |name: &str| files.path().join(name).to_string_lossy().into_owned();
        // The container's root has no such path; the host's has.
        let target = files.path().to_string_lossy().into_owned();
        let name = bench.name("race");
        let script = format!(
            "mkdir -p /d/real /d/kept; echo inside >/d/real/secret; touch /ready; while :; do mv /d/real /d/kept/x; ln -s {target} /d/real; rm /d/real; mv /d/kept/x /d/real; done"
        );
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", &script]);
        until("it swaps", 10, || bench.cli.run(&["exec", &name, "ls", "/ready"]).code == 0);
        write(&files.path().join("new/planted"), "planted");
        for round in 0..25 {
            let out = at(&format!("out{round}"));
            let _ = bench.cli.run(&["cp", &format!("{name}:/d/real/secret"), &out]);
            if let Ok(text) = fs::read_to_string(&out) {
                assert_eq!(text, "inside\n", "a file of the host came out");
            }
            let _ = bench.cli.run(&["cp", &at("new/."), &format!("{name}:/d/real")]);
            assert!(!files.path().join("planted").exists(), "a file was put into the host");
        }
    }
}

ours! {
    fn archive_mode_takes_a_tree_out_and_in_again_as_it_is(bench) {
        let files = bench.directory();
        let at = |name: &str| files.path().join(name);
        let text = |name: &str| at(name).to_string_lossy().into_owned();
        tree(&at("from"));
        write(&at("from/marked"), "x");
        rustix::fs::setxattr(at("from/marked"), "user.mark", b"value", rustix::fs::XattrFlags::empty()).expect("set");
        fs::File::create(at("from/sparse"))
            .and_then(|file| {
                file.set_len(64 << 20)?;
                std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 32 << 20)
            })
            .expect("made");
        let name = sleeper(bench, "kept", &[]);
        for (from, out) in [("from", "once"), ("once", "twice")] {
            bench.cli.ok(&["cp", &text(from), &format!("{name}:/{out}")]);
            bench.cli.ok(&["cp", "-a", &format!("{name}:/{out}"), &text(out)]);
            assert_eq!(listing(&at(out)), listing(&at("from")));
            assert_eq!(fs::read(at(out).join("sparse")).expect("read"), fs::read(at("from/sparse")).expect("read"));
            let blocks = fs::metadata(at(out).join("sparse")).expect("there").blocks();
            assert!(blocks * 512 < 1 << 20, "{blocks} blocks: its holes were filled");
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(at(out).join("marked"), "user.mark", &mut value).expect("it is there");
            assert_eq!(&value[..length], b"value");
        }
        let blocks = bench.cli.ok(&["exec", &name, "stat", "-c", "%b", "/once/sparse"]);
        let blocks: u64 = blocks.trim().parse().expect("a number");
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks: its holes were filled in the container");
    }
}

#[test]
fn a_start_waits_for_who_reads_a_container_at_rest() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let Some(bench) = Bench::new(daemon, gantry_testkit::Client::Gantry) else { return };
    let name = bench.name("rest");
    bench.cli.ok(&["create", "--name", &name, BUSYBOX, "sleep", "600"]);
    let files = bench.directory();
    fs::File::create(files.path().join("big")).and_then(|file| file.set_len(64 << 20)).expect("made");
    bench.cli.ok(&["cp", &files.path().join("big").to_string_lossy(), &format!("{name}:/big")]);
    let mut reader = bench.cli.spawn(&["cp", &format!("{name}:/big"), "-"]);
    let mut first = [0];
    std::io::Read::read_exact(reader.stdout.as_mut().expect("a pipe"), &mut first).expect("it flows");
    let mut start = bench.cli.spawn(&["start", &name]);
    // Nobody reads on: the start cannot have gone ahead, and a list answers meanwhile.
    assert!(bench.cli.ok(&["ps", "-a"]).contains(&name));
    assert_eq!(start.try_wait().expect("ours"), None);
    let done = gantry_testkit::command::wait(reader);
    assert_eq!(done.code, 0);
    assert!(start.wait().expect("ours").success());
    bench.clear();
    bench.daemon.stop();
}
