//! `man`: prints the manual pages, which are made from the same tables as the help.

use super::{Command, Context, Failure, Outcome};
use crate::{global, output};
use goflags::{Flag, Kind, Order, Parsed};
use std::fmt::Write;

pub(super) const COMMAND: Command = Command {
    name: "man",
    summary: "print a manual page",
    usage: "[command]",
    about: "Prints the page of a command, or the overview, for man(1): `knarr man run | man -l -`.",
    flags: &[Flag::bool(&["list"], "list the commands that have a page").own()],
    order: Order::Anywhere,
    arguments: (0, Some(1)),
    own: true,
    hidden: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let text = match parsed.positional(0) {
        _ if parsed.is("list") => super::visible().map(|command| format!("{}\n", command.name)).collect(),
        "" => overview(context.program),
        name => match super::visible().find(|command| command.name == name) {
            Some(command) => page(context.program, command),
            None => return Err(Failure::new(format!("man: no page for {name:?}: see man --list"))),
        },
    };
    output::print(&text)?;
    Ok(0)
}

/// Text for troff, in which dashes, backslashes and a dot at the start of a line have a meaning.
fn troff(text: &str) -> String {
    let lines = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = lines.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn options<'a>(flags: impl Iterator<Item = &'a Flag>) -> String {
    let mut text = String::new();
    for flag in flags.filter(|flag| !flag.hidden) {
        let dashes = |name: &str| if name.len() == 1 { "\\-" } else { "\\-\\-" };
        let value = if flag.kind == Kind::Bool { "" } else { " \\fIvalue\\fR" };
        let names = flag.names.iter().map(|name| format!("\\fB{}{}\\fR{value}", dashes(name), troff(name)));
        let default = match flag.default {
            "" => String::new(),
            "$root" => " (default: /run/knarr, or $XDG_RUNTIME_DIR/knarr without root)".to_owned(),
            default => format!(" (default: {default})"),
        };
        let _ = writeln!(
            text,
            ".TP\n{}\n{}",
            names.collect::<Vec<_>>().join(", "),
            troff(&format!("{}{default}", flag.help))
        );
    }
    text
}

fn page(program: &str, command: &Command) -> String {
    let Command { name, summary, usage, about, flags, .. } = command;
    let mut text = format!(
        ".TH {} 8\n.SH NAME\n{program}\\-{name} \\- {}\n.SH SYNOPSIS\n\\fB{program} {name}\\fR [options] {}\n",
        format!("{program}-{name}").to_uppercase(),
        troff(summary),
        troff(usage),
    );
    if !about.is_empty() {
        let _ = writeln!(text, ".SH DESCRIPTION\n{}", troff(about));
    }
    let _ = write!(
        text,
        ".SH OPTIONS\n{}.SH SEE ALSO\n\\fB{program}\\fR(8)\n",
        options(flags.iter().chain(global::HELP))
    );
    text
}

fn overview(program: &str) -> String {
    let mut text = format!(
        ".TH {} 8\n.SH NAME\n{program} \\- Open Container Initiative runtime\n.SH SYNOPSIS\n\
         \\fB{program}\\fR [global options] \\fIcommand\\fR [options] [arguments]\n.SH DESCRIPTION\n\
         Creates and runs containers from OCI bundles: directories with a config.json and a root file system.\n\
         \\fB{program} spec\\fR writes a template config.json, \\fB{program} run\\fR \\fIid\\fR runs it.\n.SH COMMANDS\n",
        program.to_uppercase(),
    );
    for command in super::visible() {
        let (name, summary) = (command.name, troff(command.summary));
        let _ = writeln!(text, ".TP\n\\fB{name}\\fR {}\n{summary}", troff(command.usage));
    }
    let _ = write!(
        text,
        ".SH GLOBAL OPTIONS\n{}.SH FILES\n.TP\n\\fI/run/knarr\\fR\n\
         The state of containers; without root, \\fI$XDG_RUNTIME_DIR/knarr\\fR.\n.SH EXIT STATUS\n\
         0 on success, 1 on failure, 3 for an unknown command.\n\
         \\fBrun\\fR, \\fBexec\\fR and \\fBrestore\\fR: that of the process, or 128+N if signal N ended it;\n\
         255 if \\fBexec\\fR cannot start the process, or if the program of \\fBrun\\fR cannot be executed.\n\
         .SH SEE ALSO\n\\fB{program}\\-run\\fR(8) and the pages of the other commands\n",
        options(global::FLAGS.iter().copied().flatten())
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_flags_that_are_not_hidden() {
        let kill = page("knarr", super::super::find("kill").unwrap());
        assert!(kill.starts_with(".TH KNARR-KILL 8\n.SH NAME\nknarr\\-kill \\- kill sends"), "{kill}");
        assert!(kill.contains(".TP\n\\fB\\-\\-help\\fR, \\fB\\-h\\fR\nshow help\n"), "{kill}");
        assert!(!kill.contains("all"), "{kill}");
        let run = page("knarr", super::super::find("run").unwrap());
        assert!(run.contains("\\fB\\-\\-pid\\-file\\fR \\fIvalue\\fR\n"), "{run}");
    }

    #[test]
    fn no_line_of_text_is_taken_for_a_request() {
        assert_eq!(troff(".a\n-b\\"), "\\&.a\n\\-b\\e");
        for command in super::super::visible() {
            for line in page("knarr", command).lines().filter(|line| line.starts_with('.')) {
                assert!([".TH ", ".SH ", ".TP"].iter().any(|known| line.starts_with(known)), "{line}");
            }
        }
    }
}
