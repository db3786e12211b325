//! Dockerfiles and what they are read as. With `GANTRY_BLESS=1` the expectations are written anew.

use std::fmt::Write;
use std::path::Path;

use gantry_build::dockerfile::parse;

fn render(text: &str) -> String {
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => return format!("error: {error}\n"),
    };
    let mut out = format!("escape {}\n", file.escape);
    for warning in &file.warnings {
        let _ = writeln!(out, "warning {warning:?}");
    }
    for statement in &file.meta_args {
        let _ = writeln!(out, "{}: {:?}", statement.line, statement.instruction);
    }
    for stage in &file.stages {
        let _ = writeln!(
            out,
            "{}: FROM {:?} platform {:?} as {:?}",
            stage.line, stage.base, stage.platform, stage.name
        );
        for statement in &stage.statements {
            let _ = writeln!(out, "{}: {:?}", statement.line, statement.instruction);
            let _ = writeln!(out, "   {:?}", statement.text);
        }
    }
    out
}

#[test]
fn dockerfiles_are_read_as_before() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("GANTRY_BLESS").is_some();
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("the golden directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "Dockerfile") {
            continue;
        }
        seen += 1;
        let text = render(&std::fs::read_to_string(&path).expect("a Dockerfile"));
        let expected = path.with_extension("txt");
        if bless {
            std::fs::write(&expected, &text).expect("written");
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(text, wanted, "{}", path.display());
    }
    assert!(seen >= 7, "only {seen} Dockerfiles were there");
}
