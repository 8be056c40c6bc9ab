//! The text of `--help` and `--version`. No I/O.

use super::table::{Command, Flag, Group, Named, Table};

impl Table {
    pub(crate) fn help(&self, named: &Named) -> String {
        match named {
            Named::Command(called, command) => command.help(called, self.global),
            Named::Group(group) => self.group_help(group),
        }
    }

    pub(crate) fn overview(&self) -> String {
        let mut text =
            "Usage: knarr-image [OPTIONS] COMMAND\n\nManage and run container images without a daemon.\n\nCommands:\n"
                .to_owned();
        for command in self.visible().filter(|command| !command.name.contains(' ')) {
            text.push_str(&format!("  {:<12}{}\n", command.name, command.help));
        }
        text.push_str("\nCommand groups:\n");
        for group in self.groups.iter().filter(|group| self.words(group).next().is_some()) {
            text.push_str(&format!("  {:<12}{}\n", group.name, group.help));
        }
        text.push_str("\nOptions:\n");
        self.global.iter().for_each(|flag| text.push_str(&line(flag)));
        text.push_str("  -v, --version                  print the version\n");
        text.push_str("\nSee `knarr-image COMMAND --help` for a command's options.\n");
        text
    }

    pub(crate) fn group_help(&self, group: &'static Group) -> String {
        let (name, help) = (group.name, group.help);
        let mut text = format!("Usage: knarr-image {name} COMMAND\n\n{help}\n\nCommands:\n");
        for (word, command) in self.words(group) {
            text.push_str(&format!("  {word:<12}{}\n", command.help));
        }
        text.push_str(&format!("\nSee `knarr-image {name} COMMAND --help` for a command's options.\n"));
        text
    }
}

impl Command {
    pub(crate) fn help(&self, called: &str, global: &[Flag]) -> String {
        let usage = format!("Usage: knarr-image {called} [OPTIONS] {}", self.usage);
        let mut text = format!("{}\n\n{}\n", usage.trim_end(), self.help);
        for (title, flags) in [("Options", self.flags), ("Global options", global)] {
            if !flags.is_empty() {
                text.push_str(&format!("\n{title}:\n"));
                flags.iter().for_each(|flag| text.push_str(&line(flag)));
            }
        }
        text
    }
}

pub(crate) fn version() -> String {
    format!("knarr-image version {}\n", env!("CARGO_PKG_VERSION"))
}

/// A flag with its help beside it, or below it if its name and value are too long for the column.
fn line(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let long =
        flag.value.map_or_else(|| format!("--{}", flag.long), |value| format!("--{} {value}", flag.long));
    let gap = if long.len() > 26 { format!("\n{:33}", "") } else { format!("{:1$} ", "", 26 - long.len()) };
    format!("  {short}{long}{gap}{}\n", flag.described())
}
