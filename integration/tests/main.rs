//! The program that holds all integration tests, one module a topic. `--list` names them.
use std::process::ExitCode;

mod apparmor;
mod cgroups;
mod checkpoint;
mod checkpoint_again;
mod commands;
mod control;
mod cves_paths;
mod cves_process;
mod exec;
mod faults;
mod hooks;
mod input;
mod lifecycle;
mod mounts;
mod namespaces;
mod oldkernel;
mod process;
mod root;
mod rootless;
mod run;
mod seccomp;
mod streams;
mod terminals;
mod trouble;

fn main() -> ExitCode {
    integration::runner::main(&[
        lifecycle::TESTS,
        run::TESTS,
        exec::TESTS,
        terminals::TESTS,
        streams::TESTS,
        hooks::TESTS,
        namespaces::TESTS,
        mounts::TESTS,
        root::TESTS,
        process::TESTS,
        apparmor::TESTS,
        seccomp::TESTS,
        cgroups::TESTS,
        control::TESTS,
        checkpoint::TESTS,
        checkpoint_again::TESTS,
        commands::TESTS,
        input::TESTS,
        trouble::TESTS,
        rootless::TESTS,
        faults::TESTS,
        cves_paths::TESTS,
        cves_process::TESTS,
        oldkernel::TESTS,
    ])
}
