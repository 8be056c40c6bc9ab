//! The command line as data: commands and their flags in tables, from which parsing, help, completion and man pages come.

use image_store::Result;

/// A flag, of a command or for all.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// The name of its value; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
    /// Of a filter: its keys, each with what its value is, such as `dangling=BOOL`. Others are refused.
    pub(crate) keys: &'static [&'static str],
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// One word, or a group's name and a word, such as `volume ls`.
    pub(crate) name: &'static str,
    /// What follows the name and the flags.
    pub(crate) usage: &'static str,
    pub(crate) help: &'static str,
    pub(crate) flags: &'static [Flag],
    /// Least and most positional arguments.
    pub(crate) positional: (usize, usize),
    /// What follows the first positional belongs to somebody else.
    pub(crate) stop_at_first: bool,
    pub(crate) run: fn(&Args) -> Result<u8>,
}

/// What was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    flags: Vec<(&'static str, String)>,
    pub(crate) positional: Vec<String>,
}

/// Commands as Docker groups them: `image ls`, `volume prune`.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Its words, each with the name of the command that it stands for. Of several for one command, the first is shown.
    pub(crate) words: &'static [(&'static str, &'static str)],
}

/// All that can be called.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) commands: &'static [&'static [Command]],
    pub(crate) groups: &'static [Group],
    /// Flags of every command.
    pub(crate) global: &'static [Flag],
}

/// What words on the command line name.
#[derive(Debug)]
pub(crate) enum Named {
    /// As it was called, such as `image ls` for `images`.
    Command(String, &'static Command),
    Group(&'static Group),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(&'static Command, Args),
    Help(String),
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
    Flag { long: "filter", short, value: Some("KEY=VALUE"), help: "show or remove only what matches", keys }
}

impl Flag {
    /// Its help, with the keys of a filter.
    pub(crate) fn described(&self) -> String {
        if self.keys.is_empty() {
            self.help.to_owned()
        } else {
            format!("{}: {}", self.help, self.keys.join(", "))
        }
    }

    /// A filter with an unknown key would let everything pass, or nothing.
    fn check(&self, given: &str) -> Result<(), String> {
        let known =
            |key: &str| self.keys.iter().any(|own| own.split_once('=').is_some_and(|(own, _)| own == key));
        match given.split_once('=') {
            _ if self.keys.is_empty() => Ok(()),
            Some((key, _)) if known(key) => Ok(()),
            Some((key, _)) => Err(format!("invalid filter '{key}': must be one of {}", self.keys.join(", "))),
            None => {
                Err(format!("invalid filter '{given}': must be KEY=VALUE, one of {}", self.keys.join(", ")))
            }
        }
    }
}

impl Args {
    /// Whether a switch is on; `--switch=false` takes it back.
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
    /// Parses what follows the program's name.
    pub(crate) fn parse(&self, arguments: &[String]) -> Result<Parsed, String> {
        let mut args = Args::default();
        let mut rest = arguments.iter();
        let (called, command) = loop {
            let Some(argument) = rest.next() else { return Ok(Parsed::Help(self.overview())) };
            match argument.as_str() {
                "--version" | "-v" => return Ok(Parsed::Help(version())),
                "--help" | "-h" => return Ok(Parsed::Help(self.overview())),
                "help" => return self.topic(rest.as_slice()),
                option if option.starts_with('-') && option != "-" => {
                    flag(option, &mut rest, &[], self.global, &mut args)?;
                }
                name => match self.named(name, &mut rest)? {
                    Named::Command(called, command) => break (called, command),
                    Named::Group(group) => return Ok(Parsed::Help(self.group_help(group))),
                },
            }
        };
        let mut only_positional = false;
        while let Some(argument) = rest.next() {
            if only_positional || argument == "-" || !argument.starts_with('-') {
                args.positional.push(argument.clone());
                only_positional |= command.stop_at_first;
            } else if argument == "--" {
                only_positional = true;
            } else if argument == "--help" || argument == "-h" && !command.owns_h() {
                return Ok(Parsed::Help(command.help(&called, self.global)));
            } else {
                flag(argument, &mut rest, command.flags, self.global, &mut args)?;
            }
        }
        command.check_count(&called, &args.positional)?;
        Ok(Parsed::Run(command, args))
    }

    /// The command that is called, with its group's word if it has a group; a group when its help is asked for.
    fn named<'a>(&self, name: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<Named, String> {
        if !self.groups.iter().any(|group| group.name == name) {
            return self.find(name, None);
        }
        match rest.next().map(String::as_str) {
            Some("--help" | "-h") => self.find(name, None),
            Some(word) => self.find(name, Some(word)),
            None => Err(format!("{name}: COMMAND is required: see knarr-image {name} --help")),
        }
    }

    /// What a name, and for a group the word after it, stand for.
    pub(crate) fn find(&self, name: &str, word: Option<&str>) -> Result<Named, String> {
        let command = |wanted: &str| self.all().find(|command| command.name == wanted);
        let Some(group) = self.groups.iter().find(|group| group.name == name) else {
            let found = command(name).filter(|_| !name.contains(' '));
            let found = found.ok_or_else(|| format!("unknown command {name:?}: see knarr-image --help"))?;
            return Ok(Named::Command(name.to_owned(), found));
        };
        let Some(word) = word else { return Ok(Named::Group(group)) };
        let known = group.words.iter().find(|(own, _)| *own == word).and_then(|(_, name)| command(name));
        known.map(|found| Named::Command(format!("{name} {word}"), found)).ok_or_else(|| {
            format!(
                "unknown command {word:?}: {name} has {}",
                self.words(group).map(|(word, _)| word).collect::<Vec<_>>().join(", ")
            )
        })
    }

    /// `help [COMMAND]`
    fn topic(&self, words: &[String]) -> Result<Parsed, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = match words[..] {
            [] => self.overview(),
            [name] => self.help(&self.find(name, None)?),
            [name, word] if self.groups.iter().any(|group| group.name == name) => {
                self.help(&self.find(name, Some(word))?)
            }
            _ => return Err(format!("help: too many arguments: {:?}", words.join(" "))),
        };
        Ok(Parsed::Help(text))
    }

    fn all(&self) -> impl Iterator<Item = &'static Command> + use<> {
        self.commands.iter().flat_map(|table| table.iter())
    }

    /// The commands that people are told of.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &'static Command> + use<> {
        self.all().filter(|command| !command.help.is_empty())
    }

    /// A group's words, one for each command that is in this build.
    pub(crate) fn words(
        &self,
        group: &'static Group,
    ) -> impl Iterator<Item = (&'static str, &'static Command)> {
        let first = |at: usize, name: &str| !group.words[..at].iter().any(|(_, other)| *other == name);
        let shown = group.words.iter().enumerate().filter(move |(at, (_, name))| first(*at, name));
        shown.filter_map(|(_, (word, name))| Some((*word, self.all().find(|command| command.name == *name)?)))
    }

    /// All ways to call a command.
    pub(crate) fn spellings(&self, command: &Command) -> Vec<String> {
        let own = Some(command.name.to_owned()).filter(|name| !name.contains(' '));
        let of_group = |group: &Group| -> Vec<String> {
            let meant = group.words.iter().filter(|(_, name)| *name == command.name);
            meant.map(|(word, _)| format!("{} {word}", group.name)).collect()
        };
        own.into_iter().chain(self.groups.iter().flat_map(of_group)).collect()
    }

    fn help(&self, named: &Named) -> String {
        match named {
            Named::Command(called, command) => command.help(called, self.global),
            Named::Group(group) => self.group_help(group),
        }
    }

    fn overview(&self) -> String {
        let mut text =
            "Usage: knarr-image [OPTIONS] COMMAND\n\nContainer images: get, keep, change, send.\n\nCommands:\n"
                .to_owned();
        for command in self.visible().filter(|command| !command.name.contains(' ')) {
            text.push_str(&format!("  {:<12}{}\n", command.name, command.help));
        }
        text.push_str("\nGroups of commands:\n");
        for group in self.groups.iter().filter(|group| self.words(group).next().is_some()) {
            text.push_str(&format!("  {:<12}{}\n", group.name, group.help));
        }
        text.push_str("\nOptions:\n");
        self.global.iter().for_each(|flag| text.push_str(&line(flag)));
        text.push_str("  -v, --version                  print the version\n");
        text.push_str("\nSee `knarr-image COMMAND --help` for a command's options.\n");
        text
    }

    fn group_help(&self, group: &'static Group) -> String {
        let (name, help) = (group.name, group.help);
        let mut text = format!("Usage: knarr-image {name} COMMAND\n\n{help}\n\nCommands:\n");
        for (word, command) in self.words(group) {
            text.push_str(&format!("  {word:<12}{}\n", command.help));
        }
        text.push_str(&format!("\nSee `knarr-image {name} COMMAND --help` for a command's options.\n"));
        text
    }
}

impl Command {
    /// `run -h NAME` is a host's name, as with Docker.
    fn owns_h(&self) -> bool {
        self.flags.iter().any(|flag| flag.short == Some('h'))
    }

    /// Whether there are as many arguments as it wants.
    fn check_count(&self, called: &str, given: &[String]) -> Result<(), String> {
        let (least, most) = self.positional;
        if let Some(surplus) = given.get(most) {
            return Err(match most {
                0 => format!("{called} takes no arguments: unexpected {surplus:?}"),
                _ => format!(
                    "{called}: too many arguments: unexpected {surplus:?}: see knarr-image {called} --help"
                ),
            });
        }
        if given.len() >= least {
            return Ok(());
        }
        let missing = self.usage.split_whitespace().nth(given.len()).unwrap_or("an argument");
        Err(match missing.strip_suffix("...") {
            Some(word) => format!("{called}: at least one {word} is required"),
            None => format!("{called}: {missing} is required: see knarr-image {called} --help"),
        })
    }

    fn help(&self, called: &str, global: &[Flag]) -> String {
        let mut text = format!("Usage: knarr-image {called} [OPTIONS] {}\n\n{}\n", self.usage, self.help);
        for (title, flags) in [("Options", self.flags), ("Global options", global)] {
            if !flags.is_empty() {
                text.push_str(&format!("\n{title}:\n"));
                flags.iter().for_each(|flag| text.push_str(&line(flag)));
            }
        }
        text
    }
}

pub(crate) fn version() -> String {
    format!("knarr-image version {}\n", env!("CARGO_PKG_VERSION"))
}

fn flag<'a>(
    argument: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    flags: &'static [Flag],
    global: &'static [Flag],
    args: &mut Args,
) -> Result<(), String> {
    let all = || flags.iter().chain(global);
    let unknown = || format!("unknown flag {argument:?}");
    if let Some(long) = argument.strip_prefix("--") {
        let (name, given) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let flag = all().find(|flag| flag.long == name).ok_or_else(unknown)?;
        let value = match (flag.value, given) {
            (None, given) => truth(name, given.as_deref().unwrap_or("true"))?.to_owned(),
            (Some(_), Some(given)) => given,
            (Some(value), None) => rest.next().cloned().ok_or_else(|| format!("--{name} wants {value}"))?,
        };
        flag.check(&value)?;
        args.flags.push((flag.long, value));
        return Ok(());
    }
    let mut letters = argument[1..].chars();
    while let Some(letter) = letters.next() {
        let flag = all().find(|flag| flag.short == Some(letter)).ok_or_else(unknown)?;
        let Some(value) = flag.value else {
            args.flags.push((flag.long, "true".to_owned()));
            continue;
        };
        let attached = letters.as_str();
        let attached = attached.strip_prefix('=').unwrap_or(attached).to_owned();
        let given = if attached.is_empty() { rest.next().cloned() } else { Some(attached) };
        let given = given.ok_or_else(|| format!("-{letter} wants {value}"))?;
        flag.check(&given)?;
        args.flags.push((flag.long, given));
        return Ok(());
    }
    Ok(())
}

/// As Go reads booleans.
fn truth(name: &str, text: &str) -> Result<&'static str, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false"),
        other => Err(format!("--{name} {other:?}: is neither true nor false")),
    }
}

fn line(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let long =
        flag.value.map_or_else(|| format!("--{}", flag.long), |value| format!("--{} {value}", flag.long));
    format!("  {short}{long:<26} {}\n", flag.described())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn command(
        name: &'static str,
        usage: &'static str,
        flags: &'static [Flag],
        positional: (usize, usize),
    ) -> Command {
        Command { name, usage, help: "help", flags, positional, stop_at_first: false, run: |_| Ok(0) }
    }

    static TABLE: Table = Table {
        commands: &[&[
            Command {
                stop_at_first: true,
                ..command(
                    "run",
                    "IMAGE [ARGUMENT...]",
                    &[
                        switch("all", Some('a'), ""),
                        switch("quiet", Some('q'), ""),
                        value("env", Some('e'), "K=V", ""),
                    ],
                    (1, usize::MAX),
                )
            },
            command("tag", "IMAGE NAME", &[], (2, 2)),
            command("box ls", "", &[filter(Some('f'), &["name=PATTERN", "label!=NAME"])], (0, 0)),
            command("box rm", "BOX...", &[switch("force", Some('f'), "")], (1, usize::MAX)),
        ]],
        groups: &[
            Group {
                name: "container",
                help: "containers",
                words: &[("start", "run"), ("gone", "not-built")],
            },
            Group {
                name: "box",
                help: "boxes",
                words: &[("ls", "box ls"), ("list", "box ls"), ("rm", "box rm")],
            },
        ],
        global: &[value("root", None, "DIRECTORY", "")],
    };

    fn args(line: &str) -> Result<Args, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match TABLE.parse(&words)? {
            Parsed::Run(_, args) => Ok(args),
            Parsed::Help(text) => Err(text),
        }
    }

    #[test]
    fn flags_cluster_attach_and_repeat() {
        let parsed = args("--root /r run -aq -eA=1 -e B=2 --env=C=3 --all=false image -x --all").unwrap();
        assert_eq!(parsed.get("root"), Some("/r"));
        assert!(parsed.has("quiet") && !parsed.has("all"));
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1", "B=2", "C=3"]);
        assert_eq!(parsed.positional, ["image", "-x", "--all"]);
        assert_eq!(args("container start -q image").unwrap().positional, ["image"]);
    }

    #[test]
    fn one_letter_means_what_its_own_command_says() {
        assert_eq!(args("box list -q -f name=x").unwrap_err(), "unknown flag \"-q\"");
        assert_eq!(args("box list -f name=x").unwrap().get("filter"), Some("name=x"));
        assert!(args("box rm -f name=x").unwrap().has("force"));
        assert_eq!(args("box ls --filter=label!=a=b").unwrap().get("filter"), Some("label!=a=b"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, wanted) in [
            ("fly", "unknown command \"fly\""),
            ("container", "container: COMMAND is required"),
            ("container fly", "unknown command \"fly\": container has start"),
            ("container gone", "unknown command \"gone\""),
            ("box --root", "unknown command \"--root\": box has ls, rm"),
            ("--version", "knarr-image version"),
            ("run --what x", "unknown flag"),
            ("run -z x", "unknown flag"),
            ("run -e", "wants K=V"),
            ("run --all=perhaps x", "neither true nor false"),
            ("run", "run: IMAGE is required"),
            ("container start", "container start: IMAGE is required"),
            ("tag a", "tag: NAME is required"),
            ("tag a b c", "tag: too many arguments: unexpected \"c\""),
            ("box ls x", "box ls takes no arguments: unexpected \"x\""),
            ("box rm", "box rm: at least one BOX is required"),
            ("box ls -f x", "invalid filter 'x': must be KEY=VALUE, one of name=PATTERN"),
            ("box ls -fx=y", "invalid filter 'x': must be one of name=PATTERN"),
            ("box ls --filter label=y", "invalid filter 'label'"),
            ("box ls --filter =y", "invalid filter ''"),
            ("help box ls x", "help: too many arguments"),
            ("help run x", "help: too many arguments"),
            ("help box fly", "unknown command \"fly\""),
        ] {
            let error = args(line).unwrap_err();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }

    #[test]
    fn help_is_of_the_command_as_it_was_called() {
        for (line, wanted) in [
            ("run --help", "Usage: knarr-image run [OPTIONS] IMAGE"),
            ("help run", "Usage: knarr-image run [OPTIONS] IMAGE"),
            ("container start -h", "Usage: knarr-image container start [OPTIONS] IMAGE"),
            ("box --help", "Usage: knarr-image box COMMAND\n\nboxes\n\nCommands:\n  ls          help\n  rm "),
            ("help box", "Usage: knarr-image box COMMAND"),
            ("box ls --help", "Usage: knarr-image box ls [OPTIONS]"),
            ("help box ls", "only what matches: name=PATTERN, label!=NAME"),
            (
                "",
                "Commands:\n  run         help\n  tag         help\n\nGroups of commands:\n  container   containers\n",
            ),
        ] {
            let text = args(line).unwrap_err();
            assert!(text.contains(wanted), "{line}: {text}");
        }
    }
}
