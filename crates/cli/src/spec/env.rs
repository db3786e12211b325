//! Environment variables and labels, from flags and from files of lines.

use std::io::Read as _;

use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome};

/// Variables of the files, then those of the flags; a bare name takes our own value if we have one.
///
/// # Errors
/// An unreadable or malformed file.
pub(crate) fn variables(files: &[&str], flags: &[&str]) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file).map_err(|why| of_file("env", file, why))? {
            match line.split_once('=') {
                Some(_) => all.push(line),
                // A bare name in a file is dropped where we do not have the variable.
                None => all.extend(std::env::var(&line).ok().map(|value| format!("{line}={value}"))),
            }
        }
    }
    let first = all.len();
    for flag in flags {
        let name = flag.split('=').next().unwrap_or("");
        let variable = match std::env::var(flag) {
            Ok(value) if !flag.contains('=') => format!("{flag}={value}"),
            _ => (*flag).to_owned(),
        };
        // The last of a name counts: a bare one takes back what was given before.
        match all[first..].iter_mut().find(|given| given.split('=').next() == Some(name)) {
            Some(given) => *given = variable,
            None => all.push(variable),
        }
    }
    Ok(all)
}

/// Labels of the files, then those of the flags; a bare name has an empty value.
///
/// # Errors
/// An unreadable or malformed file.
pub(crate) fn labels(files: &[&str], flags: &[&str]) -> Outcome<Map<String, Value>> {
    let mut all = Vec::new();
    for file in files {
        // A bare name takes our own value, as of a variable.
        let lines = lines(file).map_err(|why| of_file("env", file, why))?;
        all.extend(lines.into_iter().filter_map(|line| match line.contains('=') {
            true => Some(line),
            false => std::env::var(&line).ok().map(|value| format!("{line}={value}")),
        }));
    }
    all.extend(flags.iter().map(|&flag| flag.to_owned()));
    Ok(key_values(all.iter().map(String::as_str)))
}

/// `key=value` texts as a map; a bare key has an empty value.
pub(crate) fn key_values<'a>(texts: impl IntoIterator<Item = &'a str>) -> Map<String, Value> {
    texts
        .into_iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

/// A file's own failure: one that is not there says so by itself.
fn of_file(kind: &str, path: &str, why: String) -> Failure {
    match why.strip_prefix("open ") {
        Some(_) => Failure::plain(why),
        None => Failure::plain(format!("invalid {kind} file ({path}): {why}")),
    }
}

fn lines(path: &str) -> Result<Vec<String>, String> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(|error| format!("open {path}: {}", describe(&error)))?;
    file.read_to_end(&mut bytes).map_err(|error| format!("read {path}: {}", describe(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| "invalid utf8 bytes".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or("");
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains([' ', '\t']) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        found.push(line.to_owned());
    }
    Ok(found)
}

/// An I/O error in Go's words: lower case, without the number.
pub(crate) fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let file = std::env::temp_dir().join(format!("gantry-cli-env-{}", std::process::id()));
        std::fs::write(&file, "# comment\n\n A=1\nB=x y\nGANTRY_NO_SUCH_VARIABLE\n").unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(
            variables(&[path], &["C=2", "GANTRY_NOT_SET"]).unwrap(),
            ["A=1", "B=x y", "C=2", "GANTRY_NOT_SET"]
        );
        assert_eq!(
            variables(&[], &["GANTRY_NOT_SET=1", "C=2=3", "GANTRY_NOT_SET", "C=4"]).unwrap(),
            ["GANTRY_NOT_SET", "C=4"]
        );
        std::fs::write(&file, "A B=1\n").unwrap();
        assert!(variables(&[path], &[]).unwrap_err().text.ends_with("variable 'A B' contains whitespaces"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            variables(&[path], &[]).unwrap_err().text,
            format!("open {path}: no such file or directory")
        );
    }
}
