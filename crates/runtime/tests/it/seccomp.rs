//! The default profile: in force, and compared call by call with what others load.
//!
//! With `GANTRY_TEST_RUNC=/path/to/runc` the filter is compared with the one that runc makes of the same
//! profile; with `GANTRY_TEST_DOCKERD=1` (and `DOCKER_HOST`), with the one of a real dockerd's containers.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use gantry_runtime::seccomp::{compile, default_filter, default_profile};
use gantry_sys::caps;
use gantry_sys::seccomp::{Instruction, filter_of};
use serde_json::{Value, json};

use crate::rig::{Rig, skipped, spec};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// What a filter says to one call.
fn verdict(filter: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, architecture, 0, 0];
    for argument in arguments {
        data.extend([
            u32::try_from(argument & 0xffff_ffff).expect("low"),
            (argument >> 32).try_into().expect("high"),
        ]);
    }
    let (mut at, mut value) = (0, 0_u32);
    loop {
        let step = filter[at];
        at += 1;
        let holds = match step.code {
            0x20 => {
                value = data[usize::try_from(step.k).expect("offset") / 4];
                continue;
            }
            0x54 => {
                value &= step.k;
                continue;
            }
            0x05 => {
                at += usize::try_from(step.k).expect("offset");
                continue;
            }
            0x06 => return step.k,
            0x15 => value == step.k,
            0x25 => value > step.k,
            0x35 => value >= step.k,
            0x45 => value & step.k != 0,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { step.jt } else { step.jf });
    }
}

/// Every call, with arguments around all that any rule asks about, on both architectures.
fn compare(ours: &[Instruction], theirs: &[Instruction], what: &str) {
    let arguments = [
        0,
        1,
        2,
        8,
        38,
        39,
        40,
        41,
        0x11,
        0x2_0000,
        0x2_0008,
        0x1000_0000,
        0x7e02_0000,
        0xffff_ffff,
        1 << 40,
    ];
    let mut differences = Vec::new();
    for architecture in [X86_64, I386] {
        for number in (0..600).chain([9999, 0x3fff_ffff]) {
            // Arguments of a 32-bit call have 32 bits.
            for argument in
                arguments.into_iter().filter(|argument| architecture == X86_64 || *argument >> 32 == 0)
            {
                let arguments = [argument, 0, 0, 0, 0, 0];
                let (our, their) = (
                    verdict(ours, architecture, number, arguments),
                    verdict(theirs, architecture, number, arguments),
                );
                if our != their {
                    differences.push(format!(
                        "{architecture:#x} {number}({argument:#x}): {our:#x}, theirs {their:#x}"
                    ));
                }
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{what}: {} differences: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
}

/// Sets of capabilities that open different parts of the profile.
fn sets() -> Vec<(&'static str, caps::Set)> {
    let usual = 0xa804_25fb;
    let all = gantry_sys::caps::NAMES.len();
    let with = |name| usual | caps::bit(name).expect("known");
    vec![
        ("none", 0),
        ("usual", usual),
        ("SYS_ADMIN", with("CAP_SYS_ADMIN")),
        ("SYS_PTRACE", with("CAP_SYS_PTRACE")),
        ("SYS_TIME", with("CAP_SYS_TIME")),
        ("SYS_NICE", with("CAP_SYS_NICE")),
        ("BPF", with("CAP_BPF")),
        ("all", (1 << all) - 1),
    ]
}

#[test]
fn the_profile_in_ocis_form_compiles_to_the_same() {
    for (name, set) in sets() {
        let compiled = compile(&default_profile(set)).expect("compiles");
        compare(&default_filter(set).instructions, &compiled.instructions, name);
    }
}

#[test]
fn runc_makes_the_same_of_the_profile() {
    if skipped() {
        return;
    }
    let Some(runc) = std::env::var_os("GANTRY_TEST_RUNC") else {
        eprintln!("skipped: GANTRY_TEST_RUNC names no runc");
        return;
    };
    let rig = Rig::new();
    let bundle = rig.base.join("bundle");
    std::fs::create_dir(&bundle).expect("mkdir");
    for (number, (name, set)) in sets().into_iter().enumerate() {
        let id = format!("gantry-rt-runc-{}-{number}", std::process::id());
        let config = spec(&["sleep", "1000"], |spec| {
            spec["linux"]["seccomp"] = serde_json::to_value(default_profile(set)).expect("json");
            spec["linux"]["cgroupsPath"] = json!(format!("/{id}"));
            spec["root"]["path"] = json!(rig.lower());
        });
        std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config).expect("json"))
            .expect("write");
        let root = rig.base.join("runc-state");
        let call = |arguments: &[&str]| {
            let mut command = Command::new(&runc);
            command.arg("--root").arg(&root).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().and_then(|mut child: Child| child.wait()).expect("runc runs")
        };
        let pid_file = rig.base.join("runc-pid");
        let pid_path = pid_file.to_str().expect("text");
        assert!(
            call(&["run", "-d", "--bundle", bundle.to_str().expect("text"), "--pid-file", pid_path, &id])
                .success()
        );
        let pid: i32 = std::fs::read_to_string(&pid_file).expect("pid").parse().expect("a number");
        let theirs = filter_of(pid);
        assert!(call(&["delete", "--force", &id]).success());
        compare(&default_filter(set).instructions, &theirs.expect("the filter"), name);
    }
}

#[test]
fn dockers_containers_have_the_same_filter() {
    if skipped() {
        return;
    }
    if std::env::var_os("GANTRY_TEST_DOCKERD").is_none() {
        eprintln!("skipped: GANTRY_TEST_DOCKERD is not set");
        return;
    }
    let rig = Rig::new();
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().expect("docker runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let archive = rig.base.join("image.tar");
    let tar = Command::new("tar").arg("-C").arg(rig.lower()).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar.expect("tar runs").success());
    let image = docker(&["import", archive.to_str().expect("text")]);
    for options in [
        &["--cap-drop=ALL"][..],
        &[],
        &["--cap-add=SYS_ADMIN"],
        &["--cap-add=SYS_PTRACE", "--cap-add=SYS_TIME"],
        &["--cap-add=BPF", "--cap-add=PERFMON", "--cap-add=SYS_NICE"],
        &["--cap-add=ALL"],
    ] {
        let mut arguments = vec!["run", "-d", "--net=none"];
        arguments.extend(options);
        arguments.extend([image.as_str(), "sleep", "1000"]);
        let id = docker(&arguments);
        let state: Value =
            serde_json::from_str(&docker(&["inspect", "-f", "{{json .State}}", &id])).expect("json");
        let pid = i32::try_from(state["Pid"].as_i64().expect("pid")).expect("fits");
        let status =
            std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("status");
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("caps");
        let bounding = u64::from_str_radix(bounding, 16).expect("hexadecimal");
        let theirs = filter_of(pid);
        docker(&["rm", "-f", &id]);
        compare(&default_filter(bounding).instructions, &theirs.expect("the filter"), &options.join(" "));
    }
    docker(&["rmi", &image]);
}

#[test]
fn forbidden_calls_are_refused_and_capabilities_open_them() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1";
    let outcome = rig.script(script, |_| {});
    assert!(
        outcome.stdout.matches("not permitted").count() + outcome.stdout.matches("denied").count() == 2,
        "{outcome:?}"
    );
    let admin = rig.script("unshare -m true && echo ok", |spec| {
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set].as_array_mut().expect("list").push(json!("CAP_SYS_ADMIN"));
        }
    });
    assert_eq!(admin.stdout, "ok\n", "{admin:?}");
}
