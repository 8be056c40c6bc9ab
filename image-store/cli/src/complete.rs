//! Shell completion, generated from the tables of commands and flags.

use image_store::ErrorKind;

use crate::cli::{Args, Command, Flag, Operands, Table};
use crate::failure::{Failure, Result};
use crate::output::print;

/// `completion bash|zsh|fish`
pub(crate) fn completion(args: &Args) -> Result<u8> {
    let text = match args.positional[0].as_str() {
        "bash" => bash(args.table),
        "zsh" => {
            format!("#compdef knarr-image\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(args.table))
        }
        "fish" => fish(args.table),
        other => {
            return Err(Failure::new(
                ErrorKind::Invalid,
                format!("completion {other:?}: must be bash, zsh or fish"),
            ));
        }
    };
    print(&text);
    Ok(0)
}

/// The first words of command lines, with their help: commands of one word, and groups.
fn first_words(table: &Table) -> impl Iterator<Item = (&'static str, &'static str)> {
    let commands = table.visible().filter(|command| !command.name.contains(' '));
    let groups = table.groups.iter().map(|group| (group.name, group.help));
    commands.map(|command| (command.name, command.help)).chain(groups)
}

fn words(flags: &[Flag]) -> String {
    let long = flags.iter().map(|flag| format!("--{}", flag.long));
    let short = flags.iter().filter_map(|flag| Some(format!("-{}", flag.short?)));
    long.chain(short).collect::<Vec<_>>().join(" ")
}

/// The kinds of arguments that can be listed, with the command that does.
const LISTS: [(Operands, &str); 3] = [
    (Operands::Images, "images --format '{{.Repository}}:{{.Tag}}'"),
    (Operands::Containers, "ps -a --format '{{.Names}}'"),
    (Operands::Volumes, "volume ls -q"),
];

/// Every way to call some commands, quoted.
fn quoted(table: &Table, wanted: impl Fn(&Command) -> bool) -> Vec<String> {
    let commands = table.visible().filter(|command| wanted(command));
    commands.flat_map(|command| table.spellings(command)).map(|words| format!("'{words}'")).collect()
}

fn bash(table: &Table) -> String {
    let names = |names: Vec<&str>| names.join(" ");
    let mut flags = String::new();
    for command in table.visible() {
        let called = quoted(table, |other| other.name == command.name).join("|");
        flags.push_str(&format!("    {called}) flags='{}' ;;\n", words(command.flags)));
    }
    let mut groups_words = String::new();
    for group in table.groups {
        let list = names(table.words(group).map(|(word, _)| word).collect());
        groups_words.push_str(&format!("    {}) list='{list}' ;;\n", group.name));
    }
    let mut operands = String::new();
    for (kind, list) in LISTS {
        let called = quoted(table, |command| command.operands == kind).join("|");
        operands.push_str(&format!("    {called}) list=$(knarr-image {list} 2>/dev/null) ;;\n"));
    }
    format!(
        r#"_knarr_image() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} command= flags= list= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in --root|--keep-blobs) ((i++)); continue ;; -*) continue ;; esac
    command=${{command:+$command }}${{COMP_WORDS[i]}}
    case $command in {groups}) ;; *) break ;; esac
  done
  case $command in
{flags}  esac
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$flags {global}" -- "$word")); return; fi
  case $command in
    '') list='{first}' ;;
{groups_words}{operands}    *) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  COMPREPLY=($(compgen -W "$list" -- "$word"))
}}
complete -F _knarr_image knarr-image
"#,
        groups = table.groups.iter().map(|group| group.name).collect::<Vec<_>>().join("|"),
        global = words(table.global),
        first = names(first_words(table).map(|(name, _)| name).collect()),
    )
}

/// The functions of the script for fish: the command as far as it is typed, such as `volume ls`, and whether it is one of a list.
const FISH_COMMAND: &str = r#"complete -c knarr-image -f
function __knarr_image_command
  set -l command
  set -l skip no
  for word in (commandline -opc)[2..-1]
    if test $skip = yes
      set skip no
    else if contains -- $word --root --keep-blobs
      set skip yes
    else if not string match -q -- '-*' $word
      set -a command $word
      contains -- "$command" GROUPS; or break
    end
  end
  echo "$command"
end
function __knarr_image_is
  contains -- (__knarr_image_command) $argv
end
"#;

fn fish(table: &Table) -> String {
    let names: Vec<&str> = table.groups.iter().map(|group| group.name).collect();
    let mut text = FISH_COMMAND.replace("GROUPS", &names.join(" "));
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut entry = |called: &[String], rest: &str| {
        let condition = escaped(&format!("__knarr_image_is {}", called.join(" ")));
        text.push_str(&format!("complete -c knarr-image -n '{condition}' {rest}\n"));
    };
    let flag = |flag: &Flag| {
        let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = if flag.value.is_some() { " -r" } else { "" };
        format!("-l {}{short}{value} -d '{}'", flag.long, escaped(&flag.described()))
    };
    for (name, help) in first_words(table) {
        entry(&["''".to_owned()], &format!("-a {name} -d '{}'", escaped(help)));
    }
    for group in table.groups {
        for (word, command) in table.words(group) {
            entry(&[group.name.to_owned()], &format!("-a {word} -d '{}'", escaped(command.help)));
        }
    }
    for command in table.visible() {
        let called = quoted(table, |other| other.name == command.name);
        command.flags.iter().for_each(|f| entry(&called, &flag(f)));
    }
    for (kind, list) in LISTS {
        let called = quoted(table, |command| command.operands == kind);
        entry(&called, &format!("-a '(knarr-image {} 2>/dev/null)'", escaped(list)));
    }
    table.global.iter().for_each(|f| text.push_str(&format!("complete -c knarr-image {}\n", flag(f))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::TABLE;

    #[test]
    fn the_arguments_of_these_commands_are_proposed() {
        for (kind, names) in [
            (Operands::Images, "create history image-inspect inspect mount push rmi run save tag"),
            (
                Operands::Containers,
                "attach commit container-inspect cp diff exec export kill logs pause rename restart rm start stop top unpause wait",
            ),
            (Operands::Volumes, "volume-inspect volume-rm"),
        ] {
            let commands = TABLE.visible().filter(|command| command.operands == kind);
            let mut found: Vec<_> = commands.map(|command| command.name.replace(' ', "-")).collect();
            found.sort();
            assert_eq!(found.join(" "), names, "{kind:?}");
        }
        let volumes =
            "'volume inspect'|'volume rm'|'volume remove') list=$(knarr-image volume ls -q 2>/dev/null) ;;";
        assert!(bash(&TABLE).contains(volumes), "{}", bash(&TABLE));
        let volumes = r"__knarr_image_is \'volume inspect\' \'volume rm\' \'volume remove\'' -a '(knarr-image volume ls -q 2>/dev/null)'";
        assert!(fish(&TABLE).contains(volumes), "{}", fish(&TABLE));
    }
}
