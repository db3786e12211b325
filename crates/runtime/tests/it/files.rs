//! The file system: mounts, devices, read-only roots, and root file systems that lie.

use std::os::unix::fs::symlink;

use gantry_model::mount::RootMount;
use serde_json::{Value, json};

use crate::rig::{Rig, skipped, spec};

fn mount(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().expect("mounts").push(mount);
}

#[test]
fn binds_are_what_they_say() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let host = rig.base.join("host");
    std::fs::write(host.join("file"), "from the host\n").expect("write");
    let path = host.to_str().expect("text").to_owned();
    let script = "cat /data/deep/file; touch /data/deep/new && echo wrote; touch /ro/x 2>/dev/null || echo refused; cat /one";
    let outcome = rig.script(script, |spec| {
        mount(spec, json!({"destination": "/data/deep", "type": "bind", "source": path, "options": ["rbind", "rprivate"]}));
        mount(spec, json!({"destination": "/ro", "type": "bind", "source": path, "options": ["rbind", "ro", "rprivate"]}));
        mount(spec, json!({"destination": "/one", "source": format!("{path}/file"), "options": ["bind", "ro"]}));
    });
    assert_eq!(outcome.stdout, "from the host\nwrote\nrefused\nfrom the host\n", "{outcome:?}");
    assert!(host.join("new").exists());
    let missing = rig.run(&spec(&["true"], |spec| {
        mount(spec, json!({"destination": "/x", "source": "/nonexistent/y", "options": ["bind"]}));
    }));
    let text = missing.expect_err("no source").text;
    assert_eq!(text, "error mounting \"/nonexistent/y\" to rootfs at \"/x\": no such file or directory");
}

#[test]
fn what_is_below_a_source_is_resolved_beneath_it() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let host = rig.base.join("host");
    std::fs::create_dir_all(host.join("sub/deep")).expect("mkdir");
    std::fs::write(host.join("sub/file"), "below\n").expect("write");
    symlink("sub", host.join("link")).expect("link");
    symlink("/etc", host.join("out")).expect("link");
    symlink("../..", host.join("up")).expect("link");
    let path = host.to_str().expect("text").to_owned();
    let below = |place: &str, destination: &str| {
        let option = format!("gantry.below={place}");
        rig.run(&spec(&["sh", "-c", "cat /m/file 2>/dev/null || cat /one"], |spec| {
            let options = json!(["rbind", option, "ro"]);
            mount(
                spec,
                json!({"destination": destination, "type": "bind", "source": path, "options": options}),
            );
        }))
    };
    for (good, destination) in [("sub/file", "/one"), ("sub", "/m"), ("link", "/m"), ("sub/deep/..", "/m")] {
        assert_eq!(below(good, destination).expect("it runs").stdout, "below\n", "{good}");
    }
    for (bad, why) in
        [("out", "cross-device link"), ("up", "cross-device link"), ("nosuch", "no such file or directory")]
    {
        let text = below(bad, "/m").expect_err("refused").text;
        assert!(text.starts_with(&format!("error mounting \"{path}\" to rootfs at \"/m\": ")), "{text}");
        assert!(text.ends_with(why), "{text}");
    }
}

#[test]
fn read_only_reaches_below_if_asked() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    // A mount below the source, in a namespace of the test's own thread.
    let host = rig.base.join("host");
    std::fs::create_dir(host.join("sub")).expect("mkdir");
    let path = host.to_str().expect("text").to_owned();
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            gantry_sys::ns::unshare(gantry_sys::ns::Kinds::MOUNT)
                .map_err(|error| format!("unshare: {error}"))?;
            let private =
                rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).map_err(|error| error.to_string())?;
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", host.join("sub"), "tmpfs", flags, None::<&std::ffi::CStr>)
                .map_err(|error| error.to_string())?;
            let script = "touch /a/sub/x 2>/dev/null || echo a; touch /b/sub/x 2>/dev/null || echo b";
            Ok::<_, String>(rig.script(script, |spec| {
                mount(spec, json!({"destination": "/a", "source": path, "options": ["rbind", "ro"]}));
                mount(spec, json!({"destination": "/b", "source": path, "options": ["rbind", "rro"]}));
            }))
        });
        thread.join().expect("thread")
    });
    match result {
        Ok(outcome) => assert_eq!(outcome.stdout, "b\n", "{outcome:?}"),
        Err(reason) => panic!("{reason}"),
    }
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script =
        "touch /x 2>/dev/null || echo root; touch /dev/shm/x && echo shm; touch /tmp/x && stat -c %a /tmp";
    let outcome = rig.script(script, |spec| {
        spec["root"]["readonly"] = json!(true);
        mount(
            spec,
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}),
        );
    });
    assert_eq!(outcome.stdout, "root\nshm\n755\n", "{outcome:?}");
}

#[test]
fn writes_go_to_the_upper_directory() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    assert_eq!(rig.script("echo new > /etc/new", |_| {}).code, 0);
    assert_eq!(std::fs::read_to_string(rig.base.join("upper/etc/new")).expect("read"), "new\n");
    assert!(!rig.lower().join("etc/new").exists());
    // The mount's own directories are no change of the image's.
    let bind = RootMount::Bind { source: rig.lower() };
    let cgroup = rig.cgroup(None);
    let outcome =
        rig.run_in(&spec(&["sh", "-c", "echo bound > /etc/bound"], |_| {}), &bind, &cgroup).expect("runs");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(rig.lower().join("etc/bound").exists());
    let layers = RootMount::Overlay { lower: vec![rig.lower()], upper: None, work: None };
    for directory in ["dev", "proc", "sys"] {
        std::fs::create_dir_all(rig.lower().join(directory)).expect("mkdir");
    }
    let outcome =
        rig.run_in(&spec(&["sh", "-c", "echo x > /etc/x"], |_| {}), &layers, &cgroup).expect("runs");
    assert!(outcome.stderr.contains("Read-only"), "{outcome:?}");
    cgroup.remove().expect("removed");
}

#[test]
fn many_layers_with_long_names_are_stacked() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let mut lower = Vec::new();
    for number in 0..120 {
        let directory = rig.base.join("x".repeat(200)).join(format!("{number}-{}", "y".repeat(100)));
        std::fs::create_dir_all(&directory).expect("mkdir");
        std::fs::write(directory.join(format!("file{number}")), "").expect("write");
        std::fs::write(directory.join("top"), format!("{number}\n")).expect("write");
        lower.push(directory);
    }
    lower.push(rig.lower());
    let root =
        RootMount::Overlay { lower, upper: Some(rig.base.join("upper")), work: Some(rig.base.join("work")) };
    let cgroup = rig.cgroup(None);
    let outcome = rig.run_in(&spec(&["sh", "-c", "cat /top; ls / | grep -c file"], |_| {}), &root, &cgroup);
    assert_eq!(outcome.expect("runs").stdout, "0\n120\n");
    cgroup.remove().expect("removed");
}

#[test]
fn devices_are_there_and_others_cannot_be_made() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; \
        for l in fd stdin ptmx; do readlink /dev/$l; done; mknod /tmp/sda b 8 0 && echo made; \
        (dd if=/tmp/sda of=/dev/null count=1 2>&1) | grep -c 'not permitted'; stat -c '%n %t:%T %a %u' /dev/extra; \
        (echo x > /dev/null) && echo ok > /dev/stdout";
    let outcome = rig.script(script, |spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 7, "fileMode": 416, "uid": 5}]);
    });
    assert_eq!(
        outcome.stdout,
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n\
         /dev/tty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\nmade\n1\n/dev/extra 1:7 640 5\nok\n",
        "{outcome:?}"
    );
}

#[test]
fn links_of_a_hostile_root_lead_nowhere_else() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outside = rig.base.join("outside");
    std::fs::create_dir(&outside).expect("mkdir");
    let lower = rig.lower();
    let back = "../".repeat(20);
    symlink(format!("{back}{}", outside.display()), lower.join("escape")).expect("link");
    symlink(&outside, lower.join("absolute")).expect("link");
    std::fs::create_dir(lower.join("var")).expect("mkdir");
    symlink("/run/dangling", lower.join("var/run")).expect("link");
    let host = rig.base.join("host").to_str().expect("text").to_owned();
    std::fs::write(rig.base.join("host/file"), "seen\n").expect("write");
    let script =
        format!("cat /escape/a/file /absolute/b/file /run/dangling/c/file {}/a/file; pwd", outside.display());
    let outcome = rig.script(&script, |spec| {
        for destination in ["/escape/a", "/absolute/b", "/var/run/c"] {
            mount(spec, json!({"destination": destination, "source": host, "options": ["bind"]}));
        }
        spec["process"]["cwd"] = json!("/escape/cwd");
        spec["linux"]["devices"] = json!([{"path": "/escape/dev/x", "type": "c", "major": 1, "minor": 3}]);
    });
    assert_eq!(outcome.stdout, format!("seen\nseen\nseen\nseen\n{}/cwd\n", outside.display()), "{outcome:?}");
    assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0, "something was made outside");
}

#[test]
fn what_shows_the_kernel_is_mounted_on_true_directories_only() {
    if skipped() {
        return;
    }
    let cases: [(&str, &str, &str); 3] = [
        ("proc", "/tmp", "must be mounted on an ordinary directory"),
        ("sys", "/tmp", "must be mounted on an ordinary directory"),
        ("sneaky", "/proc", "cannot be mounted because it is inside /proc"),
    ];
    for (link, target, text) in cases {
        let rig = Rig::new();
        symlink(target, rig.lower().join(link)).expect("link");
        let result = rig.run(&spec(&["true"], |spec| {
            mount(spec, json!({"destination": "/sneaky", "type": "tmpfs", "source": "tmpfs"}));
        }));
        let error = result.expect_err(link).text;
        assert!(error.contains(text), "{link}: {error}");
    }
}

#[test]
fn a_link_in_place_of_a_device_is_left_alone() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    // /dev is not the container's own here: the image's files are all there is.
    std::fs::create_dir(rig.lower().join("dev")).expect("mkdir");
    symlink("/etc/plain", rig.lower().join("dev/null")).expect("link");
    let outcome = rig.script("cat /proc/kcore | wc -c; cat /etc/plain", |spec| {
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| !mount["destination"].as_str().expect("text").starts_with("/dev"));
    });
    assert_eq!(outcome.stdout, "0\nnot a program\n", "{outcome:?}");
}
