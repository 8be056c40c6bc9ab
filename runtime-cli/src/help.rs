//! The help texts. Their layout is that of runc, since callers of `-h` look at the headings and the first lines.

use crate::commands::{self, Command};
use crate::{global, root, version};
use goflags::{Flag, Kind};
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
        let _ = write!(text, "\nOPTIONS:\n{}", describe(&[flags]));
    }
    text
}

/// The help of the program.
pub(crate) fn program(program: &str) -> String {
    let width = commands::visible().map(|c| c.name.len()).max().unwrap_or(0) + 2;
    let mut commands = String::new();
    for command in commands::visible() {
        let _ = writeln!(commands, "   {:width$}{}{}", command.name, command.summary, own_mark(command.own));
    }
    let _ = writeln!(commands, "   {:width$}Shows a list of commands or help for one command", "help, h");
    format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         Creates and runs containers from OCI bundles: directories with a config.json and a root file system.\n\
         `{program} spec` writes a template config.json, and\n\n\
         \x20   # {program} run [ -b bundle ] <container-id>\n\n\
         runs it.\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {version}\n\n\
         COMMANDS:\n{commands}\n\
         GLOBAL OPTIONS:\n{flags}",
        version = version::VERSION,
        flags = describe(global::FLAGS).replace("$root", &root::default()),
    )
}

/// Flags as help lines, names and texts in two columns. Those that runc does not have are last.
fn describe(tables: &[&[Flag]]) -> String {
    let shown = tables.iter().copied().flatten().filter(|flag| !flag.hidden);
    let (own, known): (Vec<&Flag>, Vec<&Flag>) = shown.partition(|flag| flag.own);
    let rows: Vec<(String, &Flag)> = known.into_iter().chain(own).map(|flag| (names(flag), flag)).collect();
    let width = rows.iter().map(|(names, _)| names.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (names, flag) in &rows {
        let _ = write!(text, "   {names:width$}{}", flag.help);
        let _ = match (flag.kind, flag.default) {
            (_, "") => Ok(()),
            (Kind::Text, default) => write!(text, " (default: \"{default}\")"),
            (_, default) => write!(text, " (default: {default})"),
        };
        let _ = writeln!(text, "{}", own_mark(flag.own));
    }
    text
}

/// Marks what runc does not have.
fn own_mark(own: bool) -> &'static str {
    if own { " (knarr only)" } else { "" }
}

fn names(flag: &Flag) -> String {
    let value = if flag.kind == Kind::Bool { "" } else { " value" };
    let names =
        flag.names.iter().map(|name| format!("{}{name}{value}", if name.len() == 1 { "-" } else { "--" }));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_in_two_aligned_columns_without_hidden_ones_and_own_ones_last() {
        const SHOWN: &[Flag] = &[
            Flag::bool(&["fast"], "hurry").own(),
            Flag::text(&["format", "f"], "which").default("table"),
            Flag::bool(&["quiet", "q"], "ids"),
            Flag::integer(&["n"], "count"),
            Flag::text(&["old"], "gone").hidden(),
        ];
        let expected = "   --format value, -f value  which (default: \"table\")
   --quiet, -q               ids
   -n value                  count (default: 0)
   --fast                    hurry (knarr only)
";
        assert_eq!(describe(&[SHOWN]), expected);
    }

    #[test]
    fn the_help_has_all_commands_but_hidden_ones_and_the_version_flag_last() {
        let text = program("knarr");
        assert!(text.contains(" would take on this host (knarr only)\n   ps "), "{text}");
        assert!(!text.contains("\n   completion ") && !text.contains("\n   man "), "{text}");
        let last: Vec<&str> =
            text.lines().rev().take(2).map(|line| line.trim_start().split(',').next().unwrap()).collect();
        assert_eq!(last, ["--version", "--help"]);
    }
}
