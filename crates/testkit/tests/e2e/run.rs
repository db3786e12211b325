//! `run`: streams, exit codes, limits, rights, files, identity.
//!
//! Sources: Docker's reference of `docker run`, and dockerd 28.5 observed through these very cases.

use std::io::{Read, Write};

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::{both, full};
use serde_json::json;

both! {
    fn streams_and_exit_codes(bench) {
        let done = bench.cli.run(&["run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", "err\n"));
        for (args, code, text) in [
            (&["true"][..], 0, ""),
            (&["false"], 1, ""),
            (&["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
            (&["/bin/nosuch"], 127, "no such file or directory"),
            (&["/etc"], 126, "exec: \"/etc\": is a directory: permission denied"),
            (&["/etc/passwd"], 126, "permission denied"),
            (&["sh", "-c", "sleep 100 & kill -9 $!; wait $!"], 137, ""),
            (&["sh", "-c", "kill -15 $$; sleep 1; exit 4"], 4, ""),
        ] {
            let mut all = vec!["run", "--rm", BUSYBOX];
            all.extend(args);
            let said = bench.cli.fails(code, &all);
            assert!(said.contains(text), "{args:?}: {said}");
        }
        let said = bench.cli.fails(125, &["run", "--rm", "--pull", "never", "nosuch-image", "true"]);
        assert!(said.contains("No such image: nosuch-image:latest"), "{said}");
        let said = bench.cli.fails(125, &["run", "--nosuch"]);
        assert!(said.starts_with("unknown flag: --nosuch"), "{said}");
    }

    fn a_failed_start_leaves_a_created_container(bench) {
        let name = bench.name("failed");
        bench.cli.fails(127, &["run", "--name", &name, BUSYBOX, "nosuch"]);
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("created"));
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(127));
        bench.cli.ok(&["rm", &name]);
    }

    fn input_comes_back_whole(bench) {
        // A pattern that no two kilobytes share, so that a lost or doubled part is seen.
        let total: u64 = if full() { 1 << 30 } else { 32 << 20 };
        let name = bench.name("cat");
        let mut child = bench.cli.spawn(&["run", "--rm", "-i", "--name", &name, BUSYBOX, "cat"]);
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut stdout = child.stdout.take().expect("a pipe");
        let block = |number: u64| -> Vec<u8> {
            (0..128_u64).flat_map(|word| (number * 128 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
        };
        let writer = std::thread::spawn(move || {
            for number in 0..total / 1024 {
                stdin.write_all(&block(number)).expect("the container reads");
            }
        });
        let mut got = vec![0; 1024];
        for number in 0..total / 1024 {
            stdout.read_exact(&mut got).expect("everything comes back");
            assert_eq!(got, block(number), "block {number}");
        }
        assert_eq!(stdout.read(&mut got).expect("the end can be read"), 0, "nothing more comes");
        writer.join().expect("all was written");
        assert!(child.wait().expect("the child is ours").success());
    }

    fn input_that_nobody_reads_is_no_error(bench) {
        let done = bench.cli.with_input(&["run", "--rm", "-i", BUSYBOX, "true"], &vec![b'x'; 1 << 20]);
        assert_eq!(done.code, 0, "{done:?}");
        let done = bench.cli.with_input(&["run", "--rm", "-i", BUSYBOX, "sh", "-c", "read a; echo got $a"], b"one\ntwo\n");
        assert_eq!((done.code, done.stdout.as_str()), (0, "got one\n"));
    }

    fn out_of_memory_is_seen(bench) {
        let name = bench.name("oom");
        let hog = "a=x; while :; do a=$a$a; done";
        bench.cli.fails(137, &["run", "--name", &name, "--memory", "64m", BUSYBOX, "sh", "-c", hog]);
        assert_eq!(bench.inspect(&name, "/State/OOMKilled"), json!(true));
        assert_eq!(bench.inspect(&name, "/HostConfig/Memory"), json!(64 << 20));
    }

    fn limits_reach_the_kernel(bench) {
        let limits = bench.shell(
            &["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=100:200", "--shm-size", "1m"],
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null | head -1; \
             cat cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 cpu.max; cat pids/pids.max pids.max 2>/dev/null | head -1; \
             ulimit -Sn; ulimit -Hn; df -k /dev/shm | awk 'NR==2 {print $2}'",
        );
        assert_eq!(limits.split_whitespace().collect::<Vec<_>>(), ["67108864", "50000", "50", "100", "200", "1024"]);
    }

    fn forks_end_at_the_limit(bench) {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait";
        let done = bench.cli.run(&["run", "--rm", "--pids-limit", "6", BUSYBOX, "sh", "-c", script]);
        assert!(done.stderr.contains("can't fork"), "{done:?}");
    }

    fn identity(bench) {
        for (flags, script, want) in [
            (&["-u", "app"][..], "id -u; id -g; id -G", "1000 1001 1001 50"),
            (&["-u", "1000"], "id -u; id -g", "1000 1001"),
            (&["-u", "7:8"], "id -u; id -g; id -G", "7 8 8"),
            (&["-u", "app:staff"], "id -g", "50"),
            (&["--group-add", "staff", "--group-add", "77"], "id -G", "0 50 77"),
            (&["-w", "/home/new"], "pwd", "/home/new"),
            (&["-e", "A=b c", "-e", "D="], "echo \"$A|$D\"", "b c|"),
            (&["--hostname", "box", "--domainname", "example.org"], "hostname", "box"),
            (&["-u", "app"], "echo $HOME", "/home"),
            (&[], "echo $PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ] {
            let got = bench.shell(flags, script);
            assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), want, "{flags:?} {script}");
        }
        let said = bench.cli.fails(125, &["run", "--rm", "-u", "nobody-here", BUSYBOX, "true"]);
        assert!(said.contains("unable to find user nobody-here: no matching entries in passwd file"), "{said}");
        let directory = bench.directory();
        let file = directory.path().join("env");
        write(&file, "# comment\nA=1\nB=two words\n");
        let got = bench.shell(&["--env-file", file.to_str().expect("a plain path")], "echo $A $B");
        assert_eq!(got, "1 two words");
        let hosts = bench.shell(&["--hostname", "box", "--add-host", "other:10.1.2.3"], "cat /etc/hosts");
        assert!(hosts.contains("10.1.2.3\tother") && hosts.contains("\tbox"), "{hosts}");
    }

    fn the_default_host_name_is_the_id(bench) {
        let name = bench.name("id");
        let id = bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "hostname"]);
        bench.cli.ok(&["wait", &name]);
        assert_eq!(bench.cli.ok(&["logs", &name]), id[..12]);
    }

    fn rights(bench) {
        let effective = |flags: &[&str]| {
            u64::from_str_radix(&bench.shell(flags, "grep CapEff /proc/self/status | cut -f2"), 16).expect("a mask")
        };
        // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
        // net_raw, sys_chroot, mknod, audit_write, setfcap
        assert_eq!(effective(&[]), 0xa804_25fb);
        assert_eq!(effective(&["--cap-drop", "ALL"]), 0);
        assert_eq!(effective(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), 1 << 12);
        assert_eq!(effective(&["--cap-add", "SYS_TIME"]), 0xa804_25fb | 1 << 25);
        assert_eq!(effective(&["-u", "app"]), 0);
        assert!(effective(&["--privileged"]) > 0xa804_25fb | 1 << 21, "privileged has them all");
        assert_eq!(bench.shell(&[], "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status | cut -f2").replace('\n', " "), "0 2");
        let strict = bench.shell(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2");
        assert_eq!(strict, "1");
        // A mount needs CAP_SYS_ADMIN; with it the default profile lets it through.
        bench.cli.fails(1, &["run", "--rm", BUSYBOX, "mount", "-t", "tmpfs", "none", "/tmp"]);
        bench.cli.ok(&["run", "--rm", "--privileged", BUSYBOX, "mount", "-t", "tmpfs", "none", "/tmp"]);
        assert_eq!(bench.shell(&[], "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c"), "0", "/proc/kcore is masked");
        bench.cli.fails(1, &["run", "--rm", BUSYBOX, "sh", "-c", "echo 1 > /proc/sys/kernel/panic || exit 1"]);
    }

    fn devices(bench) {
        let names = bench.shell(&[], "ls /dev");
        for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr"] {
            assert!(names.split_whitespace().any(|have| have == name), "{name} is missing: {names}");
        }
        bench.cli.ok(&["run", "--rm", BUSYBOX, "sh", "-c", "echo x > /dev/null; head -c 4 /dev/urandom | wc -c"]);
        let fuse = std::path::Path::new("/dev/fuse");
        if fuse.exists() {
            assert_eq!(bench.shell(&["--device", "/dev/fuse"], "ls -d /dev/fuse"), "/dev/fuse");
        }
        let said = bench.cli.fails(127, &["run", "--rm", "--device", "/dev/nosuch", BUSYBOX, "true"]);
        assert!(said.contains("/dev/nosuch"), "{said}");
    }

    fn files(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("file"), "from the host\n");
        let bind = format!("{}:/data", path.display());
        let bind_read_only = format!("{bind}:ro");
        assert_eq!(bench.shell(&["-v", &bind], "cat /data/file; echo new > /data/new"), "from the host");
        assert_eq!(std::fs::read_to_string(path.join("new")).expect("the container wrote it"), "new\n");
        let said = bench.cli.fails(1, &["run", "--rm", "-v", &bind_read_only, BUSYBOX, "touch", "/data/x"]);
        assert!(said.contains("Read-only file system"), "{said}");
        let mount = format!("type=bind,source={},target=/data,readonly", path.display());
        bench.cli.fails(1, &["run", "--rm", "--mount", &mount, BUSYBOX, "touch", "/data/x"]);
        let said = bench.cli.fails(125, &["run", "--rm", "--mount", "type=bind,source=/no/such,target=/x", BUSYBOX, "true"]);
        assert!(said.contains("bind source path does not exist: /no/such"), "{said}");
        let said = bench.cli.fails(1, &["run", "--rm", "--read-only", BUSYBOX, "touch", "/x"]);
        assert!(said.contains("Read-only file system"), "{said}");
        let options = bench.shell(&["--read-only", "--tmpfs", "/scratch:size=1m"], "touch /scratch/x; grep /scratch /proc/mounts");
        assert!(options.contains("tmpfs") && options.contains("size=1024k") && options.contains("noexec"), "{options}");
    }

    fn volumes(bench) {
        let volume = bench.name("volume");
        bench.cli.ok(&["volume", "create", &volume]);
        let bind = format!("{volume}:/data");
        bench.shell(&["-v", &bind], "echo kept > /data/x");
        assert_eq!(bench.shell(&["-v", &bind], "cat /data/x"), "kept");
        // What the image has at that place is copied into a new volume.
        let other = bench.name("copied");
        assert_eq!(bench.shell(&["-v", &format!("{other}:/www")], "cat /www/index.html"), "hello from busybox");
        bench.cli.ok(&["volume", "rm", &volume, &other]);
        // An anonymous one goes with a container that --rm removes.
        let before = bench.cli.ok(&["volume", "ls", "-q"]).lines().count();
        bench.shell(&["-v", "/anonymous"], "touch /anonymous/x");
        gantry_testkit::until("the anonymous volume is gone", 10, || {
            bench.cli.ok(&["volume", "ls", "-q"]).lines().count() <= before
        });
    }

    fn init_is_process_one(bench) {
        let processes = bench.shell(&["--init"], "cat /proc/1/comm; sleep 0");
        assert!(processes.contains("init"), "{processes}");
        assert_eq!(bench.shell(&[], "echo $$"), "1");
    }

    fn entrypoint_and_command(bench) {
        assert_eq!(bench.cli.ok(&["run", "--rm", "--entrypoint", "echo", BUSYBOX, "a", "b"]), "a b");
        bench.cli.fails(125, &["run", "--rm", "--entrypoint", "", BUSYBOX]);
        let said = bench.cli.fails(125, &["run", "--rm", "--restart", "always", BUSYBOX]);
        assert!(said.contains("conflicting options: cannot specify both --restart and --rm"), "{said}");
    }

    fn background_and_id_file(bench) {
        let name = bench.name("detached");
        let directory = bench.directory();
        let file = directory.path().join("cid");
        let file = file.to_str().expect("a plain path");
        let id = bench.cli.ok(&["run", "-d", "--name", &name, "--cidfile", file, BUSYBOX, "sleep", "600"]);
        assert_eq!(id.len(), 64);
        assert_eq!(std::fs::read_to_string(file).expect("it was written"), id);
        assert_eq!(bench.cli.ok(&["inspect", "-f", "{{.Id}} {{.State.Running}}", &id[..10]]), format!("{id} true"));
        let said = bench.cli.fails(125, &["run", "--name", &name, BUSYBOX, "true"]);
        assert!(said.contains(&format!("The container name \"/{name}\" is already in use by container")), "{said}");
    }

    fn signals_reach_the_process(bench) {
        let name = bench.name("signals");
        let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let mut child = bench.cli.spawn(&["run", "--rm", "--name", &name, BUSYBOX, "sh", "-c", script]);
        let mut ready = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it says ready");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the client runs");
        let done = gantry_testkit::command::wait(child);
        assert_eq!((done.code, done.stdout.as_str()), (9, "caught\n"));
    }
}
