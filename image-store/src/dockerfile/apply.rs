//! From instructions to an image's config (OCI image specification, config.md; `Healthcheck` and `OnBuild` are Docker's).

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::parse::in_instruction;
use super::ports::ports;
use super::signals::is_signal;
use super::words::Scope;
use super::{Change, Command, Instruction};
use crate::error::{Error, Result};
use crate::manifest::CONFIG_LIMIT;

/// The shell of an image that names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies instructions in their order to the `config` object of an image config. Variables are those in its `Env`, as it was
/// before each instruction.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for values that are wrong when variables are replaced.
pub(crate) fn apply(instructions: &[Instruction], config: &mut Map<String, Value>) -> Result<()> {
    // An entry point makes the base image's arguments obsolete, not those that were set here.
    let mut has_command = false;
    let left = Cell::new(CONFIG_LIMIT);
    for Instruction { text, escape, change } in instructions {
        let variables = strings(config.get("Env"));
        let scope = Scope { escape: *escape, variables: &variables, left: &left };
        one(change, &scope, config, &mut has_command).map_err(|error| in_instruction(text, error))?;
    }
    Ok(())
}

fn one(
    change: &Change,
    scope: &Scope<'_>,
    config: &mut Map<String, Value>,
    has_command: &mut bool,
) -> Result<()> {
    match change {
        Change::Cmd(command) => {
            let words = words(command, config);
            *has_command |= !words.is_empty();
            config.insert("Cmd".into(), json!(words));
        }
        Change::Entrypoint(command) => {
            config.insert("Entrypoint".into(), json!(words(command, config)));
            if !*has_command {
                config.shift_remove("Cmd");
            }
        }
        Change::Env(pairs) => {
            let mut all = scope.variables.to_vec();
            for (name, value) in expanded(pairs, scope)? {
                let line = format!("{name}={value}");
                match all.iter_mut().find(|known| known.split('=').next() == Some(&name)) {
                    Some(known) => *known = line,
                    None => all.push(line),
                }
            }
            config.insert("Env".into(), json!(all));
        }
        Change::Expose(words) => {
            for word in words {
                for port in
                    scope.words(word)?.iter().map(|word| ports(word)).collect::<Result<Vec<_>>>()?.concat()
                {
                    set(config, "ExposedPorts", &port, json!({}));
                }
            }
        }
        Change::Healthcheck(check) => drop(config.insert("Healthcheck".into(), check.clone())),
        Change::Label(pairs) => {
            for (name, value) in expanded(pairs, scope)? {
                set(config, "Labels", &name, value.into());
            }
        }
        Change::Onbuild(trigger) => {
            let all = [strings(config.get("OnBuild")), vec![trigger.clone()]].concat();
            config.insert("OnBuild".into(), json!(all));
        }
        Change::StopSignal(word) => {
            let signal = scope.word(word)?;
            if !is_signal(&signal) {
                return Err(Error::invalid(format!("unknown signal {signal:?}")));
            }
            config.insert("StopSignal".into(), signal.into());
        }
        Change::User(word) => drop(config.insert("User".into(), scope.word(word)?.into())),
        Change::Volume(words) => {
            for word in words {
                let path = scope.word(word)?;
                if path.is_empty() {
                    return Err(Error::invalid("a path must not be empty"));
                }
                set(config, "Volumes", &path, json!({}));
            }
        }
        Change::Workdir(word) => {
            let current = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let path = directory(current, &scope.word(word)?)?;
            config.insert("WorkingDir".into(), path.into());
        }
    }
    Ok(())
}

/// The words of a command; a line is for the image's shell.
fn words(command: &Command, config: &Map<String, Value>) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) => {
            let mut words = strings(config.get("Shell"));
            if words.is_empty() {
                words = SHELL.map(str::to_owned).to_vec();
            }
            words.push(line.clone());
            words
        }
    }
}

fn expanded(pairs: &[(String, String)], scope: &Scope<'_>) -> Result<Vec<(String, String)>> {
    let pair = |(name, value): &(String, String)| {
        let (name, value) = (scope.word(name)?, scope.word(value)?);
        if name.is_empty() {
            return Err(Error::invalid("a name must not be empty"));
        }
        Ok((name, value))
    };
    pairs.iter().map(pair).collect()
}

/// An absolute path as it is, a relative one below the current directory.
fn directory(current: &str, path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(Error::invalid("a path must not be empty"));
    }
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let mut components = Vec::new();
    for component in current.split('/').chain(path.split('/')) {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            other => components.push(other),
        }
    }
    Ok(format!("/{}", components.join("/")))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let all = value.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn set(config: &mut Map<String, Value>, field: &str, key: &str, value: Value) {
    let map = config.entry(field).or_insert_with(|| json!({}));
    if !map.is_object() {
        *map = json!({});
    }
    map[key] = value;
}
