//! Applies a parsed template to a value. The library's parser gives the tree; the tree is walked here, because a reason
//! why a template fails says where, in words that users look for.

use std::collections::BTreeMap;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};
use serde_json::Value;

use super::Labels;
use super::builtins::{Call, FUNCTIONS, Takes};
use super::value::Val;
use crate::show::table::quote;

/// Why a template fails on a value, and where.
#[derive(Debug)]
pub(super) struct Fault {
    /// Bytes from the template's beginning.
    pub(super) offset: usize,
    /// The part that fails, as it is written.
    pub(super) part: String,
    /// The reason.
    pub(super) why: String,
}

/// How a walk over a list of nodes goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    On,
    Break,
    Continue,
}

/// Templates within templates deeper than that are a mistake.
const DEEPEST: usize = 100;

/// A template being applied.
pub(super) struct Run<'a> {
    /// The templates that it defines.
    pub(super) defines: &'a BTreeMap<String, ListNode>,
    /// How functions are called.
    pub(super) call: Call,
    /// What `.Label` gives.
    pub(super) labels: &'a Labels,
    variables: Vec<(&'a str, Val<'a>)>,
    depth: usize,
    out: String,
}

impl<'a> Run<'a> {
    /// Prepares.
    pub(super) fn new(defines: &'a BTreeMap<String, ListNode>, call: Call, labels: &'a Labels) -> Self {
        Self { defines, call, labels, variables: Vec::new(), depth: 0, out: String::new() }
    }

    /// Applies a tree to a value; gives what it wrote.
    ///
    /// # Errors
    /// What fails first; what was written until then is lost.
    pub(super) fn apply(mut self, tree: &'a ListNode, value: Val<'a>) -> Result<String, Fault> {
        self.variables.push(("$", value.clone()));
        self.list(tree, &value)?;
        Ok(self.out)
    }

    fn list(&mut self, list: &'a ListNode, dot: &Val<'a>) -> Result<Next, Fault> {
        let kept = self.variables.len();
        for node in &list.nodes {
            match self.node(node, dot)? {
                Next::On => {}
                other => {
                    self.variables.truncate(kept);
                    return Ok(other);
                }
            }
        }
        self.variables.truncate(kept);
        Ok(Next::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Val<'a>) -> Result<Next, Fault> {
        match node {
            Node::Text(text) => self.out.push_str(&text.text),
            Node::Action(action) => {
                let value = self.pipeline(&action.pipe, dot)?;
                if action.pipe.decl.is_empty() {
                    self.out.push_str(&value.text(self.call.reading));
                }
            }
            Node::If(branch) => return self.branch(branch, dot, false),
            Node::With(branch) => return self.branch(branch, dot, true),
            Node::Range(branch) => self.range(branch, dot)?,
            Node::Template(template) => {
                let fault = |why: String| Fault {
                    offset: template.pos.offset,
                    part: format!("{{{{template {}}}}}", quote(&template.name)),
                    why,
                };
                let Some(tree) = self.defines.get(template.name.as_str()) else {
                    return Err(fault(format!("template {:?} not defined", template.name)));
                };
                let value = match &template.pipe {
                    Some(pipe) => self.pipeline(pipe, dot)?,
                    None => Val::ABSENT,
                };
                if self.depth == DEEPEST {
                    return Err(fault("exceeded maximum template depth".into()));
                }
                let own = std::mem::replace(&mut self.variables, vec![("$", value.clone())]);
                self.depth += 1;
                self.list(tree, &value)?;
                self.depth -= 1;
                self.variables = own;
            }
            Node::List(list) => return self.list(list, dot),
            Node::Define(_) => {}
            Node::Break(_) => return Ok(Next::Break),
            Node::Continue(_) => return Ok(Next::Continue),
        }
        Ok(Next::On)
    }

    fn branch(&mut self, branch: &'a BranchNode, dot: &Val<'a>, with: bool) -> Result<Next, Fault> {
        let kept = self.variables.len();
        let value = self.pipeline(&branch.pipe, dot)?;
        let next = match (value.is_true(), &branch.else_body) {
            (true, _) => self.list(&branch.body, if with { &value } else { dot })?,
            (false, Some(other)) => self.list(other, dot)?,
            (false, None) => Next::On,
        };
        self.variables.truncate(kept);
        Ok(next)
    }

    fn range(&mut self, branch: &'a BranchNode, dot: &Val<'a>) -> Result<(), Fault> {
        let value = self.commands(&branch.pipe, dot)?;
        let entries = value.entries(self.call.reading).map_err(|why| fault_at_pipe(&branch.pipe, why))?;
        if entries.is_empty() {
            return match &branch.else_body {
                Some(other) => self.list(other, dot).map(drop),
                None => Ok(()),
            };
        }
        for (key, item) in entries {
            let kept = self.variables.len();
            let values = match branch.pipe.decl.len() {
                1 => vec![item.clone()],
                _ => vec![key, item.clone()],
            };
            for (name, value) in branch.pipe.decl.iter().zip(values) {
                self.bind(name, value, branch.pipe.is_assign);
            }
            let next = self.list(&branch.body, &item)?;
            if !branch.pipe.is_assign {
                self.variables.truncate(kept);
            }
            if next == Next::Break {
                break;
            }
        }
        Ok(())
    }

    fn bind(&mut self, name: &'a str, value: Val<'a>, assign: bool) {
        match self.variables.iter_mut().rfind(|(known, _)| *known == name) {
            Some((_, known)) if assign => *known = value,
            _ => self.variables.push((name, value)),
        }
    }

    fn pipeline(&mut self, pipe: &'a PipeNode, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        let value = self.commands(pipe, dot)?;
        if let Some(name) = pipe.decl.first() {
            self.bind(name, value.clone(), pipe.is_assign);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &'a PipeNode, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Val::ABSENT))
    }

    fn command(
        &mut self,
        command: &'a CommandNode,
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Fault> {
        let first = &command.args[0];
        let rest = &command.args[1..];
        match first {
            Expr::Identifier(_, name) => return self.function(command, name, rest, dot, piped),
            Expr::Chain(_, inner, fields) => {
                if let Expr::Identifier(_, name) = inner.as_ref() {
                    let value = self.function(command, name, rest, dot, piped)?;
                    return self.fields(value, fields, first);
                }
            }
            Expr::Field(_, names) | Expr::Variable(_, _, names)
                if names.last().is_some_and(|name| name == "Label") =>
            {
                if let Some(label) = self.label(rest) {
                    return Ok(label);
                }
            }
            _ => {}
        }
        if !rest.is_empty() || piped.is_some() {
            let why = match first {
                Expr::Field(_, names) | Expr::Variable(_, _, names) if !names.is_empty() => {
                    let name = names.last().map_or("", |name| name.as_str());
                    format!("{name} has arguments but cannot be invoked as function")
                }
                other => format!("can't give argument to non-function {}", written(other)),
            };
            return Err(fault(first, why));
        }
        if matches!(first, Expr::Nil(_)) {
            return Err(fault(first, "nil is not a command".into()));
        }
        self.expression(first, dot)
    }

    /// `.Label "x"` of a row.
    fn label(&self, args: &[Expr]) -> Option<Val<'a>> {
        let [Expr::String(_, name)] = args else { return None };
        match self.labels {
            Labels::None => None,
            Labels::Headings => Some(Val::made(&**name)),
            Labels::Of(labels) => Some(Val::made(labels[&**name].as_str().unwrap_or(""))),
        }
    }

    fn function(
        &mut self,
        command: &'a CommandNode,
        name: &'a str,
        args: &'a [Expr],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Fault> {
        let identifier = &command.args[0];
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            return Err(fault(identifier, format!("{name:?} is not a defined function")));
        };
        let (given, wanted) = (args.len() + usize::from(piped.is_some()), function.takes.len());
        if function.more && given < wanted {
            let why = format!("wrong number of args for {name}: want at least {wanted} got {given}");
            return Err(fault(identifier, why));
        }
        if !function.more && given != wanted {
            let why = format!("wrong number of args for {name}: want {wanted} got {given}");
            return Err(fault(identifier, why));
        }
        if matches!(name, "and" | "or") {
            let mut last = None;
            for arg in args {
                let value = self.expression(arg, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return Ok(piped.or(last).unwrap_or(Val::ABSENT));
        }
        let mut values = Vec::with_capacity(given);
        for (at, arg) in args.iter().enumerate() {
            let value = self.expression(arg, dot)?;
            let takes = function.takes.get(at).copied().unwrap_or(Takes::Any);
            self.check(&value, takes, arg, true)?;
            values.push(value);
        }
        if let Some(value) = piped {
            let takes = function.takes.get(args.len()).copied().unwrap_or(Takes::Any);
            self.check(&value, takes, identifier, false)?;
            values.push(value);
        }
        self.call.of(name, &values).map_err(|why| Fault {
            offset: command.pos.offset,
            part: command.args.iter().map(written).collect::<Vec<_>>().join(" "),
            why: format!("error calling {name}: {why}"),
        })
    }

    /// Refuses a value that a function does not take. What is written out in the template is known by its form.
    fn check(&self, value: &Val<'_>, takes: Takes, at: &Expr, direct: bool) -> Result<(), Fault> {
        let (fits, wanted) = match takes {
            Takes::Any => (true, ""),
            Takes::Text => (value.json().is_string(), "string"),
            Takes::Int => (value.json().is_i64() || value.json().is_u64(), "int"),
        };
        let literal = matches!(at, Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_));
        let wanted_word = if wanted == "int" { "integer" } else { wanted };
        match () {
            () if fits => Ok(()),
            () if direct && literal => {
                Err(fault(at, format!("expected {wanted_word}; found {}", written(at))))
            }
            () if value.is_nothing() => Err(fault(at, format!("invalid value; expected {wanted}"))),
            () => {
                let got = value.type_name(self.call.reading);
                Err(fault(at, format!("wrong type for value; expected {wanted}; got {got}")))
            }
        }
    }

    fn expression(&mut self, expr: &'a Expr, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        match expr {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Field(_, names) => self.fields(dot.clone(), names, expr),
            Expr::Variable(_, name, names) => {
                let known = self.variables.iter().rfind(|(known, _)| *known == name.as_str());
                let Some((_, value)) = known else {
                    return Err(fault(expr, format!("undefined variable {name:?}")));
                };
                self.fields(value.clone(), names, expr)
            }
            Expr::String(_, text) => Ok(Val::made(&**text)),
            Expr::Number(_, number) => match *number {
                Number::Int(int) => Ok(Val::made(int)),
                Number::Uint(int) => Err(fault(expr, format!("{int} overflows int"))),
                Number::Float(float) => Ok(Val::made(float)),
            },
            Expr::Bool(_, flag) => Ok(Val::made(*flag)),
            Expr::Nil(_) => Ok(Val::made(Value::Null)),
            Expr::Pipe(_, pipe) => self.pipeline(pipe, dot),
            // A function without arguments.
            Expr::Identifier(_, name) => {
                let wanted = FUNCTIONS.iter().find(|function| function.name == name.as_str());
                match wanted.map_or(0, |function| function.takes.len()) {
                    0 => self.call.of(name, &[]).map_err(|why| fault(expr, why)),
                    wanted => {
                        Err(fault(expr, format!("wrong number of args for {name}: want {wanted} got 0")))
                    }
                }
            }
            Expr::Chain(_, inner, names) => {
                let value = self.expression(inner, dot)?;
                self.fields(value, names, expr)
            }
        }
    }

    fn fields<N: AsRef<str>>(&self, value: Val<'a>, names: &'a [N], expr: &Expr) -> Result<Val<'a>, Fault> {
        let found = names.iter().try_fold(value, |value, name| value.field(name.as_ref(), self.call.reading));
        found.map_err(|why| fault(expr, why))
    }
}

fn fault(expr: &Expr, why: String) -> Fault {
    Fault { offset: position(expr), part: written(expr), why }
}

fn fault_at_pipe(pipe: &PipeNode, why: String) -> Fault {
    Fault { offset: pipe.pos.offset, part: pipeline_written(pipe), why }
}

/// Where Go says that an expression is: a chain of fields at its second one.
fn position(expr: &Expr) -> usize {
    let Pos { offset, .. } = expr.pos();
    match expr {
        Expr::Field(_, names) if names.len() > 1 => offset + 1 + names[0].len(),
        Expr::Variable(_, name, names) if !names.is_empty() => offset + name.len(),
        _ => offset,
    }
}

/// An expression as Go writes it in an error.
fn written(expr: &Expr) -> String {
    let dotted = |names: &[_]| -> String {
        names.iter().map(|name: &gotmpl::parse::SmolStr| format!(".{name}")).collect()
    };
    match expr {
        Expr::Dot(_) => ".".into(),
        Expr::Field(_, names) => dotted(names),
        Expr::Variable(_, name, names) => format!("{name}{}", dotted(names)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(_, text) => quote(text),
        Expr::Number(_, Number::Int(int)) => int.to_string(),
        Expr::Number(_, Number::Uint(int)) => int.to_string(),
        Expr::Number(_, Number::Float(float)) => float.to_string(),
        Expr::Bool(_, flag) => flag.to_string(),
        Expr::Nil(_) => "nil".into(),
        Expr::Pipe(_, pipe) => format!("({})", pipeline_written(pipe)),
        Expr::Chain(_, inner, names) => format!("{}{}", written(inner), dotted(names)),
    }
}

fn pipeline_written(pipe: &PipeNode) -> String {
    let command = |command: &CommandNode| command.args.iter().map(written).collect::<Vec<_>>().join(" ");
    pipe.commands.iter().map(command).collect::<Vec<_>>().join(" | ")
}

/// The first function that there is none of in a tree; Go refuses it before it runs anything.
pub(super) fn undefined_function(list: &ListNode) -> Option<&str> {
    list.nodes.iter().find_map(|node| match node {
        Node::Action(action) => in_pipe(&action.pipe),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => in_pipe(&branch.pipe)
            .or_else(|| undefined_function(&branch.body))
            .or_else(|| branch.else_body.as_ref().and_then(undefined_function)),
        Node::Template(template) => template.pipe.as_ref().and_then(in_pipe),
        Node::List(list) => undefined_function(list),
        Node::Define(define) => undefined_function(&define.body),
        Node::Text(_) | Node::Break(_) | Node::Continue(_) => None,
    })
}

fn in_pipe(pipe: &PipeNode) -> Option<&str> {
    pipe.commands.iter().flat_map(|command| &command.args).find_map(in_expression)
}

fn in_expression(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(_, name) if !FUNCTIONS.iter().any(|function| function.name == name.as_str()) => {
            Some(name)
        }
        Expr::Pipe(_, pipe) => in_pipe(pipe),
        Expr::Chain(_, inner, _) => in_expression(inner),
        _ => None,
    }
}
