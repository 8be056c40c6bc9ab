//! The language of Dockerfiles, as Docker reads it: instructions that change only an image's config, as `--change` of commit and
//! import takes them. No I/O.
//!
//! Source: the Dockerfile reference (docs.docker.com/reference/dockerfile), and for `--change` the rules of `docker commit`.

mod apply;
mod command;
mod health;
mod limit;
mod lines;
mod parse;
mod pattern;
mod ports;
mod signals;
mod words;

use serde_json::Value;

use crate::error::Result;

/// An instruction that changes only the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// As it was written, for messages.
    text: String,
    /// The character that escapes.
    escape: char,
    change: Change,
}

/// The change that an instruction makes. Variables and quotes are still in it, where the instruction may have them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Cmd(Command),
    Entrypoint(Command),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Value),
    Label(Vec<(String, String)>),
    Onbuild(String),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A command: words, or a line for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Exec(Vec<String>),
    Shell(String),
}

/// Parses instructions that change only the config: lines in the syntax of a Dockerfile, with comments and continued lines.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for other instructions, and for arguments and flags that do not fit.
pub fn parse(text: &str) -> Result<Vec<Instruction>> {
    parse::instructions(text)
}

pub(crate) use apply::apply;

#[cfg(test)]
mod tests;
