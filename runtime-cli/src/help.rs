//! The help texts, laid out as runc's: the callers of `-h` look at the headings and the first lines.

use crate::args::{Flag, describe_flags};
use crate::commands::{ALL, Command};
use crate::version;
use std::fmt::Write;

/// The help of one command.
pub(crate) fn command(program: &str, command: &Command) -> String {
    let Command { name, summary, usage, about, flags, .. } = command;
    let options = if flags.iter().any(|f| !f.hidden) { " [command options]" } else { "" };
    let mut text =
        format!("NAME:\n   {program} {name} - {summary}\n\nUSAGE:\n   {program} {name}{options} {usage}\n");
    if !about.is_empty() {
        let _ = write!(text, "\nDESCRIPTION:\n   {}\n", about.replace('\n', "\n   "));
    }
    if !options.is_empty() {
        let _ = write!(text, "\nOPTIONS:\n{}", describe_flags(flags, false));
    }
    text
}

/// The help of the program.
pub(crate) fn program(program: &str, flags: &'static [Flag], root: &str) -> String {
    let width = ALL.iter().map(|c| c.name.len()).max().unwrap_or(0) + 2;
    let mut commands: String = ALL.iter().map(|c| format!("   {:width$}{}\n", c.name, c.summary)).collect();
    let _ = writeln!(commands, "   {:width$}Shows a list of commands or help for one command", "help, h");
    let flags = describe_flags(flags, true).replace("$root", root);
    format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         Makes and runs containers from bundles, as the OCI runtime specification describes them: a bundle is a directory with a\n\
         config.json and a root file system. `{program} spec` writes a config.json to start from, and\n\n\
         \x20   # {program} run [ -b bundle ] <container-id>\n\n\
         runs it under an id that is new on this host.\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {version}\n\n\
         COMMANDS:\n{commands}\n\
         GLOBAL OPTIONS:\n{flags}",
        version = version::VERSION,
    )
}
