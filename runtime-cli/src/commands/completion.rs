//! `completion`: prints a script that completes commands, flags and containers in a shell.

use super::{Command, Context, Failure, Outcome};
use crate::global;
use crate::output;
use goflags::{Flag, Kind, Order, Parsed};
use std::fmt::Write;

pub(super) const COMMAND: Command = Command {
    name: "completion",
    summary: "print a completion script for a shell",
    usage: "bash|zsh|fish",
    about: "Prints a script for the shell to load. `make install` installs it for all three.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: true,
    hidden: true,
    run,
};

/// The commands that take the id of a container that exists.
const TAKE_CONTAINERS: &[&str] =
    &["checkpoint", "delete", "events", "exec", "kill", "pause", "ps", "resume", "start", "state", "update"];

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let program = context.program;
    let script = match parsed.positional(0) {
        "bash" => bash(program),
        "zsh" => {
            format!("#compdef {program}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(program))
        }
        "fish" => fish(program),
        other => return Err(Failure::new(format!("completion {other:?}: must be bash, zsh or fish"))),
    };
    output::print(&script)?;
    Ok(0)
}

/// The names of the commands, and what else may follow the global flags.
fn names() -> String {
    super::visible().map(|command| command.name).chain(["help"]).collect::<Vec<_>>().join(" ")
}

/// Flags as they are typed: the long ones, then the short ones.
fn spelled<'a>(flags: impl Iterator<Item = &'a Flag> + Clone) -> Vec<String> {
    let shown = flags.filter(|flag| !flag.hidden).flat_map(|flag| flag.names);
    let (short, long): (Vec<&str>, Vec<&str>) = shown.partition(|name| name.len() == 1);
    let long = long.into_iter().map(|name| format!("--{name}"));
    long.chain(short.into_iter().map(|name| format!("-{name}"))).collect()
}

fn global() -> impl Iterator<Item = &'static Flag> + Clone {
    global::FLAGS.iter().copied().flatten()
}

/// One line of a `case`: the flags of a command, and those among them that take a value.
fn bash_case<'a>(command: &str, flags: impl Iterator<Item = &'a Flag> + Clone) -> String {
    let values = spelled(flags.clone().filter(|flag| flag.kind != Kind::Bool));
    format!("    {command}) flags='{}' values='{}' ;;\n", spelled(flags).join(" "), values.join(" "))
}

fn bash(program: &str) -> String {
    let mut cases = bash_case("''", global());
    for command in super::visible() {
        cases += &bash_case(command.name, command.flags.iter().chain(global::HELP));
    }
    format!(
        r#"_{program}() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= flags= values= list= root=() i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      --root) root=(--root "${{COMP_WORDS[++i]}}") ;;
      {valued}) ((i++)) ;;
      -*) ;;
      *) command=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $command in
{cases}  esac
  if [[ $before == -* && " $values " == *" $before "* ]]; then COMPREPLY=($(compgen -f -- "$word")); return; fi
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$word")); return; fi
  case $command in
    ''|help) list='{names}' ;;
    {containers}) list=$({program} "${{root[@]}}" list -q 2>/dev/null) ;;
    *) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  COMPREPLY=($(compgen -W "$list" -- "$word"))
}}
complete -F _{program} {program}
"#,
        valued = spelled(global().filter(|flag| flag.kind != Kind::Bool)).join("|"),
        names = names(),
        containers = TAKE_CONTAINERS.join("|"),
    )
}

/// Prints the command as far as it is typed.
const FISH_COMMAND: &str = r#"complete -c PROGRAM -f
function __PROGRAM_command
  set -l skip no
  for word in (commandline -opc)[2..-1]
    if test $skip = yes
      set skip no
    else if contains -- $word VALUED
      set skip yes
    else if not string match -q -- '-*' $word
      echo $word
      return
    end
  end
end
function __PROGRAM_is
  contains -- "$(__PROGRAM_command)" $argv
end
"#;

fn fish(program: &str) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let valued = spelled(global().filter(|flag| flag.kind != Kind::Bool)).join(" ");
    let mut text = FISH_COMMAND.replace("PROGRAM", program).replace("VALUED", &valued);
    let mut entry = |commands: &str, rest: &str| {
        let _ = writeln!(text, "complete -c {program} -n '__{program}_is {commands}' {rest}");
    };
    let flag = |flag: &Flag| {
        let names = flag.names.iter().map(|n| format!("-{} {n}", if n.len() == 1 { "s" } else { "l" }));
        let value = if flag.kind == Kind::Bool { "" } else { " -rF" };
        format!("{}{value} -d '{}'", names.collect::<Vec<_>>().join(" "), escaped(flag.help))
    };
    for command in super::visible() {
        entry("\"\" help", &format!("-a {} -d '{}'", command.name, escaped(command.summary)));
        for one in command.flags.iter().chain(global::HELP).filter(|flag| !flag.hidden) {
            entry(command.name, &flag(one));
        }
    }
    for one in global().filter(|flag| !flag.hidden) {
        entry("\"\"", &flag(one));
    }
    entry(&TAKE_CONTAINERS.join(" "), &format!("-a '({program} list -q 2>/dev/null)'"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_take_containers_exist() {
        for name in TAKE_CONTAINERS {
            assert!(super::super::find(name).is_some_and(|command| command.arguments.0 > 0), "{name}");
        }
    }

    /// The words that a shell proposes for a line.
    fn proposed(line: &[&str]) -> Vec<String> {
        let script =
            bash("knarr") + "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _knarr; echo \"${COMPREPLY[*]}\"";
        let ran =
            std::process::Command::new("bash").args(["-c", &script, "bash"]).args(line).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_and_flags() {
        assert_eq!(proposed(&["knarr", "re"]), ["restore", "resume"]);
        assert_eq!(proposed(&["knarr", "--root", "run", "del"]), ["delete"]);
        assert_eq!(proposed(&["knarr", "help", "fea"]), ["features"]);
        assert_eq!(proposed(&["knarr", "--systemd"]), ["--systemd-cgroup"]);
        assert_eq!(proposed(&["knarr", "run", "--pid"]), ["--pidfd-socket", "--pid-file"]);
        assert_eq!(
            proposed(&["knarr", "--debug", "list", "-"]),
            ["--format", "--quiet", "--help", "-f", "-q", "-h"]
        );
        assert_eq!(
            proposed(&["knarr", "exec", "--process", "/etc/host"]),
            proposed(&["x", "run", "/etc/host"])
        );
        assert!(proposed(&["knarr", "run", "/etc/host"]).contains(&"/etc/hostname".to_owned()));
    }
}
