//! The program that holds all integration tests, one module a topic. `--list` names them.
use std::process::ExitCode;

mod exec;
mod lifecycle;
mod run;

fn main() -> ExitCode {
    integration::runner::main(&[lifecycle::TESTS, run::TESTS, exec::TESTS])
}
