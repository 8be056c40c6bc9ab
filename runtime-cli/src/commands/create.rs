//! `create`: makes a container whose process waits for `start`.

use super::{Command, Context, Failure, Outcome};
use crate::notify::Notify;
use crate::setup::{self, Mode, Prepared};
use goflags::{Order, Parsed};
use libcontainer::Container;

pub(super) const COMMAND: Command = Command {
    name: "create",
    summary: "create a container",
    usage: "<container-id>",
    about: "Creates a container from a bundle, a directory with a config.json and a root file system.\n\
            Its process waits for `start`. The id must be unique on this host.",
    flags: &[
        super::BUNDLE,
        super::CONSOLE_SOCKET,
        super::INIT_PIDFD_SOCKET,
        super::PID_FILE,
        super::NO_PIVOT,
        super::NO_NEW_KEYRING,
        super::PRESERVE_FDS,
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    let created = setup::prepare(context, parsed, Mode::Detached).and_then(|new| create(context, new));
    created.map(|_| 0).map_err(|e| e.prefixed(&format!("{} create failed", context.program)))
}

/// Creates the container and announces it; for `run` too.
pub(super) fn create(context: &Context<'_>, new: Prepared) -> Result<(Container, Option<Notify>), Failure> {
    context.log.debug(|| format!("create container {} from bundle {:?}", new.id, new.bundle.path()));
    log_plan(context, &new);
    let made = new.runtime.create(&new.id, &new.bundle, new.options).map_err(|e| Failure::starting(&e));
    setup::announce(context, new.reports, made)
}

/// Logs the steps that are about to be taken, so that one that fails can be found. An error is left to `create`.
fn log_plan(context: &Context<'_>, new: &Prepared) {
    if !context.log.is_debug() {
        return;
    }
    if let Ok(plan) = new.runtime.plan(&new.id, &new.bundle, &new.options) {
        for step in plan.to_string().lines() {
            context.log.debug(|| format!("step {}", step.trim_start()));
        }
        if let Some(flags) = plan.seccomp_flags() {
            context.log.debug(|| format!("seccomp filter flags: {flags}"));
        }
    }
}
