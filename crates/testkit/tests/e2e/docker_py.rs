//! A tour of the daemon by docker-py: `tours/docker_py.py`, once for each version of the API that scripts pin.
//!
//! It is run by Debian's Python with its python3-docker; `GANTRY_TEST_PYTHON` names another interpreter, such as that of
//! a virtual environment with the library's newest version.

use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_testkit::bench::{self, BUSYBOX};
use gantry_testkit::command::finish;
use gantry_testkit::{Bench, Client};

/// The newest version that both have, and the oldest.
const VERSIONS: [&str; 2] = ["auto", "1.24"];

/// More of those that are met in the wild, in a full run.
const MORE_VERSIONS: [&str; 4] = ["1.30", "1.40", "1.43", "1.47"];

fn tour(bench: &Bench) {
    let python =
        std::env::var_os("GANTRY_TEST_PYTHON").map_or_else(|| "/usr/bin/python3".into(), PathBuf::from);
    let has_library = Command::new(&python).args(["-c", "import docker"]).output();
    if !has_library.is_ok_and(|output| output.status.success()) {
        return gantry_testkit::skip(&format!(
            "{} has no docker-py: apt-get install python3-docker",
            python.display()
        ));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tours/docker_py.py");
    let more = if gantry_testkit::full() { &MORE_VERSIONS[..] } else { &[] };
    for version in VERSIONS.iter().chain(more) {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "300"]).arg(&python).arg("-B").arg(&script);
        command.arg(bench.daemon.socket()).arg(BUSYBOX).arg(bench.name("tour")).arg(version);
        let done = finish(&mut command);
        assert_eq!(done.code, 0, "API version {version}:\n{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn docker_py_takes_a_tour_at_each_version_that_scripts_pin() {
    bench::run(Client::Docker, tour);
}
