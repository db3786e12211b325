//! What runs, and what is said when it cannot.

use gantry_runtime::Reason;
use gantry_runtime::launch::{self, Joined, Launch, Stdio, Supervise, start_detached};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use crate::rig::{Rig, finish, pipes, skipped, spec};

#[test]
fn exit_codes_and_output_come_back() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("echo out; echo err >&2; exit 42", |_| {});
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (42, "out\n", "err\n"));
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert_eq!(
        rig.script("kill -9 $$; sleep 5", |_| {}).code,
        0,
        "init ignores signals that it sends itself"
    );
    assert_eq!(rig.script("sh -c 'kill -9 $$'; exit $?", |_| {}).code, 137);
}

#[test]
fn what_cannot_run_is_told_in_dockers_words() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = rig.lower().join("bin/odd");
    std::fs::write(&script, "no format at all").expect("write");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::write(rig.lower().join("bin/lost"), "#!/nonexistent\n").expect("write");
    std::fs::set_permissions(rig.lower().join("bin/lost"), PermissionsExt::from_mode(0o755)).expect("chmod");
    let cases = [
        ("nosuch", Reason::NotFound, 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", Reason::NotFound, 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/etc/plain", Reason::NotExecutable, 126, "exec: \"/etc/plain\": permission denied"),
        ("/etc", Reason::NotExecutable, 126, "exec: \"/etc\": is a directory: permission denied"),
        ("/bin/odd", Reason::ExecFailed, 255, "exec /bin/odd: exec format error"),
        ("lost", Reason::ExecFailed, 255, "exec lost: no such file or directory"),
    ];
    for (program, reason, code, text) in cases {
        let error = rig.run(&spec(&[program], |_| {})).expect_err(program);
        assert_eq!((error.reason, error.exit_code(), error.text.as_str()), (reason, code, text), "{program}");
    }
    let error =
        rig.run(&spec(&["true"], |spec| spec["process"]["env"] = json!(["A=1"]))).expect_err("no PATH");
    assert_eq!(error.reason, Reason::NotFound);
}

#[test]
fn environment_directory_and_home_are_set() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("pwd; echo $HOME $A; umask", |spec| {
        spec["process"]["cwd"] = json!("/made/for/it");
        spec["process"]["env"] = json!(["PATH=/bin", "A=b c"]);
    });
    assert_eq!(outcome.stdout, "/made/for/it\n/root b c\n0022\n");
    let kept = rig.script("echo $HOME", |spec| spec["process"]["env"] = json!(["PATH=/bin", "HOME=/x"]));
    assert_eq!(kept.stdout, "/x\n");
}

#[test]
fn a_working_directory_behind_a_magic_link_is_refused() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    for link in ["/proc/self/fd/3", "/proc/1/root/../../etc"] {
        let result = rig.run(&spec(&["pwd"], |spec| spec["process"]["cwd"] = json!(link)));
        if let Ok(outcome) = result {
            assert!(outcome.stdout.starts_with("/etc"), "{link}: {outcome:?}");
        }
    }
}

#[test]
fn a_terminal_is_the_containers_own() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let spec = spec(&["sh", "-c", "tty; stty size; read line; echo got $line; ls -l /dev/console"], |spec| {
        spec["process"]["terminal"] = json!(true);
    });
    let cgroup = rig.cgroup(None);
    let mut created = launch::create(Launch {
        spec: &spec,
        root: &rig.overlay(),
        namespaces: Joined::default(),
        stdio: Stdio::Terminal { rows: 33, cols: 77 },
        cgroup: Some(&cgroup),
        supervise: Supervise::Child,
        init: None,
    })
    .expect("created");
    let mut master: std::fs::File = created.terminal.take().expect("a terminal").into();
    let process = created.start().expect("started");
    master.write_all(b"hello\n").expect("write");
    let mut text = Vec::new();
    // The end of the other side is EIO.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    // The echo of the key strokes comes at any place.
    for part in ["/dev/pts/0\n", "33 77\n", "got hello\n"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("crw"), "{text}");
    assert_eq!(process.wait().expect("wait").code(), 0);
    cgroup.remove().expect("removed");
}

#[test]
fn a_detached_one_is_started_through_its_directory() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    for (program, expected) in
        [("/bin/echo", Ok("hi\n")), ("/bin/odd", Err("exec /bin/odd: exec format error"))]
    {
        std::fs::write(rig.lower().join("bin/odd"), "?").expect("write");
        std::fs::set_permissions(rig.lower().join("bin/odd"), PermissionsExt::from_mode(0o755))
            .expect("chmod");
        let dir = rig.base.join(format!("gate{}", program.len()));
        std::fs::create_dir(&dir).expect("mkdir");
        let cgroup = rig.cgroup(None);
        let (stdio, outputs) = pipes();
        let created = launch::create(Launch {
            spec: &spec(&[program, "hi"], |_| {}),
            root: &rig.overlay(),
            namespaces: Joined::default(),
            stdio,
            cgroup: Some(&cgroup),
            supervise: Supervise::Detached { dir: &dir },
            init: None,
        })
        .expect("created");
        let result = start_detached(&dir);
        let outcome = finish(&created.process, outputs, Vec::new());
        match expected {
            Ok(text) => {
                result.expect("started");
                assert_eq!(outcome.stdout, text);
            }
            Err(text) => {
                assert_eq!(result.expect_err("no program").text, text);
                assert_eq!((outcome.code, outcome.stderr), (255, format!("{text}\n")));
            }
        }
        assert!(start_detached(&dir).is_err(), "it has ended");
        cgroup.remove().expect("removed");
    }
}

#[test]
fn init_forwards_signals_and_reaps() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "trap 'echo term; exit 7' TERM; (sleep 0.05 &) ; echo ready; while :; do sleep 0.01; done";
    let spec = spec(&["sh", "-c", script], |_| {});
    let cgroup = rig.cgroup(None);
    let (stdio, [mut stdout, stderr]) = pipes();
    let init = std::path::Path::new(env!("CARGO_BIN_EXE_gantry-init"));
    let created = launch::create(Launch {
        spec: &spec,
        root: &rig.overlay(),
        namespaces: Joined::default(),
        stdio,
        cgroup: Some(&cgroup),
        supervise: Supervise::Child,
        init: Some(init),
    })
    .expect("created");
    let process = created.start().expect("started");
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).expect("ready");
    process.signal(libc::SIGTERM).expect("signal");
    let outcome = finish(&process, [stdout, stderr], Vec::new());
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "term\n"));
    cgroup.remove().expect("removed");
}

#[test]
fn a_child_that_allocates_is_noticed() {
    let mut body = || i32::from(std::hint::black_box(vec![1_u8; 4711]).len() == 1);
    let (_, pidfd) =
        gantry_sys::process::clone_child(gantry_sys::ns::Kinds::NONE, None, &mut body).expect("clone");
    let id = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd));
    let status = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).expect("wait");
    assert_eq!(status.expect("a status").terminating_signal(), Some(libc::SIGABRT));
}
