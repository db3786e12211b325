//! `cargo xtask tidy`: the rules of `ARCHITECTURE.md` and the style that the compiler cannot check.

mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::{self, cargo};

/// A file longer than this says at its top why (`//! Long because …`).
const LONG_FILE_LINES: usize = 600;
/// No file may be longer than this.
const LONGEST_FILE_LINES: usize = 1000;
/// Module names that say nothing about what is in them.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "misc", "manager", "functions"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks everything and lists all that is wrong at once.
pub(crate) fn run() -> Result<()> {
    let mut wrong = crate_edges()?;
    let files = tracked_files()?;
    for file in &files {
        wrong.extend(check_file(file)?);
    }
    wrong.extend(writes::check(&files)?);
    if wrong.is_empty() {
        eprintln!("tidy: crate edges, file lengths, names and the places of writes are as they should be");
        return Ok(());
    }
    bail!("tidy found:\n  {}", wrong.join("\n  "));
}

/// Reads the table of `ARCHITECTURE.md`: `| crate | … | may use |`, names in backticks.
fn allowed_edges(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut allowed = BTreeMap::new();
    let section = text.split_once("## The crates").context("ARCHITECTURE.md has no section 'The crates'")?.1;
    for line in
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells[..] else { bail!("not three cells: {line}") };
        if let Some(name) = name.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            allowed.insert(name.to_owned(), uses.split_whitespace().map(str::to_owned).collect());
        }
    }
    if allowed.is_empty() {
        bail!("the table in ARCHITECTURE.md's section 'The crates' is empty");
    }
    Ok(allowed)
}

fn crate_edges() -> Result<Vec<String>> {
    let table = fs::read_to_string(workspace::root().join("ARCHITECTURE.md"))?;
    let allowed = allowed_edges(&table)?;
    let text = workspace::read(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    Ok(wrong_edges(&allowed, &metadata))
}

fn wrong_edges(allowed: &BTreeMap<String, BTreeSet<String>>, metadata: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let Some(name) = package.name.strip_prefix("gantry-") else { continue };
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!("crate {name} is not in the table of ARCHITECTURE.md"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(used) = dependency.name.strip_prefix("gantry-") else { continue };
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if !for_tests && used != name && !may_use.contains(used) {
                wrong.push(format!("crate {name} uses {used}, which ARCHITECTURE.md does not allow"));
            }
        }
    }
    let present: BTreeSet<&str> =
        metadata.packages.iter().filter_map(|package| package.name.strip_prefix("gantry-")).collect();
    for name in allowed.keys().filter(|name| !present.contains(name.as_str())) {
        wrong.push(format!("ARCHITECTURE.md lists crate {name}, which does not exist"));
    }
    wrong
}

fn tracked_files() -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    let listed = workspace::read(git.current_dir(workspace::root()).args(["ls-files", "crates", "xtask"]))?;
    Ok(listed.lines().filter(|path| path.ends_with(".rs")).map(str::to_owned).collect())
}

fn check_file(path: &str) -> Result<Vec<String>> {
    let full = workspace::root().join(path);
    if !full.exists() {
        return Ok(Vec::new()); // Deleted, not committed yet.
    }
    let text = fs::read_to_string(full)?;
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST_FILE_LINES {
        wrong.push(format!("{path} has {lines} lines; {LONGEST_FILE_LINES} is the most"));
    } else if lines > LONG_FILE_LINES && !text.contains("//! Long because") {
        wrong.push(format!("{path} has {lines} lines and no '//! Long because …' at its top"));
    }
    let parts = Path::new(path).components().filter_map(|part| part.as_os_str().to_str());
    if let Some(part) = parts.map(|part| part.trim_end_matches(".rs")).find(|part| EMPTY_NAMES.contains(part))
    {
        wrong.push(format!("{path}: a module called {part} says nothing about what is in it"));
    }
    if path.ends_with("src/lib.rs") && !text.starts_with("//!") {
        wrong.push(format!("{path} does not begin with what the crate knows and must not know"));
    }
    // The three words of an unfinished body, written so that this file does not hold them itself.
    for word in ["todo", "unimplemented"] {
        if text.contains(&format!("{word}!(")) {
            wrong.push(format!("{path} has a {word}!(), which is a stub called done"));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "## The crates\n\n| crate | knows | may use |\n| --- | --- | --- |\n\
        | `low` | x | – |\n| `high` | y | low |\n\nMore.\n";

    fn metadata(edges: &[(&str, &str)]) -> Metadata {
        let package = |name: &str| Package {
            name: format!("gantry-{name}"),
            dependencies: edges
                .iter()
                .filter(|(from, _)| *from == name)
                .map(|(_, to)| Dependency { name: format!("gantry-{to}"), kind: None })
                .collect(),
        };
        Metadata { packages: vec![package("low"), package("high")] }
    }

    #[test]
    fn an_upward_edge_is_found() {
        let allowed = allowed_edges(TABLE).expect("a table");
        assert_eq!(wrong_edges(&allowed, &metadata(&[("high", "low")])), Vec::<String>::new());
        let wrong = wrong_edges(&allowed, &metadata(&[("low", "high")]));
        assert_eq!(wrong, ["crate low uses high, which ARCHITECTURE.md does not allow"]);
    }

    #[test]
    fn a_crate_that_the_table_lacks_or_invents_is_found() {
        let mut allowed = allowed_edges(TABLE).expect("a table");
        allowed.remove("low");
        allowed.insert("gone".into(), BTreeSet::new());
        let wrong = wrong_edges(&allowed, &metadata(&[]));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
