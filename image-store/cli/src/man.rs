//! Manual pages, generated from the tables of commands and flags.

use image_store::ErrorKind;

use crate::cli::{Args, Command, Flag, Group, Named, Table};
use crate::failure::{Failure, Result};
use crate::output::{line, print};
use crate::places;

/// `man [COMMAND...]`: the words of a command may be joined as in the names of the pages, `volume-prune`.
pub(crate) fn man(args: &Args) -> Result<u8> {
    let table = args.table;
    if args.has("list") {
        pages(table).iter().for_each(|page| line(page));
        return Ok(0);
    }
    if args.positional.is_empty() {
        print(&overview(table));
        return Ok(0);
    }
    let words = args.positional.join(" ").replace('-', " ");
    let found = match words.split_once(' ') {
        Some((group, word)) if table.groups.iter().any(|known| known.name == group) => {
            table.find(group, Some(word))
        }
        _ => table.find(&words, None),
    };
    match found.map_err(|why| Failure::new(ErrorKind::NotFound, format!("man: {why}")))? {
        Named::Command(_, command) => print(&page(table, command)),
        Named::Group(group) => print(&group_page(table, group)),
    }
    Ok(0)
}

/// The names of the pages besides the overview, one for each command and group: `images`, `volume`, `volume-prune`.
fn pages(table: &Table) -> Vec<String> {
    let commands = table.visible().map(|command| command.name.replace(' ', "-"));
    let mut pages: Vec<String> =
        commands.chain(table.groups.iter().map(|group| group.name.to_owned())).collect();
    pages.sort();
    pages
}

/// Escapes the characters that are special to troff.
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

fn page(table: &Table, command: &Command) -> String {
    let others: Vec<String> =
        table.spellings(command).into_iter().filter(|called| called != command.name).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(".SH ALIASES\n{}\n", troff(&others.join(", "))),
    };
    format!(
        ".TH KNARR-IMAGE-{upper} 1\n.SH NAME\nknarr\\-image\\-{page} \\- {help}\n.SH SYNOPSIS\n\\fBknarr\\-image {name}\\fR [options] {usage}\n{others}.SH OPTIONS\n{flags}.SH GLOBAL OPTIONS\n{global}.SH SEE ALSO\n\\fBknarr\\-image\\fR(1)\n",
        upper = command.name.to_uppercase().replace(' ', "-"),
        page = troff(&command.name.replace(' ', "-")),
        name = command.name,
        help = troff(command.help),
        usage = troff(command.usage),
        flags = flag_items(command.flags),
        global = flag_items(table.global),
    )
}

fn group_page(table: &Table, group: &'static Group) -> String {
    let name = group.name;
    let mut text = format!(
        ".TH KNARR-IMAGE-{upper} 1\n.SH NAME\nknarr\\-image\\-{name} \\- {help}\n.SH SYNOPSIS\n\\fBknarr\\-image {name}\\fR \\fIcommand\\fR\n.SH COMMANDS\n",
        upper = name.to_uppercase(),
        help = troff(group.help),
    );
    for (word, command) in table.words(group) {
        let page = troff(&command.name.replace(' ', "-"));
        text.push_str(&format!(
            ".TP\n\\fB{word}\\fR {}\n{}: see \\fBknarr\\-image\\-{page}\\fR(1)\n",
            troff(command.usage),
            troff(command.help),
        ));
    }
    text
}

fn overview(table: &Table) -> String {
    let mut text = ".TH KNARR-IMAGE 1\n.SH NAME\nknarr\\-image \\- manage and run container images without a daemon\n.SH SYNOPSIS\n\\fBknarr\\-image\\fR [options] \\fIcommand\\fR\n.SH COMMANDS\n".to_owned();
    for command in table.visible() {
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR {}\n{}\n",
            command.name,
            troff(command.usage),
            troff(command.help)
        ));
    }
    let names: Vec<&str> = table.groups.iter().map(|group| group.name).collect();
    text.push_str(&format!(
        ".PP\nCommands can also be called by their group, as in \\fBimage ls\\fR: see the pages of {}.\n",
        names.join(", ")
    ));
    text.push_str(&format!(".SH OPTIONS\n{}", flag_items(table.global)));
    text.push_str(&format!(
        ".SH FILES\n.TP\n\\fI{}\\fR\nThe image store of root; of other users: \\fI$XDG_DATA_HOME/{}\\fR.\n",
        troff(places::STORE),
        troff(places::STORE_IN_DATA)
    ));
    text.push_str(&format!(
        ".TP\n\\fI{}\\fR\nThe state of running containers of root; of other users: \\fI$XDG_RUNTIME_DIR/{}\\fR, or \\fI{}UID\\fR without such a directory.\n",
        troff(places::STATE),
        troff(places::STATE_IN_RUNTIME),
        troff(places::STATE_IN_TMP)
    ));
    text.push_str(".TP\n\\fI~/.docker/config.json\\fR, \\fI$REGISTRY_AUTH_FILE\\fR, \\fI$XDG_RUNTIME_DIR/containers/auth.json\\fR\nCredentials for registries.\n.TP\n\\fI/etc/containers/registries.conf\\fR, \\fI~/.config/containers/registries.conf\\fR\nMirrors, short names and blocked registries: see containers\\-registries.conf(5).\n.TP\n\\fI/etc/docker/certs.d\\fR, \\fI/etc/containers/certs.d\\fR, \\fI/etc/containerd/certs.d\\fR\nA directory HOST:PORT per registry with *.crt to trust, *.cert and *.key to present, or hosts.toml.\n");
    text.push_str(".SH ENVIRONMENT\n.TP\nKNARR_IMAGE_ROOT\nThe image store.\n.TP\nKNARR_IMAGE_KEEP_BLOBS\nIf \\fIfalse\\fR, compressed layers are not kept.\n.SH EXIT STATUS\n0 on success, 1 on failure, 125 for an invalid command line.\n\\fBrun\\fR, \\fBexec\\fR, \\fBattach\\fR and \\fBstart \\-a\\fR: the exit status of the process; 125 if the container could not be created, 126 if the program cannot be executed, 127 if it was not found, 128+N if signal N ended it.\n");
    text
}
