//! Expressions between the braces: fields, quoted strings, numbers, variables, calls and pipes. No I/O.

use serde_json::Value;

use super::{functions, invalid};
use crate::failure::Result;

/// Variables, innermost last; `$` is the whole value.
#[derive(Debug)]
pub(crate) struct Scope(Vec<(String, Value)>);

impl Scope {
    pub(crate) fn new(whole: &Value) -> Self {
        Self(vec![("$".to_owned(), whole.clone())])
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.push((name.to_owned(), value));
    }

    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn back_to(&mut self, depth: usize) {
        self.0.truncate(depth);
    }

    fn get(&self, name: &str) -> Result<&Value> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| invalid(format!("unknown variable {name:?}")))
    }
}

#[derive(Debug)]
pub(crate) enum Expression {
    /// A value, and a path of fields in it.
    Path(Begin, Vec<String>),
    Constant(Value),
    /// The name and arguments of a function; the last argument may come from a pipe.
    Call(String, Vec<Expression>),
}

#[derive(Debug)]
pub(crate) enum Begin {
    Dot,
    Variable(String),
    Group(Box<Expression>),
}

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let words = words(text)?;
        let mut rest = &words[..];
        let parsed = pipeline(&mut rest, 0)?;
        if let Some(word) = rest.first() {
            return Err(invalid(format!("{text:?}: unexpected {word:?}")));
        }
        Ok(parsed)
    }

    pub(crate) fn value(&self, dot: &Value, scope: &Scope) -> Result<Value> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Call(name, arguments) => {
                let values = arguments.iter().map(|a| a.value(dot, scope)).collect::<Result<Vec<_>>>()?;
                functions::call(name, values)
            }
            Self::Path(begin, fields) => {
                let mut value = match begin {
                    Begin::Dot => dot.clone(),
                    Begin::Variable(name) => scope.get(name)?.clone(),
                    Begin::Group(inner) => inner.value(dot, scope)?,
                };
                for name in fields {
                    value = functions::field(value, name)?;
                }
                Ok(value)
            }
        }
    }

    /// The field that a column shows.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Path(Begin::Group(inner), fields) if fields.is_empty() => inner.field(),
            Self::Path(_, fields) => fields.last().map(String::as_str),
            Self::Call(_, arguments) => arguments.iter().find_map(Self::field),
            Self::Constant(_) => None,
        }
    }
}

/// Splits into words: `(`, `)` with fields after it, `|`, quoted strings, and others at spaces.
fn words(text: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' | '|' => 1,
            ')' => rest[1..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || "._".contains(c)))
                .map_or(rest.len(), |at| at + 1),
            '"' => string_end(rest).ok_or_else(|| invalid(format!("{text:?}: unclosed quote")))?,
            '`' => rest[1..]
                .find('`')
                .map(|at| at + 2)
                .ok_or_else(|| invalid(format!("{text:?}: unclosed quote")))?,
            _ => rest.find(|c: char| c.is_whitespace() || "()|".contains(c)).unwrap_or(rest.len()),
        };
        all.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(all)
}

fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Deepest nesting of parentheses.
const DEPTH: usize = 50;

fn pipeline(words: &mut &[String], depth: usize) -> Result<Expression> {
    if depth > DEPTH {
        return Err(invalid("too many parentheses".to_owned()));
    }
    let mut left = command(words, depth)?;
    while words.first().is_some_and(|word| word == "|") {
        *words = &words[1..];
        left = match command(words, depth)? {
            Expression::Call(name, mut arguments) => {
                arguments.push(left);
                Expression::Call(name, arguments)
            }
            _ => return Err(invalid("expected a function after \"|\"".to_owned())),
        };
    }
    Ok(left)
}

fn command(words: &mut &[String], depth: usize) -> Result<Expression> {
    let Some(first) = words.first().filter(|word| functions::is_name(word)) else {
        return operand(words, depth);
    };
    *words = &words[1..];
    let mut arguments = Vec::new();
    while words.first().is_some_and(|word| word != "|" && !word.starts_with(')')) {
        arguments.push(operand(words, depth)?);
    }
    Ok(Expression::Call(first.clone(), arguments))
}

fn operand(words: &mut &[String], depth: usize) -> Result<Expression> {
    let wrong = |word: &str| {
        invalid(format!(
            "unknown function {word:?}: must be one of {}; fields begin with \".\"",
            functions::NAMES.join(", ")
        ))
    };
    let Some((word, rest)) = words.split_first() else {
        return Err(invalid("incomplete expression".to_owned()));
    };
    *words = rest;
    match word.as_bytes()[0] {
        b'(' => {
            let inner = pipeline(words, depth + 1)?;
            let close = words.first().filter(|word| word.starts_with(')')).ok_or_else(|| wrong("("))?;
            *words = &words[1..];
            Ok(Expression::Path(
                Begin::Group(Box::new(inner)),
                fields(&close[1..]).ok_or_else(|| wrong(close))?,
            ))
        }
        b'.' => Ok(Expression::Path(Begin::Dot, fields(word).ok_or_else(|| wrong(word))?)),
        b'$' => {
            let at = word.find('.').unwrap_or(word.len());
            let names = fields(&word[at..]).ok_or_else(|| wrong(word))?;
            Ok(Expression::Path(Begin::Variable(word[..at].to_owned()), names))
        }
        b'`' => Ok(Expression::Constant(word.trim_matches('`').into())),
        _ => match serde_json::from_str(word) {
            Ok(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                Ok(Expression::Constant(value))
            }
            _ if word == "nil" => Ok(Expression::Constant(Value::Null)),
            _ => Err(wrong(word)),
        },
    }
}

/// The fields of `.A.B`; of `.` and an empty text, none.
fn fields(text: &str) -> Option<Vec<String>> {
    let names = match text {
        "" | "." => return Some(Vec::new()),
        text => text.strip_prefix('.')?,
    };
    let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    names.split('.').map(|name| word(name).then(|| name.to_owned())).collect()
}
