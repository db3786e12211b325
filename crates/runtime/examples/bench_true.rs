//! Measures create + start + exit of `true`, and `exec` of it: `cargo run --release -p gantry-runtime --example bench_true [RUNS [PAUSE_MS]]`.
//!
//! Needs root and `/bin/busybox` (static). Prints the median and where the time goes.

use std::path::Path;
use std::time::{Duration, Instant};

use gantry_model::mount::RootMount;
use gantry_runtime::cgroup::{self, Cgroup};
use gantry_runtime::exec::{self, Exec};
use gantry_runtime::launch::{self, Joined, Launch, Stdio, Supervise};
use oci_spec::runtime::Spec;

const SPEC: &str = include_str!("bench_true.json");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runs: usize = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let pause = std::env::args().nth(2).map_or(Ok(0), |text| text.parse())?;
    let base = std::env::temp_dir().join(format!("gantry-bench-true-{}", std::process::id()));
    let result = bench(&base, runs, Duration::from_millis(pause));
    std::fs::remove_dir_all(&base)?;
    result
}

fn bench(base: &Path, runs: usize, pause: Duration) -> Result<(), Box<dyn std::error::Error>> {
    for name in ["lower/bin", "upper", "work"] {
        std::fs::create_dir_all(base.join(name))?;
    }
    for applet in ["true", "sleep"] {
        std::fs::copy("/bin/busybox", base.join("lower/bin").join(applet))?;
    }
    let spec: Spec = serde_json::from_str(SPEC)?;
    let root = RootMount::Overlay {
        lower: vec![base.join("lower")],
        upper: Some(base.join("upper")),
        work: Some(base.join("work")),
    };
    let layout = cgroup::detect()?;
    let mut times: Vec<[Duration; 5]> = Vec::new();
    for run in 0..runs {
        std::thread::sleep(pause);
        let start = Instant::now();
        let path = format!("/gantry-bench/{}-{run}", std::process::id());
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let cgroup = Cgroup::create(&layout, Path::new(&path), resources)?;
        let made = start.elapsed();
        let created = launch::create(Launch {
            spec: &spec,
            root: &root,
            namespaces: Joined::default(),
            stdio: null_streams()?,
            cgroup: Some(&cgroup),
            supervise: Supervise::Child,
            init: None,
        })?;
        let created_at = start.elapsed();
        let process = created.start()?;
        let started = start.elapsed();
        process.wait()?;
        let exited = start.elapsed();
        cgroup.remove()?;
        times.push([
            made,
            created_at - made,
            started - created_at,
            exited - started,
            start.elapsed() - exited,
        ]);
    }
    let exec = bench_exec(&layout, &root, runs, pause)?;
    // The parent is ours alone.
    Cgroup::open(&layout, Path::new("/gantry-bench")).remove()?;
    let mut total = Duration::ZERO;
    for (at, name) in ["cgroup", "create", "start", "exit", "remove"].iter().enumerate() {
        let mut column: Vec<Duration> = times.iter().map(|row| row[at]).collect();
        column.sort();
        total += column[column.len() / 2];
        eprintln!("{name:>8} {:>10.3?} (median of {runs})", column[column.len() / 2]);
    }
    eprintln!("{:>8} {total:>10.3?}", "sum");
    eprintln!("{:>8} {exec:>10.3?} (start to exit, median of {runs})", "exec");
    Ok(())
}

fn null_streams() -> std::io::Result<Stdio> {
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").map(Into::into);
    Ok(Stdio::Fds { stdin: null()?, stdout: null()?, stderr: null()? })
}

fn bench_exec(
    layout: &cgroup::Layout,
    root: &RootMount,
    runs: usize,
    pause: Duration,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut spec: serde_json::Value = serde_json::from_str(SPEC)?;
    spec["process"]["args"] = serde_json::json!(["sleep", "1000"]);
    let spec: Spec = serde_json::from_value(spec)?;
    let cgroup = Cgroup::create(layout, Path::new("/gantry-bench/exec"), None)?;
    let created = launch::create(Launch {
        spec: &spec,
        root,
        namespaces: Joined::default(),
        stdio: null_streams()?,
        cgroup: Some(&cgroup),
        supervise: Supervise::Child,
        init: None,
    })?;
    let target = created.start()?;
    let spec: Spec = serde_json::from_str(SPEC)?;
    let process = spec.process().as_ref().ok_or("no process")?;
    let annotations = spec.annotations().clone().unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..runs {
        std::thread::sleep(pause);
        let start = Instant::now();
        let created = exec::exec(Exec {
            target: &target,
            process,
            annotations: &annotations,
            stdio: null_streams()?,
            cgroup: Some(&cgroup),
            seccomp: None,
            supervise: Supervise::Child,
        })?;
        created.start()?.wait()?;
        times.push(start.elapsed());
    }
    target.signal(9)?;
    target.wait()?;
    cgroup.remove()?;
    times.sort();
    Ok(times[times.len() / 2])
}
