//! The functions of templates, and Go's printing and comparison of values. No I/O.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::invalid;
use crate::failure::Result;

/// The names of the functions.
pub(crate) const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

pub(crate) fn is_name(word: &str) -> bool {
    NAMES.contains(&word)
}

/// A field of a value; all fields of null are null.
pub(crate) fn field(value: Value, name: &str) -> Result<Value> {
    match value {
        Value::Object(mut fields) if fields.contains_key(name) => Ok(fields.remove(name).unwrap_or_default()),
        Value::Null => Ok(Value::Null),
        _ => Err(invalid(format!("unknown field {name:?}"))),
    }
}

/// Whether a value is true: not null, zero or empty.
pub(crate) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(own) => *own,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The keys and values for `range`; those of a map are sorted by key.
pub(crate) fn items(value: Value) -> Result<Vec<(Value, Value)>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (json!(at), item)).collect())
        }
        Value::Object(fields) => {
            let mut pairs: Vec<(String, Value)> = fields.into_iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
        }
        other => Err(invalid(format!("range over {other}: not a list or map"))),
    }
}

/// Prints a value as Go does: lists in brackets, maps as `map[key:value]`.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut pairs: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

pub(crate) fn call(name: &str, arguments: Vec<Value>) -> Result<Value> {
    let wrong = |why: &str| invalid(format!("{name}: {why}"));
    let spaced = || arguments.iter().map(plain).collect::<Vec<_>>().join(" ");
    match (name, &arguments[..]) {
        ("and", [first, ..]) => {
            Ok(arguments.iter().find(|value| !truth(value)).or(arguments.last()).unwrap_or(first).clone())
        }
        ("or", [first, ..]) => {
            Ok(arguments.iter().find(|value| truth(value)).or(arguments.last()).unwrap_or(first).clone())
        }
        ("not", [value]) => Ok(json!(!truth(value))),
        ("eq", [first, others @ ..]) if !others.is_empty() => Ok(json!(others.contains(first))),
        ("ne", [a, b]) => Ok(json!(a != b)),
        ("lt", [a, b]) => order(a, b).map(|o| json!(o == Ordering::Less)),
        ("le", [a, b]) => order(a, b).map(|o| json!(o != Ordering::Greater)),
        ("gt", [a, b]) => order(a, b).map(|o| json!(o == Ordering::Greater)),
        ("ge", [a, b]) => order(a, b).map(|o| json!(o != Ordering::Less)),
        ("json", [value]) => Ok(value.to_string().into()),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| at(&value, key)),
        ("len", [Value::String(text)]) => Ok(json!(text.len())),
        ("len", [Value::Array(items)]) => Ok(json!(items.len())),
        ("len", [Value::Object(fields)]) => Ok(json!(fields.len())),
        ("len", [Value::Null]) => Ok(json!(0)),
        ("join", [Value::Null, _]) => Ok("".into()),
        ("join", [Value::Array(items), between]) => {
            Ok(items.iter().map(plain).collect::<Vec<_>>().join(&plain(between)).into())
        }
        ("split", [text, between]) => Ok(plain(text).split(&plain(between)).collect()),
        ("lower", [text]) => Ok(plain(text).to_lowercase().into()),
        ("upper", [text]) => Ok(plain(text).to_uppercase().into()),
        ("title", [text]) => {
            let text = plain(text);
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            Ok(format!("{first}{}", letters.as_str()).into())
        }
        ("truncate", [text, count]) => {
            let count = count
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| wrong("expects a number"))?;
            Ok(plain(text).chars().take(count).collect::<String>().into())
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds).ok_or_else(|| wrong("out of range")),
        ("print", [_, ..]) => Ok(spaced().into()),
        ("println", _) => Ok(format!("{}\n", spaced()).into()),
        ("printf", [form, values @ ..]) => printf(&plain(form), values).map(Value::from),
        _ => Err(wrong("invalid arguments")),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering> {
    let found = match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    found.ok_or_else(|| invalid(format!("cannot compare {a} and {b}")))
}

/// An element: a missing key of a map is null, a missing index of a list is an error.
fn at(value: &Value, key: &Value) -> Result<Value> {
    let place = || key.as_u64().and_then(|n| usize::try_from(n).ok());
    match value {
        Value::Object(fields) => Ok(fields.get(&plain(key)).cloned().unwrap_or_default()),
        Value::Null => Ok(Value::Null),
        Value::Array(items) => place()
            .and_then(|place| items.get(place).cloned())
            .ok_or_else(|| invalid(format!("index {key}: out of range (list of {})", items.len()))),
        other => Err(invalid(format!("index of {other}: not a list or map"))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        Some(bound) => usize::try_from(bound.as_u64()?).ok(),
        None => Some(otherwise),
    };
    match value {
        Value::String(text) => Some(text.get(bound(0, 0)?..bound(1, text.len())?)?.into()),
        Value::Array(items) => Some(items.get(bound(0, 0)?..bound(1, items.len())?)?.to_vec().into()),
        _ => None,
    }
}

/// `%s`, `%v`, `%d`, `%q` and `%%`, with a width such as `%-20s`.
fn printf(form: &str, values: &[Value]) -> Result<String> {
    let mut values = values.iter();
    let mut text = String::new();
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after
            .find(|c: char| !(c.is_ascii_digit() || "-.+ ".contains(c)))
            .ok_or_else(|| invalid(format!("printf {form:?}: incomplete verb")))?;
        let (width, verb) = (&after[..end], after[end..].chars().next().unwrap_or('%'));
        rest = &after[end + verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| invalid(format!("printf {form:?}: too few arguments")))?;
        let shown = match verb {
            's' | 'v' | 'd' => plain(value),
            'q' => format!("{:?}", plain(value)),
            other => return Err(invalid(format!("printf {form:?}: unknown verb %{other}"))),
        };
        let columns = width
            .trim_start_matches('-')
            .split('.')
            .next()
            .and_then(|digits| digits.parse::<usize>().ok())
            .unwrap_or(0)
            .min(1000);
        if width.starts_with('-') {
            text.push_str(&format!("{shown:<columns$}"));
        } else {
            text.push_str(&format!("{shown:>columns$}"));
        }
    }
    text.push_str(rest);
    Ok(text)
}
