//! The program that holds all integration tests, one module a topic. `--list` names them.
use std::process::ExitCode;

mod lifecycle;

fn main() -> ExitCode {
    integration::runner::main(&[lifecycle::TESTS])
}
