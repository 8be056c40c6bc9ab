//! The program that holds all integration tests, one module a topic. `--list` names them.
use std::process::ExitCode;

mod cgroups;
mod commands;
mod cves;
mod exec;
mod hooks;
mod input;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod rootless;
mod run;
mod seccomp;
mod terminals;

fn main() -> ExitCode {
    integration::runner::main(&[
        lifecycle::TESTS,
        run::TESTS,
        exec::TESTS,
        terminals::TESTS,
        hooks::TESTS,
        namespaces::TESTS,
        mounts::TESTS,
        process::TESTS,
        seccomp::TESTS,
        cgroups::TESTS,
        commands::TESTS,
        input::TESTS,
        rootless::TESTS,
        cves::TESTS,
    ])
}
