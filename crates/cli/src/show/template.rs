//! `--format`: Go templates over JSON values, with the functions that Docker adds.
//!
//! A template's maps are sorted by key, but `{{json .}}` must keep the order in which the daemon
//! sent the fields. So the original of each converted map is remembered by its address.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::{MissingKey, TemplateError, Value as Go};
use serde_json::Value;

use super::go_types::{self, EVENT_NAMES, GO_NAMES, NIL_LISTS, NIL_MAPS};
use crate::failure::{Failure, Outcome};

type Originals = HashMap<usize, Value>;

/// Converts a JSON value, remembering its maps and lists.
fn convert(value: &Value, key: &str, originals: &mut Originals) -> Go {
    match value {
        Value::Null if NIL_LISTS.contains(&key) => {
            let list: Arc<[Go]> = Arc::from(Vec::new());
            originals.insert(Arc::as_ptr(&list).cast::<()>() as usize, Value::Null);
            Go::List(list)
        }
        Value::Null if NIL_MAPS.contains(&key) => {
            let map = Arc::new(BTreeMap::new());
            originals.insert(Arc::as_ptr(&map) as usize, Value::Null);
            Go::Map(map)
        }
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
            for (absent, zero) in go_types::absent(key, map) {
                if !fields.contains_key(absent) {
                    fields.insert(Arc::from(absent), convert(&zero, absent, originals));
                }
            }
            let event: &[(&str, &str)] = if map.contains_key("timeNano") { &EVENT_NAMES } else { &[] };
            for &(json, go) in GO_NAMES.iter().chain(event) {
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
            .filter(|original| original.as_array().map_or(0, Vec::len) == list.len())
            .cloned()
            .unwrap_or_else(|| list.iter().map(|item| restore(item, originals)).collect()),
        Go::Map(map) => originals.get(&(Arc::as_ptr(map) as usize)).cloned().unwrap_or_else(|| {
            map.iter().map(|(key, item)| (key.to_string(), restore(item, originals))).collect()
        }),
        _ => Value::Null,
    }
}

/// What a template is applied to; decides the words of its errors, and how it prints JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A row of a list, with Docker's type of it: `{{json .}}` escapes `<`, `>` and `&`.
    Row(&'static str),
    /// A whole document of `inspect`: a missing field is an error, of a map of texts it is nothing.
    Document,
    /// The answer to `version` or `info`: the template's name, and the value's type.
    Answer(&'static str, &'static str),
    /// An event.
    Event,
}

impl Over {
    /// What Docker says before the reason, of a template that is none and of one that fails.
    fn prefixes(self) -> (&'static str, &'static str) {
        match self {
            Self::Row(_) => ("failed to parse template: ", "failed to execute template: "),
            Self::Document => ("template parsing error: ", "template parsing error: "),
            Self::Answer(..) => ("template parsing error: ", ""),
            Self::Event => ("Error parsing format: ", "Error parsing format: "),
        }
    }

    fn name(self) -> &'static str {
        if let Self::Answer(name, _) = self { name } else { "" }
    }
}

/// What `.Label "x"` of a row gives.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    /// There is no such method.
    None,
    /// The row is the headings: the label's name.
    Headings,
    /// The labels of a thing.
    Of(Value),
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
    /// Exit code 64 (1 for a list's) with Docker's text.
    pub(crate) fn new(source: &str, over: Over) -> Outcome<Self> {
        let format = Self { source: source.to_owned(), over };
        format.template(&Arc::default(), &Labels::None).map_err(|error| format.parsing_error(&error))?;
        if let Some(name) = undefined_function(source) {
            return Err(format.parsing_error(&TemplateError::UndefinedFunction(name.into())));
        }
        Ok(format)
    }

    fn template(
        &self,
        originals: &Arc<Originals>,
        labels: &Labels,
    ) -> Result<gotmpl::Template, TemplateError> {
        let (originals, labels) = (Arc::clone(originals), labels.clone());
        let escape = matches!(self.over, Over::Row(_));
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
            .func("rowLabel", move |args| {
                let name = text(args, 0);
                string(match &labels {
                    Labels::Headings => name,
                    Labels::Of(labels) => labels[&name].as_str().unwrap_or("").to_owned(),
                    Labels::None => String::new(),
                })
            })
            .func("index", |args| {
                let (first, keys) =
                    args.split_first().map_or((&Go::Nil, args), |(first, keys)| (first, keys));
                keys.iter().try_fold(first.clone(), |value, key| element(&value, key))
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
                if text(args, 0).is_empty() {
                    return string(String::new());
                }
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
        self.apply_to_row(value, &Labels::None)
    }

    /// Applies the template to a row that has labels.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub(crate) fn apply_to_row(&self, value: &Value, labels: &Labels) -> Outcome<String> {
        let mut originals = Originals::new();
        let go = convert(value, "", &mut originals);
        let template =
            self.template(&Arc::new(originals), labels).map_err(|error| self.parsing_error(&error))?;
        if self.over == Over::Document
            && let Some(key) = go_types::behind_nothing(&self.source, value)
        {
            return Err(self.execution_error(&TemplateError::MissingKey { key: key.into() }));
        }
        // What is nothing in these values is a pointer to nothing in Docker's.
        match template.execute_to_string(&go) {
            Ok(text) => Ok(text.replace("<no value>", "<nil>")),
            Err(TemplateError::MissingKey { key }) if self.is_in_map_of_texts(&key) => template
                .missing_key(MissingKey::Invalid)
                .execute_to_string(&go)
                .map_err(|error| self.execution_error(&error)),
            Err(error) => Err(self.execution_error(&error)),
        }
    }

    fn is_in_map_of_texts(&self, key: &str) -> bool {
        matches!(self.over, Over::Document | Over::Event)
            && ["Labels", "Options", "Annotations", "Sysctls", "Attributes"]
                .iter()
                .any(|map| self.source.contains(&format!(".{map}.{key}")))
    }

    /// Docker's text for a template that failed on a value.
    fn execution_error(&self, error: &TemplateError) -> Failure {
        let name = self.over.name();
        let reason = match error {
            TemplateError::MissingKey { key } => {
                let column = self.source.find(&format!(".{key}")).unwrap_or(0);
                let start = self.source[..column].rfind([' ', '{', '(', '|']).map_or(0, |at| at + 1);
                // The whole chain of fields that it stands in.
                let behind = &self.source[column..];
                let chain = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.';
                let end = column + behind.find(|letter| !chain(letter)).unwrap_or(behind.len());
                let path = &self.source[start..end];
                let why = match self.over {
                    Over::Document => format!("map has no entry for key {key:?}"),
                    Over::Row(kind) | Over::Answer(_, kind) => {
                        format!("can't evaluate field {key} in type {kind}")
                    }
                    Over::Event => format!("can't evaluate field {key} in type *events.Message"),
                };
                format!("template: {name}:1:{column}: executing {name:?} at <{path}>: {why}")
            }
            other => format!("template: {name}:1: executing {name:?}: {other}"),
        };
        Failure::plain(format!("{}{reason}", self.over.prefixes().1))
    }

    fn parsing_error(&self, error: &TemplateError) -> Failure {
        let name = self.over.name();
        let (line, reason) = match error {
            TemplateError::Parse { message, line, .. } | TemplateError::Lex { message, line, .. } => {
                (*line, message.to_string())
            }
            TemplateError::UndefinedFunction(function) => (1, format!("function {function:?} not defined")),
            other => (1, other.to_string()),
        };
        let code = if matches!(self.over, Over::Row(_)) { 1 } else { 64 };
        Failure::new(code, format!("{}template: {name}:{line}: {reason}", self.over.prefixes().0))
    }
}

/// An element of a list or a map; of a map of texts, one that is not there is empty.
fn element(value: &Go, key: &Go) -> Result<Go, TemplateError> {
    if let (Go::Map(map), Go::String(name)) = (value, key)
        && !map.contains_key(name)
        && map.values().all(|item| matches!(item, Go::String(_)))
    {
        return Ok(Go::String(Arc::from("")));
    }
    value.index(key)
}

/// The first name in a template's actions that is no function, which Go refuses before it runs any.
fn undefined_function(source: &str) -> Option<&str> {
    const KNOWN: [&str; 41] = [
        "and", "block", "break", "call", "continue", "define", "else", "end", "eq", "false", "ge", "gt",
        "html", "if", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "nil", "not", "or",
        "pad", "print", "printf", "println", "range", "rowLabel", "slice", "split", "template", "title",
        "true", "truncate", "upper", "urlquery", "with",
    ];
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start + 2..];
        let end = action.find("}}").unwrap_or(action.len());
        let (action, after) = (&action[..end], &action[end..]);
        if let Some(name) = names(action).into_iter().find(|name| !KNOWN.contains(name)) {
            return Some(name);
        }
        rest = after;
    }
    None
}

/// The bare names in an action: no fields, variables, texts, numbers or comments.
fn names(action: &str) -> Vec<&str> {
    let mut found = Vec::new();
    if action.trim_start_matches('-').trim_start().starts_with("/*") {
        return found;
    }
    let (mut quote, mut start, mut before) = (None, None, ' ');
    for (at, letter) in action.char_indices().chain([(action.len(), ' ')]) {
        if let Some(open) = quote {
            if letter == open && (before != '\\' || open == '`') {
                quote = None;
            }
            // A backslash that is escaped itself escapes nothing.
            before = if before == '\\' && letter == '\\' { ' ' } else { letter };
            continue;
        }
        let is_word = letter.is_alphanumeric() || letter == '_';
        match start {
            None if matches!(letter, '"' | '`' | '\'') => quote = Some(letter),
            None if is_word && !letter.is_numeric() => {
                let continues = matches!(before, '.' | '$' | '_') || before.is_alphanumeric();
                start = (!continues).then_some(at);
            }
            Some(from) if !is_word => {
                found.push(&action[from..at]);
                start = None;
            }
            _ => {}
        }
        before = letter;
    }
    found
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
            "Labels": {"a": "b"}, "State": {"OOMKilled": false, "Running": true, "ExitCode": 0, "Pid": 7, "Id": "x"}, "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "1<2"}]}});
        let got = Format::new(template, over)
            .and_then(|format| format.apply(&value))
            .unwrap_or_else(|failure| failure.text);
        assert_eq!(got, want, "{template}");
    }

    #[test]
    fn dockers_functions() {
        use Over::Document;
        const ROW: Over = Over::Row("*row");
        check("{{upper .Name}} {{lower \"A\"}} {{title \"ab c\"}}", Document, "/WEB a Ab C");
        check("{{join .Args \",\"}} {{index (split \"a:b\" \":\") 1}}", Document, "a,b b");
        check(
            "{{json .State}} {{json .Args}} {{json .Nil}}",
            Document,
            r#"{"OOMKilled":false,"Running":true,"ExitCode":0,"Pid":7,"Id":"x"} ["a","b"] null"#,
        );
        check("{{json .Ports}}", Document, r#"{"80/tcp":[{"HostIp":"","HostPort":"1<2"}]}"#);
        check("{{json .Ports}}", ROW, r#"{"80/tcp":[{"HostIp":"","HostPort":"1\u003c2"}]}"#);
        check("{{.State.Running}} {{.Args}} {{.Env}} {{.Nil}}", Document, "true [a b] [] <nil>");
        check("{{range $p, $b := .Ports}}{{$p}}={{(index $b 0).HostPort}}{{end}}", Document, "80/tcp=1<2");
        check("[{{pad \"\" 1 2}}]", Document, "[]");
        check("{{pad \"x\" 1 2}}|{{truncate \"abcdef\" 3}}", Document, " x  |abc");
        check(
            "{{.State.ID}} {{json .State}}",
            Document,
            r#"x {"OOMKilled":false,"Running":true,"ExitCode":0,"Pid":7,"Id":"x"}"#,
        );
        check("{{println .Zed}}", Document, "1\n");
        check(
            "{{.Nope}}",
            Document,
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        );
        check(
            "{{.State.Nope}}",
            ROW,
            "failed to execute template: template: :1:8: executing \"\" at <.State.Nope>: can't evaluate field Nope in type *row",
        );
        check("{{if .State.Health}}yes{{else}}no{{end}} {{.State.Health}}", Document, "no <nil>");
    }
    #[test]
    fn labels_that_are_not_there_are_nothing() {
        let templates = "[{{index .Labels \"zz\"}}] [{{.Labels.zz}}] {{index .Labels \"a\"}}";
        check(templates, Over::Document, "[] [<no value>] b");
        // Nor do most events have an exit code.
        let event = json!({"Type": "container", "Actor": {"Attributes": {"name": "web"}}, "timeNano": 1});
        let format =
            Format::new("{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}", Over::Event).unwrap();
        assert_eq!(format.apply(&event).unwrap(), "web <no value>");
        check("{{index .Args 1}} {{(index (index .Ports \"80/tcp\") 0).HostPort}}", Over::Document, "b 1<2");
    }

    #[test]
    fn functions_that_are_none_are_found_before_anything_runs() {
        for (template, name) in [
            ("{{nope .Name}}", Some("nope")),
            ("{{.Name | nope}}", Some("nope")),
            ("{{if (nope .Name)}}{{end}}", Some("nope")),
            ("nope {{.nope}} {{$nope := 1}}{{$nope}} {{\"nope \\\" nope\"}} {{`nope`}} {{/* nope */}}", None),
            ("{{range $k, $v := .Ports}}{{$k}}{{end}}{{- printf \"%q\" .Name -}}", None),
        ] {
            assert_eq!(undefined_function(template), name, "{template}");
        }
    }
}
