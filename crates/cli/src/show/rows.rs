//! Lists: one set of named fields per thing, shown as Docker's default table, as a table of a
//! template's columns, as JSON lines, or through a template.

use serde_json::{Map, Value, json};

use super::table;
use super::template::{Format, Labels, Over, html_safe, unescape};
use crate::failure::Outcome;

/// A kind of list: its fields with their headings, in Docker's names.
pub(crate) struct Kind {
    /// Every field that a template may name, with its heading.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// Docker's type of a row, which its errors name.
    pub(crate) go_type: &'static str,
}

/// How one list is to be shown.
pub(crate) struct Shape<'a> {
    /// `--format`'s value.
    pub(crate) format: &'a str,
    /// `--quiet`: the identifying field alone.
    pub(crate) quiet: bool,
    /// The default table's fields.
    pub(crate) columns: &'a [&'a str],
    /// The identifying field, and its name in the raw form.
    pub(crate) id: (&'a str, &'a str),
    /// The template of `--format raw`.
    pub(crate) raw: &'a str,
}

/// A field that holds a row's labels for `.Label`; no form shows it.
pub(crate) const LABELS: &str = "\0labels";

/// A thing's labels as `key=value,…`.
pub(crate) fn joined_labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    pairs.join(",")
}

/// A row of fields.
pub(crate) fn row(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Row {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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

/// A template as Docker takes it from a format: spaces around it do not count.
fn prepared(template: &str) -> String {
    unescape(template.trim_matches(' '))
}

/// Renders a list.
///
/// # Errors
/// A template that is none, or that fails.
pub(crate) fn render(kind: &Kind, shape: &Shape<'_>, rows: &[Row]) -> Outcome<String> {
    match shape.format {
        "" | "table" if shape.quiet => Ok(rows.iter().map(|row| text(row, shape.id.0) + "\n").collect()),
        "" | "table" => Ok(default_table(kind, shape.columns, rows)),
        "json" => Ok(rows.iter().map(|row| html_safe(&json_row(row)) + "\n").collect()),
        "raw" if shape.quiet => {
            let (field, name) = shape.id;
            Ok(rows.iter().map(|row| format!("{name}: {}\n", text(row, field))).collect())
        }
        "raw" => each(kind, shape.raw, rows),
        format => match format.strip_prefix("table") {
            Some(template) => template_table(kind, template, rows),
            None => each(kind, format, rows),
        },
    }
}

/// Applies a template to each row; each ends its line.
fn each(kind: &Kind, template: &str, rows: &[Row]) -> Outcome<String> {
    let format = Format::new(&prepared(template), Over::Row(kind.go_type))?;
    let mut out = String::new();
    for row in rows {
        out.push_str(&apply(&format, row)?);
        out.push('\n');
    }
    Ok(out)
}

fn apply(format: &Format, row: &Row) -> Outcome<String> {
    let labels = Labels::Of(row.get(LABELS).cloned().unwrap_or(Value::Null));
    format.apply_to_row(&Value::Object(shown(row)), &labels)
}

/// What a row shows, sorted by name, as a Go map is encoded.
fn shown(row: &Row) -> Row {
    let mut fields: Vec<_> = row.iter().filter(|(name, _)| *name != LABELS).collect();
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn json_row(row: &Row) -> String {
    Value::Object(shown(row)).to_string()
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
    let format = Format::new(&prepared(template), Over::Row(kind.go_type))?;
    let headings: Row = kind.headings.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let mut lines = vec![format.apply_to_row(&Value::Object(headings), &Labels::Headings)?];
    for row in rows {
        lines.push(apply(&format, row)?);
    }
    let lines = lines.join("\n");
    let cells: Vec<Vec<String>> =
        lines.split('\n').map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    Ok(table::lay_out(&cells, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_its_forms() {
        let kind = Kind { headings: &[("ID", "THING ID"), ("Name", "NAME")], go_type: "*thing" };
        let things = [row([("Name", json!("<a>")), ("ID", json!("12")), (LABELS, json!({"k": "v"}))])];
        let raw = "id: {{.ID}}\nname:{{- pad .Name 1 0}}\n";
        let form = |format: &str, quiet| {
            let shape = Shape { format, quiet, columns: &["ID", "Name"], id: ("ID", "thing_id"), raw };
            render(&kind, &shape, &things)
        };
        for (format, quiet, want) in [
            ("", false, "THING ID   NAME\n12         <a>\n"),
            ("table", true, "12\n"),
            ("json", false, "{\"ID\":\"12\",\"Name\":\"\\u003ca\\u003e\"}\n"),
            ("{{json .}}", false, "{\"ID\":\"12\",\"Name\":\"\\u003ca\\u003e\"}\n"),
            ("table {{.Name}}\\t{{.ID}}", false, "NAME      THING ID\n<a>       12\n"),
            ("table {{.ID}}\\t{{.Label \"k\"}}", false, "THING ID   k\n12         v\n"),
            ("{{.ID}}-{{.Name}}-{{.Label \"k\"}}-{{.Label \"none\"}}", false, "12-<a>-v-\n"),
            ("{{.ID}}", true, "12\n"),
            (" {{.ID}} ", false, "12\n"),
            (
                "table{{upper .ID}}\\t{{.Name}}\\n{{.Name}}",
                false,
                "THING ID   NAME\nNAME\n12        <a>\n<a>\n",
            ),
            ("raw", true, "thing_id: 12\n"),
            ("raw", false, "id: 12\nname: <a>\n\n"),
        ] {
            assert_eq!(form(format, quiet).unwrap(), want, "{format}");
        }
        for (format, why) in [
            (
                "{{.Nope}}",
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *thing",
            ),
            ("{{.Name", "template parsing error: template: :1: unclosed action"),
            ("{{nope .Name}}", "template parsing error: template: :1: function \"nope\" not defined"),
        ] {
            let failure = form(format, false).unwrap_err();
            assert_eq!((failure.code, failure.text.as_str()), (1, why));
        }
    }
}
