//! From the text of an instruction to the change that it makes.

use super::command::{NUL, command, list};
use super::lines::{Statement, raw_words, statement, statements};
use super::{Change, Instruction, health};
use crate::error::{Error, Result};

/// The instructions that change only the config.
const CHANGES: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR";
/// The other instructions of a Dockerfile.
const OTHERS: &[&str] = &["ADD", "ARG", "COPY", "FROM", "MAINTAINER", "RUN", "SHELL"];

/// Largest size of the text in bytes.
const TEXT_LIMIT: usize = 4 << 20;
/// Largest number of instructions.
const MAX_INSTRUCTIONS: usize = 10_000;

pub(super) fn instructions(text: &str) -> Result<Vec<Instruction>> {
    if text.len() > TEXT_LIMIT {
        return Err(Error::limit(format!("instructions: more than {TEXT_LIMIT} bytes")));
    }
    let (escape, statements) = statements(text)?;
    if statements.len() > MAX_INSTRUCTIONS {
        return Err(Error::limit(format!("instructions: more than {MAX_INSTRUCTIONS}")));
    }
    let one = |statement: Statement| {
        let change = change(&statement, escape).map_err(|error| in_instruction(&statement.text, error))?;
        Ok(Instruction { text: statement.text, escape, change })
    };
    statements.into_iter().map(one).collect()
}

/// Names the instruction in an error.
pub(super) fn in_instruction(text: &str, error: Error) -> Error {
    error.context(format!("instruction {text:?}"))
}

fn change(statement: &Statement, escape: char) -> Result<Change> {
    let Statement { name, flags, rest, text, .. } = statement;
    if text.contains('\0') {
        return Err(Error::invalid(NUL));
    }
    let change: fn(&str, char) -> Result<Change> = match name.as_str() {
        "CMD" => |rest, _| command(rest).map(Change::Cmd),
        "ENTRYPOINT" => |rest, _| command(rest).map(Change::Entrypoint),
        "ENV" => |rest, escape| pairs(rest, escape).map(Change::Env),
        "EXPOSE" => |rest, _| Ok(Change::Expose(rest.split_whitespace().map(str::to_owned).collect())),
        "HEALTHCHECK" => return health::parse(flags, rest).map(Change::Healthcheck),
        "LABEL" => |rest, escape| pairs(rest, escape).map(Change::Label),
        "ONBUILD" => return on_build(&statement.whole, escape),
        "STOPSIGNAL" => |rest, _| Ok(Change::StopSignal(rest.to_owned())),
        "USER" => |rest, _| Ok(Change::User(rest.to_owned())),
        "VOLUME" => |rest, _| volumes(rest),
        "WORKDIR" => |rest, _| Ok(Change::Workdir(rest.to_owned())),
        _ => return Err(Error::invalid(format!("must be {CHANGES}"))),
    };
    if let Some(flag) = flags.first() {
        return Err(Error::invalid(format!("unknown flag {flag:?}")));
    }
    if rest.is_empty() {
        return Err(Error::invalid("an argument is required"));
    }
    change(rest, escape)
}

fn volumes(text: &str) -> Result<Change> {
    let paths = list(text)?.unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
    if paths.is_empty() {
        return Err(Error::invalid("an argument is required"));
    }
    Ok(Change::Volume(paths.iter().map(|path| path.trim().to_owned()).collect()))
}

/// `a=b c="d e"`, or the old form `a b c` with a single pair.
fn pairs(text: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = raw_words(text, escape);
    if words.first().is_none_or(|first| !first.contains('=')) {
        let pair = text.split_once(char::is_whitespace);
        let (name, value) = pair.ok_or_else(|| Error::invalid("must be NAME=VALUE"))?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!("{word:?}: must be NAME=VALUE"))),
    };
    words.iter().map(pair).collect()
}

/// An instruction for the build of an image from this one. It is parsed then.
fn on_build(text: &str, escape: char) -> Result<Change> {
    let trigger = statement(text, escape);
    let refused = |why: &str| Err(Error::invalid(why.to_owned()));
    match trigger.name.as_str() {
        "" => refused("an argument is required"),
        "ONBUILD" | "FROM" | "MAINTAINER" => refused(&format!("{} cannot be a trigger", trigger.name)),
        name if !OTHERS.contains(&name) && !CHANGES.split([',', ' ']).any(|known| known == name) => {
            refused(&format!("unknown instruction {name:?}"))
        }
        _ => Ok(Change::Onbuild(text.to_owned())),
    }
}
