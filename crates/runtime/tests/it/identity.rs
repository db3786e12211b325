//! Users, groups, capabilities, limits.

use gantry_runtime::Reason;
use serde_json::json;

use crate::rig::{Rig, skipped, spec};

const SHOW: &str =
    "id; grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

#[test]
fn users_are_looked_up_in_the_containers_files() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let cases = [
        ("", "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        ("www", "uid=33(www) gid=34(www) groups=29(audio),4(adm),34(www)", "/var/www"),
        ("33", "uid=33(www) gid=34(www) groups=29(audio),4(adm),34(www)", "/var/www"),
        ("www:audio", "uid=33(www) gid=29(audio) groups=29(audio)", "/var/www"),
        ("4711:12", "uid=4711 gid=12 groups=12", "/"),
    ];
    for (user, expected, home) in cases {
        let outcome = rig.script("id; echo $HOME", |spec| spec["annotations"]["gantry.user"] = json!(user));
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[1], home, "{user}");
        // BusyBox lists groups in the kernel's order, which is by number of insertion: compare as sets.
        let set = |line: &str| {
            let (who, groups) = line.split_once(" groups=").expect("groups");
            let mut groups: Vec<String> = groups.split(',').map(str::to_owned).collect();
            groups.sort();
            (who.to_owned(), groups)
        };
        assert_eq!(set(lines[0]), set(expected), "{user}");
    }
    for (user, text) in [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("www:nosuch", "unable to find group nosuch: no matching entries in group file"),
    ] {
        let result = rig.run(&spec(&["true"], |spec| spec["annotations"]["gantry.user"] = json!(user)));
        let error = result.expect_err(user);
        assert_eq!((error.reason, error.exit_code(), error.text.as_str()), (Reason::User, 125, text));
    }
    let more = rig.script("id -G", |spec| spec["annotations"]["gantry.groups"] = json!("audio,4711"));
    assert_eq!(more.stdout.trim(), "0 29 4711");
}

#[test]
fn an_oci_user_needs_no_files() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("id; umask; echo $HOME", |spec| {
        spec["annotations"].as_object_mut().expect("map").remove("gantry.user");
        spec["process"]["user"] = json!({"uid": 33, "gid": 7, "additionalGids": [8, 9], "umask": 63});
    });
    assert_eq!(outcome.stdout, "uid=33(www) gid=7 groups=7,8,9\n0077\n/var/www\n".replace("=7,8,9", "=8,9"));
}

#[test]
fn capabilities_are_what_is_listed() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let docker = "00000000a80425fb";
    let root = rig.script(SHOW, |_| {}).stdout;
    for (set, value) in
        [("CapInh", "0000000000000000"), ("CapPrm", docker), ("CapEff", docker), ("CapBnd", docker)]
    {
        assert!(root.contains(&format!("{set}:\t{value}")), "{set}: {root}");
    }
    assert!(root.contains("Seccomp:\t2") && root.contains("NoNewPrivs:\t0"), "{root}");
    let user = rig.script(SHOW, |spec| {
        spec["annotations"]["gantry.user"] = json!("www");
        spec["process"]["noNewPrivileges"] = json!(true);
    });
    let user = user.stdout;
    assert!(
        user.contains("CapEff:\t0000000000000000") && user.contains(&format!("CapBnd:\t{docker}")),
        "{user}"
    );
    assert!(user.contains("NoNewPrivs:\t1") && user.contains("Seccomp:\t2"), "{user}");
    let ambient = rig.script(SHOW, |spec| {
        spec["annotations"]["gantry.user"] = json!("www");
        for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
            spec["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
        }
    });
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(ambient.stdout.contains(&format!("{set}:\t0000000000000400")), "{}", ambient.stdout);
    }
}

#[test]
fn a_privileged_container_has_all_that_we_have() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("mount -t tmpfs x /tmp && echo mounted; ls /dev/shm; grep -E 'CapEff|Seccomp:' /proc/self/status; echo x > /proc/sys/kernel/hostname && hostname", |spec| {
        let all: Vec<&str> = gantry_sys::caps::NAMES.to_vec();
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set] = json!(all);
        }
        spec["annotations"].as_object_mut().expect("map").remove("gantry.seccomp");
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    });
    assert!(outcome.stdout.contains("mounted\n") && outcome.stdout.ends_with("x\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("Seccomp:\t0"), "{outcome:?}");
    let own = gantry_sys::caps::get().expect("capget").permitted;
    assert!(outcome.stdout.contains(&format!("CapEff:\t{own:016x}")), "{outcome:?}");
    let lacking = (own.count_ones() as usize) < gantry_sys::caps::NAMES.len();
    assert_eq!(!outcome.warnings.is_empty(), lacking, "{:?}", outcome.warnings);
}

#[test]
fn limits_are_set_or_refused() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("ulimit -n; ulimit -Hn; ulimit -c", |spec| {
        spec["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
        ]);
    });
    assert_eq!(outcome.stdout, "100\n200\n0\n");
    // Too few files to set a container up with: the limit is the program's, not the preparation's.
    let outcome = rig.script("ulimit -n; ulimit -Hn", |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 20}]);
    });
    assert_eq!(outcome.stdout, "3\n20\n", "{outcome:?}");
    let own = gantry_sys::process::rlimit(libc::RLIMIT_NOFILE).expect("limit");
    let outcome = rig.run(&crate::rig::spec(&["sh", "-c", "ulimit -n"], |spec| {
        spec["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": own.hard + 1, "hard": own.hard + 1}]);
    }));
    // Who may raise it gives it; who may not says so, as runc does.
    match outcome {
        Ok(outcome) => assert_eq!(outcome.stdout, format!("{}\n", own.hard + 1)),
        Err(error) => assert_eq!(
            error.text,
            "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted"
        ),
    }
}

#[test]
fn the_oom_score_is_set() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome =
        rig.script("cat /proc/self/oom_score_adj", |spec| spec["process"]["oomScoreAdj"] = json!(500));
    assert_eq!(outcome.stdout, "500\n");
}

#[test]
fn the_streams_belong_to_the_user() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let outcome = rig.script("echo again > /dev/stdout; echo error > /dev/stderr", |spec| {
        spec["annotations"]["gantry.user"] = json!("www");
    });
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("again\n", "error\n"));
}
