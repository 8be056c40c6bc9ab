//! Parses a command line by the table of commands. No I/O.

use super::help::version;
use super::table::{Args, Command, Flag, Named, Table};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(&'static Command, Args),
    Help(String),
}

impl Table {
    /// Parses the arguments of the program.
    pub(crate) fn parse(&'static self, arguments: &[String]) -> Result<Parsed, String> {
        let mut args = Args { table: self, flags: Vec::new(), positional: Vec::new() };
        let mut rest = arguments.iter();
        let (called, command) = loop {
            let Some(argument) = rest.next() else { return Ok(Parsed::Help(self.overview())) };
            match argument.as_str() {
                "--version" | "-v" => return Ok(Parsed::Help(version())),
                "--help" | "-h" => return Ok(Parsed::Help(self.overview())),
                "help" => return self.topic(rest.as_slice()),
                option if option.starts_with('-') && option != "-" => {
                    flag(option, &mut rest, "", &[], self.global, &mut args)?;
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
                flag(argument, &mut rest, &called, command.flags, self.global, &mut args)?;
            }
        }
        command.check_count(&called, &args.positional)?;
        Ok(Parsed::Run(command, args))
    }

    /// The command called `name`, or for a group by the word after it; the group itself when only its help is wanted.
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
}

impl Command {
    /// Whether `-h` is a flag of its own, as in Docker's `run -h HOSTNAME`.
    fn owns_h(&self) -> bool {
        self.flags.iter().any(|flag| flag.short == Some('h'))
    }

    /// Checks the number of positional arguments.
    fn check_count(&self, called: &str, given: &[String]) -> Result<(), String> {
        let (least, most) = self.positional;
        if let Some(surplus) = given.get(most) {
            return Err(match most {
                0 => format!("{called}: takes no arguments: unexpected {surplus:?}"),
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
            Some(word) => {
                format!("{called}: at least one {word} is required: see knarr-image {called} --help")
            }
            None => format!("{called}: {missing} is required: see knarr-image {called} --help"),
        })
    }
}

fn flag<'a>(
    argument: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    called: &str,
    flags: &'static [Flag],
    global: &'static [Flag],
    args: &mut Args,
) -> Result<(), String> {
    let all = || flags.iter().chain(global);
    let help = ["knarr-image", called, "--help"].join(" ").replace("  ", " ");
    let unknown = || format!("unknown flag {argument:?}: see {help}");
    if let Some(long) = argument.strip_prefix("--") {
        let (name, given) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let flag = all().find(|flag| flag.long == name).ok_or_else(unknown)?;
        let value = match (flag.value, given) {
            (None, given) => truth(name, given.as_deref().unwrap_or("true"))?.to_owned(),
            (Some(_), Some(given)) => given,
            (Some(value), None) => {
                rest.next().cloned().ok_or_else(|| format!("--{name}: {value} is required"))?
            }
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
        let given = given.ok_or_else(|| format!("-{letter}: {value} is required"))?;
        flag.check(&given)?;
        args.flags.push((flag.long, given));
        return Ok(());
    }
    Ok(())
}

/// A boolean as Go's flag package reads it.
fn truth(name: &str, text: &str) -> Result<&'static str, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false"),
        other => Err(format!("--{name} {other:?}: must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Group, Operands, filter, switch, value};
    use super::*;

    const fn command(
        name: &'static str,
        usage: &'static str,
        flags: &'static [Flag],
        positional: (usize, usize),
    ) -> Command {
        Command {
            name,
            usage,
            help: "help",
            flags,
            positional,
            operands: Operands::Files,
            stop_at_first: false,
            store: true,
            run: |_| Ok(0),
        }
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
        assert_eq!(
            args("box list -q -f name=x").unwrap_err(),
            "unknown flag \"-q\": see knarr-image box list --help"
        );
        assert_eq!(args("box list -f name=x").unwrap().get("filter"), Some("name=x"));
        assert!(args("box rm -f name=x").unwrap().has("force"));
        assert_eq!(args("box ls --filter=label!=a=b").unwrap().get("filter"), Some("label!=a=b"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, wanted) in [
            ("fly", "unknown command \"fly\": see knarr-image --help"),
            ("build -t x .", "build: not supported: use `buildah build --runtime knarr`"),
            ("network ls", "network: not supported: run knarr under Docker, podman or containerd"),
            ("container", "container: COMMAND is required"),
            ("container fly", "container: unknown command \"fly\": must be one of start"),
            ("container gone", "container: unknown command \"gone\""),
            ("box --root", "box: unknown command \"--root\": must be one of ls, rm"),
            ("--version", "knarr-image version"),
            ("run --what x", "unknown flag \"--what\": see knarr-image run --help"),
            ("run -z x", "unknown flag \"-z\": see knarr-image run --help"),
            ("--what", "unknown flag \"--what\": see knarr-image --help"),
            ("run -e", "-e: K=V is required"),
            ("run --all=perhaps x", "must be true or false"),
            ("run", "run: IMAGE is required"),
            ("container start", "container start: IMAGE is required"),
            ("tag a", "tag: NAME is required"),
            ("tag a b c", "tag: too many arguments: unexpected \"c\""),
            ("box ls x", "box ls: takes no arguments: unexpected \"x\""),
            ("box rm", "box rm: at least one BOX is required"),
            ("box ls -f x", "invalid filter 'x': must be KEY=VALUE, with one of name=PATTERN"),
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
            ("help box ls", "filter by: name=PATTERN, label!=NAME"),
            (
                "",
                "Commands:\n  run         help\n  tag         help\n\nCommand groups:\n  container   containers\n",
            ),
        ] {
            let text = args(line).unwrap_err();
            assert!(text.contains(wanted), "{line}: {text}");
        }
    }
}
