//! What flags must not do to the host, and what updates, signals and restarts leave of a container.

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{both, until};
use serde_json::json;

both! {
    fn kernel_settings_of_the_host_are_left_alone(bench) {
        let host = || std::fs::read_to_string("/proc/sys/kernel/shmmni").expect("every Linux has it");
        let before = host();
        let name = bench.name("ipc");
        let told = bench.cli.fails(125, &["run", "--rm", "--name", &name, "--ipc", "host", "--sysctl", "kernel.shmmni=1", BUSYBOX, "true"]);
        assert!(told.contains("sysctl \"kernel.shmmni\" is not allowed in the hosts ipc namespace"), "{told}");
        let told = bench.cli.fails(125, &["run", "--rm", "--name", &name, "--uts", "host", "--domainname", "x", BUSYBOX, "true"]);
        assert!(told.contains("sysctl \"kernel.domainname\" is not in a separate kernel namespace"), "{told}");
        assert_eq!(host(), before);
        let own = bench.cli.ok(&["run", "--rm", "--name", &name, "--sysctl", "kernel.shmmni=77", BUSYBOX, "cat", "/proc/sys/kernel/shmmni"]);
        assert_eq!((own.as_str(), host()), ("77", before));
    }

    fn a_restart_keeps_what_was_made_to_go(bench) {
        let name = bench.name("rm");
        bench.cli.ok(&["run", "-d", "--rm", "--name", &name, "-v", "/data", BUSYBOX, "sleep", "600"]);
        bench.cli.ok(&["exec", &name, "touch", "/data/kept"]);
        bench.cli.ok(&["restart", "-t", "0", &name]);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
        bench.cli.ok(&["exec", &name, "ls", "/data/kept"]);
        bench.cli.ok(&["stop", "-t", "0", &name]);
        until("it is gone", 10, || bench.cli.ok(&["ps", "-aq", "-f", &format!("name={name}")]).is_empty());
    }

    fn a_signal_thaws(bench) {
        let name = bench.name("frozen");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
        until("it is ready", 10, || bench.cli.run(&["logs", &name]).stdout.contains("ready"));
        bench.cli.ok(&["pause", &name]);
        bench.cli.fails(1, &["pause", &name]);
        bench.cli.ok(&["kill", "-s", "TERM", &name]);
        assert_eq!(bench.cli.ok(&["wait", &name]), "7");
        bench.cli.ok(&["rm", &name]);
    }

    fn an_exec_for_nobody_is_refused(bench) {
        let name = bench.name("nobody");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        for (user, why) in [
            ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
            ("app:nosuch", "unable to find group nosuch: no matching entries in group file"),
            ("-1", "uids and gids must be in range 0-2147483647"),
        ] {
            let told = bench.cli.fails(1, &["exec", "--user", user, &name, "true"]);
            assert!(told.contains(why), "{user}: {told}");
        }
    }

    fn updates_change_what_they_name(bench) {
        let name = bench.name("update");
        bench.cli.ok(&["run", "-d", "--name", &name, "--memory", "64m", "--pids-limit", "50", BUSYBOX, "sleep", "600"]);
        // The swap was set with the memory, and stays.
        bench.cli.ok(&["update", "--memory", "32m", &name]);
        assert_eq!(bench.inspect(&name, "/HostConfig/MemorySwap"), json!(128 << 20));
        let told = bench.cli.fails(1, &["update", "--memory", "256m", &name]);
        assert!(told.contains("update the memoryswap at the same time"), "{told}");
        bench.cli.ok(&["update", "--pids-limit", "-1", &name]);
        let file = "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max";
        let script = format!("cat {file} 2>/dev/null | head -1");
        assert_eq!(bench.cli.ok(&["exec", &name, "sh", "-c", &script]), "max");
        bench.cli.ok(&["update", "--cpus", "0.5", &name]);
        let told = bench.cli.fails(1, &["update", "--cpu-quota", "20000", &name]);
        assert!(told.contains("CPU Quota cannot be updated as NanoCPUs has already been set"), "{told}");
    }

    fn a_part_of_a_volume_is_mounted(bench) {
        let (name, volume) = (bench.name("part"), bench.name("parts"));
        let whole = format!("{volume}:/v");
        bench.cli.ok(&["run", "--rm", "-v", &whole, BUSYBOX, "sh", "-c", "mkdir -p /v/sub; echo below >/v/sub/f; ln -s sub /v/link; ln -s /etc /v/out"]);
        let mount = |part: &str| format!("type=volume,source={volume},target=/m,volume-subpath={part}");
        for part in ["sub", "link"] {
            assert_eq!(bench.cli.ok(&["run", "--rm", "--mount", &mount(part), BUSYBOX, "cat", "/m/f"]), "below");
        }
        let told = bench.cli.fails(125, &["run", "--rm", "--mount", &mount("out"), BUSYBOX, "true"]);
        assert!(told.contains("path concatenation escapes the base directory"), "{told}");
        let told = bench.cli.fails(125, &["run", "--rm", "--mount", &mount("../x"), BUSYBOX, "true"]);
        assert!(told.contains("subpath must be a relative path within the volume"), "{told}");
        // A container at rest shows the same.
        bench.cli.ok(&["create", "--name", &name, "--mount", &mount("sub"), BUSYBOX]);
        let out = bench.directory();
        bench.cli.ok(&["cp", &format!("{name}:/m/f"), &out.path().join("f").to_string_lossy()]);
        assert_eq!(std::fs::read_to_string(out.path().join("f")).expect("copied"), "below\n");
        bench.cli.ok(&["rm", &name]);
        bench.cli.ok(&["volume", "rm", &volume]);
    }

    fn block_devices_have_rates(bench) {
        let block = |path: &std::path::Path| std::fs::metadata(path).is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_block_device(&file.file_type()));
        let disk = std::fs::read_dir("/dev").expect("every host has it").flatten().map(|entry| entry.path()).find(|path| block(path));
        let Some(disk) = disk.filter(|_| std::path::Path::new("/sys/fs/cgroup/blkio").exists()) else {
            return gantry_testkit::skip("no block device, or no cgroup v1");
        };
        let rate = format!("{}:1mb", disk.display());
        let file = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";
        let told = bench.cli.ok(&["run", "--rm", "--device-write-bps", &rate, BUSYBOX, "cat", file]);
        assert!(told.ends_with(" 1048576"), "{told:?}");
    }
}
