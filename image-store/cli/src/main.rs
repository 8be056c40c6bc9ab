//! `knarr-image`: images and containers on the command line, with the library image-store and the runtime libcontainer.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive_output;
mod caller;
mod cli;
mod commands;
mod complete;
mod confirm;
mod container;
mod engine;
mod failure;
mod files;
mod filter;
mod images;
mod inspect;
mod interrupt;
mod man;
mod output;
mod places;
mod progress;
mod random;
mod rootless;
mod template;
mod trash;

use std::process::ExitCode;

use cli::{Args, Command, Parsed};

fn main() -> ExitCode {
    let arguments: Vec<String> =
        match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
            Ok(arguments) => arguments,
            Err(bad) => {
                eprintln!("knarr-image: argument {bad:?}: not valid UTF-8");
                return ExitCode::from(failure::ENGINE);
            }
        };
    match commands::TABLE.parse(&arguments) {
        Ok(Parsed::Run(command, args)) => run(command, &args),
        Ok(Parsed::Help(text)) => {
            output::print(&text);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("knarr-image: {message}");
            ExitCode::from(failure::ENGINE)
        }
    }
}

fn run(command: &Command, args: &Args) -> ExitCode {
    // Without root, commands that use the store run as root of a user namespace.
    let entered = if command.store { rootless::enter(args) } else { Ok(()) };
    match entered.and_then(|()| (command.run)(args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("knarr-image: {error}");
            ExitCode::FAILURE
        }
    }
}
