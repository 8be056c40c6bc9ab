//! `without CALL[,CALL…] PROGRAM ARGS…`: runs a program for which these system calls do not exist, as on an older kernel or below an outer
//! seccomp filter. `all` means all that it knows. Whatever the program starts inherits it.
#![allow(clippy::print_stderr)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use integration::sys::refuse_calls;
use integration::without::refusals;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [calls, program, rest @ ..] = args.as_slice() else {
        eprintln!("usage: without CALL[,CALL…]|all PROGRAM ARGS…");
        return ExitCode::from(2);
    };
    let refused = match refusals(&calls.to_string_lossy()) {
        Ok(refused) => refused,
        Err(unknown) => {
            eprintln!("without: no such call: {unknown}");
            return ExitCode::from(2);
        }
    };
    if let Err(e) = refuse_calls(&refused) {
        eprintln!("without: seccomp: {e}");
        return ExitCode::from(2);
    }
    eprintln!("without: {program:?}: {}", Command::new(program).args(rest).exec());
    ExitCode::from(2)
}
