//! Tests of a shim by what containerd sees of it: its command line, its task service, its events. As root.
//!
//! `SHIM=/path/to/containerd-shim-runc-v2` tests another shim (with its runc in PATH, and RUNTIME naming it); without it the one that
//! was built. Each test runs between two pictures of the host, like those of the runtime (`integration`).
//! `KNARR_SHIM_FULL=1`: the long runs of every test that has a short one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::ExitCode;

mod crowd;
mod death;
mod events;
mod execs;
mod killer;
mod launch;
mod output;
mod roots;
mod saved;
mod stage;
mod tasks;

fn main() -> ExitCode {
    integration::runner::main(&[
        launch::TESTS,
        tasks::TESTS,
        execs::TESTS,
        events::TESTS,
        output::TESTS,
        roots::TESTS,
        saved::TESTS,
        crowd::TESTS,
        death::TESTS,
    ])
}
