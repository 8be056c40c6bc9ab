//! The part of TOML that runtime options need: lines `key = value` with strings, integers and booleans (decision 0313).
//!
//! containerd passes one table, written by its own encoder. Anything else is an error.

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Number(_) => "number",
            Self::Bool(_) => "boolean",
        }
    }
}

/// An error in TOML.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Encoding(#[from] std::str::Utf8Error),
    #[error("line {0}: must be KEY = VALUE, with a string, number or boolean")]
    Syntax(usize),
    #[error("line {line}: duplicate key {key}")]
    Duplicate { line: usize, key: String },
}

/// The keys and values in the order of the text.
pub(super) fn parse(text: &[u8]) -> Result<Vec<(String, Value)>, Error> {
    let text = std::str::from_utf8(text)?;
    let mut pairs: Vec<(String, Value)> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let pair =
            text.split_once('=').and_then(|(key, rest)| Some((key_of(key.trim())?, value(rest.trim())?)));
        let Some((key, value)) = pair else {
            return Err(Error::Syntax(line));
        };
        if pairs.iter().any(|(other, _)| *other == key) {
            return Err(Error::Duplicate { line, key });
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn key_of(text: &str) -> Option<String> {
    let key = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!key.is_empty() && key.bytes().all(plain)).then(|| key.to_owned())
}

fn value(text: &str) -> Option<Value> {
    let (value, rest) = match text.as_bytes().first()? {
        b'"' if !text.starts_with("\"\"\"") => basic(text.get(1..)?)?,
        b'\'' if !text.starts_with("'''") => {
            let (value, rest) = text.get(1..)?.split_once('\'')?;
            (Value::Text(value.to_owned()), rest)
        }
        _ => {
            let (word, _) = text.split_once('#').unwrap_or((text, ""));
            let word = word.trim();
            let value = match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::Number(word.parse().ok()?),
            };
            return Some(value);
        }
    };
    let rest = rest.trim();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

/// A string in double quotes, without the first of them, and the rest of the line.
fn basic(text: &str) -> Option<(Value, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((Value::Text(value), text.get(at + 1..)?)),
            '\\' => match letters.next()?.1 {
                'b' => value.push('\u{8}'),
                't' => value.push('\t'),
                'n' => value.push('\n'),
                'f' => value.push('\u{c}'),
                'r' => value.push('\r'),
                letter @ ('"' | '\\') => value.push(letter),
                length @ ('u' | 'U') => {
                    let length = if length == 'u' { 4 } else { 8 };
                    let digits: String = letters.by_ref().take(length).map(|(_, digit)| digit).collect();
                    if digits.len() != length || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    value.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                _ => return None,
            },
            letter => value.push(letter),
        }
    }
    None
}
