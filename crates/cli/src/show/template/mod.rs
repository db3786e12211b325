//! `--format`: Go templates over JSON values, with the functions that Docker adds.
//!
//! [`Format`] is a template that was read; [`eval`] applies it, [`builtins`] are those that it may call, [`value`] is
//! what it looks at, and [`go_types`] what JSON does not say of that.

mod builtins;
mod eval;
mod go_types;
mod value;

use std::collections::BTreeMap;

use gotmpl::TemplateError;
use gotmpl::parse::{DefineNode, ListNode, Node, Parser};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use builtins::Call;
use eval::{Fault, Run};
use value::{Reading, Val};

/// What a template is applied to; decides the words of its errors, and how it prints JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A row of a list, with Docker's type of it: `{{json .}}` escapes `<`, `>` and `&`.
    Row(&'static str),
    /// An empty row, on which `ps` tries its template before it asks the daemon.
    Trial(&'static str),
    /// A whole document of `inspect`: as Docker's type, and where that fails, as the JSON that it is.
    Document,
    /// A document of `inspect` that is looked at as Docker's type alone, which this is.
    Typed(&'static str),
    /// The answer to `version` or `info`: the template's name, and the value's type.
    Answer(&'static str, &'static str),
    /// An event.
    Event,
}

impl Over {
    /// What Docker says before the reason, of a template that is none and of one that fails.
    fn prefixes(self) -> (&'static str, &'static str) {
        match self {
            Self::Row(_) | Self::Document | Self::Typed(_) => {
                ("template parsing error: ", "template parsing error: ")
            }
            Self::Trial(_) => ("failed to parse template: ", "failed to execute template: "),
            Self::Answer(..) => ("template parsing error: ", ""),
            Self::Event => ("Error parsing format: ", "Error parsing format: "),
        }
    }

    /// The exit codes of a template that is none and of one that fails.
    fn codes(self) -> (i32, i32) {
        match self {
            Self::Row(_) | Self::Trial(_) => (1, 1),
            Self::Document | Self::Typed(_) | Self::Answer(..) => (64, 1),
            Self::Event => (64, 64),
        }
    }

    fn name(self) -> &'static str {
        if let Self::Answer(name, _) = self { name } else { "" }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Row(name) | Self::Trial(name) | Self::Typed(name) | Self::Answer(_, name) => name,
            Self::Document => "",
            Self::Event => "*events.Message",
        }
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
#[derive(Debug)]
pub(crate) struct Format {
    source: String,
    tree: ListNode,
    defines: BTreeMap<String, ListNode>,
    over: Over,
}

impl Format {
    /// Parses a template.
    ///
    /// # Errors
    /// Exit code 64 (1 for a list's) with Docker's text.
    pub(crate) fn new(source: &str, over: Over) -> Outcome<Self> {
        let refuse = |line: usize, why: &str| {
            let text = format!("{}template: {}:{line}: {why}", over.prefixes().0, over.name());
            Failure::new(over.codes().0, text)
        };
        let parsed = whole(source).map_err(|error| match error {
            TemplateError::Parse { message, line, col, .. }
            | TemplateError::Lex { message, line, col, .. } => {
                refuse(line, &in_gos_words(&message, source, line, col))
            }
            other => refuse(1, &other.to_string()),
        })?;
        let Some((tree, defines)) = parsed else {
            let stray = source.match_indices("{{").find_map(|(at, _)| {
                let behind = source[at + 2..].trim_start_matches(['-', ' ']);
                let word = ["end", "else"].into_iter().find(|word| behind.starts_with(word))?;
                matches!(whole(&source[..at]), Ok(Some(_))).then_some((at, word))
            });
            let line = |at: usize| source[..at].matches('\n').count() + 1;
            return Err(match stray {
                Some((at, word)) => refuse(line(at), &format!("unexpected {{{{{word}}}}}")),
                None => refuse(line(source.len()), "unexpected EOF"),
            });
        };
        let defines: BTreeMap<_, _> =
            defines.into_iter().map(|define| (define.name.to_string(), define.body)).collect();
        for tree in std::iter::once(&tree).chain(defines.values()) {
            if let Some(name) = eval::undefined_function(tree) {
                return Err(refuse(1, &format!("function {name:?} not defined")));
            }
        }
        Ok(Self { source: source.to_owned(), tree, defines, over })
    }

    /// Applies the template; what it wrote before an error is lost, as in Docker.
    ///
    /// # Errors
    /// Exit code 1 (64 for an event's) with Docker's text.
    pub(crate) fn apply(&self, value: &Value) -> Outcome<String> {
        self.apply_to_row(value, &Labels::None)
    }

    /// Applies the template to a row that has labels.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub(crate) fn apply_to_row(&self, value: &Value, labels: &Labels) -> Outcome<String> {
        let run = |reading| {
            let call = Call {
                reading,
                html_safe: matches!(self.over, Over::Row(_) | Over::Trial(_)),
                headings: matches!(labels, Labels::Headings),
            };
            Run::new(&self.defines, call, labels).apply(&self.tree, Val::root(value))
        };
        let typed = run(Reading::Typed(self.over.type_name()));
        let applied = if self.over == Over::Document { typed.or_else(|_| run(Reading::Raw)) } else { typed };
        applied.map_err(|fault| self.failure(&fault))
    }

    /// Docker's text for a template that failed on a value.
    fn failure(&self, fault: &Fault) -> Failure {
        let before = &self.source[..fault.offset.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let (name, Fault { part, why, .. }) = (self.over.name(), fault);
        let text = format!(
            "{}template: {name}:{line}:{column}: executing {name:?} at <{part}>: {why}",
            self.over.prefixes().1
        );
        Failure::new(self.over.codes().1, text)
    }
}

/// Parses a template; nothing of one that has an `{{end}}` too many or lacks one. There the library's parser stops, or
/// goes on to the end, and does not say so: then what is put behind the template is not the last thing in the tree.
fn whole(source: &str) -> Result<Option<(ListNode, Vec<DefineNode>)>, TemplateError> {
    const BEHIND: &str = "\u{1}";
    let (tree, defines) = Parser::new(source, "{{", "}}")?.parse()?;
    let longer = format!("{source}{BEHIND}");
    let (marked, _) = Parser::new(&longer, "{{", "}}")?.parse()?;
    let is_whole = matches!(marked.nodes.last(), Some(Node::Text(text)) if text.text.ends_with(BEHIND));
    Ok(is_whole.then_some((tree, defines)))
}

/// The parser's reason as Go's parser has it.
fn in_gos_words(message: &str, source: &str, line: usize, column: usize) -> String {
    match message {
        "empty command" => {
            let text = source.split('\n').nth(line - 1).unwrap_or("");
            let before: String = text.chars().take(column).collect();
            let action = before.rsplit("{{").next().unwrap_or("");
            let keyword = action.split(|letter: char| !letter.is_alphabetic()).find(|word| !word.is_empty());
            let word = keyword.filter(|word| ["if", "range", "with"].contains(word)).unwrap_or("command");
            format!("missing value for {word}")
        }
        "unterminated string" => "unterminated quoted string".into(),
        "unterminated raw string" => "unterminated raw quoted string".into(),
        other => other.to_owned(),
    }
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
            "template parsing error: template: :1:8: executing \"\" at <.State.Nope>: can't evaluate field Nope in type *row",
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
    fn what_is_no_template_is_refused_in_gos_words() {
        for (template, why) in [
            ("{{nope .Name}}", "1: function \"nope\" not defined"),
            ("{{.Name | nope}}", "1: function \"nope\" not defined"),
            ("{{if (nope .Name)}}{{end}}", "1: function \"nope\" not defined"),
            ("{{end}}", "1: unexpected {{end}}"),
            ("{{.Name}}\n{{end}}x", "2: unexpected {{end}}"),
            ("{{if .Name}}a{{end}}{{else}}", "1: unexpected {{else}}"),
            ("{{if .Name}}a", "1: unexpected EOF"),
            ("{{if}}", "1: missing value for if"),
            ("{{range }}{{end}}", "1: missing value for range"),
            ("{{}}", "1: missing value for command"),
            ("{{\"x}}", "1: unterminated quoted string"),
            ("{{.Name", "1: unclosed action"),
        ] {
            let failure = Format::new(template, Over::Document).expect_err(template);
            assert_eq!(failure.text, format!("template parsing error: template: :{why}"), "{template}");
        }
        let good = "nope {{.nope}} {{$nope := 1}}{{$nope}} {{\"nope \\\" nope\"}} {{`nope`}} {{/* nope */}}";
        assert!(Format::new(good, Over::Document).is_ok());
    }

    #[test]
    fn failures_say_where() {
        let row = Over::Row("*row");
        for (template, over, why) in [
            ("a {{.Name.X}}", row, "1:9: executing \"\" at <.Name.X>: can't evaluate field X in type string"),
            (
                "{{index .Args 99}}",
                row,
                "1:2: executing \"\" at <index .Args 99>: error calling index: index out of range: 99",
            ),
            (
                "{{join .Args}}",
                row,
                "1:2: executing \"\" at <join>: wrong number of args for join: want 2 got 1",
            ),
            (
                "{{lower .Zed}}",
                row,
                "1:8: executing \"\" at <.Zed>: wrong type for value; expected string; got int",
            ),
            (
                "{{truncate .Name \"x\"}}",
                row,
                "1:17: executing \"\" at <\"x\">: expected integer; found \"x\"",
            ),
            ("x\n {{.Nope}}", row, "2:3: executing \"\" at <.Nope>: can't evaluate field Nope in type *row"),
            (
                "{{.State.Health.Status}}",
                Over::Document,
                "1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
            ),
            (
                "{{lower .State}}",
                Over::Document,
                "1:8: executing \"\" at <.State>: wrong type for value; expected string; got map[string]interface {}",
            ),
        ] {
            check(template, over, &format!("template parsing error: template: :{why}"));
        }
    }

    #[test]
    fn control_and_variables() {
        check(
            "{{with .State}}{{.Pid}}{{end}}{{range $i, $a := .Args}}{{$i}}{{$a}};{{end}}",
            Over::Document,
            "70a;1b;",
        );
        check("{{$x := 1}}{{if .Zed}}{{$x = 2}}{{end}}{{$x}}", Over::Document, "2");
        check(
            "{{range .Args}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{else}}none{{end}}",
            Over::Document,
            "a",
        );
        check("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}", Over::Document, "</web>");
        check("{{and .Zed .Name}} {{or .Nil \"x\"}} {{not .Zed}}", Over::Document, "/web x false");
        check("{{.Zed | printf \"%d-%s\" 7 | len}}", Over::Document, "12");
    }
}
