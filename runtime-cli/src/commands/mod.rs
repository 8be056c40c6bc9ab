//! The table of commands, and the flags that several of them have.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use goflags::{Flag, Order, Parsed};

mod checkpoint;
mod completion;
mod create;
mod criu;
mod delete;
mod exec;
mod features;
mod kill;
mod later;
mod list;
mod man;
mod pause;
mod plan;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

/// All commands, in the order of the help.
pub(crate) const ALL: &[&Command] = &[
    &checkpoint::COMMAND,
    &create::COMMAND,
    &delete::COMMAND,
    &later::EVENTS,
    &exec::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::COMMAND,
    &plan::COMMAND,
    &ps::COMMAND,
    &restore::COMMAND,
    &resume::COMMAND,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
    &features::COMMAND,
    &completion::COMMAND,
    &man::COMMAND,
];

/// The command with this name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    ALL.iter().copied().find(|command| command.name == name)
}

/// The commands of the help.
pub(crate) fn visible() -> impl Iterator<Item = &'static Command> {
    ALL.iter().copied().filter(|command| !command.hidden)
}

/// One command: its help, its flags and its function.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// The arguments after the flags.
    pub(crate) usage: &'static str,
    /// More help, may be empty.
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) order: Order,
    /// The least and the greatest number of positional arguments.
    pub(crate) arguments: (usize, Option<usize>),
    /// Not a command of runc.
    pub(crate) own: bool,
    /// Not in the help. Such a command prints texts for packages, and needs no state directory.
    pub(crate) hidden: bool,
    pub(crate) run: fn(&Context<'_>, &Parsed) -> Outcome,
}

/// For commands that enter a container: a program in it must not be able to write to this program's file (CVE-2019-5736).
fn protect_program() -> Result<(), Failure> {
    libcontainer::protect_program(std::env::args_os()).map_err(Failure::from)
}

/// Flags that several commands have.
const BUNDLE: Flag = Flag::text(&["bundle", "b"], "bundle directory (default: the current directory)");
const CONSOLE_SOCKET: Flag =
    Flag::text(&["console-socket"], "AF_UNIX socket that receives the terminal's master");
const PID_FILE: Flag = Flag::text(&["pid-file"], "write the process's pid to this file");
const DETACH: Flag = Flag::bool(&["detach", "d"], "return immediately instead of waiting for the process");
const NO_PIVOT: Flag = Flag::bool(
    &["no-pivot"],
    "use MS_MOVE and chroot instead of pivot_root, for a root on a ramdisk (less safe)",
);
const NO_NEW_KEYRING: Flag = Flag::bool(&["no-new-keyring"], "share the caller's session keyring");
const PRESERVE_FDS: Flag =
    Flag::integer(&["preserve-fds"], "pass this many descriptors after stdio and $LISTEN_FDS");
const INIT_PIDFD_SOCKET: Flag =
    Flag::text(&["pidfd-socket"], "AF_UNIX socket that receives a pidfd of the container's first process");
const NO_SUBREAPER: Flag =
    Flag::bool(&["no-subreaper"], "do not become the subreaper of the container's processes");
const FORMAT: Flag = Flag::text(&["format", "f"], "table or json").default("table");

#[cfg(test)]
mod tests {
    use super::*;
    use goflags::Kind;

    /// `runc COMMAND --help` of runc 1.3.6, reduced to the names of commands and flags; a `*` marks flags that its help hides.
    const RUNC: &str = include_str!("runc-flags.txt");

    /// The commands of runc and their flags.
    fn runc() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        RUNC.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.collect())
        })
    }

    #[test]
    fn every_command_and_flag_of_runc_is_known() {
        let mut commands = 0;
        for (name, mut theirs) in runc() {
            let command = find(name).unwrap_or_else(|| panic!("no command {name}"));
            assert!(!command.own && !command.hidden, "{name}");
            commands += 1;
            let mut ours: Vec<String> = command.flags.iter().filter(|f| !f.own).map(described).collect();
            ours.sort();
            theirs.sort_unstable();
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(commands, ALL.iter().filter(|command| !command.own).count());
    }

    /// `name,n=` for a flag with a value, `name,n` without, `*` in front when hidden.
    fn described(flag: &Flag) -> String {
        let value = if flag.kind == Kind::Bool { "" } else { "=" };
        format!("{}{}{value}", if flag.hidden { "*" } else { "" }, flag.names.join(","))
    }

    /// The names of own flags that some command of runc has with its own meaning.
    fn clashes<'a>(flags: impl Iterator<Item = &'a Flag>) -> Vec<&'static str> {
        let theirs: Vec<&str> = runc()
            .flat_map(|(_, flags)| flags)
            .flat_map(|flag| flag.trim_matches(['*', '=']).split(','))
            .collect();
        let own = flags.filter(|flag| flag.own).flat_map(|flag| flag.names);
        own.copied().filter(|name| theirs.contains(name)).collect()
    }

    #[test]
    fn no_flag_of_our_own_has_a_name_that_runc_uses() {
        let made_up = [
            Flag::bool(&["fast", "d"], "").own(),
            Flag::text(&["memory"], "").own(),
            Flag::text(&["bundle"], ""),
        ];
        assert_eq!(clashes(made_up.iter()), ["d", "memory"]);
        assert_eq!(clashes(ALL.iter().flat_map(|command| command.flags)), [""; 0]);
    }
}
