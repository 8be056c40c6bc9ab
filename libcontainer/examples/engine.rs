//! A small engine: creates a container from a bundle, runs a further process in it, and deletes it. The exit status is that of the
//! process.
//!
//!     engine STATE_ROOT ID BUNDLE PROGRAM [ARGUMENT…]

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, not a library")]

use libcontainer::{Bundle, ContainerId, CreateOptions, Delete, ExecOptions, Runtime, Signal, Stdio};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state_root, id, bundle, command @ ..] = arguments.as_slice() else {
        eprintln!("usage: engine STATE_ROOT ID BUNDLE PROGRAM [ARGUMENT…]");
        return ExitCode::from(2);
    };
    match run(state_root, id, bundle, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("engine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(state_root: &str, id: &str, bundle: &str, command: &[String]) -> libcontainer::Result<u8> {
    // Before anything else, since it may execute the program again.
    libcontainer::protect_program(std::env::args_os())?;
    let runtime = Runtime::open(state_root)?;
    let id = ContainerId::new(id)?;
    let bundle = Bundle::load(bundle)?;

    let mut container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit()))?;
    let ended = container.start().and_then(|()| {
        let mut process = container.process_spec().clone();
        process.set_args(Some(command.to_vec()));
        let status = container.exec(&process, ExecOptions::new(Stdio::inherit()))?.wait()?;
        println!(
            "{} is {}, with {} processes",
            id,
            container.state()?.status.as_str(),
            container.processes()?.len()
        );
        container.kill(Signal::KILL)?;
        container.wait()?;
        Ok(status)
    });
    // Also after an error.
    container.delete(Delete::Force)?;
    Ok(u8::try_from(ended?.code()).unwrap_or(255))
}
