//! Volumes: what their options mount, what is copied into them, and mounts with every option.

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::both;

both! {
    fn options_of_a_local_volume_mount_something(bench) {
        let files = bench.directory();
        write(&files.path().join("file"), "of the host");
        let (memory, bound, locked, broken) = (bench.name("mem"), bench.name("bound"), bench.name("locked"), bench.name("broken"));
        let device = format!("device={}", files.path().display());
        let make = |name: &str, options: &[&str]| {
            let mut args = vec!["volume", "create"];
            options.iter().for_each(|option| args.extend(["--opt", option]));
            args.push(name);
            bench.cli.ok(&args);
        };
        make(&memory, &["type=tmpfs", "device=tmpfs", "o=size=1m,uid=1000"]);
        make(&bound, &["type=none", &device, "o=bind"]);
        make(&locked, &["type=none", &device, "o=bind,ro"]);
        make(&broken, &["type=none", "device=/no/such", "o=bind"]);
        let on = |name: &str, script: &str| bench.cli.run(&["run", "--rm", "-v", &format!("{name}:/v"), BUSYBOX, "sh", "-c", script]);
        let done = on(&memory, "grep ' /v ' /proc/mounts; stat -c %u /v");
        assert!(done.stdout.starts_with("tmpfs /v tmpfs rw,relatime,size=1024k,uid=1000") && done.stdout.ends_with("\n1000\n"), "{done:?}");
        assert_eq!(on(&memory, "echo x >/v/kept").code, 0);
        assert_eq!(on(&memory, "ls /v").stdout, "", "memory is empty each time");
        assert_eq!(on(&bound, "cat /v/file; echo new >/v/new").stdout, "of the host");
        assert_eq!(std::fs::read_to_string(files.path().join("new")).expect("on the host"), "new\n");
        assert_eq!(on(&locked, "echo >/v/no").code, 1);
        let done = on(&broken, "true");
        assert!(done.code == 127 && done.stderr.contains("failed to mount local volume: mount /no/such:"), "{done:?}");
        // `cp` sees what a container at rest would see.
        let name = bench.name("rest");
        bench.cli.ok(&["create", "--name", &name, "-v", &format!("{bound}:/v"), "-v", &format!("{memory}:/m"), BUSYBOX]);
        bench.cli.ok(&["cp", &format!("{name}:/v/new"), &files.path().join("out").to_string_lossy()]);
        bench.cli.ok(&["rm", &name]);
        bench.cli.ok(&["volume", "rm", &memory, &bound, &locked, &broken]);
        assert!(files.path().join("file").exists(), "what is bound is not the volume's to remove");
        for (options, why) in [
            (&["foo=bar"][..], "invalid option: \"foo\""),
            (&["type=tmpfs"], "missing required option: \"device\""),
            (&["size=1m"], "quota size requested but no quota support"),
        ] {
            let mut args = vec!["volume", "create"];
            options.iter().for_each(|option| args.extend(["--opt", option]));
            args.push(&memory);
            let told = bench.cli.fails(1, &args);
            assert!(told.contains(&format!("create {memory}: {why}")), "{told}");
        }
    }

    fn a_volume_in_which_nothing_is_gets_the_images_files(bench) {
        let (whole, part) = (bench.name("whole"), bench.name("part"));
        let run = |mount: &str, command: &[&str]| {
            bench.cli.ok(&[&["run", "--rm", "--mount", mount, BUSYBOX], command].concat())
        };
        bench.cli.ok(&["volume", "create", &whole]);
        let on_bin = format!("type=volume,src={whole},dst=/bin");
        run(&on_bin, &["true"]);
        // What somebody put there meanwhile stays, and nothing comes again.
        run(&on_bin, &["sh", "-c", "rm /bin/true; echo mine >/bin/mine"]);
        assert_eq!(run(&on_bin, &["sh", "-c", "cat /bin/mine; ls /bin/true || echo gone"]), "mine\ngone");
        bench.cli.ok(&["volume", "create", &part]);
        run(&format!("type=volume,src={part},dst=/v"), &["mkdir", "/v/sub"]);
        run(&format!("type=volume,src={part},dst=/bin,volume-subpath=sub"), &["true"]);
        assert_eq!(run(&format!("type=volume,src={part},dst=/v"), &["ls", "/v", "/v/sub/true"]), "/v/sub/true\n\n/v:\nsub");
        bench.cli.ok(&["volume", "rm", &whole, &part]);
    }

    fn events_tell_of_mounts(bench) {
        let (name, volume) = (bench.name("events"), bench.name("volume"));
        bench.cli.ok(&["run", "--name", &name, "-v", &format!("{volume}:/v:ro"), BUSYBOX, "true"]);
        let until = |what: &str| {
            bench.cli.ok(&["events", "--since", "10m", "--until", "0s", "--filter", &format!("volume={volume}"), "--format", what])
        };
        gantry_testkit::until("it is unmounted", 10, || until("{{.Action}}") == "create\nmount\nunmount");
        let attributes = until("{{json .Actor.Attributes}}");
        let mounted = attributes.lines().nth(1).expect("of the mount");
        assert!(mounted.contains("\"destination\":\"/v\",\"driver\":\"local\",\"propagation\":\"\",\"read/write\":\"false\""), "{mounted}");
        bench.cli.ok(&["rm", &name]);
        bench.cli.ok(&["volume", "rm", &volume]);
    }
}
