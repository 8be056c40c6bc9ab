//! Tests of a shim through its interfaces to containerd: its command line, its task service, its events. As root.
//!
//! `SHIM=/path/to/containerd-shim-runc-v2` tests another shim (with its runc in PATH and in RUNTIME); the default is the one that
//! was built. Each test compares two snapshots of the host, like those of the runtime (`integration`).
//! `KNARR_SHIM_FULL=1` selects the long runs of tests that have a short one.

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
