//! Shell completion and man pages, generated from the tables of commands and flags.

use image_store::{Error, ErrorKind, Result};

use crate::args::{Args, Command, Flag};
use crate::commands::{COMMANDS, GLOBAL};
use crate::output::print;

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

/// `man [COMMAND]`
pub(crate) fn man(args: &Args) -> Result<u8> {
    let Some(name) = args.positional.first() else {
        print(&overview());
        return Ok(0);
    };
    let found = visible().find(|command| command.name == name);
    let command = found
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("man {name:?}: there is no such command")))?;
    print(&page(command));
    Ok(0)
}

fn visible() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().flat_map(|table| table.iter()).filter(|command| !command.help.is_empty())
}

fn names() -> String {
    visible().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

fn words(flags: &[Flag]) -> String {
    let long = flags.iter().map(|flag| format!("--{}", flag.long));
    let short = flags.iter().filter_map(|flag| Some(format!("-{}", flag.short?)));
    long.chain(short).collect::<Vec<_>>().join(" ")
}

/// Commands that take images, and those that take containers.
const OF_IMAGES: &[&str] = &["create", "history", "inspect", "mount", "push", "rmi", "run", "save", "tag"];
const OF_CONTAINERS: &[&str] = &[
    "attach", "commit", "cp", "diff", "exec", "export", "kill", "logs", "pause", "rename", "restart", "rm",
    "start", "stop", "top", "unpause", "wait",
];

fn bash() -> String {
    let mut cases = String::new();
    for command in visible() {
        cases.push_str(&format!("    {}) flags='{}' ;;\n", command.name, words(command.flags)));
    }
    format!(
        r#"_knarr_image() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} command= flags='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in --root) ((i++)) ;; -*) ;; *) command=${{COMP_WORDS[i]}}; break ;; esac
  done
  case $command in
    '') COMPREPLY=($(compgen -W '{names} {global}' -- "$word")); return ;;
{cases}  esac
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$flags {global}" -- "$word")); return; fi
  case $command in
    {images}) COMPREPLY=($(compgen -W "$(knarr-image images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 2>/dev/null)" -- "$word")) ;;
    {containers}) COMPREPLY=($(compgen -W "$(knarr-image ps -a --format '{{{{.Names}}}}' 2>/dev/null)" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -F _knarr_image knarr-image
"#,
        names = names(),
        global = words(GLOBAL),
        images = OF_IMAGES.join("|"),
        containers = OF_CONTAINERS.join("|"),
    )
}

fn fish() -> String {
    let mut text = "complete -c knarr-image -f\n".to_owned();
    let flag = |condition: &str, flag: &Flag| {
        let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = if flag.value.is_some() { " -r" } else { "" };
        let help = flag.help.replace('\'', "\\'");
        format!("complete -c knarr-image -n '{condition}' -l {}{short}{value} -d '{help}'\n", flag.long)
    };
    for command in visible() {
        let help = command.help.replace('\'', "\\'");
        text.push_str(&format!(
            "complete -c knarr-image -n __fish_use_subcommand -a {} -d '{help}'\n",
            command.name
        ));
        let condition = format!("__fish_seen_subcommand_from {}", command.name);
        command.flags.iter().for_each(|f| text.push_str(&flag(&condition, f)));
    }
    GLOBAL.iter().for_each(|f| text.push_str(&flag("true", f)));
    for (commands, list) in [
        (OF_IMAGES, "images --format \"{{.Repository}}:{{.Tag}}\""),
        (OF_CONTAINERS, "ps -a --format \"{{.Names}}\""),
    ] {
        text.push_str(&format!(
            "complete -c knarr-image -n '__fish_seen_subcommand_from {}' -a '(knarr-image {list} 2>/dev/null)'\n",
            commands.join(" ")
        ));
    }
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
            troff(flag.help)
        ));
    }
    text
}

fn page(command: &Command) -> String {
    format!(
        ".TH KNARR-IMAGE-{upper} 1\n.SH NAME\nknarr\\-image\\-{name} \\- {help}\n.SH SYNOPSIS\n\\fBknarr\\-image {name}\\fR [options] {usage}\n.SH OPTIONS\n{flags}.SH GLOBAL OPTIONS\n{global}.SH SEE ALSO\n\\fBknarr\\-image\\fR(1)\n",
        upper = command.name.to_uppercase(),
        name = command.name,
        help = troff(command.help),
        usage = troff(command.usage),
        flags = flag_items(command.flags),
        global = flag_items(GLOBAL),
    )
}

fn overview() -> String {
    let mut text = ".TH KNARR-IMAGE 1\n.SH NAME\nknarr\\-image \\- container images: get, keep, change, send\n.SH SYNOPSIS\n\\fBknarr\\-image\\fR [options] \\fIcommand\\fR\n.SH COMMANDS\n".to_owned();
    for command in visible() {
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR {}\n{}\n",
            command.name,
            troff(command.usage),
            troff(command.help)
        ));
    }
    text.push_str(&format!(".SH OPTIONS\n{}", flag_items(GLOBAL)));
    text.push_str(".SH FILES\n.TP\n\\fI/var/lib/knarr/images\\fR\nThe store, for root; \\fI$XDG_DATA_HOME/knarr/images\\fR for others.\n");
    text.push_str(".TP\n\\fI~/.docker/config.json\\fR, \\fI$REGISTRY_AUTH_FILE\\fR, \\fI$XDG_RUNTIME_DIR/containers/auth.json\\fR\nCredentials for registries.\n.TP\n\\fI/etc/containers/registries.conf\\fR, \\fI~/.config/containers/registries.conf\\fR\nMirrors, short names, what is blocked: see registries.conf(5).\n.TP\n\\fI/etc/docker/certs.d\\fR, \\fI/etc/containers/certs.d\\fR, \\fI/etc/containerd/certs.d\\fR\nA folder HOST:PORT for a registry: *.crt to trust, *.cert and *.key to show, hosts.toml.\n");
    text.push_str(".SH ENVIRONMENT\n.TP\nKNARR_IMAGE_ROOT\nThe store.\n.TP\nKNARR_IMAGE_KEEP_BLOBS\nWith \\fIfalse\\fR layers are kept unpacked only.\n.SH EXIT STATUS\n0 on success, 1 on failure, 125 for a wrong command line.\n\\fBrun\\fR, \\fBexec\\fR, \\fBattach\\fR and \\fBstart \\-a\\fR: that of the process; 125 when the container could not be made, 126 when the program can not be executed, 127 when there is none; 128 and the number of the signal that ended it.\n");
    text
}
