//! Changes to an image's config in the syntax of a Dockerfile, as `--change` of commit and import takes them. No I/O.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// A Dockerfile instruction that changes only the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `CMD`: the default arguments.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`: the program and its first arguments.
    Entrypoint(Vec<String>),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `LABEL`: keys and values.
    Label(Vec<(String, String)>),
    /// `EXPOSE`: `port/protocol`.
    Expose(Vec<String>),
    /// `VOLUME`: absolute paths.
    Volume(Vec<String>),
    /// `USER`: `user[:group]`, names or numbers.
    User(String),
    /// `WORKDIR`: an absolute path.
    Workdir(String),
    /// `STOPSIGNAL`: a name or number.
    StopSignal(String),
}

impl Instruction {
    /// Parses an instruction such as `CMD ["sh"]` or `ENV A=b`; the name may be in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for another instruction and for arguments that do not fit it.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("change {text:?}: {why}"));
        let (name, rest) =
            text.trim().split_once([' ', '\t']).ok_or_else(|| wrong("must be an instruction and a value"))?;
        let rest = rest.trim();
        Ok(match name.to_ascii_uppercase().as_str() {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs(rest).ok_or_else(|| wrong("must be NAME=VALUE"))?),
            "LABEL" => Self::Label(pairs(rest).ok_or_else(|| wrong("must be NAME=VALUE"))?),
            "EXPOSE" => Self::Expose(
                rest.split_whitespace()
                    .map(port)
                    .collect::<Option<_>>()
                    .ok_or_else(|| wrong("must be ports, such as 80 or 53/udp"))?,
            ),
            "VOLUME" => Self::Volume(
                list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect()),
            ),
            "USER" => Self::User(rest.to_owned()),
            "WORKDIR" if rest.starts_with('/') => Self::Workdir(rest.to_owned()),
            "WORKDIR" => return Err(wrong("must be an absolute path")),
            "STOPSIGNAL" => Self::StopSignal(rest.to_owned()),
            _ => {
                return Err(wrong(
                    "must be CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR",
                ));
            }
        })
    }

    /// Applies the instruction to the `config` object of an image config (OCI image specification, config.md).
    pub fn apply(&self, config: &mut Map<String, Value>) {
        match self {
            Self::Cmd(words) => drop(config.insert("Cmd".into(), json!(words))),
            Self::Entrypoint(words) => {
                config.insert("Entrypoint".into(), json!(words));
                // As in a Dockerfile: the arguments were meant for the old entry point.
                config.shift_remove("Cmd");
            }
            Self::Env(pairs) => {
                let old = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
                let mut all: Vec<String> = old.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
                for (name, value) in pairs {
                    all.retain(|line| line.split('=').next() != Some(name));
                    all.push(format!("{name}={value}"));
                }
                config.insert("Env".into(), json!(all));
            }
            Self::Label(pairs) => {
                for (name, value) in pairs {
                    set(config, "Labels", name, value.clone().into());
                }
            }
            Self::Expose(ports) => ports.iter().for_each(|port| set(config, "ExposedPorts", port, json!({}))),
            Self::Volume(paths) => paths.iter().for_each(|path| set(config, "Volumes", path, json!({}))),
            Self::User(user) => drop(config.insert("User".into(), json!(user))),
            Self::Workdir(path) => drop(config.insert("WorkingDir".into(), json!(path))),
            Self::StopSignal(signal) => drop(config.insert("StopSignal".into(), json!(signal))),
        }
    }
}

fn set(config: &mut Map<String, Value>, field: &str, key: &str, value: Value) {
    let map = config.entry(field).or_insert_with(|| json!({}));
    if !map.is_object() {
        *map = json!({});
    }
    map[key] = value;
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A JSON list, or a command line for the shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn port(text: &str) -> Option<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    number.parse::<u16>().ok().filter(|_| ["tcp", "udp", "sctp"].contains(&protocol))?;
    Some(format!("{number}/{protocol}"))
}

/// `a=b c="d e"`, or the old form `a b c` with a single pair.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split_whitespace().next()?;
    if !first.contains('=') {
        let (name, value) = text.split_once([' ', '\t'])?;
        return Some(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let mut pairs = Vec::new();
    for word in words(text)? {
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Some(pairs)
}

/// Splits at spaces outside quotes; `None` for an unterminated quote.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => (quote, any) = (Some(character), true),
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => word.push(characters.next()?),
            (None, c) if c.is_whitespace() => {
                if any {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
            }
            (_, c) => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[&str]) -> Value {
        let mut config =
            serde_json::from_value(json!({"Env": ["PATH=/bin", "A=old"], "Cmd": ["old"]})).unwrap();
        lines.iter().for_each(|line| Instruction::parse(line).unwrap().apply(&mut config));
        Value::Object(config)
    }

    #[test]
    fn instructions_change_what_they_name() {
        let config = applied(&[
            "env A=1 B=\"x y\"",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "WORKDIR /w",
            "VOLUME [\"/a b\"]",
            "USER 5:6",
        ]);
        assert_eq!(
            config,
            json!({"Env": ["PATH=/bin", "A=1", "B=x y"], "Cmd": ["old"], "Labels": {"k": "v"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "WorkingDir": "/w", "Volumes": {"/a b": {}}, "User": "5:6"})
        );
        assert_eq!(applied(&["ENTRYPOINT [\"/x\"]"])["Cmd"], Value::Null);
        assert_eq!(applied(&["CMD echo hi"])["Cmd"], json!(["/bin/sh", "-c", "echo hi"]));
        assert_eq!(applied(&["ENV A b c"])["Env"][1], "A=b c");
    }

    #[test]
    fn others_are_refused() {
        for bad in ["", "CMD", "RUN x", "ENV =x", "ENV A=\"x", "EXPOSE http", "EXPOSE 99999", "WORKDIR w"] {
            assert!(Instruction::parse(bad).is_err(), "{bad}");
        }
    }
}
