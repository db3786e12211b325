//! A container's life: lists, logs, exec, stop, start, restart, kill, wait, events, removal.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::{both, until};
use serde_json::{Value, json};

both! {
    fn lists(bench) {
        let (up, down) = (bench.name("up"), bench.name("down"));
        bench.cli.ok(&["run", "-d", "--name", &up, "-l", "tier=web", BUSYBOX, "sleep", "600"]);
        bench.cli.fails(3, &["run", "--name", &down, BUSYBOX, "sh", "-c", "exit 3"]);
        // dockerd's list may lag behind the answer to wait.
        until("the exit is listed", 10, || bench.cli.ok(&["ps", "-a"]).contains("Exited (3)") && bench.inspect(&down, "/State/Running") == json!(false));
        let table = bench.cli.ok(&["ps", "-a"]);
        assert!(table.starts_with("CONTAINER ID   IMAGE"), "{table}");
        let line = |name: &str| table.lines().find(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{name}: {table}"));
        assert!(line(&up).contains("\"sleep 600\"") && line(&up).contains("Up "), "{table}");
        assert!(line(&down).contains("Exited (3) "), "{table}");
        let names = |args: &[&str]| -> Vec<String> {
            let mut all = vec!["ps", "--format", "{{.Names}}"];
            all.extend(args);
            bench.cli.ok(&all).lines().filter(|name| [&up, &down].contains(&&(*name).to_owned())).map(str::to_owned).collect()
        };
        assert_eq!(names(&[]), [up.as_str()]);
        assert_eq!(names(&["-a"]), [down.clone(), up.clone()], "newest first");
        assert_eq!(names(&["-a", "-f", "status=exited"]), [down.as_str()]);
        assert_eq!(names(&["-a", "-f", "exited=3"]), [down.as_str()]);
        assert_eq!(names(&["-f", "label=tier=web"]), [up.as_str()]);
        assert_eq!(names(&["-a", "-f", &format!("name={up}")]), [up.as_str()]);
        let id = bench.cli.ok(&["ps", "-q", "--no-trunc", "-f", &format!("name={up}")]);
        assert_eq!(id, bench.inspect(&up, "/Id").as_str().expect("an id"));
        let row: Value = serde_json::from_str(&bench.cli.ok(&["ps", "-f", &format!("name={up}"), "--format", "json"])).expect("JSON");
        assert_eq!((&row["State"], &row["Labels"]), (&json!("running"), &json!("tier=web")));
    }

    fn logs(bench) {
        let name = bench.name("logs");
        // Lines that come at once may have one time; the third has one of its own.
        let script = "echo line 1; echo line 2; sleep 0.1; for i in 3 4 5; do echo line $i; done; echo err >&2; printf unfinished";
        bench.cli.ok(&["run", "--name", &name, BUSYBOX, "sh", "-c", script]);
        let done = bench.cli.run(&["logs", &name]);
        assert_eq!(done.stdout, "line 1\nline 2\nline 3\nline 4\nline 5\nunfinished");
        assert_eq!(done.stderr, "err\n");
        let tail = bench.cli.run(&["logs", "--tail", "2", &name]);
        assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2, "{tail:?}");
        assert_eq!(bench.cli.run(&["logs", "-n", "0", &name]).stdout, "");
        let stamped = bench.cli.run(&["logs", "-t", &name]).stdout;
        let first = stamped.lines().next().expect("a line");
        let (time, text) = first.split_once(' ').expect("a time and a text");
        assert!(time.len() == 30 && time.ends_with('Z') && text == "line 1", "{first}");
        assert_eq!(bench.cli.run(&["logs", "--since", "2000-01-01", &name]).stdout, done.stdout);
        assert_eq!(bench.cli.run(&["logs", "--until", "2000-01-01T00:00:00Z", &name]).stdout, "");
        // Everything from the third line's time on.
        let third = stamped.lines().nth(2).and_then(|line| line.split(' ').next()).expect("a time");
        let since = bench.cli.run(&["logs", "--since", third, &name]).stdout;
        assert!(since.starts_with("line 3\n"), "{since:?}");
    }

    fn logs_follow_until_the_end(bench) {
        let name = bench.name("follow");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last"]);
        let mut child = bench.cli.spawn(&["logs", "-f", &name]);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "first");
        bench.cli.ok(&["exec", &name, "touch", "/go"]);
        assert_eq!(lines.next().expect("a line").expect("text"), "last");
        assert!(lines.next().is_none(), "it ends with the container");
        assert!(child.wait().expect("the child is ours").success());
    }

    fn long_lines_and_bytes_survive_the_log(bench) {
        let name = bench.name("long");
        bench.cli.ok(&["run", "--name", &name, BUSYBOX, "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x 2>/dev/null || yes x | head -c 40000; echo"]);
        let done = bench.cli.run(&["logs", &name]);
        assert!(done.stdout.trim_end().len() >= 20_000, "{}", done.stdout.len());
    }

    fn exec(bench) {
        let name = bench.name("exec");
        bench.cli.ok(&["run", "-d", "--name", &name, "-e", "A=1", "-w", "/home", "-u", "app", BUSYBOX, "sleep", "600"]);
        let run = |args: &[&str]| {
            let mut all = vec!["exec"];
            all.extend(args);
            bench.cli.run(&all)
        };
        let done = run(&[&name, "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));
        assert_eq!(run(&[&name, "sh", "-c", "echo $A; pwd; id -u"]).stdout, "1\n/home\n1000\n");
        let done = run(&["-u", "root", "-e", "B=2", "-w", "/tmp", &name, "sh", "-c", "echo $A$B; pwd; id -u"]);
        assert_eq!(done.stdout, "12\n/tmp\n0\n");
        let done = run(&[&name, "nosuch"]);
        assert_eq!(done.code, 127, "{done:?}");
        assert!((done.stdout + &done.stderr).contains("exec: \"nosuch\": executable file not found in $PATH"));
        assert_eq!(bench.cli.with_input(&["exec", "-i", &name, "cat"], b"through").stdout, "through");
        run(&["-d", "-u", "root", &name, "touch", "/made"]);
        until("the detached exec has run", 10, || run(&[&name, "ls", "/made"]).code == 0);
        bench.cli.ok(&["stop", "-t", "0", &name]);
        let done = run(&[&name, "true"]);
        assert!(done.code == 1 && done.stderr.contains("is not running"), "{done:?}");
    }

    fn stop_and_start(bench) {
        let name = bench.name("stop");
        let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", script]);
        until("it is ready", 10, || bench.cli.run(&["logs", &name]).stdout.contains("ready"));
        assert_eq!(bench.cli.ok(&["stop", &name]), name);
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(5));
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("exited"));
        bench.cli.ok(&["stop", &name]);
        assert_eq!(bench.cli.ok(&["start", &name]), name);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
        bench.cli.ok(&["start", &name]);
        // What ignores the signal is killed after the time.
        let deaf = bench.name("deaf");
        bench.cli.ok(&["run", "-d", "--name", &deaf, BUSYBOX, "sleep", "600"]);
        let begun = Instant::now();
        bench.cli.ok(&["stop", "-t", "1", &deaf]);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
        assert_eq!(bench.inspect(&deaf, "/State/ExitCode"), json!(137));
        assert_eq!(bench.inspect(&deaf, "/State/OOMKilled"), json!(false));
    }

    fn stop_signal(bench) {
        let name = bench.name("signal");
        let script = "trap 'exit 12' USR1; echo ready; while :; do sleep 0.05; done";
        bench.cli.ok(&["run", "-d", "--name", &name, "--stop-signal", "USR1", BUSYBOX, "sh", "-c", script]);
        until("it is ready", 10, || bench.cli.run(&["logs", &name]).stdout.contains("ready"));
        bench.cli.ok(&["stop", &name]);
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(12));
    }

    fn kill_and_wait(bench) {
        let name = bench.name("kill");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done"]);
        until("it is ready", 10, || bench.cli.run(&["logs", &name]).stdout.contains("ready"));
        bench.cli.ok(&["kill", "-s", "HUP", &name]);
        until("the signal arrived", 10, || bench.cli.run(&["logs", &name]).stdout.contains("hup"));
        let child = bench.cli.spawn(&["wait", &name]);
        assert_eq!(bench.cli.ok(&["kill", &name]), name);
        let done = gantry_testkit::command::wait(child);
        assert_eq!(done.stdout, "137\n");
        let said = bench.cli.fails(1, &["kill", &name]);
        assert!(said.contains("is not running"), "{said}");
        let said = bench.cli.fails(1, &["kill", "-s", "NOSUCH", &name]);
        assert!(said.to_lowercase().contains("invalid signal: nosuch"), "{said}");
    }

    fn start_attached(bench) {
        let name = bench.name("attached");
        bench.cli.ok(&["create", "--name", &name, "-i", BUSYBOX, "sh", "-c", "cat; echo end; exit 4"]);
        assert_eq!(bench.inspect(&name, "/State/Status"), json!("created"));
        let done = bench.cli.with_input(&["start", "-a", "-i", &name], b"typed\n");
        assert_eq!((done.code, done.stdout.as_str()), (4, "typed\nend\n"));
    }

    fn restart(bench) {
        let name = bench.name("restart");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "echo run; sleep 600"]);
        let first = bench.inspect(&name, "/State/Pid");
        bench.cli.ok(&["restart", "-t", "0", &name]);
        assert_ne!(bench.inspect(&name, "/State/Pid"), first);
        assert_eq!(bench.inspect(&name, "/RestartCount"), json!(0), "only a policy's restarts count");
        until("it ran twice", 10, || bench.cli.run(&["logs", &name]).stdout == "run\nrun\n");
    }

    fn restart_policies(bench) {
        let name = bench.name("retries");
        bench.cli.ok(&["run", "-d", "--name", &name, "--restart", "on-failure:3", BUSYBOX, "sh", "-c", "echo try; exit 6"]);
        until("it gives up", 30, || {
            bench.inspect(&name, "/State/Status") == json!("exited") && bench.inspect(&name, "/RestartCount") == json!(3)
        });
        assert_eq!(bench.inspect(&name, "/State/ExitCode"), json!(6));
        assert_eq!(bench.cli.run(&["logs", &name]).stdout.lines().count(), 4);
        let fine = bench.name("fine");
        bench.cli.ok(&["run", "-d", "--name", &fine, "--restart", "on-failure", BUSYBOX, "true"]);
        bench.cli.ok(&["wait", &fine]);
        assert_eq!(bench.inspect(&fine, "/RestartCount"), json!(0));
        let always = bench.name("always");
        bench.cli.ok(&["run", "-d", "--name", &always, "--restart=always", BUSYBOX, "sh", "-c", "echo up; sleep 0.3"]);
        until("it was restarted twice", 30, || bench.inspect(&always, "/RestartCount").as_i64() >= Some(2));
        // A stop that the user asked for is the end of it.
        bench.cli.ok(&["stop", "-t", "0", &always]);
        let count = bench.inspect(&always, "/RestartCount");
        assert_eq!(bench.inspect(&always, "/State/Running"), json!(false));
        std::thread::sleep(Duration::from_millis(700)); // no event announces that nothing happens
        assert_eq!((bench.inspect(&always, "/RestartCount"), bench.inspect(&always, "/State/Running")), (count, json!(false)));
    }

    fn removal(bench) {
        let name = bench.name("remove");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        let said = bench.cli.fails(1, &["rm", &name]);
        assert!(said.contains("container is running: stop the container before removing or force remove"), "{said}");
        assert_eq!(bench.cli.ok(&["rm", "-f", &name]), name);
        let said = bench.cli.fails(1, &["rm", &name]);
        assert!(said.contains(&format!("No such container: {name}")), "{said}");
        bench.cli.run(&["rm", "-f", &name]);
        let said = bench.cli.fails(1, &["inspect", &name]);
        assert!(said.contains(&format!("No such object: {name}")), "{said}");
    }

    fn rename_and_pause(bench) {
        let (old, new) = (bench.name("old"), bench.name("new"));
        bench.cli.ok(&["run", "-d", "--name", &old, BUSYBOX, "sleep", "600"]);
        bench.cli.ok(&["rename", &old, &new]);
        assert_eq!(bench.inspect(&new, "/Name"), json!(format!("/{new}")));
        bench.cli.ok(&["pause", &new]);
        assert_eq!(bench.inspect(&new, "/State/Status"), json!("paused"));
        assert!(bench.cli.ok(&["ps", "-f", &format!("name={new}")]).contains("(Paused)"));
        bench.cli.ok(&["unpause", &new]);
        assert_eq!(bench.cli.ok(&["exec", &new, "echo", "alive"]), "alive");
        bench.cli.ok(&["pause", &new]);
        bench.cli.ok(&["rm", "-f", &new]);
    }

    fn top_and_update(bench) {
        let name = bench.name("top");
        bench.cli.ok(&["run", "-d", "--name", &name, "--memory", "64m", BUSYBOX, "sleep", "600"]);
        let top = bench.cli.ok(&["top", &name]);
        assert!(top.starts_with("UID") && top.contains("sleep 600"), "{top}");
        assert!(bench.cli.ok(&["top", &name, "-o", "pid,args"]).starts_with("PID"));
        bench.cli.ok(&["update", "--restart", "always", "--cpus", "0.5", &name]);
        assert_eq!(bench.inspect(&name, "/HostConfig/RestartPolicy/Name"), json!("always"));
        assert_eq!(bench.inspect(&name, "/HostConfig/NanoCpus"), json!(500_000_000));
        bench.cli.ok(&["update", "--restart", "no", &name]);
    }

    fn events(bench) {
        let name = bench.name("events");
        let mut child = bench.cli.spawn(&[
            "events", "--filter", &format!("container={name}"), "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}",
        ]);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        std::thread::sleep(Duration::from_millis(500)); // the stream says nothing until something happens
        bench.cli.fails(2, &["run", "--name", &name, BUSYBOX, "sh", "-c", "exit 2"]);
        bench.cli.ok(&["rm", &name]);
        let mut seen = Vec::new();
        for line in lines.by_ref() {
            let line = line.expect("text");
            let (action, of) = line.rsplit_once(' ').expect("two words");
            assert_eq!(of, name);
            seen.push(action.to_owned());
            if action == "destroy" {
                break;
            }
        }
        assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
        let _ = child.kill();
        let _ = child.wait();
        // The stock client's times are whole seconds.
        until("the past can be asked for", 10, || {
            let filter = format!("container={name}");
            let past = bench.cli.ok(&["events", "--since", "5m", "--until", "0s", "--filter", &filter, "--filter", "event=die"]);
            past.contains("container die ") && past.contains("exitCode=2")
        });
    }

    fn inspect_templates(bench) {
        let name = bench.name("inspect");
        bench.cli.ok(&["run", "-d", "--name", &name, "-p", "127.0.0.1::80", "-e", "A=b", BUSYBOX, "sleep", "600"]);
        let get = |template: &str| bench.cli.ok(&["inspect", "-f", template, &name]);
        assert_eq!(get("{{.State.Status}} {{.Config.Image}} {{.HostConfig.NetworkMode}}"), format!("running {BUSYBOX} bridge"));
        assert_eq!(get("{{json .Config.Cmd}} {{len .Config.Cmd}} {{index .Config.Cmd 0}}"), "[\"sleep\",\"600\"] 2 sleep");
        assert!(get("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}").parse::<u16>().is_ok());
        assert!(get("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}}{{end}}").starts_with("bridge="));
        assert_eq!(get("{{upper .State.Status}} {{join .Config.Cmd \"+\"}}"), "RUNNING sleep+600");
        let said = bench.cli.fails(1, &["inspect", "-f", "{{.Nope}}", &name]);
        assert!(said.contains("template"), "{said}");
    }
}
