//! The command line: tables of commands and flags, their parser and help. Knows no command.

pub(crate) mod flags;
mod help;
mod parse;
mod table;

pub(crate) use help::version;
pub(crate) use parse::Parsed;
pub(crate) use table::{
    ANY, Args, Command, Flag, Group, Named, Operands, Table, command, filter, switch, value,
};
