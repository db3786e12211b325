//! The functions of templates: Go's own, and those that Docker adds.
//!
//! What only formats (`printf` and its like) is left to the template library; what looks at values, and may fail, is
//! here, so that it fails in Go's words.

use std::cmp::Ordering;

use gotmpl::Template;
use gotmpl::Value as Go;
use serde_json::Value;

use super::value::{Reading, Val};

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Anything.
    Any,
    /// A text.
    Text,
    /// A whole number.
    Int,
}

/// A function: its name, its parameters, and whether more of the last may follow.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) takes: &'static [Takes],
    pub(super) more: bool,
}

const fn exactly(name: &'static str, takes: &'static [Takes]) -> Function {
    Function { name, takes, more: false }
}

const fn at_least(name: &'static str, takes: &'static [Takes]) -> Function {
    Function { name, takes, more: true }
}

use Takes::{Any, Int, Text};

/// All functions. `and` and `or` do not look at more arguments than they need.
pub(super) static FUNCTIONS: [Function; 27] = [
    at_least("and", &[Any]),
    at_least("call", &[Any]),
    at_least("eq", &[Any]),
    exactly("ge", &[Any, Any]),
    exactly("gt", &[Any, Any]),
    at_least("html", &[]),
    at_least("index", &[Any]),
    exactly("join", &[Any, Text]),
    at_least("js", &[]),
    exactly("json", &[Any]),
    exactly("le", &[Any, Any]),
    exactly("len", &[Any]),
    exactly("lower", &[Text]),
    exactly("lt", &[Any, Any]),
    exactly("ne", &[Any, Any]),
    exactly("not", &[Any]),
    at_least("or", &[Any]),
    exactly("pad", &[Text, Int, Int]),
    at_least("print", &[]),
    at_least("printf", &[Text]),
    at_least("println", &[]),
    at_least("slice", &[Any]),
    exactly("split", &[Text, Text]),
    exactly("title", &[Text]),
    exactly("truncate", &[Text, Int]),
    exactly("upper", &[Text]),
    at_least("urlquery", &[]),
];

/// Those that a table's headings stay as they are in spite of.
const NOT_OF_HEADINGS: [&str; 7] = ["json", "split", "join", "title", "lower", "upper", "truncate"];

/// How a function is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// As what the document is read.
    pub(super) reading: Reading,
    /// Whether `json` writes `<`, `>` and `&` as Go's encoder does by default.
    pub(super) html_safe: bool,
    /// Whether the document is a table's headings.
    pub(super) headings: bool,
}

impl Call {
    /// Calls a function with arguments whose number and kinds were checked.
    ///
    /// # Errors
    /// Go's reason, to be put behind `error calling …: `.
    pub(super) fn of<'a>(self, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
        let text = |at: usize| args.get(at).and_then(|arg| arg.json().as_str()).unwrap_or("");
        let int = |at: usize| {
            let number = args.get(at).and_then(|arg| arg.json().as_u64()).unwrap_or(0);
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        if self.headings && NOT_OF_HEADINGS.contains(&name) {
            return Ok(args[0].clone());
        }
        Ok(match name {
            "call" => return Err("non-function".into()),
            "eq" => {
                if args.len() < 2 {
                    return Err("missing argument for comparison".into());
                }
                let equal = |other| self.equal(&args[0], other);
                let mut found = false;
                for other in &args[1..] {
                    found = found || equal(other)?;
                }
                Val::made(found)
            }
            "ne" => Val::made(!self.equal(&args[0], &args[1])?),
            "lt" => Val::made(self.order(args)?.is_lt()),
            "le" => Val::made(self.order(args)?.is_le()),
            "gt" => Val::made(self.order(args)?.is_gt()),
            "ge" => Val::made(self.order(args)?.is_ge()),
            "index" => {
                args[1..].iter().try_fold(args[0].clone(), |value, key| value.index(key, self.reading))?
            }
            "join" => Val::made(match args[0].json() {
                Value::Null => String::new(),
                Value::Array(items) => {
                    let parts: Vec<String> =
                        items.iter().map(|item| Val::made(item.clone()).text(self.reading)).collect();
                    parts.join(text(1))
                }
                _ => return Err(format!("expected slice, got {}", args[0].type_name(self.reading))),
            }),
            "json" => {
                let json = args[0].encoded(self.reading);
                Val::made(if self.html_safe { super::html_safe(&json) } else { json })
            }
            "len" => match args[0].len(self.reading) {
                Some(length) => Val::made(length),
                None if args[0].is_nothing() => return Err("len of nil pointer".into()),
                None => return Err(format!("len of type {}", args[0].type_name(self.reading))),
            },
            "lower" => Val::made(text(0).to_lowercase()),
            "upper" => Val::made(text(0).to_uppercase()),
            "title" => Val::made(title(text(0))),
            "not" => Val::made(!args[0].is_true()),
            "pad" if text(0).is_empty() => Val::made(""),
            "pad" => Val::made(format!("{}{}{}", " ".repeat(int(1)), text(0), " ".repeat(int(2)))),
            "split" if text(1).is_empty() => {
                Val::made(text(0).chars().map(|letter| Value::from(letter.to_string())).collect::<Vec<_>>())
            }
            "split" => Val::made(text(0).split(text(1)).map(Value::from).collect::<Vec<_>>()),
            "truncate" => Val::made(text(0).chars().take(int(1)).collect::<String>()),
            "slice" => self.slice(args)?,
            formats => Val::made(formatted(formats, args)?),
        })
    }

    fn equal(self, one: &Val<'_>, other: &Val<'_>) -> Result<bool, String> {
        match (one.json(), other.json()) {
            (Value::Null, other) => Ok(other.is_null()),
            (_, Value::Null) => Ok(false),
            (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => Err(
                format!("non-comparable type {}: {}", one.text(self.reading), one.type_name(self.reading)),
            ),
            (one, other) if std::mem::discriminant(one) == std::mem::discriminant(other) => Ok(one == other),
            _ => Err("incompatible types for comparison".into()),
        }
    }

    fn order(self, args: &[Val<'_>]) -> Result<Ordering, String> {
        match (args[0].json(), args[1].json()) {
            (Value::Number(one), Value::Number(other)) => {
                let number = |number: &serde_json::Number| number.as_f64().unwrap_or(0.0);
                let exact = one.as_i64().zip(other.as_i64()).map(|(one, other)| one.cmp(&other));
                Ok(exact.unwrap_or_else(|| number(one).total_cmp(&number(other))))
            }
            (Value::String(one), Value::String(other)) => Ok(one.cmp(other)),
            (Value::Null, Value::Null) => Err("invalid type for comparison".into()),
            _ => Err("incompatible types for comparison".into()),
        }
    }

    fn slice<'a>(self, args: &[Val<'a>]) -> Result<Val<'a>, String> {
        let Some(length) = args[0].len(self.reading).filter(|_| !args[0].json().is_object()) else {
            return Err(match args[0].is_nothing() {
                true => "slice of untyped nil".into(),
                false => format!("can't slice item of type {}", args[0].type_name(self.reading)),
            });
        };
        if args.len() > 3 {
            return Err(format!("too many slice indexes: {}", args.len() - 1));
        }
        let mut ends = [0, length];
        for (end, arg) in ends.iter_mut().zip(&args[1..]) {
            let Some(at) = arg.json().as_i64() else {
                return Err(format!("cannot index slice/array with type {}", arg.type_name(self.reading)));
            };
            *end = match usize::try_from(at) {
                Ok(at) if at <= length => at,
                _ => return Err(format!("index out of range: {at}")),
            };
        }
        let [from, to] = ends;
        if from > to {
            return Err(format!("invalid slice index: {from} > {to}"));
        }
        Ok(match args[0].json() {
            Value::Array(items) => Val::made(items[from..to].to_vec()),
            Value::String(text) => {
                Val::made(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
            }
            _ => Val::made(Vec::<Value>::new()),
        })
    }
}

/// A formatting function of the template library, called from a template of its own.
fn formatted(name: &str, args: &[Val<'_>]) -> Result<String, String> {
    let indexed: String = (0..args.len()).map(|at| format!(" (index . {at})")).collect();
    let template = Template::new("").parse(&format!("{{{{{name}{indexed}}}}}"));
    let mut args: Vec<Go> = args.iter().map(Val::go).collect();
    if let (true, [Go::String(format), rest @ ..]) = (name == "printf", args.as_mut_slice()) {
        let told = with_types_told(format, rest);
        args[0] = Go::String(told.into());
    }
    let args = Go::List(args.into());
    template.and_then(|template| template.execute_to_string(&args)).map_err(|error| error.to_string())
}

/// A format in which each `%T` is a `%s`, and what it shows the name of its type, which the library does not know.
fn with_types_told(format: &str, args: &mut [Go]) -> String {
    let mut told = String::with_capacity(format.len());
    let (mut is_verb, mut next) = (false, 0);
    for letter in format.chars() {
        let mut shown = letter;
        match letter {
            '%' => is_verb = !is_verb,
            '*' if is_verb => next += 1,
            letter if is_verb && letter.is_alphabetic() => {
                if let ('T', Some(arg)) = (letter, args.get_mut(next)) {
                    *arg = Go::String(arg.type_name().into());
                    shown = 's';
                }
                (is_verb, next) = (false, next + 1);
            }
            _ => {}
        }
        told.push(shown);
    }
    told
}

/// Go's `strings.Title`: the first letter of each word is an upper-case one.
fn title(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .map(|letter| {
            let inside =
                before.is_alphanumeric() || before == '_' || (!before.is_ascii() && !before.is_whitespace());
            before = letter;
            if inside { letter } else { letter.to_uppercase().next().unwrap_or(letter) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn functions_give_what_gos_give() {
        let call = Call { reading: Reading::Raw, html_safe: false, headings: false };
        let run = |name: &str, args: &[Value]| {
            let args: Vec<Val<'_>> = args.iter().map(Val::root).collect();
            call.of(name, &args).map_or_else(|why| format!("!{why}"), |value| value.json().to_string())
        };
        for (name, args, want) in [
            ("eq", vec![json!("a"), json!("b"), json!("a")], "true"),
            ("eq", vec![json!(1), json!("a")], "!incompatible types for comparison"),
            ("lt", vec![json!(1), json!(2)], "true"),
            ("index", vec![json!([1, 2]), json!(1)], "2"),
            ("index", vec![json!([1, 2]), json!(9)], "!index out of range: 9"),
            ("index", vec![json!([1]), json!("x")], "!cannot index slice/array with type string"),
            ("index", vec![json!({"a": "b"}), json!("c")], "null"),
            ("slice", vec![json!("abc"), json!(1)], "\"bc\""),
            ("slice", vec![json!("abc"), json!(0), json!(4)], "!index out of range: 4"),
            ("len", vec![json!([1, 2])], "2"),
            ("len", vec![json!(3)], "!len of type int"),
            ("join", vec![json!(["a", 1]), json!("-")], "\"a-1\""),
            ("title", vec![json!("/a-b c_d")], "\"/A-B C_d\""),
            ("split", vec![json!("a:b"), json!(":")], "[\"a\",\"b\"]"),
            ("printf", vec![json!("%q %5d"), json!("x"), json!(7)], "\"\\\"x\\\"     7\""),
            ("printf", vec![json!("%T %d%% %T"), json!("x"), json!(7), json!(true)], "\"string 7% bool\""),
            ("println", vec![json!("x")], "\"x\\n\""),
            ("pad", vec![json!("x"), json!(1), json!(2)], "\" x  \""),
        ] {
            assert_eq!(run(name, &args), want, "{name} {args:?}");
        }
        let heading = Call { headings: true, ..call };
        assert_eq!(
            heading.of("upper", &[Val::made("Name")]).map(|value| value.json().clone()),
            Ok(json!("Name"))
        );
    }
}
