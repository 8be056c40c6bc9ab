//! The command line as data: tables of commands and flags, and the parsed command line. No I/O.

use crate::failure::Result;

/// A flag of one command or of all.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// The name of its value; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
    /// For a filter: its keys, each with the form of its value, such as `dangling=BOOL`. Others are errors.
    pub(crate) keys: &'static [&'static str],
}

/// The kind of a command's positional arguments, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    Images,
    Containers,
    Volumes,
    /// Files, others, or none.
    Files,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// A single word, or the name of a group and a word, such as `volume ls`.
    pub(crate) name: &'static str,
    /// The positional arguments, as the usage line shows them.
    pub(crate) usage: &'static str,
    pub(crate) operands: Operands,
    /// Empty for a command that knarr-image calls itself: help, manual and completion leave it out.
    pub(crate) help: &'static str,
    pub(crate) flags: &'static [Flag],
    /// The minimum and maximum number of positional arguments.
    pub(crate) positional: (usize, usize),
    /// Flags after the first positional argument are arguments: they belong to the container's command.
    pub(crate) stop_at_first: bool,
    /// It opens the store, which without root is done as root of a user namespace.
    pub(crate) store: bool,
    pub(crate) run: fn(&Args) -> Result<u8>,
}

/// A parsed command line.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// The table that it was parsed by.
    pub(crate) table: &'static Table,
    pub(crate) flags: Vec<(&'static str, String)>,
    pub(crate) positional: Vec<String>,
}

/// Commands as Docker groups them: `image ls`, `volume prune`.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Its words, each with the name of the command it stands for. If several stand for one command, help shows the first.
    pub(crate) words: &'static [(&'static str, &'static str)],
}

/// All commands, groups and global flags.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) commands: &'static [&'static [Command]],
    pub(crate) groups: &'static [Group],
    /// Flags that every command has.
    pub(crate) global: &'static [Flag],
}

/// What the words of a command line name.
#[derive(Debug)]
pub(crate) enum Named {
    /// With the words it was called by, such as `image ls` for `images`.
    Command(String, &'static Command),
    Group(&'static Group),
}

pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help, keys: &[] }
}

pub(crate) const fn value(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag { long, short, value: Some(value), help, keys: &[] }
}

/// `--filter KEY=VALUE`
pub(crate) const fn filter(short: Option<char>, keys: &'static [&'static str]) -> Flag {
    Flag { long: "filter", short, value: Some("KEY=VALUE"), help: "filter by", keys }
}

/// A command with the usual settings.
pub(crate) const fn command(
    name: &'static str,
    usage: &'static str,
    operands: Operands,
    help: &'static str,
    flags: &'static [Flag],
    positional: (usize, usize),
    run: fn(&Args) -> Result<u8>,
) -> Command {
    Command { name, usage, operands, help, flags, positional, stop_at_first: false, store: true, run }
}

/// No limit to the number of positional arguments.
pub(crate) const ANY: usize = usize::MAX;

/// Docker's commands that need a daemon, networks or a builder.
const UNSUPPORTED: &[&str] = &[
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "context",
    "events",
    "info",
    "network",
    "plugin",
    "port",
    "service",
    "stack",
    "stats",
    "swarm",
    "system",
    "update",
];

/// The message for a name that is neither a command nor a group.
fn unknown(name: &str) -> String {
    match name {
        "build" => "build: not supported: use `buildah build --runtime knarr`".to_owned(),
        _ if UNSUPPORTED.contains(&name) => {
            format!("{name}: not supported: run knarr under Docker, podman or containerd for this")
        }
        _ => format!("unknown command {name:?}: see knarr-image --help"),
    }
}

impl Flag {
    /// Its help text, with the keys of a filter.
    pub(crate) fn described(&self) -> String {
        if self.keys.is_empty() {
            self.help.to_owned()
        } else {
            format!("{}: {}", self.help, self.keys.join(", "))
        }
    }

    /// Refuses a filter with an unknown key, which would match everything or nothing.
    pub(crate) fn check(&self, given: &str) -> Result<(), String> {
        let known =
            |key: &str| self.keys.iter().any(|own| own.split_once('=').is_some_and(|(own, _)| own == key));
        match given.split_once('=') {
            _ if self.keys.is_empty() => Ok(()),
            Some((key, _)) if known(key) => Ok(()),
            Some((key, _)) => Err(format!("invalid filter '{key}': must be one of {}", self.keys.join(", "))),
            None => Err(format!(
                "invalid filter '{given}': must be KEY=VALUE, with one of {}",
                self.keys.join(", ")
            )),
        }
    }
}

impl Args {
    /// Whether a switch is on; a later `--switch=false` turns it off.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.get(long).is_some_and(|value| value != "false")
    }

    /// The last value of a flag.
    pub(crate) fn get(&self, long: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub(crate) fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }
}

impl Table {
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Command> + use<> {
        self.commands.iter().flat_map(|table| table.iter())
    }

    /// The commands that help shows.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &'static Command> + use<> {
        self.all().filter(|command| !command.help.is_empty())
    }

    /// A group's words, the first one for each of its commands.
    pub(crate) fn words(
        &self,
        group: &'static Group,
    ) -> impl Iterator<Item = (&'static str, &'static Command)> {
        let first = |at: usize, name: &str| !group.words[..at].iter().any(|(_, other)| *other == name);
        let shown = group.words.iter().enumerate().filter(move |(at, (_, name))| first(*at, name));
        shown.filter_map(|(_, (word, name))| Some((*word, self.all().find(|command| command.name == *name)?)))
    }

    /// Every way to call a command.
    pub(crate) fn spellings(&self, command: &Command) -> Vec<String> {
        let own = Some(command.name.to_owned()).filter(|name| !name.contains(' '));
        let of_group = |group: &Group| -> Vec<String> {
            let meant = group.words.iter().filter(|(_, name)| *name == command.name);
            meant.map(|(word, _)| format!("{} {word}", group.name)).collect()
        };
        own.into_iter().chain(self.groups.iter().flat_map(of_group)).collect()
    }

    /// The command or group that a name stands for; for a group, `word` names one of its commands.
    pub(crate) fn find(&self, name: &str, word: Option<&str>) -> Result<Named, String> {
        let command = |wanted: &str| self.all().find(|command| command.name == wanted);
        let Some(group) = self.groups.iter().find(|group| group.name == name) else {
            let found = command(name).filter(|_| !name.contains(' '));
            let found = found.ok_or_else(|| unknown(name))?;
            return Ok(Named::Command(name.to_owned(), found));
        };
        let Some(word) = word else { return Ok(Named::Group(group)) };
        let known = group.words.iter().find(|(own, _)| *own == word).and_then(|(_, name)| command(name));
        known.map(|found| Named::Command(format!("{name} {word}"), found)).ok_or_else(|| {
            format!(
                "{name}: unknown command {word:?}: must be one of {}",
                self.words(group).map(|(word, _)| word).collect::<Vec<_>>().join(", ")
            )
        })
    }
}
