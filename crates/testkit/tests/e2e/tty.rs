//! A real terminal: sizes, keys, leaving and coming back.

use gantry_testkit::bench::BUSYBOX;
use gantry_testkit::terminal::Terminal;
use gantry_testkit::{Bench, both, ours, skip};
use serde_json::json;

fn on_terminal(bench: &Bench, args: &[&str]) -> Option<Terminal> {
    let terminal = Terminal::start(&bench.cli.command(args));
    if terminal.is_none() {
        skip("no setsid: apt-get install util-linux");
    }
    terminal
}

both! {
    fn a_shell_on_a_terminal(bench) {
        let name = bench.name("shell");
        let Some(mut terminal) = on_terminal(bench, &["run", "-it", "--name", &name, BUSYBOX, "sh"]) else { return };
        terminal.send("echo is$((1+1))ready\n");
        terminal.expect("is2ready");
        terminal.send("stty size\n");
        terminal.expect("24 80");
        // The size travels on a way of its own. A client may not listen for changes yet when the shell
        // already answers, so the size is changed until one change has arrived.
        let mut sizes = (90..).map(|columns| (33, columns));
        loop {
            let (rows, columns) = sizes.next().expect("there is no last size");
            terminal.resize(rows, columns);
            terminal.send("sleep 0.1; echo $(stty size) as''ked\n");
            if terminal.expect("asked").contains("33 ") {
                break;
            }
            assert!(columns < 190, "no change of size arrives");
        }
        terminal.send("sh -c 'echo go''ing; exec sleep 600'\n");
        terminal.expect("going");
        terminal.send("\x03");
        terminal.send("echo $? al''ive\n");
        terminal.expect("130 alive");
        terminal.send("exit 7\n");
        assert_eq!(terminal.wait(), 7);
    }

    fn detach_and_attach_again(bench) {
        let name = bench.name("detach");
        let Some(mut terminal) = on_terminal(bench, &["run", "-it", "--name", &name, BUSYBOX, "sh"]) else { return };
        terminal.send("V=ke''pt; echo rea''dy\n");
        terminal.expect("ready");
        terminal.send("\x10\x11");
        assert_eq!(terminal.wait(), 0);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
        let Some(mut terminal) = on_terminal(bench, &["attach", &name]) else { return };
        terminal.send("echo $V-now\n");
        terminal.expect("kept-now");
        terminal.send("\x10\x11");
        terminal.expect("read escape sequence");
        assert_eq!(terminal.wait(), 1);
        let Some(mut terminal) = on_terminal(bench, &["attach", "--detach-keys", "ctrl-x,x", &name]) else { return };
        terminal.send("echo o''ther\n");
        terminal.expect("other");
        terminal.send("\x18x");
        terminal.expect("read escape sequence");
        assert_eq!(terminal.wait(), 1);
        let Some(mut terminal) = on_terminal(bench, &["attach", &name]) else { return };
        terminal.send("exit 3\n");
        assert_eq!(terminal.wait(), 3);
    }

    fn exec_on_a_terminal(bench) {
        let name = bench.name("exec");
        bench.cli.ok(&["run", "-d", "--name", &name, BUSYBOX, "sleep", "600"]);
        let Some(mut terminal) = on_terminal(bench, &["exec", "-it", &name, "sh"]) else { return };
        terminal.send("stty size; test -t 0 && echo is''atty\n");
        terminal.expect("24 80");
        terminal.expect("isatty");
        terminal.send("exit 9\n");
        assert_eq!(terminal.wait(), 9);
        assert_eq!(bench.inspect(&name, "/State/Running"), json!(true));
    }

    fn without_a_terminal_it_is_refused(bench) {
        let said = bench.cli.fails(1, &["run", "--rm", "-it", BUSYBOX, "true"]);
        assert!(said.contains("the input device is not a TTY"), "{said}");
        // Output alone may be one.
        assert_eq!(bench.cli.run(&["run", "--rm", "-t", BUSYBOX, "echo", "x"]).stdout, "x\r\n");
    }
}

ours! {
    fn long_work_shows_its_progress_on_a_terminal_alone(bench) {
        let directory = bench.directory();
        let archive = directory.path().join("image.tar").display().to_string();
        let name = bench.name("copied");
        bench.cli.ok(&["create", "--name", &name, BUSYBOX]);
        let place = format!("{name}:/image.tar");
        for (args, bar, last) in [
            (vec!["save", "-o", archive.as_str(), BUSYBOX], "Saving", ""),
            (vec!["load", "-i", archive.as_str()], "Loading", "Loaded image: busybox:latest\r\n"),
            (vec!["cp", archive.as_str(), place.as_str()], "Copying to container", ""),
        ] {
            let Some(terminal) = on_terminal(bench, &args) else { return };
            let (code, shown) = terminal.finish();
            assert!(code == 0 && shown.contains(bar) && shown.ends_with(last), "{args:?}: {code} {shown:?}");
            let done = bench.cli.run(&args);
            assert_eq!(done.code, 0, "{done:?}");
            let said = format!("{}{}", done.stdout, done.stderr);
            assert!(!said.contains(bar) && !said.contains('\r'), "{args:?}: {said:?}");
        }
    }
}
