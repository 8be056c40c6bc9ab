//! `knarr-image`: images on the command line. Parses, calls the library, prints; no logic that the library lacks.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod commands;
mod complete;
mod interrupt;
mod output;
mod progress;
mod run;
mod template;

use std::process::ExitCode;

use args::{Args, Parsed};

/// What Docker's command line returns for an option it does not know.
const USAGE: u8 = 125;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
            Ok(arguments) => arguments,
            Err(bad) => {
                eprintln!("knarr-image: argument {bad:?}: is no UTF-8");
                return ExitCode::from(USAGE);
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
            ExitCode::from(USAGE)
        }
    }
}

fn run(command: &args::Command, args: &Args) -> ExitCode {
    // Without root, everything that touches the store does so as root of a user namespace.
    let entered =
        if commands::WITHOUT_STORE.contains(&command.name) { Ok(()) } else { run::rootless::enter() };
    match entered.and_then(|()| (command.run)(args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("knarr-image: {error}");
            ExitCode::FAILURE
        }
    }
}
