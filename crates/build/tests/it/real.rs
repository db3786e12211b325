//! Real `RUN` steps with BusyBox, through the real shim.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Entry, Outcome, Site, file, program, tar, unprivileged};
use gantry_build::executor::{
    Network, NetworkError, NetworkRequest, NetworkSetup, Places, ShimExecutor, ShimExecutorOptions,
};
use gantry_build::{BuildOptions, NetworkMode, RunOptions};

struct NoNetwork;

impl Network for NoNetwork {
    fn connect(&self, _request: &NetworkRequest<'_>) -> Result<NetworkSetup, NetworkError> {
        Err(NetworkError("this test has no bridge".into()))
    }
}

const APPLETS: [&str; 14] = [
    "sh", "ls", "cat", "echo", "true", "false", "mkdir", "touch", "id", "stat", "sleep", "env", "test",
    "hostname",
];

/// What the tests' steps have besides their store; taken away at the end.
struct Surroundings {
    cgroup: String,
    _run: tempfile::TempDir,
}

impl Drop for Surroundings {
    /// Removes the cgroup above the steps' own, which the last shims to end are still leaving.
    fn drop(&mut self) {
        let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else { return };
        let deadline = Instant::now() + Duration::from_secs(10);
        for hierarchy in hierarchies.flatten() {
            let path = hierarchy.path().join(&self.cgroup);
            while path.is_dir() && std::fs::remove_dir(&path).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Each test has a cgroup of its own.
static NEXT: AtomicU32 = AtomicU32::new(0);

fn site() -> Option<(Site, Surroundings)> {
    if unprivileged("real builds") {
        return None;
    }
    let busybox = Path::new("/bin/busybox");
    let Some(shim) = program("gantry-shim") else {
        eprintln!("skipped: real builds: gantry-shim was not built (cargo build -p gantry-runtime)");
        return None;
    };
    let Ok(bytes) = std::fs::read(busybox) else {
        eprintln!("skipped: real builds: no {}", busybox.display());
        return None;
    };
    let run = tempfile::Builder::new().prefix("gantry-build-run-").tempdir().expect("a directory");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let cgroup = format!("gantry-build-test-{}-{number}", std::process::id());
    let places = Places {
        shim_binary: shim,
        run_directory: run.path().to_owned(),
        cgroup_parent: format!("/{cgroup}"),
    };
    let executor = ShimExecutor::new(ShimExecutorOptions { places, network: Arc::new(NoNetwork) });
    let site = Site::with(Arc::new(executor), Arc::default());
    let mut entries = vec![
        Entry::File("bin/busybox", 0o755, bytes),
        file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
        file("etc/group", "root:x:0:\napp:x:1001:\n"),
    ];
    entries.extend(
        APPLETS.map(|applet| Entry::Link(Box::leak(format!("bin/{applet}").into_boxed_str()), "busybox")),
    );
    site.import("busybox", &tar(&entries, 7));
    Some((site, Surroundings { cgroup, _run: run }))
}

fn options() -> BuildOptions {
    BuildOptions {
        run: RunOptions { network: NetworkMode::None, ..Default::default() },
        ..Default::default()
    }
}

fn build(site: &Site, dockerfile: &str) -> Outcome {
    site.build_with(dockerfile, &[], options())
}

#[test]
fn steps_run_and_leave_only_what_they_wrote() {
    let Some((site, _run)) = site() else { return };
    let outcome = build(
        &site,
        "FROM busybox\nRUN echo out; echo err >&2; echo x > /made; id -u; hostname; echo $SOURCE_DATE_EPOCH\n",
    );
    let image = outcome.image();
    for wanted in [
        " ---> Running in ",
        "out\n",
        "\u{1b}[91merr\n\u{1b}[0m",
        "0\n",
        "build\n",
        "1000000\n",
        " ---> Removed intermediate container ",
    ] {
        assert!(outcome.text.contains(wanted), "{wanted:?} is not in {}", outcome.text);
    }
    assert_eq!(site.top_layer(&image), ["made 644 0:0 2 1000000"]);
    let user = build(
        &site,
        "FROM busybox\nRUN mkdir -m 777 /w\nUSER app\nWORKDIR /w\nRUN id -u && id -g && touch here\n",
    );
    assert!(user.text.contains("1000\n1001\n"), "{}", user.text);
    assert_eq!(site.top_layer(&user.image()), ["w/ 777 0:0 0 1000000", "w/here 644 1000:1001 0 1000000"]);
    let nothing = build(&site, "FROM busybox\nRUN true\n");
    let config = site.config(&nothing.image());
    assert_eq!(config.rootfs.diff_ids.len(), 1, "a step that wrote nothing adds no layer");
    assert!(config.history.last().expect("a step").empty_layer);
}

#[test]
fn steps_make_the_same_layers_whatever_the_daemons_umask() {
    let Some((mut site, _run)) = site() else { return };
    let dockerfile = "FROM busybox\nRUN mkdir -p /a/b && echo x > /a/b/c && touch /etc/new\n";
    let first = build(&site, dockerfile);
    let no_cache = BuildOptions { no_cache: true, ..options() };
    let second = site.with_umask(0o077, |site| site.build_with(dockerfile, &[], no_cache));
    assert_eq!(first.image(), second.image());
    assert_eq!(
        site.top_layer(&first.image()),
        [
            "a/ 755 0:0 0 1000000",
            "a/b/ 755 0:0 0 1000000",
            "a/b/c 644 0:0 2 1000000",
            // The time that it had below: mount points were made in it and removed.
            "etc/ 755 0:0 0 0",
            "etc/new 644 0:0 0 1000000"
        ]
    );
}

#[test]
fn failing_steps_say_how() {
    let Some((site, _run)) = site() else { return };
    let check = |dockerfile: &str, expected: &str| {
        assert_eq!(build(&site, dockerfile).error(), expected, "{dockerfile}");
    };
    check("FROM busybox\nRUN exit 7\n", "The command '/bin/sh -c exit 7' returned a non-zero code: 7");
    check("FROM busybox\nRUN [\"false\",\"a b\"]\n", "The command 'false a b' returned a non-zero code: 1");
    check(
        "FROM busybox\nRUN [\"nosuch\"]\n",
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH",
    );
    check(
        "FROM busybox\nUSER nosuch\nRUN id\n",
        "unable to find user nosuch: no matching entries in passwd file",
    );
    assert_eq!(site.store.snapshots().list().expect("snapshots"), []);
}

#[test]
fn ten_steps_are_quick_and_cached_ones_quicker() {
    let Some((site, _run)) = site() else { return };
    let dockerfile = format!("FROM busybox\n{}", "RUN true\n".repeat(10));
    let no_cache = || BuildOptions { no_cache: true, ..options() };
    site.build_with(&dockerfile, &[], no_cache()).image();
    let began = Instant::now();
    site.build_with(&dockerfile, &[], no_cache()).image();
    let without = began.elapsed();
    let began = Instant::now();
    let cached = site.build_with(&dockerfile, &[], options());
    let with = began.elapsed();
    assert_eq!(cached.cached(), 10);
    eprintln!("ten RUN true: {without:?} without the cache, {with:?} with it");
}

#[test]
fn a_cancelled_step_ends_at_once() {
    use gantry_build::{BuildError, BuildEvent, BuildRequest, Cancel, ContextSource};
    let Some((site, _run)) = site() else { return };
    let cancel = Cancel::new().expect("an eventfd");
    let request = BuildRequest {
        context: ContextSource::Tar(Box::new(std::io::Cursor::new(tar(
            &[file("Dockerfile", "FROM busybox\nRUN echo here; sleep 1000\n")],
            5,
        )))),
        dockerfile: String::new(),
        tags: Vec::new(),
        options: options(),
    };
    let began = Instant::now();
    let result = site.builder.build(
        request,
        &mut |event| {
            if matches!(event, BuildEvent::Log { .. }) {
                cancel.cancel();
            }
        },
        &cancel,
    );
    assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
    assert!(began.elapsed().as_secs() < 60);
    assert_eq!(site.store.snapshots().list().expect("snapshots"), []);
}
