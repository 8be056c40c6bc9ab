//! The integration harness: what every test of a container runtime needs.
//!
//! The runtime under test is a binary that speaks runc's command line; `RUNTIME=/path/to/runc` names it, else it is the
//! built `knarr`. Nothing here knows libcontainer: only what a caller of the command and the kernel can see is tested.
//!
//! A test is `fn(&mut Lab) -> Outcome`. The runner takes a [`snapshot::Host`] before and after each one, so a test that
//! leaves a mount, a cgroup, a process, a state directory or a descriptor behind fails, whatever it asserted.

pub mod bundle;
pub mod config;
pub mod inspect;
pub mod lab;
pub mod outcome;
pub mod output;
pub mod process;
pub mod rootfs;
pub mod runner;
pub mod runtime;
pub mod snapshot;
pub mod sys;
pub mod terminal;
pub mod without;
pub mod witness;

pub use config::Config;
pub use lab::{Container, Lab};
pub use outcome::{Outcome, Stop, eq, fail, has, hasnt, skip, yes};
pub use process::{Ended, Running};
pub use runner::Test;
pub use runtime::Kind;

/// The tests of one topic: `tests!["lifecycle": one_test, another_test]`.
#[macro_export]
macro_rules! tests {
    [$topic:literal: $($name:ident),+ $(,)?] => {
        &[$($crate::Test { topic: $topic, name: stringify!($name), run: $name }),+]
    };
}
