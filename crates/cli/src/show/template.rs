//! `--format`: Go templates over JSON values, with the functions that Docker adds.
//!
//! A template's maps are sorted by key, but `{{json .}}` must keep the order in which the daemon
//! sent the fields. So the original of each converted map is remembered by its address.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::{MissingKey, TemplateError, Value as Go};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Fields that are null where Docker's own types have an empty list, which prints as `[]`.
const NIL_LISTS: [&str; 18] = [
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "Mounts",
    "OnBuild",
    "SecurityOpt",
];
/// The same for maps, which print as `map[]`.
const NIL_MAPS: [&str; 8] =
    ["ExposedPorts", "Labels", "Networks", "Options", "PortBindings", "Ports", "Volumes", "Sysctls"];

/// Fields whose name in Docker's own types, which templates go by, is not the one in JSON.
const GO_NAMES: [(&str, &str); 4] =
    [("Id", "ID"), ("ApiVersion", "APIVersion"), ("Ipam", "IPAM"), ("Os", "OS")];

type Originals = HashMap<usize, Value>;

/// Converts a JSON value, remembering its maps and lists.
fn convert(value: &Value, key: &str, originals: &mut Originals) -> Go {
    match value {
        Value::Null if NIL_LISTS.contains(&key) => Go::List(Arc::from(Vec::new())),
        Value::Null if NIL_MAPS.contains(&key) => Go::Map(Arc::new(BTreeMap::new())),
        Value::Null => Go::Nil,
        Value::Bool(flag) => Go::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Go::Int(int),
            (None, Some(int)) => Go::Uint(int),
            (None, None) => Go::Float(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => Go::String(Arc::from(text.as_str())),
        Value::Array(items) => {
            let list: Arc<[Go]> = items.iter().map(|item| convert(item, "", originals)).collect();
            originals.insert(Arc::as_ptr(&list).cast::<()>() as usize, value.clone());
            Go::List(list)
        }
        Value::Object(map) => {
            let mut fields: BTreeMap<Arc<str>, Go> = map
                .iter()
                .map(|(key, item)| (Arc::from(key.as_str()), convert(item, key, originals)))
                .collect();
            for (json, go) in GO_NAMES {
                if let Some(item) = fields.get(json).cloned() {
                    fields.entry(Arc::from(go)).or_insert(item);
                }
            }
            let map = Arc::new(fields);
            originals.insert(Arc::as_ptr(&map) as usize, value.clone());
            Go::Map(map)
        }
    }
}

/// The way back, for what a template made up or took apart.
fn restore(value: &Go, originals: &Originals) -> Value {
    match value {
        Go::Bool(flag) => Value::Bool(*flag),
        Go::Int(int) => (*int).into(),
        Go::Uint(int) => (*int).into(),
        Go::Float(float) => (*float).into(),
        Go::String(text) => Value::String(text.to_string()),
        Go::List(list) => originals
            .get(&(Arc::as_ptr(list).cast::<()>() as usize))
            .filter(|original| {
                original.as_array().is_some_and(|items| items.len() == list.len() && !items.is_empty())
            })
            .cloned()
            .unwrap_or_else(|| list.iter().map(|item| restore(item, originals)).collect()),
        Go::Map(map) => originals.get(&(Arc::as_ptr(map) as usize)).cloned().unwrap_or_else(|| {
            map.iter().map(|(key, item)| (key.to_string(), restore(item, originals))).collect()
        }),
        _ => Value::Null,
    }
}

/// What a template is applied to: lists print HTML-safe JSON and tolerate unknown fields'
/// absence differently from `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A row of a list: `{{json .}}` escapes `<`, `>` and `&`.
    Row,
    /// A whole document: a missing field is an error.
    Document,
}

/// A parsed `--format`.
pub(crate) struct Format {
    source: String,
    over: Over,
}

impl Format {
    /// Checks a template's syntax.
    ///
    /// # Errors
    /// Exit code 64 with Docker's text.
    pub(crate) fn new(source: &str, over: Over) -> Outcome<Self> {
        let format = Self { source: source.to_owned(), over };
        format.template(&Arc::default()).map_err(|error| Failure::new(64, parsing_error(&error)))?;
        Ok(format)
    }

    fn template(&self, originals: &Arc<Originals>) -> Result<gotmpl::Template, TemplateError> {
        let (originals, escape) = (Arc::clone(originals), self.over == Over::Row);
        let text = |args: &[Go], at: usize| args.get(at).map_or_else(String::new, |value| value.to_string());
        let number = |args: &[Go], at: usize| {
            args.get(at).and_then(Go::as_int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
        };
        let string = |text: String| Ok(Go::String(Arc::from(text)));
        gotmpl::Template::new("")
            .missing_key(MissingKey::Error)
            .func("json", move |args| {
                let value = args.first().map_or(Value::Null, |value| restore(value, &originals));
                string(if escape { html_safe(&value.to_string()) } else { value.to_string() })
            })
            .func("upper", move |args| string(text(args, 0).to_uppercase()))
            .func("lower", move |args| string(text(args, 0).to_lowercase()))
            .func("title", move |args| string(title(&text(args, 0))))
            .func("split", move |args| {
                let (whole, separator) = (text(args, 0), text(args, 1));
                let parts: Vec<String> = if separator.is_empty() {
                    whole.chars().map(String::from).collect()
                } else {
                    whole.split(&separator).map(str::to_owned).collect()
                };
                Ok(Go::List(parts.into_iter().map(|part| Go::String(Arc::from(part))).collect()))
            })
            .func("join", move |args| match args.first() {
                Some(Go::List(items)) => {
                    let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
                    string(parts.join(&text(args, 1)))
                }
                _ => string(String::new()),
            })
            .func("pad", move |args| {
                let (before, after) = (number(args, 1), number(args, 2));
                string(format!("{}{}{}", " ".repeat(before), text(args, 0), " ".repeat(after)))
            })
            .func("truncate", move |args| {
                let whole = text(args, 0);
                string(whole.chars().take(number(args, 1)).collect())
            })
            .parse(&self.source)
    }

    /// Applies the template; what it wrote before an error is lost, as in Docker.
    ///
    /// # Errors
    /// Exit code 1 with Docker's text.
    pub(crate) fn apply(&self, value: &Value) -> Outcome<String> {
        let mut originals = Originals::new();
        let go = convert(value, "", &mut originals);
        let template =
            self.template(&Arc::new(originals)).map_err(|error| Failure::new(64, parsing_error(&error)))?;
        template.execute_to_string(&go).map_err(|error| Failure::plain(self.execution_error(&error)))
    }

    /// Docker's text for a template that failed on a value.
    fn execution_error(&self, error: &TemplateError) -> String {
        let reason = match error {
            TemplateError::MissingKey { key } => {
                let column = self.source.find(&format!(".{key}")).unwrap_or(0);
                let why = match self.over {
                    Over::Document => format!("map has no entry for key {key:?}"),
                    Over::Row => format!("can't evaluate field {key}"),
                };
                format!("template: :1:{column}: executing \"\" at <.{key}>: {why}")
            }
            other => format!("template: :1: executing \"\": {other}"),
        };
        match self.over {
            Over::Document => format!("template parsing error: {reason}"),
            Over::Row => format!("failed to execute template: {reason}"),
        }
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|letter| {
            let shown = if start { letter.to_ascii_uppercase() } else { letter };
            start = letter == ' ';
            shown
        })
        .collect()
}

/// JSON with `<`, `>` and `&` written as Go's encoder writes them by default.
pub(crate) fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn parsing_error(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { message, line, .. } | TemplateError::Lex { message, line, .. } => {
            format!("template parsing error: template: :{line}: {message}")
        }
        TemplateError::UndefinedFunction(name) => {
            format!("template parsing error: template: :1: function {name:?} not defined")
        }
        other => format!("template parsing error: template: :1: {other}"),
    }
}

/// Docker lets a shell's `\t` and `\n` in a template stand for themselves.
pub(crate) fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(template: &str, over: Over, want: &str) {
        let value = json!({"Zed": 1, "Name": "/web", "Args": ["a", "b"], "Nil": null, "Env": null,
            "State": {"Running": true, "ExitCode": 0, "Pid": 7, "Id": "x"}, "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "1<2"}]}});
        let got = Format::new(template, over)
            .and_then(|format| format.apply(&value))
            .unwrap_or_else(|failure| failure.text);
        assert_eq!(got, want, "{template}");
    }

    #[test]
    fn dockers_functions() {
        use Over::{Document, Row};
        check("{{upper .Name}} {{lower \"A\"}} {{title \"ab c\"}}", Document, "/WEB a Ab C");
        check("{{join .Args \",\"}} {{index (split \"a:b\" \":\") 1}}", Document, "a,b b");
        check(
            "{{json .State}} {{json .Args}} {{json .Nil}}",
            Document,
            r#"{"Running":true,"ExitCode":0,"Pid":7,"Id":"x"} ["a","b"] null"#,
        );
        check("{{json .Ports}}", Document, r#"{"80/tcp":[{"HostIp":"","HostPort":"1<2"}]}"#);
        check("{{json .Ports}}", Row, r#"{"80/tcp":[{"HostIp":"","HostPort":"1\u003c2"}]}"#);
        check("{{.State.Running}} {{.Args}} {{.Env}} {{.Nil}}", Document, "true [a b] [] <no value>");
        check("{{range $p, $b := .Ports}}{{$p}}={{(index $b 0).HostPort}}{{end}}", Document, "80/tcp=1<2");
        check("{{pad \"x\" 1 2}}|{{truncate \"abcdef\" 3}}", Document, " x  |abc");
        check(
            "{{.State.ID}} {{json .State}}",
            Document,
            r#"x {"Running":true,"ExitCode":0,"Pid":7,"Id":"x"}"#,
        );
        check("{{println .Zed}}", Document, "1\n");
        check(
            "{{.Nope}}",
            Document,
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        );
        check(
            "{{.Nope}}",
            Row,
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope",
        );
    }
}
