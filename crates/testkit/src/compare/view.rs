//! JSON laid out as a line per field, so that a difference is a field's.

use serde_json::Value;

/// A line `PATH: VALUE` per scalar, in the order in which they stand. A text that is not JSON, or
/// not JSON line by line, stays as it is.
#[must_use]
pub fn fields(text: &str) -> String {
    let mut out = String::new();
    let done = each(text, |path, value| out.push_str(&format!("{path}: {value}\n")));
    if done { out } else { text.to_owned() }
}

/// A line `PATH: TYPE` per field, elements of lists as `*`, each once, sorted.
#[must_use]
pub fn keys(text: &str) -> String {
    let mut lines = Vec::new();
    let done = each(text, |path, value| {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "[]",
            Value::Object(_) => "{}",
        };
        let generic: Vec<&str> = path
            .split('/')
            .map(|element| {
                if element.bytes().all(|b| b.is_ascii_digit()) && !element.is_empty() { "*" } else { element }
            })
            .collect();
        lines.push(format!("{}: {kind}\n", generic.join("/")));
    });
    if !done {
        return text.to_owned();
    }
    lines.sort();
    lines.dedup();
    lines.concat()
}

/// Calls for each scalar or empty value; false if the text is not JSON.
fn each(text: &str, mut call: impl FnMut(&str, &Value)) -> bool {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        walk("", &value, &mut call);
        return true;
    }
    let values: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    match values {
        Ok(values) if !values.is_empty() => {
            for (number, value) in values.iter().enumerate() {
                walk(&format!("/{number}"), value, &mut call);
            }
            true
        }
        _ => false,
    }
}

fn walk(path: &str, value: &Value, call: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                walk(&format!("{path}/{name}"), value, call);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for (number, value) in values.iter().enumerate() {
                walk(&format!("{path}/{number}"), value, call);
            }
        }
        scalar => call(path, scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_field() {
        let text = r#"{"b":{"x":1,"e":{}},"a":["s",null]}"#;
        assert_eq!(fields(text), "/b/x: 1\n/b/e: {}\n/a/0: \"s\"\n/a/1: null\n");
        assert_eq!(keys(text), "/a/*: null\n/a/*: string\n/b/e: {}\n/b/x: number\n");
        assert_eq!(fields("{\"a\":1}\n{\"a\":2}\n"), "/0/a: 1\n/1/a: 2\n");
        assert_eq!(fields("Error: no\n"), "Error: no\n");
    }
}
