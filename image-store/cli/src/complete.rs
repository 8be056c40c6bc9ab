//! Shell completion and man pages, generated from the tables of commands and flags.

use image_store::{Error, ErrorKind, Result};

use crate::args::{Args, Command, Flag, Group, Named};
use crate::commands::TABLE;
use crate::output::{line, print};

/// `completion bash|zsh|fish`
pub(crate) fn completion(args: &Args) -> Result<u8> {
    let text = match args.positional[0].as_str() {
        "bash" => bash(),
        "zsh" => format!("#compdef knarr-image\nautoload -U +X bashcompinit && bashcompinit\n{}", bash()),
        "fish" => fish(),
        other => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("completion {other:?}: is none of bash, zsh, fish"),
            ));
        }
    };
    print(&text);
    Ok(0)
}

/// `man [COMMAND...]`: a command's words may be joined as in the names of the pages, `volume-prune`.
pub(crate) fn man(args: &Args) -> Result<u8> {
    if args.has("list") {
        pages().iter().for_each(|page| line(page));
        return Ok(0);
    }
    if args.positional.is_empty() {
        print(&overview());
        return Ok(0);
    }
    let words = args.positional.join(" ").replace('-', " ");
    let found = match words.split_once(' ') {
        Some((group, word)) if groups().any(|known| known.name == group) => TABLE.find(group, Some(word)),
        _ => TABLE.find(&words, None),
    };
    match found.map_err(|why| Error::new(ErrorKind::NotFound, format!("man: {why}")))? {
        Named::Command(_, command) => print(&page(command)),
        Named::Group(group) => print(&group_page(group)),
    }
    Ok(0)
}

/// What there are manual pages of, besides the overview: commands and groups, `images`, `volume`, `volume-prune`.
fn pages() -> Vec<String> {
    let commands = TABLE.visible().map(|command| command.name.replace(' ', "-"));
    let mut pages: Vec<String> = commands.chain(groups().map(|group| group.name.to_owned())).collect();
    pages.sort();
    pages
}

/// The groups of which this build has commands.
fn groups() -> impl Iterator<Item = &'static Group> {
    TABLE.groups.iter().filter(|group| TABLE.words(group).next().is_some())
}

/// Commands of one word, and groups, with their help.
fn first_words() -> impl Iterator<Item = (&'static str, &'static str)> {
    let commands = TABLE.visible().filter(|command| !command.name.contains(' '));
    commands.map(|command| (command.name, command.help)).chain(groups().map(|group| (group.name, group.help)))
}

fn words(flags: &[Flag]) -> String {
    let long = flags.iter().map(|flag| format!("--{}", flag.long));
    let short = flags.iter().filter_map(|flag| Some(format!("-{}", flag.short?)));
    long.chain(short).collect::<Vec<_>>().join(" ")
}

/// Commands by what they take, and what lists that.
const OPERANDS: &[(&[&str], &str)] = &[
    (
        &["create", "history", "image inspect", "inspect", "mount", "push", "rmi", "run", "save", "tag"],
        "images --format '{{.Repository}}:{{.Tag}}'",
    ),
    (
        &[
            "attach",
            "commit",
            "container inspect",
            "cp",
            "diff",
            "exec",
            "export",
            "kill",
            "logs",
            "pause",
            "rename",
            "restart",
            "rm",
            "start",
            "stop",
            "top",
            "unpause",
            "wait",
        ],
        "ps -a --format '{{.Names}}'",
    ),
    (&["volume inspect", "volume rm"], "volume ls -q"),
];

/// All ways to call some commands, quoted.
fn quoted(wanted: impl Fn(&Command) -> bool) -> Vec<String> {
    let commands = TABLE.visible().filter(|command| wanted(command));
    commands.flat_map(|command| TABLE.spellings(command)).map(|words| format!("'{words}'")).collect()
}

fn bash() -> String {
    let names = |names: Vec<&str>| names.join(" ");
    let mut flags = String::new();
    for command in TABLE.visible() {
        let called = quoted(|other| other.name == command.name).join("|");
        flags.push_str(&format!("    {called}) flags='{}' ;;\n", words(command.flags)));
    }
    let mut groups_words = String::new();
    for group in groups() {
        let list = names(TABLE.words(group).map(|(word, _)| word).collect());
        groups_words.push_str(&format!("    {}) list='{list}' ;;\n", group.name));
    }
    let mut operands = String::new();
    for (commands, list) in OPERANDS {
        let called = quoted(|command| commands.contains(&command.name)).join("|");
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
        groups = groups().map(|group| group.name).collect::<Vec<_>>().join("|"),
        global = words(TABLE.global),
        first = names(first_words().map(|(name, _)| name).collect()),
    )
}

/// The command as far as it is typed, such as `volume ls`; then whether it is one of some.
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

fn fish() -> String {
    let names: Vec<&str> = groups().map(|group| group.name).collect();
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
    for (name, help) in first_words() {
        entry(&["''".to_owned()], &format!("-a {name} -d '{}'", escaped(help)));
    }
    for group in groups() {
        for (word, command) in TABLE.words(group) {
            entry(&[group.name.to_owned()], &format!("-a {word} -d '{}'", escaped(command.help)));
        }
    }
    for command in TABLE.visible() {
        let called = quoted(|other| other.name == command.name);
        command.flags.iter().for_each(|f| entry(&called, &flag(f)));
    }
    for (commands, list) in OPERANDS {
        let called = quoted(|command| commands.contains(&command.name));
        entry(&called, &format!("-a '(knarr-image {} 2>/dev/null)'", escaped(list)));
    }
    TABLE.global.iter().for_each(|f| text.push_str(&format!("complete -c knarr-image {}\n", flag(f))));
    text
}

/// Dashes and backslashes mean something to troff.
fn troff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn flag_items(flags: &[Flag]) -> String {
    let mut text = String::new();
    for flag in flags {
        let short = flag.short.map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
        let value = flag.value.map(|value| format!(" \\fI{}\\fR", troff(value))).unwrap_or_default();
        text.push_str(&format!(
            ".TP\n{short}\\fB\\-\\-{}\\fR{value}\n{}\n",
            troff(flag.long),
            troff(&flag.described())
        ));
    }
    text
}

fn page(command: &Command) -> String {
    let others: Vec<String> =
        TABLE.spellings(command).into_iter().filter(|called| called != command.name).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(".SH ALSO CALLED\n{}\n", troff(&others.join(", "))),
    };
    format!(
        ".TH KNARR-IMAGE-{upper} 1\n.SH NAME\nknarr\\-image\\-{page} \\- {help}\n.SH SYNOPSIS\n\\fBknarr\\-image {name}\\fR [options] {usage}\n{others}.SH OPTIONS\n{flags}.SH GLOBAL OPTIONS\n{global}.SH SEE ALSO\n\\fBknarr\\-image\\fR(1)\n",
        upper = command.name.to_uppercase().replace(' ', "-"),
        page = troff(&command.name.replace(' ', "-")),
        name = command.name,
        help = troff(command.help),
        usage = troff(command.usage),
        flags = flag_items(command.flags),
        global = flag_items(TABLE.global),
    )
}

fn group_page(group: &'static Group) -> String {
    let name = group.name;
    let mut text = format!(
        ".TH KNARR-IMAGE-{upper} 1\n.SH NAME\nknarr\\-image\\-{name} \\- {help}\n.SH SYNOPSIS\n\\fBknarr\\-image {name}\\fR \\fIcommand\\fR\n.SH COMMANDS\n",
        upper = name.to_uppercase(),
        help = troff(group.help),
    );
    for (word, command) in TABLE.words(group) {
        let page = troff(&command.name.replace(' ', "-"));
        text.push_str(&format!(
            ".TP\n\\fB{word}\\fR {}\n{}: see \\fBknarr\\-image\\-{page}\\fR(1)\n",
            troff(command.usage),
            troff(command.help),
        ));
    }
    text
}

fn overview() -> String {
    let mut text = ".TH KNARR-IMAGE 1\n.SH NAME\nknarr\\-image \\- container images: get, keep, change, send\n.SH SYNOPSIS\n\\fBknarr\\-image\\fR [options] \\fIcommand\\fR\n.SH COMMANDS\n".to_owned();
    for command in TABLE.visible() {
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR {}\n{}\n",
            command.name,
            troff(command.usage),
            troff(command.help)
        ));
    }
    let names: Vec<&str> = groups().map(|group| group.name).collect();
    text.push_str(&format!(
        ".PP\nCommands are also understood with their group before them, as in \\fBimage ls\\fR: see the pages of {}.\n",
        names.join(", ")
    ));
    text.push_str(&format!(".SH OPTIONS\n{}", flag_items(TABLE.global)));
    text.push_str(".SH FILES\n.TP\n\\fI/var/lib/knarr/images\\fR\nThe store, for root; \\fI$XDG_DATA_HOME/knarr/images\\fR for others.\n");
    text.push_str(".TP\n\\fI~/.docker/config.json\\fR, \\fI$REGISTRY_AUTH_FILE\\fR, \\fI$XDG_RUNTIME_DIR/containers/auth.json\\fR\nCredentials for registries.\n.TP\n\\fI/etc/containers/registries.conf\\fR, \\fI~/.config/containers/registries.conf\\fR\nMirrors, short names, what is blocked: see registries.conf(5).\n.TP\n\\fI/etc/docker/certs.d\\fR, \\fI/etc/containers/certs.d\\fR, \\fI/etc/containerd/certs.d\\fR\nA folder HOST:PORT for a registry: *.crt to trust, *.cert and *.key to show, hosts.toml.\n");
    text.push_str(".SH ENVIRONMENT\n.TP\nKNARR_IMAGE_ROOT\nThe store.\n.TP\nKNARR_IMAGE_KEEP_BLOBS\nWith \\fIfalse\\fR layers are kept unpacked only.\n.SH EXIT STATUS\n0 on success, 1 on failure, 125 for a wrong command line.\n\\fBrun\\fR, \\fBexec\\fR, \\fBattach\\fR and \\fBstart \\-a\\fR: that of the process; 125 when the container could not be made, 126 when the program can not be executed, 127 when there is none; 128 and the number of the signal that ended it.\n");
    text
}
