//! The table of commands, and what they share: the global context and the way a command ends.

use crate::args::{Flag, Order, Parsed};
pub(crate) use crate::failure::Failure;
use crate::log::Log;
use libcontainer::{Container, ContainerId, Runtime};
use std::path::PathBuf;

mod checkpoint;
mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod later;
mod list;
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
];

/// One command: its words, its flags and what it does.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// What stands after the flags.
    pub(crate) usage: &'static str,
    /// Further help, may be empty.
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) order: Order,
    /// Fewest and most positional arguments.
    pub(crate) arguments: (usize, Option<usize>),
    pub(crate) run: fn(&Context<'_>, &Parsed) -> Outcome,
}

/// What the global flags say.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The name the command goes by: `knarr`, or `runc` when it was called so.
    pub(crate) program: &'static str,
    /// The directory of the containers' states.
    pub(crate) root: PathBuf,
    /// `root` was named by the caller.
    pub(crate) root_given: bool,
    pub(crate) systemd_cgroup: bool,
    /// `--rootless`; `None` is auto.
    pub(crate) rootless: Option<bool>,
    pub(crate) log: &'a Log,
}

/// For commands that enter a container: a program in it must not get hold of this program's file (CVE-2019-5736).
fn protect_program() -> Result<(), Failure> {
    libcontainer::protect_program(std::env::args_os()).map_err(Failure::from)
}

/// Flags that several commands have.
const BUNDLE: Flag = Flag::text(
    &["bundle", "b"],
    "the bundle's directory, with config.json in it; by default the current one",
);
const CONSOLE_SOCKET: Flag =
    Flag::text(&["console-socket"], "AF_UNIX socket that gets the master of the process's terminal");
const PID_FILE: Flag = Flag::text(&["pid-file"], "write the process's pid to this file");
const DETACH: Flag =
    Flag::bool(&["detach", "d"], "come back at once instead of waiting for the process's end");
const NO_PIVOT: Flag = Flag::bool(
    &["no-pivot"],
    "change the root by MS_MOVE and chroot instead of pivot_root, for roots on a ramdisk; less safe",
);
const NO_NEW_KEYRING: Flag =
    Flag::bool(&["no-new-keyring"], "let the container have the caller's session keyring");
const PRESERVE_FDS: Flag =
    Flag::integer(&["preserve-fds"], "hand on this many descriptors after stdio and $LISTEN_FDS");
const FORMAT: Flag = Flag::text(&["format", "f"], "table or json").default("table");

/// The exit status, or why there was none.
pub(crate) type Outcome = Result<u8, Failure>;

impl Context<'_> {
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        Ok(Runtime::open(&self.root)?)
    }

    /// The container named by the first positional argument.
    pub(crate) fn container(&self, parsed: &Parsed) -> Result<Container, Failure> {
        let id = ContainerId::new(parsed.positional(0))?;
        Ok(self.runtime()?.load(&id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `runc COMMAND --help` of runc 1.3.6, reduced to the names of commands and flags; a `*` marks flags that its help hides.
    const RUNC: &str = include_str!("runc-flags.txt");

    #[test]
    fn every_command_and_flag_of_runc_is_known() {
        let mut commands = 0;
        for line in RUNC.lines().filter(|l| !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let command = ALL.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no command {name}"));
            commands += 1;
            let mut ours: Vec<String> = command.flags.iter().map(described).collect();
            let mut theirs: Vec<String> = words.map(str::to_owned).collect();
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{name}");
        }
        // Ours alone: plan.
        assert_eq!(commands + 1, ALL.len());
    }

    /// `name,n=` for a flag with a value, `name,n` without, `*` in front when hidden.
    fn described(flag: &Flag) -> String {
        let value = if flag.kind == crate::args::Kind::Bool { "" } else { "=" };
        format!("{}{}{value}", if flag.hidden { "*" } else { "" }, flag.names.join(","))
    }
}
