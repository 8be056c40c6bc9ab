//! Commands: a JSON list of words, or a line for the shell.

use serde_json::Value;

use super::Command;
use crate::error::{Error, Result};

/// The message about a character that arguments and variables cannot have.
pub(super) const NUL: &str = "must not contain NUL";

/// A JSON list of strings; `None` if it is another text.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a list of other values.
pub(super) fn list(text: &str) -> Result<Option<Vec<String>>> {
    let Ok(Value::Array(values)) = serde_json::from_str::<Value>(text) else { return Ok(None) };
    let words = values.into_iter().map(|value| match value {
        Value::String(word) if word.contains('\0') => Err(Error::invalid(NUL)),
        Value::String(word) => Ok(word),
        other => Err(Error::invalid(format!("a JSON list must have strings only: {other}"))),
    });
    words.collect::<Result<_>>().map(Some)
}

/// A JSON list, or a line for the shell.
pub(super) fn command(text: &str) -> Result<Command> {
    Ok(list(text)?.map_or_else(|| Command::Shell(text.to_owned()), Command::Exec))
}
