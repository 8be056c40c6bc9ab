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
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
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

/// A longer name of a command, as Docker groups them: `image ls`.
#[derive(Debug)]
pub(crate) struct Grouped {
    /// `image`, `container`: also what `inspect` then looks for.
    pub(crate) group: &'static str,
    pub(crate) word: &'static str,
    /// The command's own name.
    pub(crate) name: &'static str,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(&'static Command, Args),
    Help(String),
}

pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

pub(crate) const fn value(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag { long, short, value: Some(value), help }
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

/// Parses what follows the program's name.
pub(crate) fn parse(
    commands: &[&'static [Command]],
    groups: &[Grouped],
    global: &'static [Flag],
    arguments: &[String],
) -> Result<Parsed, String> {
    let mut args = Args::default();
    let mut rest = arguments.iter();
    let mut command: Option<&'static Command> = None;
    let mut only_positional = false;
    while let Some(argument) = rest.next() {
        let positional = only_positional || argument == "-" || !argument.starts_with('-');
        match command {
            None if argument == "--version" || argument == "-v" => return Ok(Parsed::Help(version())),
            _ if !positional && (argument == "--help" || argument == "-h" && !owns_h(command)) => {
                return Ok(Parsed::Help(
                    command.map_or_else(|| overview(commands, global), |c| help(c, global)),
                ));
            }
            Some(_) if argument == "--" && !only_positional => only_positional = true,
            None if positional => {
                if argument == "help" {
                    return topic(commands, global, rest.next());
                }
                let mut name = argument.as_str();
                if groups.iter().any(|known| known.group == name) {
                    name = grouped(groups, argument, rest.next(), &mut args)?;
                }
                let found = all(commands).find(|command| command.name == name);
                command =
                    Some(found.ok_or_else(|| format!("{name:?} is no command: see knarr-image --help"))?);
            }
            Some(command) if positional => {
                args.positional.push(argument.clone());
                only_positional |= command.stop_at_first;
            }
            _ => {
                let flags = command.map_or(&[][..], |command| command.flags);
                flag(argument, &mut rest, flags, global, &mut args)?;
            }
        }
    }
    let Some(command) = command else {
        return Ok(Parsed::Help(overview(commands, global)));
    };
    let (least, most) = command.positional;
    if args.positional.len() < least || args.positional.len() > most {
        return Err(format!("{}: wants {}", command.name, command.usage));
    }
    Ok(Parsed::Run(command, args))
}

/// The command that a word of a group means.
fn grouped(
    groups: &[Grouped],
    group: &str,
    word: Option<&String>,
    args: &mut Args,
) -> Result<&'static str, String> {
    let words = || groups.iter().filter(|known| known.group == group);
    let Some(found) = words().find(|known| Some(known.word) == word.map(String::as_str)) else {
        let list: Vec<_> = words().map(|known| known.word).collect();
        return Err(format!("{group}: wants one of {}", list.join(", ")));
    };
    if found.name == "inspect" {
        args.flags.push(("type", found.group.to_owned()));
    }
    Ok(found.name)
}

pub(crate) fn version() -> String {
    format!("knarr-image version {}\n", env!("CARGO_PKG_VERSION"))
}

fn all(commands: &[&'static [Command]]) -> impl Iterator<Item = &'static Command> {
    commands.iter().flat_map(|table| table.iter())
}

/// `run -h NAME` is a host's name, as with Docker.
fn owns_h(command: Option<&Command>) -> bool {
    command.is_some_and(|command| command.flags.iter().any(|flag| flag.short == Some('h')))
}

fn topic(
    commands: &[&'static [Command]],
    global: &'static [Flag],
    name: Option<&String>,
) -> Result<Parsed, String> {
    let Some(name) = name else {
        return Ok(Parsed::Help(overview(commands, global)));
    };
    let found = all(commands).find(|command| command.name == name);
    found.map(|command| Parsed::Help(help(command, global))).ok_or_else(|| format!("{name:?} is no command"))
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
        args.flags.push((flag.long, given.ok_or_else(|| format!("-{letter} wants {value}"))?));
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

fn overview(commands: &[&[Command]], global: &[Flag]) -> String {
    let mut text =
        "Usage: knarr-image [OPTIONS] COMMAND\n\nContainer images: get, keep, change, send.\n\nCommands:\n"
            .to_owned();
    for command in commands.iter().flat_map(|table| table.iter()).filter(|command| !command.help.is_empty()) {
        text.push_str(&format!("  {:<12}{}\n", command.name, command.help));
    }
    text.push_str("\nOptions:\n");
    global.iter().for_each(|flag| text.push_str(&line(flag)));
    text.push_str("  -v, --version                  print the version\n");
    text.push_str("\nSee `knarr-image COMMAND --help` for a command's options. Docker's longer names, `image ls` or `container rm`, are\nunderstood, too.\n");
    text
}

pub(crate) fn help(command: &Command, global: &[Flag]) -> String {
    let mut text =
        format!("Usage: knarr-image {} [OPTIONS] {}\n\n{}\n", command.name, command.usage, command.help);
    for (title, flags) in [("Options", command.flags), ("Global options", global)] {
        if !flags.is_empty() {
            text.push_str(&format!("\n{title}:\n"));
            flags.iter().for_each(|flag| text.push_str(&line(flag)));
        }
    }
    text
}

fn line(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let long =
        flag.value.map_or_else(|| format!("--{}", flag.long), |value| format!("--{} {value}", flag.long));
    format!("  {short}{long:<26} {}\n", flag.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: &[Flag] =
        &[switch("all", Some('a'), ""), switch("quiet", Some('q'), ""), value("env", Some('e'), "K=V", "")];
    static COMMANDS: &[&[Command]] = &[&[Command {
        name: "run",
        usage: "IMAGE [ARGUMENT...]",
        help: "",
        flags: FLAGS,
        positional: (1, usize::MAX),
        stop_at_first: true,
        run: |_| Ok(0),
    }]];
    static GLOBAL: &[Flag] = &[value("root", None, "FOLDER", "")];
    static GROUPS: &[Grouped] = &[Grouped { group: "container", word: "start", name: "run" }];

    fn args(line: &str) -> Result<Args, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(COMMANDS, GROUPS, GLOBAL, &words)? {
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
    fn what_is_wrong_is_named() {
        for (line, wanted) in [
            ("fly", "no command"),
            ("container", "container: wants one of start"),
            ("container fly", "container: wants one of start"),
            ("--version", "knarr-image version"),
            ("run --what x", "unknown flag"),
            ("run -z x", "unknown flag"),
            ("run -e", "wants K=V"),
            ("run --all=perhaps x", "neither true nor false"),
            ("run", "wants IMAGE"),
            ("run --help", "Usage: knarr-image run"),
            ("help run", "Usage: knarr-image run"),
            ("", "Commands:"),
        ] {
            let error = args(line).unwrap_err();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
