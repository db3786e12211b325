//! Lists: one set of named fields per thing, shown as Docker's default table, as a table of a
//! template's columns, as JSON lines, or through a template.

use serde_json::{Map, Value, json};

use super::table;
use super::template::{Format, Over, html_safe, unescape};
use crate::failure::Outcome;

/// A kind of list: its fields with their headings, in Docker's names.
pub(crate) struct Kind {
    /// Every field that a template may name, with its heading.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// The fields of `--format json`, all of the above where empty.
    pub(crate) hidden: &'static [&'static str],
}

/// One thing's fields.
pub(crate) type Row = Map<String, Value>;

fn text(row: &Row, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// `{{.Label "x"}}` is a method in Docker; here it is a look-up in a field that no other form shows.
fn prepared(template: &str) -> String {
    unescape(template).replace(".Label \"", "index .LabelsMap \"")
}

/// Renders a list. `format` is `--format`'s value, `columns` the default table's fields.
///
/// # Errors
/// A template that is none, or that fails.
pub(crate) fn render(kind: &Kind, columns: &[&str], rows: &[Row], format: &str) -> Outcome<String> {
    match format {
        "" | "table" => Ok(default_table(kind, columns, rows)),
        "json" => Ok(rows.iter().map(|row| html_safe(&json_row(kind, row)) + "\n").collect()),
        _ => match format.strip_prefix("table ") {
            Some(template) => template_table(kind, template, rows),
            None => {
                let format = Format::new(&prepared(format), Over::Row)?;
                let mut out = String::new();
                for row in rows {
                    out.push_str(&format.apply(&Value::Object(sorted(row.iter())))?);
                    out.push('\n');
                }
                Ok(out)
            }
        },
    }
}

/// Fields sorted by name, as a Go map is encoded.
fn sorted<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> Row {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn json_row(kind: &Kind, row: &Row) -> String {
    Value::Object(sorted(row.iter().filter(|(name, _)| !kind.hidden.contains(&name.as_str())))).to_string()
}

fn default_table(kind: &Kind, columns: &[&str], rows: &[Row]) -> String {
    let heading = |field: &&str| {
        kind.headings
            .iter()
            .find(|(name, _)| name == field)
            .map_or((*field).to_owned(), |(_, text)| (*text).to_owned())
    };
    let mut lines = vec![columns.iter().map(heading).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|field| text(row, field)).collect()));
    table::lay_out(&lines, 10)
}

fn template_table(kind: &Kind, template: &str, rows: &[Row]) -> Outcome<String> {
    let format = Format::new(&prepared(template), Over::Row)?;
    let headings: Row = kind.headings.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let mut lines = vec![format.apply(&Value::Object(headings))?];
    for row in rows {
        lines.push(format.apply(&Value::Object(row.clone()))?);
    }
    let cells: Vec<Vec<String>> =
        lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    Ok(table::lay_out(&cells, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_its_four_forms() {
        let kind = Kind { headings: &[("ID", "THING ID"), ("Name", "NAME")], hidden: &[] };
        let row: Row =
            [("Name".to_owned(), json!("<a>")), ("ID".to_owned(), json!("12"))].into_iter().collect();
        let show = |format: &str| render(&kind, &["ID", "Name"], std::slice::from_ref(&row), format).unwrap();
        assert_eq!(show(""), "THING ID   NAME\n12         <a>\n");
        assert_eq!(show("json"), "{\"ID\":\"12\",\"Name\":\"\\u003ca\\u003e\"}\n");
        assert_eq!(show("table {{.Name}}\\t{{.ID}}"), "NAME      THING ID\n<a>       12\n");
        assert_eq!(show("{{.ID}}-{{.Name}}"), "12-<a>\n");
    }
}
