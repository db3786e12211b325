//! The program as a shell runs it: what needs no daemon.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");

fn gantry(arguments: &[&str]) -> Output {
    Command::new(GANTRY).args(arguments).env("GANTRY_HOST", "unix:///nowhere/gantry.sock").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a script in a shell that finds this program as `gantry`; `None` where there is no such shell.
fn in_shell(shell: &str, arguments: &[&str], script: &str) -> Option<String> {
    let directory = std::path::Path::new(GANTRY).parent().unwrap();
    let path = std::env::join_paths(
        [directory.to_path_buf()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH")?)),
    )
    .unwrap();
    let mut child = Command::new(shell)
        .args(arguments)
        .env("PATH", path)
        .env("GANTRY_HOST", "unix:///nowhere/gantry.sock")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .inspect_err(|_| eprintln!("skipped: there is no {shell}"))
        .ok()?;
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn bash_completes_verbs_and_flags() {
    let script = r#"
source <(gantry completion bash)
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _gantry; echo "${COMPREPLY[*]}"; }
try gantry ru
try gantry container l
try gantry run --na
"#;
    let Some(said) = in_shell("bash", &["--norc"], script) else { return };
    assert_eq!(said, "run\nlogs ls\n--name\n");
}

#[test]
fn fish_completes_verbs_and_flags() {
    let script = "gantry completion fish | source\ncomplete -C 'gantry ru'\ncomplete -C 'gantry run --na'\n";
    let Some(said) = in_shell("fish", &["--no-config"], script) else { return };
    assert_eq!(said, "run\n--name\n");
}

#[test]
fn zsh_reads_its_script() {
    let script =
        "autoload -U compinit && compinit -u -D\nsource <(gantry completion zsh)\nprint $_comps[gantry]\n";
    let Some(said) = in_shell("zsh", &["-f"], script) else { return };
    assert_eq!(said, "_gantry\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error_of_ours() {
    let said =
        in_shell("bash", &["--norc"], "set -o pipefail\ngantry --help | true\necho ${PIPESTATUS[0]}\n");
    let Some(said) = said else { return };
    assert!(said == "141\n" || said == "0\n", "{said}");
}

#[test]
fn errors_say_what_to_do_next() {
    let output = gantry(&["ps"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "Cannot connect to the Docker daemon at unix:///nowhere/gantry.sock. Is the docker daemon running?\n\
         Start one with: gantry system start (or set DOCKER_HOST, or -H)\n"
    );
    for (arguments, code, begin) in [
        (&["nonsense"][..], 1, "gantry: unknown command: gantry nonsense\n"),
        (&["run"], 1, "gantry: 'gantry run' requires at least 1 argument\n"),
        (&["run", "--nonsense", "x"], 125, "unknown flag: --nonsense\n"),
        (
            &["-H", "a", "-H", "b", "ps"],
            1,
            "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
        ),
        (&["--log-level", "x", "ps"], 1, "Unable to parse logging level: x\n"),
        (&["completion", "tcsh"], 1, "there is no completion for \"tcsh\": give one of bash, zsh, fish\n"),
    ] {
        let output = gantry(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.starts_with(begin), "{arguments:?}: {said}");
    }
}

#[test]
fn a_prune_that_is_not_wanted_does_nothing() {
    let mut child = Command::new(GANTRY)
        .args(["container", "prune"])
        .env("GANTRY_HOST", "unix:///nowhere/gantry.sock")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"n\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    assert!(text(&output.stdout).ends_with("Are you sure you want to continue? [y/N] "));
}
